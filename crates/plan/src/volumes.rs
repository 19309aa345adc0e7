//! Volumes, and the files that podrun writes into every container.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use podrun_spec::model::{Medium, Pod, Volume, VolumeSource};
use podrun_spec::quantity::Quantity;

use crate::cgroup::pod_memory_limit;
use crate::facts::HostFacts;
use crate::hostname::HostName;
use crate::model::{Attachment, FilePlan, NetworkPlan, VolumePlan, VolumeSourcePlan};

/// Returns how each volume is made.
pub(crate) fn volumes(pod: &Pod, data_dir: &Path, host: &HostFacts) -> Vec<VolumePlan> {
    pod.spec.volumes.iter().map(|volume| one(pod, volume, data_dir, host)).collect()
}

fn one(pod: &Pod, volume: &Volume, data_dir: &Path, host: &HostFacts) -> VolumePlan {
    let source = match &volume.source {
        VolumeSource::EmptyDir { medium: Medium::Disk, .. } => {
            VolumeSourcePlan::Directory { path: data_dir.join("volumes").join(&volume.name) }
        }
        VolumeSource::EmptyDir { medium: Medium::Memory, size_limit } => {
            let limits = [size_limit.as_ref().map(Quantity::units), pod_memory_limit(&pod.spec)];
            let ceilings = limits.into_iter().flatten().chain([host.memory_bytes]);
            VolumeSourcePlan::Tmpfs { size: ceilings.filter(|bytes| *bytes > 0).min().unwrap_or(0) }
        }
        VolumeSource::HostPath { path, kind } => {
            VolumeSourcePlan::HostPath { path: PathBuf::from(path), kind: *kind }
        }
        VolumeSource::Image { reference, pull_policy } => {
            VolumeSourcePlan::Image { reference: reference.clone(), pull_policy: *pull_policy }
        }
    };
    // What belongs to the host keeps its owner, and so does what belongs to an image.
    let is_foreign = matches!(source, VolumeSourcePlan::HostPath { .. } | VolumeSourcePlan::Image { .. });
    let fs_group = pod.spec.security.fs_group.filter(|_| !is_foreign);
    VolumePlan { name: volume.name.clone(), source, fs_group }
}

