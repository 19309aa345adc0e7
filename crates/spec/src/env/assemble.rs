//! From `envFrom` and `env` to a list of variables.

use std::collections::BTreeMap;

use super::expand::expand;
use crate::model::{
    Container, EnvFrom, EnvSource, FieldPath, Object, ObjectKind, Pod, ResourceField, ResourceList,
};
use crate::quantity::Quantity;

/// What the environment of a container may say about the machine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeFacts {
    /// The machine's name, for `spec.nodeName` where the Pod has none of its own.
    pub name: String,
    /// What containers may use, for limits that are not set: `cpu`, `memory`, `ephemeral-storage`.
    pub allocatable: ResourceList,
}

/// The addresses that the environment of a container may name, the primary ones first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Addresses {
    /// The Pod's, for `status.podIP` and `status.podIPs`; with the host's network these are the machine's.
    pub pod: Vec<String>,
    /// The machine's, for `status.hostIP` and `status.hostIPs`.
    pub host: Vec<String>,
}

/// Why a container's environment cannot be made; the texts are the kubelet's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EnvFault {
    /// A ConfigMap or Secret that is not optional is missing.
    #[error("{} {name:?} not found", kind_lower(*.kind))]
    ObjectNotFound {
        /// ConfigMap or Secret.
        kind: ObjectKind,
        /// Its name.
        name: String,
    },
    /// The object is there, the key is not.
    #[error("couldn't find key {key} in {kind:?} {namespace}/{name}")]
    KeyNotFound {
        /// ConfigMap or Secret.
        kind: ObjectKind,
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
        /// The key.
        key: String,
    },
    /// The value is no text, so that it cannot be a variable.
    #[error("value of key {key} in {kind:?} {namespace}/{name} is not UTF-8")]
    NotText {
        /// ConfigMap or Secret.
        kind: ObjectKind,
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
        /// The key.
        key: String,
    },
    /// A `resourceFieldRef` names a container that the Pod lacks.
    #[error("container {name} not found")]
    ContainerNotFound {
        /// The container.
        name: String,
    },
}

fn kind_lower(kind: ObjectKind) -> &'static str {
    match kind {
        ObjectKind::ConfigMap => "configmap",
        ObjectKind::Secret => "secret",
    }
}

/// Returns the environment of a container, each name once, in the order in which names first appear.
///
/// Objects of `envFrom` come first, in list order, then `env`, in which `$(VAR)` sees all that came before; later
/// values replace earlier ones. Keys that cannot be the name of a variable are skipped. An optional reference to what
/// is missing leaves the variable unset.
///
/// # Errors
///
/// [`EnvFault`] with the text that a kubelet puts into the waiting container's message.
pub fn assemble_env(
    pod: &Pod,
    container: &Container,
    objects: &[Object],
    node: &NodeFacts,
    addresses: &Addresses,
) -> Result<Vec<(String, String)>, EnvFault> {
    let assembly = Assembly { pod, container, objects, node, addresses };
    let mut env = Vec::new();
    for source in &container.env_from {
        assembly.take_object(source, &mut env)?;
    }
    for variable in &container.env {
        let value = match &variable.source {
            EnvSource::Value(text) => Some(expand(text, |name| {
                env.iter().find(|(key, _): &&(String, String)| key == name).map(|(_, value)| value.clone())
            })),
            EnvSource::Key { kind, name, key, optional } => assembly.key(*kind, name, key, *optional)?,
            EnvSource::Field(path) => Some(assembly.field(path)),
            EnvSource::Resource(field) => Some(assembly.resource(field)?),
        };
        if let Some(value) = value {
            set(&mut env, &variable.name, value);
        }
    }
    Ok(env)
}

fn set(env: &mut Vec<(String, String)>, name: &str, value: String) {
    match env.iter_mut().find(|(key, _)| key == name) {
        Some((_, slot)) => *slot = value,
        None => env.push((name.to_owned(), value)),
    }
}

struct Assembly<'a> {
    pod: &'a Pod,
    container: &'a Container,
    objects: &'a [Object],
    node: &'a NodeFacts,
    addresses: &'a Addresses,
}

