//! Security contexts.

use k8s_openapi::api::core::v1 as api;
use serde_json::{Value as Json, json};

use super::container::descending_path;
use super::{Cause, one_of};
use crate::path::Path;

fn id(value: Option<i64>, path: &Path, causes: &mut Vec<Cause>) {
    let most = i64::from(i32::MAX);
    if let Some(id) = value.filter(|id| !(0..=most).contains(id)) {
        causes.push(Cause::out_of_range(path, id, 0, most));
    }
}

pub(super) fn pod(context: Option<&api::PodSecurityContext>, path: &Path, causes: &mut Vec<Cause>) {
    let Some(context) = context else { return };
    id(context.fs_group, &path.child("fsGroup"), causes);
    id(context.run_as_user, &path.child("runAsUser"), causes);
    id(context.run_as_group, &path.child("runAsGroup"), causes);
    for (index, group) in context.supplemental_groups.iter().flatten().enumerate() {
        id(Some(*group), &path.child("supplementalGroups").index(index), causes);
    }
    let policy = context.supplemental_groups_policy.as_ref();
    one_of(&path.child("supplementalGroupsPolicy"), policy, &["Merge", "Strict"], causes);
    let policy = context.fs_group_change_policy.as_ref();
    one_of(&path.child("fsGroupChangePolicy"), policy, &["Always", "OnRootMismatch"], causes);
    sysctls(context.sysctls.as_deref().unwrap_or_default(), &path.child("sysctls"), causes);
    profiles(context.seccomp_profile.as_ref(), context.app_armor_profile.as_ref(), path, causes);
}

fn sysctls(sysctls: &[api::Sysctl], path: &Path, causes: &mut Vec<Cause>) {
    for (index, sysctl) in sysctls.iter().enumerate() {
        let path = path.index(index).child("name");
        let name = sysctl.name.as_str();
        if name.is_empty() {
            causes.push(Cause::required(&path, ""));
        } else if !is_sysctl(name) {
            let why = "must have at most 253 characters and match regex \
                       ^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?$";
            causes.push(Cause::invalid(&path, name, why));
        } else if sysctls[..index].iter().any(|earlier| earlier.name == name) {
            causes.push(Cause::duplicate(&path, name));
        }
    }
}

fn is_sysctl(name: &str) -> bool {
    let alphanumeric = |b: Option<u8>| b.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    let part = |part: &str| {
        alphanumeric(part.bytes().next())
            && alphanumeric(part.bytes().last())
            && part.bytes().all(|b| alphanumeric(Some(b)) || matches!(b, b'-' | b'_'))
    };
    name.len() <= 253 && name.split(['.', '/']).all(part)
}

fn profiles(
    seccomp: Option<&api::SeccompProfile>,
    app_armor: Option<&api::AppArmorProfile>,
    path: &Path,
    causes: &mut Vec<Cause>,
) {
    if let Some(profile) = seccomp {
        let file = profile.localhost_profile.as_deref();
        let path = path.child("seccompProfile");
        self::profile(&profile.type_, file, "seccomp", &path, causes);
        if let Some(file) = file.filter(|_| profile.type_ == "Localhost") {
            super::invalid_text(&path.child("localhostProfile"), file, descending_path(file), causes);
        }
    }
    if let Some(profile) = app_armor {
        let name = profile.localhost_profile.as_deref();
        self::profile(&profile.type_, name, "AppArmor", &path.child("appArmorProfile"), causes);
    }
}

fn profile(kind: &str, local: Option<&str>, what: &str, path: &Path, causes: &mut Vec<Cause>) {
    let kinds = ["Localhost", "RuntimeDefault", "Unconfined"];
    let at = path.child("localhostProfile");
    if kind.is_empty() {
        causes.push(Cause::required(&path.child("type"), "type is required when profile is set"));
    } else if !kinds.contains(&kind) {
        causes.push(Cause::unsupported(&path.child("type"), kind, &kinds));
    } else if kind == "Localhost" && local.unwrap_or_default().is_empty() {
        causes.push(Cause::required(&at, &format!("must be set when {what} type is Localhost")));
    } else if let Some(local) = local.filter(|_| kind != "Localhost") {
        causes.push(Cause::invalid(&at, local, &format!("can only be set when {what} type is Localhost")));
    }
}

