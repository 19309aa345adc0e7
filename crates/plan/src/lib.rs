//! What a Pod will be on this host, as data.
//!
//! What it does: [`plan`] computes from a Pod and facts about the host every namespace, cgroup file and value, volume,
//! mount and process attribute, and [`complete`] adds what only an image and a start know. Both are pure functions, so
//! a plan can be printed without any right to carry it out, and compared as text. What the host cannot do is found
//! here, all of it at once ([`PlanFault`]), before anything is made. [`admission`] decides whether there is room.
//!
//! What it does not do: no files, no clock, no randomness. It neither finds the facts nor carries the plan out.
//!
//! ```
//! use podrun_plan::facts::{CgroupFacts, ControllerFact, HostFacts, NetworkFacts, UnenforcedLimits};
//! use podrun_plan::plan;
//!
//! let text = r#"
//! apiVersion: v1
//! kind: Pod
//! metadata: {name: web}
//! spec:
//!   containers:
//!   - name: server
//!     image: nginx:1.29
//!     resources: {limits: {memory: 64Mi}}
//! "#;
//! let manifest = podrun_spec::parse("web.yaml", text)?;
//! let available = |name: &str| (name.to_owned(), ControllerFact::Available);
//! let mut host = HostFacts {
//!     run_dir: "/run/podrun".into(),
//!     data_dir: "/var/lib/podrun".into(),
//!     node_name: "node".to_owned(),
//!     cgroup: CgroupFacts {
//!         mount: "/sys/fs/cgroup".into(),
//!         parent: "podrun".to_owned(),
//!         controllers: ["cpu", "memory", "pids"].map(available).into(),
//!     },
//!     memory_bytes: 8 << 30,
//!     huge_page_sizes: Vec::new(),
//!     last_capability: 40,
//!     pod_pids_limit: None,
//!     unenforced_limits: UnenforcedLimits::Refuse,
//!     memory_qos: false,
//!     sys_resource: true,
//!     nofile_hard: 1 << 20,
//!     network: NetworkFacts::default(),
//! };
//! let pod = &manifest.pods[0].pod;
//! let planned = plan(pod, &host).unwrap();
//! let values = &planned.container("server").unwrap().cgroup.values;
//! assert!(values.iter().any(|value| value.file == "memory.max" && value.value == "67108864"));
//!
//! host.cgroup.controllers.remove("memory");
//! let faults = plan(pod, &host).unwrap_err();
//! assert!(faults[0].to_string().contains("memory.max = 67108864 (container \"server\")"));
//! # Ok::<(), podrun_spec::Faults>(())
//! ```

#![forbid(unsafe_code)]

pub mod admission;
mod capabilities;
mod cgroup;
mod complete;
mod dns;
mod enforce;
pub mod facts;
mod fault;
mod hostname;
mod hosts;
pub mod model;
mod mounts;
pub mod names;
mod network;
mod oom;
mod pod;
mod security;
mod signal;
mod sysctl;
#[cfg(test)]
mod test_support;
mod text;
mod volumes;

pub use complete::{complete, stop_signal};
pub use fault::{ConfigFault, PlanFault};
pub use model::{ContainerPlan, ContainerSetup, Plan};
pub use mounts::may_cover_in_proc;
pub use pod::plan;
