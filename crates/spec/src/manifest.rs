//! Manifests: text in, Pods and the objects that came with them out, or everything that is wrong.

use k8s_openapi::api::core::v1 as api;
use serde_json::Value as Json;

use crate::fault::{Fault, Faults, in_file};
use crate::model::{Object, ObjectKind, Pod};
use crate::path::Path;
use crate::tree::{Node, Value};
use crate::validate::{self, Cause};
use crate::wire::schema::{self, Document};
use crate::wire::{WirePod, convert, decode, defaults};
use crate::{annotations, support, yaml};

/// The largest text that is looked at, in bytes.
const MAX_TEXT: usize = 8 * 1024 * 1024;

/// What a manifest holds.
#[derive(Clone, Debug, Default)]
pub struct Manifest {
    /// Its Pods in the order of the text.
    pub pods: Vec<ParsedPod>,
    /// Its ConfigMaps and Secrets in the order of the text.
    pub objects: Vec<Object>,
}

/// A Pod of a manifest.
#[derive(Clone, Debug)]
pub struct ParsedPod {
    /// What podrun acts upon.
    pub pod: Pod,
    /// What the user wrote, with defaults.
    pub wire: WirePod,
}

/// Reads a manifest: YAML or JSON, one or many documents, of kinds `Pod`, `ConfigMap`, `Secret` and `List`.
///
/// The Pods that come out are defaulted, valid, and ask for nothing that podrun does not do. `source_name` stands in
/// front of each fault.
///
/// # Errors
///
/// All [`Faults`] of the manifest at once.
pub fn parse(source_name: &str, text: &str) -> Result<Manifest, Faults> {
    parse_all([(source_name, text)], None)
}

/// Reads several manifests as one, as [`parse`] reads one: names and texts of the sources.
///
/// What names no namespace gets `namespace`, if there is one, and what names another one is refused, as kubectl does
/// with `--namespace`.
///
/// ```
/// let text = "apiVersion: v1\nkind: Secret\nmetadata: {name: s}";
/// let manifest = podrun_spec::parse_all([("s.yaml", text)], Some("shop"))?;
/// assert_eq!(manifest.objects[0].namespace, "shop");
/// # Ok::<(), podrun_spec::Faults>(())
/// ```
///
/// # Errors
///
/// All [`Faults`] of all manifests at once.
pub fn parse_all<'a>(
    sources: impl IntoIterator<Item = (&'a str, &'a str)>,
    namespace: Option<&str>,
) -> Result<Manifest, Faults> {
    let mut reading = Reading { namespace: namespace.map(str::to_owned), ..Reading::default() };
    let mut faults = Vec::new();
    for (name, text) in sources {
        reading.read(text);
        faults.extend(in_file(name, std::mem::take(&mut reading.faults)));
    }
    Faults::of_files(faults).map_or(Ok(reading.manifest), Err)
}

#[derive(Default)]
struct Reading {
    manifest: Manifest,
    faults: Vec<Fault>,
    /// The namespace of what names none, and the only one of what names one.
    namespace: Option<String>,
    /// Kind, namespace and name of what was read, for telling repetitions.
    seen: Vec<(&'static str, String, String)>,
}

impl Reading {
    fn read(&mut self, text: &str) {
        if text.len() > MAX_TEXT {
            let message = format!("the text has {} bytes, more than {MAX_TEXT}", text.len());
            self.faults.push(Fault::at(crate::tree::Mark::default(), &Path::default(), message));
            return;
        }
        match yaml::read(text) {
            Ok(documents) if documents.is_empty() => {
                let fault =
                    Fault::at(crate::tree::Mark::default(), &Path::default(), "the text has no document");
                self.faults.push(fault);
            }
            Ok(documents) => documents.iter().for_each(|node| self.document(node, &Path::default(), None)),
            Err(syntax) => {
                let line =
                    usize::try_from(syntax.mark.line).ok().and_then(|line| text.lines().nth(line.max(1) - 1));
                let mut fault = Fault::at(syntax.mark, &Path::default(), syntax.message);
                if line.is_some_and(|line| line.contains("{{")) {
                    fault = fault.with_hint("a template has to be rendered first, as by helm template");
                }
                self.faults.push(fault);
            }
        }
    }

