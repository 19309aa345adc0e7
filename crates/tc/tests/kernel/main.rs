//! What the kernel makes of our requests, in network namespaces of each test's own.

mod accuracy;
mod filters;
mod namespace;
mod qdiscs;
mod shaper;
mod tampering;
