//! Mounts of a container: its volumes and the Pod's files.

use podrun_spec::model::{Container, MountPropagation, RecursiveReadOnly, VolumeMount};

use crate::fault::PlanFault;
use crate::model::{FilePlan, MountPlan, MountSource, VolumePlan, VolumeSourcePlan};

/// The only paths of /proc that a mount may cover, as in runc: files that tools such as lxcfs replace by ones that
/// show the container's share. Anything else could hide from podrun or the container what the kernel says.
const PROC_ALLOWED: [&str; 11] = [
    "/proc/cpuinfo",
    "/proc/diskstats",
    "/proc/loadavg",
    "/proc/meminfo",
    "/proc/net/dev",
    "/proc/slabinfo",
    "/proc/stat",
    "/proc/swaps",
    "/proc/sys/crypto/fips_enabled",
    "/proc/sys/kernel/ns_last_pid",
    "/proc/uptime",
];

/// Returns whether `target`, an absolute path without `.`, `..` and empty components, is a file in /proc that a mount
/// may cover.
///
/// Whoever makes the mount has to see to it that no other target leads to /proc by a symbolic link.
pub fn may_cover_in_proc(target: &str) -> bool {
    PROC_ALLOWED.contains(&target)
}

/// Returns the mounts of a container in the order in which they are made.
///
/// Volumes keep the order of `volumeMounts`, except that a path with fewer components comes first, and the Pod's files
/// join them by the same rule. So `/data` never hides `/data/cache`, whichever was written first.
pub(crate) fn mounts(
    container: &Container,
    volumes: &[VolumePlan],
    files: &[FilePlan],
    faults: &mut Vec<PlanFault>,
) -> Vec<MountPlan> {
    let mut mounts = Vec::new();
    for mount in &container.volume_mounts {
        match of_volume(container, mount, volumes) {
            Ok(plan) => mounts.push(plan),
            Err(fault) => faults.push(fault),
        }
    }
    let own = |file: &&FilePlan| !mounts.iter().any(|mount| mount.target == file.target);
    let files: Vec<_> = files.iter().filter(own).map(of_file).collect();
    mounts.extend(files);
    mounts.sort_by_key(|mount| components(&mount.target));
    mounts
}

/// Returns the writable mount of a file that only podrun and this container know.
pub(crate) fn private_file(source: std::path::PathBuf, target: &str) -> MountPlan {
    MountPlan {
        volume: None,
        source: MountSource::Path(source),
        target: absolute(target),
        sub_path: None,
        sub_path_expr: None,
        read_only: false,
        recursive_read_only: RecursiveReadOnly::Disabled,
        propagation: MountPropagation::None,
        restricted: true,
    }
}

fn of_volume(
    container: &Container,
    mount: &VolumeMount,
    volumes: &[VolumePlan],
) -> Result<MountPlan, PlanFault> {
    let volume = volumes.iter().find(|volume| volume.name == mount.name);
    let volume = volume.ok_or_else(|| PlanFault::NoSuchVolume {
        container: container.name.clone(),
        volume: mount.name.clone(),
    })?;
    let target = absolute(&mount.mount_path);
    let below_proc = target == "/proc" || target.starts_with("/proc/");
    if target == "/" || (below_proc && !may_cover_in_proc(&target)) {
        return Err(PlanFault::MountTarget {
            container: container.name.clone(),
            volume: mount.name.clone(),
            target,
        });
    }
    let (source, restricted) = match &volume.source {
        VolumeSourcePlan::Directory { path } => (MountSource::Path(path.clone()), true),
        VolumeSourcePlan::Tmpfs { .. } => (MountSource::SandboxTmpfs(volume.name.clone()), true),
        VolumeSourcePlan::HostPath { path, .. } => (MountSource::Path(path.clone()), false),
        VolumeSourcePlan::Image { .. } => (MountSource::Image { layers: Vec::new() }, true),
    };
    let of_image = matches!(source, MountSource::Image { .. });
    Ok(MountPlan {
        volume: Some(volume.name.clone()),
        source,
        target,
        sub_path: mount.sub_path.clone().filter(|path| !path.is_empty()),
        sub_path_expr: mount.sub_path_expr.clone().filter(|path| !path.is_empty()),
        read_only: mount.read_only || of_image,
        recursive_read_only: mount.recursive_read_only,
        propagation: mount.propagation,
        restricted,
    })
}

fn of_file(file: &FilePlan) -> MountPlan {
    private_file(file.path.clone(), &file.target)
}

