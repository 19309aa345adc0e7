//! Verdicts and defaults of a real API server, recorded, compared case by case.
//!
//! `tests/golden/validation.json` holds manifests that an API server refused or accepted (a dry run with strict field
//! validation) with its causes; `tests/golden/defaults.json` holds manifests and what the server made of them.

use serde_json::Value as Json;

use crate::path::Path;
use crate::tree::Node;
use crate::wire::schema::{self, Document};
use crate::wire::{convert, decode};
use crate::{manifest, yaml};

const VALIDATION: &str = include_str!("../tests/golden/validation.json");
const DEFAULTS: &str = include_str!("../tests/golden/defaults.json");

/// Where the decoder refuses a value, which the API server says in the words of its own decoder.
const DECODER: &[(&str, &str)] = &[
    ("unknown-field-container", "spec.containers[0].imagePullPolcy"),
    ("unknown-field-spec", "spec.restartPolcy"),
    ("wrong-type-string-for-list", "spec.containers[0].command"),
    ("wrong-type-int-for-string", "spec.containers[0].image"),
    ("env-value-int", "spec.containers[0].env[0].value"),
    ("env-value-bool", "spec.containers[0].env[0].value"),
    ("port-string", "spec.containers[0].ports[0].containerPort"),
    ("bad-quantity", "spec.containers[0].resources.limits[memory]"),
];

/// The one deliberate difference: an API server with default feature gates drops `lifecycle.stopSignal` and says nothing.
/// podrun leaves nothing out, so it keeps the signal.
const KEPT_STOP_SIGNAL: &str = "stop-signal-with-os";

/// Returns the only document of a manifest, which is typed in as indented JSON.
fn typed(manifest: &Json) -> Node {
    let text = serde_json::to_string_pretty(manifest).unwrap();
    let Ok(mut documents) = yaml::read(&text) else { panic!("no YAML: {text}") };
    documents.remove(0)
}

#[test]
fn verdicts_are_those_of_an_api_server() {
    let cases: Vec<Json> = serde_json::from_str(VALIDATION).unwrap();
    assert_eq!(cases.len(), 120);
    let mut wrong = Vec::new();
    for case in &cases {
        let name = case["name"].as_str().unwrap();
        let node = typed(&case["manifest"]);
        let (json, faults) = decode::decode(&node, schema::document(Document::Pod), &Path::default());
        if let Some((_, path)) = DECODER.iter().find(|(decoder, _)| *decoder == name) {
            let right = faults.len() == 1 && faults[0].path == *path && faults[0].line > 1;
            if !right || case["code"] != 400 {
                wrong.push(format!("{name}: {faults:?}"));
            }
            continue;
        }
        let mut causes = Vec::new();
        if faults.is_empty() {
            manifest::api_pod(&json, &mut causes);
        }
        let mut got: Vec<_> =
            causes.iter().map(|cause| (cause.path.to_string(), cause.message.clone())).collect();
        got.extend(faults.into_iter().map(|fault| (fault.path, fault.message)));
        let field = |cause: &Json, key: &str| cause[key].as_str().unwrap_or_default().to_owned();
        let mut expected: Vec<_> = case["causes"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|cause| (field(cause, "field"), field(cause, "message")))
            .collect();
        got.sort();
        expected.sort();
        if got != expected || case["accepted"].as_bool() != Some(expected.is_empty()) {
            wrong.push(format!("{name}:\n  got      {got:?}\n  expected {expected:?}"));
        }
    }
    assert!(wrong.is_empty(), "{} cases differ:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn defaults_are_those_of_an_api_server() {
    let cases: Vec<Json> = serde_json::from_str(DEFAULTS).unwrap();
    assert_eq!(cases.len(), 21);
    for case in &cases {
        let name = case["name"].as_str().unwrap();
        let node = typed(&case["manifest"]);
        let (json, faults) = decode::decode(&node, schema::document(Document::Pod), &Path::default());
        assert!(faults.is_empty(), "{name}: {faults:?}");
        let mut causes = Vec::new();
        let mut pod = manifest::api_pod(&json, &mut causes).expect(name);
        assert!(causes.is_empty(), "{name}: {causes:?}");
        let spec = pod.spec.as_mut().expect(name);
        if name == KEPT_STOP_SIGNAL {
            let lifecycle = spec.containers[0].lifecycle.take().expect(name);
            assert_eq!(lifecycle.stop_signal.as_deref(), Some("SIGUSR1"));
        }
        assert_eq!(serde_json::to_value(&*spec).unwrap(), case["spec"], "{name}");
        // The class does not depend on volumes, some of which have no place in the domain yet.
        spec.volumes = None;
        let class = convert::spec(spec).expect(name).qos_class;
        assert_eq!(case["qosClass"], format!("{class:?}"), "{name}");
    }
}
