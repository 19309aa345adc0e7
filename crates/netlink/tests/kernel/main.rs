//! What the kernel makes of our requests, in network namespaces of each test's own.

mod addresses;
mod connection;
mod links;
mod namespace;
mod routes;
