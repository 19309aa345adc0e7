//! What the kernel makes of Pods' networks, in network namespaces of each test's own.

mod bandwidth;
mod collect;
mod machine;
mod pods;
mod ports;
mod repair;
mod spoofing;
mod verify;
