#![doc = include_str!("../README.md")]

pub mod codec;
pub mod convert;
mod details;
pub mod error;

/// What the `.proto` files of `lockstep/v1` generate: messages, clients, servers. Nothing in here is checked.
#[expect(
    missing_docs,
    clippy::all,
    clippy::allow_attributes,
    clippy::allow_attributes_without_reason,
    clippy::missing_errors_doc,
    clippy::too_many_lines,
    reason = "generated code; its comments are those of the .proto files"
)]
pub mod v1 {
    tonic::include_proto!("lockstep.v1");
}

/// Encoded descriptors of everything in `lockstep.v1`, for gRPC reflection.
pub const FILE_DESCRIPTOR_SET: &[u8] = tonic::include_file_descriptor_set!("lockstep.v1");