pub(super) fn container(
    context: Option<&api::SecurityContext>,
    path: &Path,
    host_users: bool,
    causes: &mut Vec<Cause>,
) {
    let Some(context) = context else { return };
    id(context.run_as_user, &path.child("runAsUser"), causes);
    id(context.run_as_group, &path.child("runAsGroup"), causes);
    profiles(context.seccomp_profile.as_ref(), context.app_armor_profile.as_ref(), path, causes);
    match context.proc_mount.as_deref() {
        Some("Unmasked") if host_users => {
            let why = "`hostUsers` must be false to use `Unmasked`";
            causes.push(Cause::invalid(&path.child("procMount"), "Unmasked", why));
        }
        Some(other) if !matches!(other, "Default" | "Unmasked") => {
            causes.push(Cause::unsupported(&path.child("procMount"), other, &["Default", "Unmasked"]));
        }
        _ => {}
    }
    if context.allow_privilege_escalation == Some(false) {
        let added = context.capabilities.as_ref().and_then(|list| list.add.as_ref());
        let mut forbid = |why: &str| causes.push(Cause::invalid_raw(path, dump(context), why));
        if context.privileged == Some(true) {
            forbid("cannot set `allowPrivilegeEscalation` to false and `privileged` to true");
        }
        // Only this spelling is looked for, although SYS_ADMIN means the same.
        if added.is_some_and(|add| add.iter().any(|name| name == "CAP_SYS_ADMIN")) {
            forbid("cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN");
        }
    }
}

/// Returns the context as the API server prints its own type, in which all fields appear.
fn dump(context: &api::SecurityContext) -> String {
    let profile = |kind: &str, local: Option<&String>| {
        let fields = [("Type", json!(kind)), ("LocalhostProfile", json!(local))];
        object(&fields)
    };
    let capabilities = context.capabilities.as_ref().map_or_else(null, |list| {
        let names = |list: Option<&Vec<String>>| list.map_or(Json::Null, |names| json!(names));
        object(&[("Add", names(list.add.as_ref())), ("Drop", names(list.drop.as_ref()))])
    });
    let text = |value: Option<&String>| json!(value.map_or("", String::as_str));
    let selinux = context.se_linux_options.as_ref().map_or_else(null, |options| {
        object(&[
            ("User", text(options.user.as_ref())),
            ("Role", text(options.role.as_ref())),
            ("Type", text(options.type_.as_ref())),
            ("Level", text(options.level.as_ref())),
        ])
    });
    let seccomp = context.seccomp_profile.as_ref();
    let app_armor = context.app_armor_profile.as_ref();
    let fields = [
        ("Capabilities", capabilities),
        ("Privileged", json!(context.privileged).to_string()),
        ("SELinuxOptions", selinux),
        ("WindowsOptions", null()),
        ("RunAsUser", json!(context.run_as_user).to_string()),
        ("RunAsGroup", json!(context.run_as_group).to_string()),
        ("RunAsNonRoot", json!(context.run_as_non_root).to_string()),
        ("ReadOnlyRootFilesystem", json!(context.read_only_root_filesystem).to_string()),
        ("AllowPrivilegeEscalation", json!(context.allow_privilege_escalation).to_string()),
        ("ProcMount", json!(context.proc_mount).to_string()),
        ("SeccompProfile", seccomp.map_or_else(null, |p| profile(&p.type_, p.localhost_profile.as_ref()))),
        ("AppArmorProfile", app_armor.map_or_else(null, |p| profile(&p.type_, p.localhost_profile.as_ref()))),
    ];
    braces(fields.iter().map(|(name, value)| format!("{name:?}:{value}")))
}

fn null() -> String {
    "null".to_owned()
}

/// Writes an object with its fields in this order, which a JSON map would not keep.
fn object(fields: &[(&str, Json)]) -> String {
    braces(fields.iter().map(|(name, value)| format!("{name:?}:{value}")))
}

fn braces(fields: impl Iterator<Item = String>) -> String {
    format!("{{{}}}", fields.collect::<Vec<_>>().join(","))
}
