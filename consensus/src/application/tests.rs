//! Steps without a runtime.