/// Returns the path from the root, without `.`, `..` and empty components.
///
/// This is about names only. Symbolic links in the image are resolved below its root when the mount is made.
pub(crate) fn absolute(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

fn components(path: &str) -> usize {
    path.split('/').filter(|part| !part.is_empty()).count()
}

#[cfg(test)]
mod tests {
    use podrun_spec::model::{HostPathType, PullPolicy};

    use super::*;
    use crate::test_support::{container, mount};

    fn volumes() -> Vec<VolumePlan> {
        let plan = |name: &str, source| VolumePlan { name: name.into(), source, fs_group: None };
        vec![
            plan("disk", VolumeSourcePlan::Directory { path: "/v/disk".into() }),
            plan("mem", VolumeSourcePlan::Tmpfs { size: 1 }),
            plan("host", VolumeSourcePlan::HostPath { path: "/srv".into(), kind: HostPathType::Unset }),
            plan(
                "image",
                VolumeSourcePlan::Image { reference: "data:1".into(), pull_policy: PullPolicy::Always },
            ),
        ]
    }

    fn files() -> Vec<FilePlan> {
        let file = |target: &str, path: &str| FilePlan {
            target: target.into(),
            path: path.into(),
            content: String::new(),
        };
        vec![file("/etc/hosts", "/f/hosts"), file("/etc/resolv.conf", "/f/resolv.conf")]
    }

    fn planned(mounts_written: &[(&str, &str)]) -> (Vec<MountPlan>, Vec<String>) {
        let mut container = container("c");
        container.volume_mounts = mounts_written.iter().map(|(name, path)| mount(name, path)).collect();
        let mut faults = Vec::new();
        let plan = mounts(&container, &volumes(), &files(), &mut faults);
        (plan, faults.iter().map(ToString::to_string).collect())
    }

    fn targets(mounts: &[MountPlan]) -> Vec<&str> {
        mounts.iter().map(|mount| mount.target.as_str()).collect()
    }

    #[test]
    fn no_mount_hides_another() {
        let (plan, _) = planned(&[("disk", "/a/b/c"), ("mem", "/a"), ("host", "/z"), ("disk", "/etc")]);
        assert_eq!(targets(&plan), ["/a", "/z", "/etc", "/etc/hosts", "/etc/resolv.conf", "/a/b/c"]);
    }

    #[test]
    fn paths_are_made_absolute() {
        for (written, expected) in [
            ("data", "/data"),
            ("/data/", "/data"),
            ("/a/./b//c", "/a/b/c"),
            ("/a/../../b", "/b"),
            ("/", "/"),
        ] {
            assert_eq!(absolute(written), expected, "{written}");
        }
    }

    #[test]
    fn a_container_that_mounts_its_own_hosts_file_does_not_get_ours() {
        let (plan, _) = planned(&[("disk", "etc/hosts/")]);
        assert_eq!(targets(&plan), ["/etc/hosts", "/etc/resolv.conf"]);
        assert_eq!(plan[0].volume.as_deref(), Some("disk"));
    }

    #[test]
    fn sources_and_flags() {
        let (plan, _) = planned(&[("disk", "/a"), ("mem", "/b"), ("host", "/c"), ("image", "/d")]);
        let of = |target: &str| {
            let mount = plan.iter().find(|mount| mount.target == target).unwrap();
            (mount.source.clone(), mount.restricted, mount.read_only)
        };
        assert_eq!(of("/a"), (MountSource::Path("/v/disk".into()), true, false));
        assert_eq!(of("/b"), (MountSource::SandboxTmpfs("mem".into()), true, false));
        assert_eq!(of("/c"), (MountSource::Path("/srv".into()), false, false));
        assert_eq!(of("/d"), (MountSource::Image { layers: Vec::new() }, true, true));
        assert_eq!(of("/etc/hosts"), (MountSource::Path("/f/hosts".into()), true, false));
    }

    #[test]
    fn some_targets_are_refused() {
        for target in ["/", "/proc", "/proc/sys", "/proc/self/attr", "proc/1/", "/tmp/../proc"] {
            let (plan, faults) = planned(&[("disk", target)]);
            assert_eq!(plan.len(), 2, "{target}: only the files are left");
            assert!(faults[0].contains("where nothing may be mounted"), "{target}: {faults:?}");
        }
        for target in ["/proc/meminfo", "/process", "/sys", "/dev/shm"] {
            assert!(planned(&[("disk", target)]).1.is_empty(), "{target}");
        }
    }

    #[test]
    fn a_mount_needs_its_volume() {
        assert_eq!(
            planned(&[("nope", "/a")]).1,
            ["cannot find volume \"nope\" to mount into container \"c\""]
        );
    }
}
