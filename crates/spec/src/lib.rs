//! Kubernetes Pod manifests as validated Rust types: parsing, defaults, validation, quantities, status.
