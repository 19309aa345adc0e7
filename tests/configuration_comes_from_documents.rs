//! Environment variables come from literals, from ConfigMap and Secret documents and from the Pod itself.

mod common;

use common::{Podrun, pod, sh, state, with};
use podrun_testkit::require;
use serde_json::{Value, json};

fn documents(pod: &Value) -> String {
    let config = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "settings" },
        "data": { "colour": "red", "SIZE": "large", "not-a-name": "x" },
    });
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": { "name": "keys" },
        "data": { "TOKEN": "c2VjcmV0" }, "stringData": { "PLAIN": "text" },
    });
    format!("{config}\n---\n{secret}\n---\n{pod}\n")
}

fn from(kind: &str, name: &str, key: &str) -> Value {
    json!({ kind: { "name": name, "key": key } })
}

#[test]
fn variables_come_from_everywhere() {
    require!(root, cgroup2, overlay, program("busybox"));
    let podrun = Podrun::new();
    let environment = json!({
        "envFrom": [
            { "configMapRef": { "name": "settings" } },
            { "secretRef": { "name": "keys" }, "prefix": "K_" },
            { "configMapRef": { "name": "absent", "optional": true } },
        ],
        "env": [
            { "name": "LITERAL", "value": "a b" },
            { "name": "COLOUR", "valueFrom": from("configMapKeyRef", "settings", "colour") },
            { "name": "TOKEN", "valueFrom": from("secretKeyRef", "keys", "TOKEN") },
            { "name": "COMPOSED", "value": "$(COLOUR)-$(LITERAL)-$$(COLOUR)-$(UNKNOWN)" },
            { "name": "SIZE", "value": "overridden" },
            { "name": "POD", "valueFrom": { "fieldRef": { "fieldPath": "metadata.name" } } },
        ],
        "args": ["-c", "env | sort; echo arg=$(COLOUR)"],
        "command": ["sh"],
    });
    let path = podrun.write_text(&documents(&pod("env", &[with(sh("c", ""), environment)])));
    podrun.podrun(&["run", &path]).ok();
    let log = podrun.logs("env", "c");
    for line in [
        "LITERAL=a b",
        "COLOUR=red",
        "colour=red",
        "TOKEN=secret",
        "K_TOKEN=secret",
        "K_PLAIN=text",
        "SIZE=overridden",
        "COMPOSED=red-a b-$(COLOUR)-$(UNKNOWN)",
        "POD=env",
        "HOSTNAME=env",
        "arg=red",
    ] {
        assert!(log.lines().any(|found| found == line), "{line} is missing in\n{log}");
    }
    assert!(log.contains("PATH=/usr/local/sbin"), "what the image says holds too:\n{log}");
    let description = podrun.podrun(&["describe", "pod", "env"]).ok();
    assert!(!description.contains("secret\n"), "secrets are not shown:\n{description}");
    for line in [
        "      keys  Secret with prefix 'K_'  Optional: false",
        "      COLOUR:    <set to the key 'colour' of config map 'settings'>  Optional: false",
        "      POD:       env (v1:metadata.name)",
    ] {
        assert!(description.lines().any(|found| found == line), "{line} is missing in\n{description}");
    }
    podrun.finish();
}

#[test]
fn what_is_missing_keeps_the_container_waiting() {
    require!(root, cgroup2, overlay, program("busybox"));
    let podrun = Podrun::new();
    let table = [
        ("no-map", from("configMapKeyRef", "absent", "k"), "configmap \"absent\" not found"),
        (
            "no-key",
            from("configMapKeyRef", "settings", "k"),
            "couldn't find key k in ConfigMap default/settings",
        ),
        ("no-secret", from("secretKeyRef", "absent", "k"), "secret \"absent\" not found"),
        ("no-token", from("secretKeyRef", "keys", "k"), "couldn't find key k in Secret default/keys"),
    ];
    for (name, source, message) in table {
        let env = json!({ "env": [{ "name": "A", "valueFrom": source }] });
        let path = podrun.write_text(&documents(&pod(name, &[with(sh("c", "true"), env)])));
        podrun.podrun(&["run", "-d", &path]).ok();
        podrun.wait_for(name, &state("c", "waiting.reason"), "CreateContainerConfigError");
        assert_eq!(podrun.get(name, &state("c", "waiting.message")), message, "{name}");
        assert_eq!(podrun.get(name, "{.status.phase}"), "Pending");
        assert!(podrun.podrun(&["describe", "pod", name]).ok().contains(&format!("Error: {message}")));
        let log = podrun.podrun(&["logs", name]).fails(1);
        assert!(log.contains("is waiting to start: CreateContainerConfigError"), "{log}");
    }
    let optional = json!({ "configMapKeyRef": { "name": "absent", "key": "k", "optional": true } });
    let env = json!({ "env": [{ "name": "A", "valueFrom": optional }] });
    podrun.run(&pod("optional", &[with(sh("c", "[ -z \"${A+set}\" ]"), env)])).ok();
    podrun.finish();
}
