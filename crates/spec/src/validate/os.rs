//! Fields that one system has and the other has not.

use k8s_openapi::api::core::v1 as api;

use super::Cause;
use crate::path::Path;

/// Checks what `os` rules out. A Pod for Windows is valid, although no Linux machine runs it.
pub(super) fn os(spec: &api::PodSpec, path: &Path, causes: &mut Vec<Cause>) {
    match spec.os.as_ref().map(|os| os.name.as_str()) {
        Some("linux") => linux(spec, path, causes),
        Some("windows") => windows(spec, path, causes),
        _ => {}
    }
}

/// Returns the containers with their paths.
fn containers<'a>(
    spec: &'a api::PodSpec,
    path: &'a Path,
) -> impl Iterator<Item = (Path, &'a api::Container)> {
    let init = spec.init_containers.as_deref().unwrap_or_default();
    let lists = [("containers", spec.containers.as_slice()), ("initContainers", init)];
    lists.into_iter().flat_map(move |(field, list)| {
        list.iter().enumerate().map(move |(index, container)| (path.child(field).index(index), container))
    })
}

fn linux(spec: &api::PodSpec, path: &Path, causes: &mut Vec<Cause>) {
    let pod = spec.security_context.as_ref().is_some_and(|context| context.windows_options.is_some());
    let own = containers(spec, path).filter(|(_, container)| {
        container.security_context.as_ref().is_some_and(|context| context.windows_options.is_some())
    });
    let places = pod.then(|| path.clone()).into_iter().chain(own.map(|(path, _)| path));
    causes.extend(places.map(|path| {
        let path = path.child("securityContext").child("windowsOptions");
        Cause::forbidden(&path, "windows options cannot be set for a linux pod")
    }));
}

fn windows(spec: &api::PodSpec, path: &Path, causes: &mut Vec<Cause>) {
    let mut forbid = |path: &Path, fields: &[(&str, bool)]| {
        let set = fields.iter().filter(|(_, set)| *set);
        causes.extend(
            set.map(|(field, _)| Cause::forbidden(&path.child(field), "cannot be set for a windows pod")),
        );
    };
    forbid(
        path,
        &[
            ("hostUsers", spec.host_users.is_some()),
            ("hostPID", spec.host_pid == Some(true)),
            ("hostIPC", spec.host_ipc == Some(true)),
            ("shareProcessNamespace", spec.share_process_namespace.is_some()),
        ],
    );
    if let Some(context) = &spec.security_context {
        forbid(
            &path.child("securityContext"),
            &[
                ("appArmorProfile", context.app_armor_profile.is_some()),
                ("seLinuxOptions", context.se_linux_options.is_some()),
                ("seccompProfile", context.seccomp_profile.is_some()),
                ("fsGroup", context.fs_group.is_some()),
                ("fsGroupChangePolicy", context.fs_group_change_policy.is_some()),
                ("sysctls", context.sysctls.as_ref().is_some_and(|list| !list.is_empty())),
                ("runAsUser", context.run_as_user.is_some()),
                ("runAsGroup", context.run_as_group.is_some()),
                ("supplementalGroups", context.supplemental_groups.is_some()),
                ("supplementalGroupsPolicy", context.supplemental_groups_policy.is_some()),
            ],
        );
    }
    for (path, container) in containers(spec, path) {
        let Some(context) = &container.security_context else { continue };
        forbid(
            &path.child("securityContext"),
            &[
                ("appArmorProfile", context.app_armor_profile.is_some()),
                ("seLinuxOptions", context.se_linux_options.is_some()),
                ("seccompProfile", context.seccomp_profile.is_some()),
                ("capabilities", context.capabilities.is_some()),
                ("readOnlyRootFilesystem", context.read_only_root_filesystem.is_some()),
                ("privileged", context.privileged.is_some()),
                ("allowPrivilegeEscalation", context.allow_privilege_escalation.is_some()),
                ("procMount", context.proc_mount.is_some()),
                ("runAsUser", context.run_as_user.is_some()),
                ("runAsGroup", context.run_as_group.is_some()),
            ],
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(spec: &serde_json::Value) -> Vec<String> {
        let spec: api::PodSpec = serde_json::from_value(spec.clone()).unwrap();
        let mut causes = Vec::new();
        os(&spec, &Path::new("spec"), &mut causes);
        causes.iter().map(|cause| cause.path.to_string()).collect()
    }

    #[test]
    fn each_system_has_fields_of_its_own() {
        let spec = |os: &str| {
            serde_json::json!({
                "os": {"name": os},
                "hostPID": true,
                "securityContext": {"runAsUser": 1, "windowsOptions": {}},
                "containers": [{"name": "c"}, {"name": "d", "securityContext": {"privileged": false}}],
                "initContainers": [{"name": "i", "securityContext": {"windowsOptions": {}}}],
            })
        };
        assert_eq!(
            paths(&spec("windows")),
            [
                "spec.hostPID",
                "spec.securityContext.runAsUser",
                "spec.containers[1].securityContext.privileged"
            ]
        );
        assert_eq!(
            paths(&spec("linux")),
            ["spec.securityContext.windowsOptions", "spec.initContainers[0].securityContext.windowsOptions"]
        );
        assert_eq!(paths(&spec("")), Vec::<String>::new());
    }
}
