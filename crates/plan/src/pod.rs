//! A Pod as a whole.

use std::path::Path;

use podrun_spec::model::{Container, ContainerKind, Pod, PodSpec};

use crate::cgroup::{check_huge_pages, container_cgroup, pod_cgroup};
use crate::enforce::Enforcement;
use crate::facts::HostFacts;
use crate::fault::PlanFault;
use crate::hostname::host_name;
use crate::model::{ContainerPlan, NamespacePlan, Owner, Plan, SandboxPlan};
use crate::mounts::mounts;
use crate::network::network;
use crate::oom::oom_score_adj;
use crate::security::security;
use crate::sysctl::sysctls;
use crate::volumes::{files, volumes};

/// Bytes of /dev/shm, as every runtime gives it.
const SHM_SIZE: u64 = 64 << 20;
/// Stands for the UID of a Pod that was never created.
const NO_UID: &str = "<uid>";

/// Returns what will be done for a Pod on a host.
///
/// A Pod without a UID, one that was only looked at, gets `<uid>` in its place.
///
/// # Errors
/// Everything that this host cannot do for the Pod, not only the first thing.
pub fn plan(pod: &Pod, host: &HostFacts) -> Result<Plan, Vec<PlanFault>> {
    let mut faults = Vec::new();
    let mut enforcement = Enforcement::new(&host.cgroup);
    check_huge_pages(&pod.spec, host, &mut faults);
    let sandbox = sandbox(pod, host, &mut enforcement, &mut faults);
    let containers = pod
        .spec
        .all_containers()
        .map(|(kind, one)| container(&pod.spec, kind, one, &sandbox, host, &mut enforcement, &mut faults))
        .collect();
    match enforcement.conclude(host.unenforced_limits) {
        Ok(unenforced) if faults.is_empty() => Ok(Plan { sandbox, containers, unenforced }),
        Ok(_) => Err(faults),
        Err(limits) => Err([faults, limits].concat()),
    }
}

fn sandbox(
    pod: &Pod,
    host: &HostFacts,
    enforcement: &mut Enforcement<'_>,
    faults: &mut Vec<PlanFault>,
) -> SandboxPlan {
    let spec = &pod.spec;
    let meta = &pod.meta;
    let uid = if meta.uid.is_empty() { NO_UID } else { &meta.uid };
    let below = |dir: &Path| dir.join("pods").join(uid);
    let data_dir = below(&host.data_dir);
    let namespaces = namespaces(spec);
    // A Pod on the host's network is known by the host's name.
    let name = (namespaces.uts == Owner::Pod).then(|| host_name(pod, &host.network.cluster_domain));
    let name = name.transpose().unwrap_or_else(|fault| {
        faults.push(fault);
        None
    });
    let (network, resolv_conf, notices) = network(pod, uid, name.as_ref(), host, faults);
    SandboxPlan {
        uid: uid.to_owned(),
        name: meta.name.clone(),
        node_name: host.node_name.clone(),
        namespace: meta.namespace.clone(),
        run_dir: below(&host.run_dir),
        log_dir: host.data_dir.join("logs").join(format!("{}_{}_{uid}", meta.namespace, meta.name)),
        namespaces,
        hostname: name.as_ref().map(|name| name.kernel.clone()),
        sysctls: sysctls(spec, faults),
        cgroup: pod_cgroup(pod, uid, host, enforcement),
        volumes: volumes(pod, &data_dir, host),
        files: files(&data_dir, name.as_ref(), &network, resolv_conf, host),
        network,
        notices,
        shm_size: (namespaces.ipc == Owner::Pod).then_some(SHM_SIZE),
        data_dir,
    }
}

fn namespaces(spec: &PodSpec) -> NamespacePlan {
    let unless = |host: bool, otherwise| if host { Owner::Host } else { otherwise };
    let pid = if spec.share_process_namespace { Owner::Pod } else { Owner::Container };
    NamespacePlan {
        net: unless(spec.host_network, Owner::Pod),
        ipc: unless(spec.host_ipc, Owner::Pod),
        // Programs that talk to the network by the host's address expect the host's name with it.
        uts: unless(spec.host_network, Owner::Pod),
        pid: unless(spec.host_pid, pid),
        mnt: Owner::Container,
        // A privileged container keeps the host's; that is decided container by container.
        cgroup: Owner::Container,
    }
}

fn container(
    spec: &PodSpec,
    kind: ContainerKind,
    container: &Container,
    sandbox: &SandboxPlan,
    host: &HostFacts,
    enforcement: &mut Enforcement<'_>,
    faults: &mut Vec<PlanFault>,
) -> ContainerPlan {
    ContainerPlan {
        name: container.name.clone(),
        kind,
        image: container.image.clone(),
        pull_policy: container.pull_policy,
        dir: sandbox.data_dir.join("containers").join(&container.name),
        log_dir: sandbox.log_dir.join(&container.name),
        cgroup: container_cgroup(spec, container, &sandbox.cgroup, host, enforcement),
        mounts: mounts(container, &sandbox.volumes, &sandbox.files, faults),
        security: security(spec, container, host, faults),
        oom_score_adj: oom_score_adj(spec, kind, container, host.memory_bytes),
        termination_message_path: container.termination_message_path.clone(),
        termination_message_policy: container.termination_message_policy,
    }
}