    /// Reads a document, or an item of a list whose kind says that of its items.
    fn document(&mut self, node: &Node, root: &Path, assumed: Option<&str>) {
        let Value::Map(_) = &node.value else {
            let message = format!("expected an object with apiVersion and kind, got {}", node.describe());
            self.faults.push(Fault::at(node.mark, root, message));
            return;
        };
        let assumed_version = assumed.map(|_| "v1");
        let version = node.get("apiVersion").map_or(assumed_version, Node::text);
        let kind = node.get("kind").map_or(assumed, Node::text);
        for (field, value) in [("apiVersion", version), ("kind", kind)] {
            if value.is_none() {
                let here = node.locate(&Path::new(field));
                self.faults.push(Fault::at(here, &root.child(field), "Required value"));
            }
        }
        let (Some(version), Some(kind)) = (version, kind) else { return };
        match (version, kind) {
            ("v1", "Pod") => self.pod(node, root),
            ("v1", "ConfigMap") => self.object(node, root, ObjectKind::ConfigMap),
            ("v1", "Secret") => self.object(node, root, ObjectKind::Secret),
            ("v1", "List") => self.list(node, root, None),
            ("v1", "PodList" | "ConfigMapList" | "SecretList") => {
                self.list(node, root, kind.strip_suffix("List"));
            }
            _ => {
                let message = format!("podrun does not run {version} {kind}");
                let fault = Fault::at(node.locate(&Path::new("kind")), &root.child("kind"), message);
                self.faults.push(fault.with_hint(hint_for(version, kind)));
            }
        }
    }

    fn list(&mut self, node: &Node, root: &Path, assumed: Option<&str>) {
        let path = root.child("items");
        match node.get("items").map(|items| &items.value) {
            Some(Value::List(items)) => {
                for (index, item) in items.iter().enumerate() {
                    self.document(item, &path.index(index), assumed);
                }
            }
            Some(_) => {
                self.faults.push(Fault::at(node.locate(&Path::new("items")), &path, "expected a list"));
            }
            None => {}
        }
    }

    fn pod(&mut self, node: &Node, root: &Path) {
        let (mut json, faults) = decode::decode(node, schema::document(Document::Pod), root);
        self.place(&mut json, node, root);
        if !faults.is_empty() {
            self.faults.extend(faults);
            self.causes(node, root, support::check(&json, false));
            return;
        }
        let mut causes = Vec::new();
        let wire = api_pod(&json, &mut causes);
        if let Some(wire) = &wire {
            annotations::check(wire, &mut causes);
        }
        causes.extend(support::check(&json, true));
        if causes.is_empty()
            && let Some(wire) = wire
        {
            match convert::pod(&wire) {
                Ok(pod) => {
                    self.remember(node, root, "Pod", &pod.meta.namespace, &pod.meta.name);
                    self.manifest.pods.push(ParsedPod { pod, wire: WirePod::new(wire) });
                }
                Err(unfit) => causes.push(Cause::refusal(&unfit.path, "")),
            }
        }
        self.causes(node, root, causes);
    }

    fn object(&mut self, node: &Node, root: &Path, kind: ObjectKind) {
        let document = match kind {
            ObjectKind::ConfigMap => Document::ConfigMap,
            ObjectKind::Secret => Document::Secret,
        };
        let (mut json, faults) = decode::decode(node, schema::document(document), root);
        self.place(&mut json, node, root);
        if !faults.is_empty() {
            self.faults.extend(faults);
            return;
        }
        let mut causes = Vec::new();
        let object = crate::objects::object(json, kind, &mut causes);
        if let Some(object) = object.filter(|_| causes.is_empty()) {
            let name = if kind == ObjectKind::ConfigMap { "ConfigMap" } else { "Secret" };
            self.remember(node, root, name, &object.namespace, &object.name);
            self.manifest.objects.push(object);
        }
        self.causes(node, root, causes);
    }

