//! Empty: the simulator is the test target `sim`, which is built with signatures that cost nothing.
