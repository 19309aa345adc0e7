//! The domain: a Pod as it was meant. Every value here is defaulted and valid.
//!
//! The wire types (what was typed) stay inside this crate; nothing outside mentions them.

mod container;
mod env;
mod placement;
mod pod;
mod probe;
mod resources;
mod security;
mod volume;

pub use container::{
    Container, ContainerKind, ContainerPort, MountPropagation, Protocol, PullPolicy, RecursiveReadOnly,
    TerminationMessagePolicy, VolumeMount,
};
pub use env::{EnvFrom, EnvSource, EnvVar, FieldPath, ObjectKind, ResourceField};
pub use placement::{Bandwidth, DnsConfig, DnsPolicy, NodeOperator, NodeRequirement, NodeSelectorTerm};
pub use pod::{HostAlias, Meta, Object, Pod, PodSpec, RegistryConfig, RestartPolicy};
pub use probe::{
    ContainerLife, ContainerRestart, Hook, HookKind, HttpGet, Port, Probe, ProbeHandler, ProbeKind,
    RestartAction, RestartRule, TcpSocket,
};
pub use resources::{QosClass, ResourceList, Resources};
pub use security::{Capabilities, ContainerSecurity, PodSecurity, SeccompProfile, SupplementalGroupsPolicy};
pub use volume::{HostPathType, Medium, Volume, VolumeSource};
