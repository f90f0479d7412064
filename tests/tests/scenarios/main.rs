//! Scenarios over real nodes on loopback. One per file; they run one after the other.

mod bad_input;
mod byzantine_lane;
mod byzantine_proposer;
mod byzantine_rounds;
mod catching_up;
mod copies;
mod full_node_late;
mod guard_in_use;
mod guard_lost;
mod halted;
mod idle_connections;
mod kill9_under_load;
mod landing;
mod lane_order;
mod late_value;
mod orders_and_proves;
mod records;
mod reproposal;
mod store_tail;
mod stranger;
mod two_stopped;
mod wal_tail;
mod watched_elsewhere;