impl Assembly<'_> {
    fn object(&self, kind: ObjectKind, name: &str) -> Option<&Object> {
        let namespace = &self.pod.meta.namespace;
        self.objects.iter().find(|o| o.kind == kind && o.name == name && o.namespace == *namespace)
    }

    fn take_object(&self, source: &EnvFrom, env: &mut Vec<(String, String)>) -> Result<(), EnvFault> {
        let EnvFrom { prefix, kind, name, optional } = source;
        let Some(object) = self.object(*kind, name) else {
            return if *optional {
                Ok(())
            } else {
                Err(EnvFault::ObjectNotFound { kind: *kind, name: name.clone() })
            };
        };
        for key in object.data.keys() {
            let variable = format!("{prefix}{key}");
            if crate::validate::names::env_name(&variable).is_empty() {
                set(env, &variable, text(object, key)?);
            }
        }
        Ok(())
    }

    fn key(
        &self,
        kind: ObjectKind,
        name: &str,
        key: &str,
        optional: bool,
    ) -> Result<Option<String>, EnvFault> {
        let Some(object) = self.object(kind, name) else {
            return if optional {
                Ok(None)
            } else {
                Err(EnvFault::ObjectNotFound { kind, name: name.to_owned() })
            };
        };
        if object.data.contains_key(key) {
            return text(object, key).map(Some);
        }
        if optional {
            return Ok(None);
        }
        let namespace = self.pod.meta.namespace.clone();
        Err(EnvFault::KeyNotFound { kind, namespace, name: name.to_owned(), key: key.to_owned() })
    }

    fn field(&self, path: &FieldPath) -> String {
        let entry = |map: &BTreeMap<String, String>, key: &String| map.get(key).cloned().unwrap_or_default();
        let (meta, spec) = (&self.pod.meta, &self.pod.spec);
        let first = |list: &[String]| list.first().cloned().unwrap_or_default();
        match path {
            FieldPath::Name => meta.name.clone(),
            FieldPath::Namespace => meta.namespace.clone(),
            FieldPath::Uid => meta.uid.clone(),
            FieldPath::Label(key) => entry(&meta.labels, key),
            FieldPath::Annotation(key) => entry(&meta.annotations, key),
            FieldPath::NodeName => spec.node_name.clone().unwrap_or_else(|| self.node.name.clone()),
            FieldPath::ServiceAccountName => spec.service_account_name.clone(),
            FieldPath::HostIp => first(&self.addresses.host),
            FieldPath::HostIps => self.addresses.host.join(","),
            FieldPath::PodIp => first(&self.addresses.pod),
            FieldPath::PodIps => self.addresses.pod.join(","),
        }
    }

    /// A limit that is not set is the Pod's own, or else what the machine has; a request that is not set is 0.
    fn resource(&self, field: &ResourceField) -> Result<String, EnvFault> {
        let container = match &field.container {
            None => self.container,
            Some(name) => match self.pod.spec.container(name) {
                Some((_, container)) => container,
                None => return Err(EnvFault::ContainerNotFound { name: name.clone() }),
            },
        };
        let name = &field.resource;
        let amount = if field.limit {
            let own = container.resources.limits.get(name).filter(|limit| !limit.is_zero());
            own.or_else(|| self.pod.spec.resources.limits.get(name))
                .or_else(|| self.node.allocatable.get(name))
        } else {
            container.resources.requests.get(name)
        };
        let amount = amount.copied().unwrap_or(Quantity::ZERO).signed_millis().max(0);
        let divisor = field.divisor.signed_millis().max(1);
        Ok((amount / divisor + i128::from(amount % divisor != 0)).to_string())
    }
}