/// Returns the files of the Pod. `name` is none where the host's UTS and network namespaces are used.
pub(crate) fn files(
    data_dir: &Path,
    name: Option<&HostName>,
    network: &NetworkPlan,
    resolv_conf: String,
    host: &HostFacts,
) -> Vec<FilePlan> {
    let hostname = name.map_or(&host.node_name, |name| &name.kernel);
    let hosts = match network.attachment {
        Attachment::Bridge(_) | Attachment::Host => network.hosts.planned(),
        // The Pod's network has only its loopback device, so that is where its own name leads.
        Attachment::Loopback => network.hosts.text(&[Ipv4Addr::LOCALHOST.into()]),
    };
    [("/etc/hosts", hosts), ("/etc/hostname", format!("{hostname}\n")), ("/etc/resolv.conf", resolv_conf)]
        .into_iter()
        .map(|(target, content)| {
            let path = data_dir.join("files").join(target.trim_start_matches("/etc/"));
            FilePlan { target: target.to_owned(), path, content }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use podrun_spec::model::{HostPathType, PullPolicy};

    use super::*;
    use crate::facts::PodNetwork;
    use crate::test_support::{container, host, limit, pod};

    fn volume(source: VolumeSource, change: impl Fn(&mut Pod)) -> VolumePlan {
        let mut pod = pod("web");
        pod.spec.security.fs_group = Some(2000);
        pod.spec.volumes = vec![Volume { name: "v".into(), source }];
        change(&mut pod);
        volumes(&pod, Path::new("/data"), &host()).remove(0)
    }

    #[test]
    fn a_memory_volume_is_as_large_as_the_tightest_ceiling() {
        let size = |limit: Option<u64>, change: &dyn Fn(&mut Pod)| {
            let size_limit = limit.map(Quantity::from_units);
            match volume(VolumeSource::EmptyDir { medium: Medium::Memory, size_limit }, change).source {
                VolumeSourcePlan::Tmpfs { size } => size,
                other => panic!("{other:?}"),
            }
        };
        let unlimited = |_: &mut Pod| {};
        let limited = |pod: &mut Pod| limit(&mut pod.spec.containers[0], "memory", "64Mi");
        let half_limited = |pod: &mut Pod| {
            limit(&mut pod.spec.containers[0], "memory", "64Mi");
            pod.spec.containers.push(container("free"));
        };
        assert_eq!(size(None, &unlimited), host().memory_bytes);
        assert_eq!(size(Some(0), &unlimited), host().memory_bytes, "0 is no limit");
        assert_eq!(size(Some(1 << 20), &unlimited), 1 << 20);
        assert_eq!(size(Some(1 << 40), &unlimited), host().memory_bytes);
        assert_eq!(size(None, &limited), 64 << 20);
        assert_eq!(size(Some(1 << 20), &limited), 1 << 20);
        assert_eq!(size(None, &half_limited), host().memory_bytes);
    }

    #[test]
    fn host_paths_and_images_keep_their_group() {
        let source = VolumeSource::HostPath { path: "/srv".into(), kind: HostPathType::Directory };
        assert_eq!(volume(source, |_| {}).fs_group, None);
        let (reference, pull_policy) = ("data:1".to_owned(), PullPolicy::Never);
        let source = VolumeSource::Image { reference: reference.clone(), pull_policy };
        let plan = volume(source, |_| {});
        assert_eq!((plan.fs_group, plan.source), (None, VolumeSourcePlan::Image { reference, pull_policy }));
        let source = VolumeSource::EmptyDir { medium: Medium::Disk, size_limit: None };
        let plan = volume(source, |_| {});
        assert_eq!(plan.fs_group, Some(2000));
        assert_eq!(plan.source, VolumeSourcePlan::Directory { path: "/data/volumes/v".into() });
    }

    /// Returns the texts of the files that podrun writes.
    fn contents(change: impl Fn(&mut Pod), host: &HostFacts) -> [String; 3] {
        let mut pod = pod("web");
        change(&mut pod);
        let planned = crate::plan(&pod, host).unwrap();
        let paths: Vec<_> = planned.sandbox.files.iter().map(|file| file.path.to_str().unwrap()).collect();
        let dir = "/var/lib/podrun/pods/7f3c/files";
        assert_eq!(paths, ["hosts", "hostname", "resolv.conf"].map(|name| format!("{dir}/{name}")));
        planned.sandbox.files.into_iter().map(|file| file.content).collect::<Vec<_>>().try_into().unwrap()
    }

    #[test]
    fn the_hosts_file_leads_the_pods_names_to_it() {
        let names = "\tweb.sub.default.svc.cluster.local\tweb\n";
        let sub = |pod: &mut Pod| pod.spec.subdomain = Some("sub".into());
        let [hosts, hostname, resolv_conf] = contents(sub, &host());
        assert_eq!(hosts.split_once("ip6-allrouters\n").unwrap().1, format!("<pod IP>{names}"));
        assert_eq!((hostname.as_str(), resolv_conf.as_str()), ("web\n", "nameserver 192.0.2.53\n"));

        let mut without = host();
        without.network.pod_network = PodNetwork::None;
        let [hosts, _, resolv_conf] = contents(sub, &without);
        assert_eq!(hosts.split_once("ip6-allrouters\n").unwrap().1, format!("127.0.0.1{names}"));
        assert_eq!(resolv_conf, "");
    }

    #[test]
    fn with_the_hosts_network_its_files_are_repeated() {
        let contents = contents(|pod| pod.spec.host_network = true, &host());
        assert_eq!(
            contents,
            [
                "# Kubernetes-managed hosts file (host network).\n127.0.0.1 localhost\n",
                "node\n",
                "nameserver 192.0.2.53\n"
            ]
        );
    }
}
