//! Pods and hosts to test with.

use std::time::Duration;

use podrun_spec::model::{
    Container, ContainerSecurity, Meta, MountPropagation, Pod, PodSecurity, PodSpec, PullPolicy, QosClass,
    RecursiveReadOnly, Resources, RestartPolicy, TerminationMessagePolicy, VolumeMount,
};
use podrun_spec::quantity::Quantity;

use crate::facts::{CgroupFacts, ControllerFact, HostFacts, UnenforcedLimits};

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
    Pod {
        meta: Meta {
            name: name.to_owned(),
            namespace: "default".to_owned(),
            uid: "7f3c".to_owned(),
            generation: 1,
            ..Meta::default()
        },
        spec: PodSpec {
            init_containers: Vec::new(),
            containers: vec![container("c")],
            volumes: Vec::new(),
            restart_policy: RestartPolicy::Always,
            termination_grace_period: Duration::from_secs(30),
            host_network: false,
            host_pid: false,
            host_ipc: false,
            share_process_namespace: false,
            hostname: None,
            subdomain: None,
            hostname_override: None,
            set_hostname_as_fqdn: false,
            node_name: None,
            service_account_name: String::new(),
            security: PodSecurity::default(),
            resources: Resources::default(),
            overhead: std::collections::BTreeMap::new(),
            qos_class: QosClass::BestEffort,
            priority: 0,
        },
    }
}

pub(crate) fn container(name: &str) -> Container {
    Container {
        name: name.to_owned(),
        image: "busybox:1.36".to_owned(),
        pull_policy: PullPolicy::IfNotPresent,
        command: Vec::new(),
        args: Vec::new(),
        working_dir: None,
        ports: Vec::new(),
        env_from: Vec::new(),
        env: Vec::new(),
        resources: Resources::default(),
        volume_mounts: Vec::new(),
        termination_message_path: "/dev/termination-log".to_owned(),
        termination_message_policy: TerminationMessagePolicy::File,
        security: ContainerSecurity::default(),
    }
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
