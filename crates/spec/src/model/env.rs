//! Environment variables and where their values come from.

use serde::{Deserialize, Serialize};

use crate::quantity::Quantity;

/// An entry of `env[]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnvVar {
    /// Printable ASCII without `=`.
    pub name: String,
    /// Literal or reference.
    pub source: EnvSource,
}

/// Where the value of a variable comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EnvSource {
    /// A literal in which `$(VAR)` is expanded.
    Value(String),
    /// A key of a ConfigMap or Secret.
    Key {
        /// ConfigMap or Secret.
        kind: ObjectKind,
        /// Its name, in the Pod's namespace.
        name: String,
        /// The key.
        key: String,
        /// Leave the variable unset where the object or key is missing.
        optional: bool,
    },
    /// A field of the Pod.
    Field(FieldPath),
    /// A request or limit.
    Resource(ResourceField),
}

/// An entry of `envFrom[]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnvFrom {
    /// Put before each key.
    pub prefix: String,
    /// ConfigMap or Secret.
    pub kind: ObjectKind,
    /// Its name, in the Pod's namespace.
    pub name: String,
    /// Skip the entry where the object is missing.
    pub optional: bool,
}

/// The kind of object that keys are taken from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum ObjectKind {
    /// ConfigMap.
    ConfigMap,
    /// Secret.
    Secret,
}

/// `fieldRef.fieldPath` of a variable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FieldPath {
    /// `metadata.name`
    Name,
    /// `metadata.namespace`
    Namespace,
    /// `metadata.uid`
    Uid,
    /// `metadata.labels['key']`
    Label(String),
    /// `metadata.annotations['key']`
    Annotation(String),
    /// `spec.nodeName`
    NodeName,
    /// `spec.serviceAccountName`
    ServiceAccountName,
    /// `status.hostIP`
    HostIp,
    /// `status.hostIPs`, joined by commas
    HostIps,
    /// `status.podIP`
    PodIp,
    /// `status.podIPs`, joined by commas
    PodIps,
}

/// `resourceFieldRef` of a variable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResourceField {
    /// The container; none means the one that has the variable.
    pub container: Option<String>,
    /// True for `limits.…`, false for `requests.…`.
    pub limit: bool,
    /// `cpu`, `memory`, `ephemeral-storage` or `hugepages-<size>`.
    pub resource: String,
    /// The value is divided by it and rounded up.
    pub divisor: Quantity,
}