fn text(object: &Object, key: &str) -> Result<String, EnvFault> {
    let bytes = object.data.get(key).cloned().unwrap_or_default();
    String::from_utf8(bytes).map_err(|_| EnvFault::NotText {
        kind: object.kind,
        namespace: object.namespace.clone(),
        name: object.name.clone(),
        key: key.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::EnvVar;

    const POD: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: p, namespace: ns, labels: {a: b}, annotations: {x: "y z"}}
spec:
  serviceAccountName: sa
  containers:
  - name: c
    image: i:1
    resources: {limits: {cpu: 250m, memory: 100M}, requests: {cpu: 0}}
    envFrom:
    - configMapRef: {name: m}
    - prefix: S_
      secretRef: {name: s}
    - configMapRef: {name: none, optional: true}
    env: ENV
  - {name: other, image: "i:1"}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: m, namespace: ns}
data: {K: from map, OVER: first}
---
apiVersion: v1
kind: Secret
metadata: {name: s, namespace: ns}
data: {K: c2VjcmV0}
stringData: {T: text}
"#;

    fn assemble(env: &str) -> Result<Vec<(String, String)>, EnvFault> {
        let manifest =
            crate::parse("t", &POD.replace("ENV", env)).unwrap_or_else(|faults| panic!("{faults}"));
        let pod = &manifest.pods[0].pod;
        let allocatable = [("cpu", "4"), ("memory", "8Gi")]
            .map(|(name, amount)| (name.to_owned(), Quantity::parse(amount).unwrap()))
            .into();
        let node = NodeFacts { name: "here".to_owned(), allocatable };
        assemble_env(pod, &pod.spec.containers[0], &manifest.objects, &node, &Addresses::default())
    }

    /// Returns the value of `V` with these entries before it.
    fn value(env: &str) -> Option<String> {
        let env = assemble(env).unwrap();
        env.into_iter().find(|(name, _)| name == "V").map(|(_, value)| value)
    }

    #[test]
    fn objects_come_first_and_env_wins() {
        let env = assemble("[{name: OVER, value: second}, {name: OVER, value: '$(OVER)!'}]").unwrap();
        let pairs: Vec<_> = env.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        assert_eq!(pairs, [("K", "from map"), ("OVER", "second!"), ("S_K", "secret"), ("S_T", "text")]);
    }

    #[test]
    fn values_see_what_came_before() {
        assert_eq!(
            value("[{name: V, value: '$(K)-$(LATER)-$$(K)'}, {name: LATER, value: x}]").as_deref(),
            Some("from map-$(LATER)-$(K)")
        );
        assert_eq!(value("[{name: V}]").as_deref(), Some(""));
    }

    #[test]
    fn references_are_resolved() {
        let table = [
            ("fieldRef: {fieldPath: metadata.name}", "p"),
            ("fieldRef: {fieldPath: metadata.namespace}", "ns"),
            ("fieldRef: {fieldPath: \"metadata.labels['a']\"}", "b"),
            ("fieldRef: {fieldPath: \"metadata.annotations['x']\"}", "y z"),
            ("fieldRef: {fieldPath: \"metadata.labels['none']\"}", ""),
            ("fieldRef: {fieldPath: spec.nodeName}", "here"),
            ("fieldRef: {fieldPath: spec.serviceAccountName}", "sa"),
            ("configMapKeyRef: {name: m, key: K}", "from map"),
            ("secretKeyRef: {name: s, key: T}", "text"),
            ("resourceFieldRef: {resource: limits.cpu}", "1"),
            ("resourceFieldRef: {resource: limits.cpu, divisor: 1m}", "250"),
            ("resourceFieldRef: {resource: requests.cpu}", "0"),
            ("resourceFieldRef: {resource: limits.memory, divisor: 1Mi}", "96"),
            ("resourceFieldRef: {resource: requests.memory, divisor: 1k}", "100000"),
            ("resourceFieldRef: {resource: limits.cpu, containerName: other}", "4"),
            ("resourceFieldRef: {resource: requests.memory, containerName: other}", "0"),
        ];
        for (source, expected) in table {
            let got = value(&format!("[{{name: V, valueFrom: {{{source}}}}}]"));
            assert_eq!(got.as_deref(), Some(expected), "{source}");
        }
    }

    #[test]
    fn addresses_are_those_that_are_given() {
        let manifest =
            crate::parse("t", &POD.replace("ENV", "[]")).unwrap_or_else(|faults| panic!("{faults}"));
        let mut pod = manifest.pods[0].pod.clone();
        let fields = [FieldPath::PodIp, FieldPath::PodIps, FieldPath::HostIp, FieldPath::HostIps];
        pod.spec.containers[1].env = fields
            .map(|field| EnvVar { name: format!("{field:?}"), source: EnvSource::Field(field) })
            .to_vec();
        let env = |addresses: &Addresses| -> Vec<String> {
            let container = &pod.spec.containers[1];
            let env = assemble_env(&pod, container, &[], &NodeFacts::default(), addresses).unwrap();
            env.into_iter().map(|(_, value)| value).collect()
        };
        let list = |text: &str| text.split(' ').map(str::to_owned).collect();
        let addresses = Addresses { pod: list("10.0.0.2 fd00::2"), host: list("192.0.2.1") };
        assert_eq!(env(&addresses), ["10.0.0.2", "10.0.0.2,fd00::2", "192.0.2.1", "192.0.2.1"]);
        assert_eq!(env(&Addresses::default()), [""; 4]);
    }

    #[test]
    fn what_is_missing_is_said_as_a_kubelet_says_it() {
        let table = [
            ("configMapKeyRef: {name: m, key: none}", "couldn't find key none in ConfigMap ns/m"),
            ("secretKeyRef: {name: s, key: none}", "couldn't find key none in Secret ns/s"),
            ("configMapKeyRef: {name: none, key: k}", "configmap \"none\" not found"),
            ("secretKeyRef: {name: none, key: k}", "secret \"none\" not found"),
        ];
        for (source, expected) in table {
            let fault = assemble(&format!("[{{name: V, valueFrom: {{{source}}}}}]")).unwrap_err();
            assert_eq!(fault.to_string(), expected, "{source}");
            let optional = source.replace('}', ", optional: true}");
            assert_eq!(value(&format!("[{{name: V, valueFrom: {{{optional}}}}}]")), None, "{source}");
        }
    }
}
