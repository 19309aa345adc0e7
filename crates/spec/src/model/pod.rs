//! The Pod: its metadata and what its containers share.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{
    Bandwidth, Container, ContainerKind, DnsConfig, DnsPolicy, NodeSelectorTerm, PodSecurity, QosClass,
    Resources, Volume,
};

/// A Pod: who it is and what it asks for.
#[derive(Clone, Debug, PartialEq)]
pub struct Pod {
    /// Name, namespace, labels and annotations.
    pub meta: Meta,
    /// What the Pod asks for.
    pub spec: PodSpec,
}

/// The part of the metadata that podrun reads.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Meta {
    /// A DNS-1123 subdomain of at most 253 characters.
    pub name: String,
    /// A DNS-1123 label; `default` where none was written.
    pub namespace: String,
    /// Empty until the Pod is created.
    pub uid: String,
    /// Labels, for selection.
    pub labels: BTreeMap<String, String>,
    /// Annotations.
    pub annotations: BTreeMap<String, String>,
    /// Raised by each change of the spec; a new Pod has 1.
    pub generation: i64,
}

/// What a Pod asks for.
#[derive(Clone, Debug, PartialEq)]
pub struct PodSpec {
    /// Init containers and sidecars, in the order in which they start.
    pub init_containers: Vec<Container>,
    /// Regular containers, at least one.
    pub containers: Vec<Container>,
    /// Volumes that the containers may mount.
    pub volumes: Vec<Volume>,
    /// What happens when a container ends.
    pub restart_policy: RestartPolicy,
    /// Time between the stop signal and SIGKILL; whole seconds.
    pub termination_grace_period: Duration,
    /// Share the host's net and UTS namespaces.
    pub host_network: bool,
    /// Share the host's PID namespace.
    pub host_pid: bool,
    /// Share the host's IPC namespace.
    pub host_ipc: bool,
    /// One PID namespace for all containers.
    pub share_process_namespace: bool,
    /// The host name in the UTS namespace; the Pod's name where none was written.
    pub hostname: Option<String>,
    /// With it the fully qualified name is `hostname.subdomain.namespace.svc.cluster.local`.
    pub subdomain: Option<String>,
    /// Overrides `hostname` and the domain.
    pub hostname_override: Option<String>,
    /// Use the fully qualified name as the kernel's host name.
    pub set_hostname_as_fqdn: bool,
    /// The name of this machine as the Pod wants it, for `spec.nodeName` in the environment.
    pub node_name: Option<String>,
    /// For `spec.serviceAccountName` in the environment.
    pub service_account_name: String,
    /// Pod-wide security settings.
    pub security: PodSecurity,
    /// Pod-level requests and limits (`spec.resources`).
    pub resources: Resources,
    /// What the Pod costs beyond its containers (`spec.overhead`).
    pub overhead: super::ResourceList,
    /// Derived from requests and limits; fixed for the Pod's life.
    pub qos_class: QosClass,
    /// Scheduling priority; 0 for ordinary Pods.
    pub priority: i32,
    /// The Pod fails when it has been active for as long; whole seconds.
    pub active_deadline: Option<Duration>,
    /// Types of conditions that have to be True before the Pod is Ready.
    pub readiness_gates: Vec<String>,
    /// Labels that the node must have.
    pub node_selector: BTreeMap<String, String>,
    /// Required node affinity: one of the terms must match; none where nothing is required.
    pub node_affinity: Option<Vec<NodeSelectorTerm>>,
    /// `os.name`, which a node compares with its own.
    pub os: Option<String>,
    /// Entries of /etc/hosts.
    pub host_aliases: Vec<HostAlias>,
    /// Where the resolver's settings come from.
    pub dns_policy: DnsPolicy,
    /// What is added to them.
    pub dns_config: DnsConfig,
    /// Bandwidth of the Pod.
    pub bandwidth: Bandwidth,
    /// Names of the Secrets with credentials for registries, in the Pod's namespace.
    pub image_pull_secrets: Vec<String>,
}

impl PodSpec {
    /// Returns all containers with their kind: init containers first, each group in spec order.
    pub fn all_containers(&self) -> impl Iterator<Item = (ContainerKind, &Container)> {
        let init = self.init_containers.iter().map(|c| (c.init_kind(), c));
        init.chain(self.containers.iter().map(|c| (ContainerKind::Regular, c)))
    }

    /// Returns the container of that name, whatever its kind.
    pub fn container(&self, name: &str) -> Option<(ContainerKind, &Container)> {
        self.all_containers().find(|(_, c)| c.name == name)
    }
}

/// `spec.restartPolicy`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum RestartPolicy {
    /// Restart whatever the exit code.
    #[default]
    Always,
    /// Restart after a non-zero exit code.
    OnFailure,
    /// Never restart.
    Never,
}

/// An entry of `spec.hostAliases`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostAlias {
    /// The address.
    pub ip: String,
    /// Its names.
    pub hostnames: Vec<String>,
}

/// A ConfigMap or Secret document that came with the Pod.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Object {
    /// ConfigMap or Secret.
    pub kind: super::ObjectKind,
    /// Its namespace; `default` where none was written.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// `type` of a Secret; `Opaque` where none was written, and for ConfigMaps empty.
    #[serde(default)]
    pub secret_type: String,
    /// Decoded values: `data`, `binaryData` and `stringData` merged.
    pub data: BTreeMap<String, Vec<u8>>,
}

/// Credentials for registries, as a Secret holds them: a JSON document that is not looked into here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RegistryConfig<'a> {
    /// Type `kubernetes.io/dockerconfigjson`: `{"auths": {"host": {"auth": "…"}}}`.
    ConfigJson(&'a [u8]),
    /// Type `kubernetes.io/dockercfg`: `{"host": {"auth": "…"}}`.
    Config(&'a [u8]),
}

impl Object {
    /// Returns the credentials for registries, where this is a Secret of a type that has them.
    ///
    /// As a kubelet, it does not look at the keys of Secrets of other types.
    pub fn registry_config(&self) -> Option<RegistryConfig<'_>> {
        let key = |key: &str| self.data.get(key).map(Vec::as_slice);
        match self.secret_type.as_str() {
            "kubernetes.io/dockerconfigjson" => key(".dockerconfigjson").map(RegistryConfig::ConfigJson),
            "kubernetes.io/dockercfg" => key(".dockercfg").map(RegistryConfig::Config),
            _ => None,
        }
    }
}
