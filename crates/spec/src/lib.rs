//! Kubernetes Pod manifests as validated Rust types.

#![forbid(unsafe_code)]

pub mod model;
pub mod quantity;
pub mod status;
pub mod time;