    /// Puts what names no namespace into the one that is asked for, and refuses what names another one.
    fn place(&mut self, json: &mut Json, node: &Node, root: &Path) {
        let Some(namespace) = &self.namespace else { return };
        let Some(metadata) = json.get_mut("metadata").and_then(Json::as_object_mut) else { return };
        match metadata.get("namespace").and_then(Json::as_str).unwrap_or_default() {
            "" => drop(metadata.insert("namespace".to_owned(), Json::from(namespace.as_str()))),
            own if own == namespace => {}
            own => {
                let message = format!(
                    "the namespace from the provided object \"{own}\" does not match the namespace \"{namespace}\""
                );
                let place = Path::new("metadata").child("namespace");
                let fault = Fault::at(node.locate(&place), &place.below(root), message);
                self.faults.push(fault.with_hint(format!("--namespace={own}, or none, takes it as it is")));
            }
        }
    }

    /// Turns what is wrong with a document into faults with a place.
    fn causes(&mut self, node: &Node, root: &Path, causes: Vec<Cause>) {
        self.faults.extend(causes.into_iter().map(|cause| {
            let mut fault = Fault::at(node.locate(&cause.place), &cause.path.below(root), cause.message);
            fault.hint = cause.hint;
            fault
        }));
    }

    fn remember(&mut self, node: &Node, root: &Path, kind: &'static str, namespace: &str, name: &str) {
        let key = (kind, namespace.to_owned(), name.to_owned());
        if self.seen.contains(&key) {
            let place = Path::new("metadata").child("name");
            let message = format!("the manifest has {kind} {namespace}/{name} twice");
            self.faults.push(Fault::at(node.locate(&place), &place.below(root), message));
        }
        self.seen.push(key);
    }
}

/// Returns what may help with a document of another kind.
fn hint_for(version: &str, kind: &str) -> String {
    const KINDS: [&str; 4] = ["Pod", "ConfigMap", "Secret", "List"];
    match (version, kind) {
        (_, "Deployment" | "ReplicaSet" | "StatefulSet" | "DaemonSet" | "Job" | "ReplicationController") => {
            return "there are no controllers: write its spec.template as a v1 Pod with a name".to_owned();
        }
        (_, "CronJob") => {
            return "there are no controllers: write its spec.jobTemplate.spec.template as a v1 Pod with a name"
                .to_owned();
        }
        _ => {}
    }
    match KINDS.iter().find(|known| known.eq_ignore_ascii_case(kind)) {
        Some(known) => format!("did you mean v1 {known}?"),
        None => "it reads v1 Pod, ConfigMap, Secret and List".to_owned(),
    }
}

/// Returns the Pod as an API server would store it, and adds why one would refuse it.
pub(crate) fn api_pod(json: &Json, causes: &mut Vec<Cause>) -> Option<api::Pod> {
    let mut pod: api::Pod = match serde_json::from_value(json.clone()) {
        Ok(pod) => pod,
        Err(error) => {
            causes.push(Cause::new(&Path::default(), error.to_string()));
            return None;
        }
    };
    forget_history(&mut pod);
    defaults::apply(&mut pod);
    validate::pod(&pod, causes);
    Some(pod)
}

/// Drops what a server wrote into an exported manifest about an earlier life of the Pod.
fn forget_history(pod: &mut api::Pod) {
    let meta = &mut pod.metadata;
    meta.uid = None;
    meta.resource_version = None;
    meta.generation = None;
    meta.creation_timestamp = None;
    meta.deletion_timestamp = None;
    meta.deletion_grace_period_seconds = None;
    meta.managed_fields = None;
    meta.self_link = None;
    meta.owner_references = None;
    pod.status = None;
}
