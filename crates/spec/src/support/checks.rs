//! Fields of which some values are honoured and others are not.
//!
//! Each check sees a value that is valid in the API and returns what podrun does not do: a message, and the key where
//! the field is a map.

use std::net::IpAddr;

use serde_json::Value as Json;

use super::Facts;
use crate::wire::convert;

/// What is wrong with a value: for maps the key it is about, and the reason.
pub(crate) type Refusals = Vec<(Option<String>, String)>;

fn text(value: &Json) -> &str {
    value.as_str().unwrap_or_default()
}

fn only_if(fine: bool, reason: impl FnOnce() -> String) -> Refusals {
    if fine { Vec::new() } else { vec![(None, reason())] }
}

/// Refuses one value of a field.
fn except(value: &Json, refused: &[&str]) -> Refusals {
    only_if(!refused.contains(&text(value)), || format!("value {:?}", text(value)))
}

fn keys(value: &Json, refuse: impl Fn(&str, &str) -> bool) -> Refusals {
    let entries = value.as_object().into_iter().flatten();
    entries
        .filter(|(key, value)| refuse(key, text(value)))
        .map(|(key, _)| (Some(key.clone()), String::new()))
        .collect()
}

pub(super) fn annotations(_: &Facts, value: &Json) -> Refusals {
    keys(value, |key, value| {
        let security = key.starts_with("container.apparmor.security.beta.kubernetes.io/")
            || key == "seccomp.security.alpha.kubernetes.io/pod"
            || key.starts_with("container.seccomp.security.alpha.kubernetes.io/");
        security && value != "unconfined"
    })
}

pub(super) fn host_users(_: &Facts, value: &Json) -> Refusals {
    only_if(value.as_bool() != Some(false), || "value false".to_owned())
}

pub(super) fn seccomp(_: &Facts, value: &Json) -> Refusals {
    except(value, &["Localhost"])
}

pub(super) fn app_armor(_: &Facts, value: &Json) -> Refusals {
    except(value, &["RuntimeDefault", "Localhost"])
}

pub(super) fn proc_mount(_: &Facts, value: &Json) -> Refusals {
    except(value, &["Unmasked"])
}

pub(super) fn resize_policy(_: &Facts, value: &Json) -> Refusals {
    except(value, &["RestartContainer"])
}

pub(super) fn medium(_: &Facts, value: &Json) -> Refusals {
    only_if(matches!(text(value), "" | "Memory"), || format!("value {:?}", text(value)))
}

pub(super) fn empty_dir(_: &Facts, value: &Json) -> Refusals {
    let soft = !value["sizeLimit"].is_null() && text(&value["medium"]) != "Memory";
    only_if(!soft, || "sizeLimit without medium Memory".to_owned())
}

/// An API server takes any text, which nothing could listen on.
pub(super) fn host_ip(facts: &Facts, value: &Json) -> Refusals {
    let address = text(value);
    let says_nothing = facts.host_network || address.is_empty();
    only_if(says_nothing || address.parse::<IpAddr>().is_ok(), || format!("value {address:?}"))
}

pub(super) fn limits(_: &Facts, value: &Json) -> Refusals {
    keys(value, |name, _| !is_enforced(name))
}

pub(super) fn requests(_: &Facts, value: &Json) -> Refusals {
    keys(value, |name, _| !is_enforced(name) && name != "ephemeral-storage")
}

fn is_enforced(name: &str) -> bool {
    matches!(name, "cpu" | "memory") || name.starts_with("hugepages-")
}

/// The capabilities of Linux, capabilities(7).
const CAPABILITIES: &[&str] = &[
    "ALL",
    "AUDIT_CONTROL",
    "AUDIT_READ",
    "AUDIT_WRITE",
    "BLOCK_SUSPEND",
    "BPF",
    "CHECKPOINT_RESTORE",
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "IPC_LOCK",
    "IPC_OWNER",
    "KILL",
    "LEASE",
    "LINUX_IMMUTABLE",
    "MAC_ADMIN",
    "MAC_OVERRIDE",
    "MKNOD",
    "NET_ADMIN",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_RAW",
    "PERFMON",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYSLOG",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_CHROOT",
    "SYS_MODULE",
    "SYS_NICE",
    "SYS_PACCT",
    "SYS_PTRACE",
    "SYS_RAWIO",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "WAKE_ALARM",
];

pub(super) fn capabilities(_: &Facts, value: &Json) -> Refusals {
    let names = value.as_array().into_iter().flatten().map(text);
    let unknown = names.filter(|name| !CAPABILITIES.contains(&convert::container::capability(name).as_str()));
    unknown.map(|name| (None, format!("capability {name:?}"))).collect()
}
