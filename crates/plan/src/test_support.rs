//! Pods and hosts to test with.

use podrun_spec::model::{Container, MountPropagation, Pod, RecursiveReadOnly, VolumeMount};
use podrun_spec::quantity::Quantity;

use crate::facts::{CgroupFacts, ControllerFact, HostFacts, NetworkFacts, UnenforcedLimits};

/// A host of 8 GiB on which everything can be done.
pub(crate) fn host() -> HostFacts {
    let available = |name: &str| (name.to_owned(), ControllerFact::Available);
    HostFacts {
        run_dir: "/run/podrun".into(),
        data_dir: "/var/lib/podrun".into(),
        node_name: "node".to_owned(),
        cgroup: CgroupFacts {
            mount: "/sys/fs/cgroup".into(),
            parent: "podrun".to_owned(),
            controllers: ["cpu", "memory", "pids", "hugetlb"].map(available).into(),
        },
        memory_bytes: 8 << 30,
        huge_page_sizes: Vec::new(),
        last_capability: 40,
        pod_pids_limit: None,
        unenforced_limits: UnenforcedLimits::Refuse,
        memory_qos: false,
        sys_resource: true,
        nofile_hard: 1 << 20,
        network: NetworkFacts {
            resolv_conf: Some("nameserver 192.0.2.53\n".to_owned()),
            hosts: "127.0.0.1 localhost\n".to_owned(),
            cluster_domain: "cluster.local".to_owned(),
            ..NetworkFacts::default()
        },
    }
}

/// A host whose cgroup v1 mounts hold everything but huge pages.
pub(crate) fn hybrid_host(policy: UnenforcedLimits) -> HostFacts {
    let mut host = host();
    host.unenforced_limits = policy;
    for name in ["cpu", "memory", "pids"] {
        let why = format!("is bound to the cgroup v1 mount /sys/fs/cgroup/{name}");
        host.cgroup.controllers.insert(name.to_owned(), ControllerFact::Missing(why));
    }
    host
}

/// A BestEffort Pod with one container, `c`.
pub(crate) fn pod(name: &str) -> Pod {
    let text = "{apiVersion: v1, kind: Pod, metadata: {name: p},
                 spec: {containers: [{name: c, image: 'busybox:1.36'}]}}";
    let mut pod = podrun_spec::parse("test.yaml", text).unwrap().pods.remove(0).pod;
    // Not in the text, so that tests may try names that are not valid.
    name.clone_into(&mut pod.meta.name);
    pod.meta.uid = "7f3c".to_owned();
    pod
}

pub(crate) fn container(name: &str) -> Container {
    Container { name: name.to_owned(), ..pod("p").spec.containers.remove(0) }
}

pub(crate) fn mount(volume: &str, path: &str) -> VolumeMount {
    VolumeMount {
        name: volume.to_owned(),
        mount_path: path.to_owned(),
        sub_path: None,
        sub_path_expr: None,
        read_only: false,
        recursive_read_only: RecursiveReadOnly::Disabled,
        propagation: MountPropagation::None,
    }
}

/// Sets a limit and, as the API server does, the request that follows from it.
pub(crate) fn limit(container: &mut Container, resource: &str, amount: &str) {
    let amount = Quantity::parse(amount).unwrap();
    container.resources.limits.insert(resource.to_owned(), amount);
    container.resources.requests.entry(resource.to_owned()).or_insert(amount);
}

pub(crate) fn request(container: &mut Container, resource: &str, amount: &str) {
    container.resources.requests.insert(resource.to_owned(), Quantity::parse(amount).unwrap());
}
