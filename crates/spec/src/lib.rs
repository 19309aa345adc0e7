//! Kubernetes Pod manifests as validated Rust types.
//!
//! What it does: reads YAML or JSON ([`parse`]), names everything that is wrong at once with file, line and column,
//! fills in the API server's defaults, validates with the API server's messages, refuses by name what podrun does not
//! honour, and hands out a domain type ([`model::Pod`]) in which every value is meant. Beside that: quantities,
//! requests and limits of a Pod as a whole ([`resources`]), the environment of a container ([`mod@env`]), and the Pod's
//! [`status`] and events with their way back to a valid `v1 Pod` ([`WirePod`]) and `v1 Event` ([`WireEvent`]).
//!
//! What it does not do: no files, no clock, no network, nothing of Linux. The generated API types stay inside.
//!
//! ```
//! let text = "
//! apiVersion: v1
//! kind: Pod
//! metadata: {name: hello}
//! spec:
//!   restartPolicy: Never
//!   containers:
//!   - name: c
//!     image: busybox:1.36
//!     command: [echo, hello]
//! ";
//! let manifest = podrun_spec::parse("hello.yaml", text)?;
//! assert_eq!(manifest.pods[0].pod.spec.containers[0].command, ["echo", "hello"]);
//!
//! let faults = podrun_spec::parse("hello.yaml", &text.replace("image", "imgae")).unwrap_err();
//! assert_eq!(
//!     faults.to_string().lines().next(),
//!     Some("hello.yaml:9:5: spec.containers[0].imgae: unknown field"),
//! );
//! # Ok::<(), podrun_spec::Faults>(())
//! ```

#![forbid(unsafe_code)]

mod annotations;
pub mod env;
mod fault;
#[cfg(test)]
mod golden_tests;
mod manifest;
pub mod model;
mod objects;
mod path;
pub mod quantity;
pub mod resources;
pub mod status;
mod support;
pub mod sysctl;
pub mod time;
mod tree;
mod validate;
mod wire;
mod yaml;

pub use fault::{Fault, Faults};
pub use manifest::{Manifest, ParsedPod, parse, parse_all};
pub use wire::{EventFields, StoredPodError, WireEvent, WirePod, decode_strict, from_json};

/// The examples of the README are tests as well.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

/// Returns what is wrong with a label, in the API server's words; nothing for one that is fine.
///
/// ```
/// assert!(podrun_spec::label_faults("example.com/disk", "ssd").is_empty());
/// assert_eq!(podrun_spec::label_faults("", "ssd").len(), 2);
/// ```
pub fn label_faults(key: &str, value: &str) -> Vec<String> {
    let mut faults = validate::names::label_key(key);
    faults.extend(validate::names::label_value(value));
    faults
}

/// Writes a JSON value as a YAML document.
pub fn to_yaml(value: &serde_json::Value) -> String {
    yaml::write(value)
}
