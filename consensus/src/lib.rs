//! stub
pub mod mesh;
