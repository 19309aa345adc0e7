//! What a Pod will be on this host: namespaces, cgroup values, mounts, process attributes; a pure function.

#![forbid(unsafe_code)]

pub mod facts;
pub mod model;
