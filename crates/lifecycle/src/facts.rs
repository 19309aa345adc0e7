//! What the machine needs to know of the Pod's spec.

use std::time::Duration;

use podrun_spec::model::{
    Container, ContainerKind, ContainerLife, Pod, PullPolicy, QosClass, RecursiveReadOnly, RestartAction,
    RestartPolicy, Volume, VolumeSource,
};
use podrun_spec::status::MountStatus;

/// The part of a Pod on which its life depends.
#[derive(Clone, Debug)]
pub(crate) struct PodFacts {
    pub(crate) name: String,
    pub(crate) namespace: String,
    pub(crate) uid: String,
    pub(crate) generation: i64,
    pub(crate) restart_policy: RestartPolicy,
    pub(crate) grace: Duration,
    pub(crate) active_deadline: Option<Duration>,
    pub(crate) readiness_gates: Vec<String>,
    pub(crate) qos_class: QosClass,
    /// Init containers and sidecars first, each group in spec order. A container is known by its place here.
    pub(crate) containers: Vec<ContainerFacts>,
    /// How many of them stand among the init containers.
    pub(crate) init_count: usize,
    /// The images of the volumes that no container mounts, in spec order.
    pub(crate) unmounted: Vec<NeededImage>,
}

/// The part of a container on which its life depends.
#[derive(Clone, Debug)]
pub(crate) struct ContainerFacts {
    pub(crate) name: String,
    pub(crate) kind: ContainerKind,
    pub(crate) image: String,
    /// The images that it needs, in the order in which they are looked for: those that are its volumes, then its own.
    pub(crate) images: Vec<NeededImage>,
    pub(crate) mounts: Vec<MountStatus>,
    pub(crate) life: ContainerLife,
}

/// An image that a Pod needs. Without one of its own a container cannot start.
#[derive(Clone, Debug)]
pub(crate) struct NeededImage {
    /// The volume that it is; none for the one that the container runs.
    pub(crate) volume: Option<String>,
    pub(crate) name: String,
    pub(crate) pull_policy: PullPolicy,
}

impl PodFacts {
    pub(crate) fn of(pod: &Pod) -> Self {
        let spec = &pod.spec;
        Self {
            name: pod.meta.name.clone(),
            namespace: pod.meta.namespace.clone(),
            uid: pod.meta.uid.clone(),
            generation: pod.meta.generation,
            restart_policy: spec.restart_policy,
            grace: spec.termination_grace_period,
            active_deadline: spec.active_deadline,
            readiness_gates: spec.readiness_gates.clone(),
            qos_class: spec.qos_class,
            containers: spec
                .all_containers()
                .map(|(kind, c)| ContainerFacts::of(kind, c, &spec.volumes))
                .collect(),
            init_count: spec.init_containers.len(),
            unmounted: unmounted_images(pod),
        }
    }

    /// Returns the Pod as the kubelet names it in texts: `NAME_NAMESPACE(UID)`.
    pub(crate) fn title(&self) -> String {
        format!("{}_{}({})", self.name, self.namespace, self.uid)
    }

    pub(crate) fn index_of(&self, name: &str) -> Option<usize> {
        self.containers.iter().position(|c| c.name == name)
    }

    /// Returns the places of the regular containers.
    pub(crate) const fn regular(&self) -> std::ops::Range<usize> {
        self.init_count..self.containers.len()
    }

    /// Returns the places of all containers in the order in which they are stopped: regular ones, then sidecars from the last
    /// to the first.
    pub(crate) fn stop_order(&self) -> impl Iterator<Item = usize> + use<> {
        self.regular().chain((0..self.init_count).rev())
    }

    /// Returns whether a rule of some container restarts all of them.
    pub(crate) fn may_restart_all(&self) -> bool {
        let mut rules = self.containers.iter().flat_map(|c| &c.life.restart.rules);
        rules.any(|rule| rule.action == RestartAction::RestartAllContainers)
    }
}

impl ContainerFacts {
    fn of(kind: ContainerKind, container: &Container, volumes: &[Volume]) -> Self {
        let mounts = container.volume_mounts.iter().map(|m| MountStatus {
            name: m.name.clone(),
            mount_path: m.mount_path.clone(),
            read_only: m.read_only,
            // `IfPossible` is reported as what becomes of it; mount_setattr(2) makes it possible since Linux 5.12.
            recursive_read_only: m.read_only.then_some(m.recursive_read_only != RecursiveReadOnly::Disabled),
            propagation: m.propagation,
        });
        Self {
            name: container.name.clone(),
            kind,
            image: container.image.clone(),
            images: needed_images(container, volumes),
            mounts: mounts.collect(),
            life: container.life.clone(),
        }
    }
}

fn needed_images(container: &Container, volumes: &[Volume]) -> Vec<NeededImage> {
    let own = NeededImage { volume: None, name: container.image.clone(), pull_policy: container.pull_policy };
    let mounted = volumes.iter().filter(|volume| mounts(container, volume));
    mounted.filter_map(image_of_volume).chain([own]).collect()
}

fn unmounted_images(pod: &Pod) -> Vec<NeededImage> {
    let is_mounted = |volume: &Volume| pod.spec.all_containers().any(|(_, c)| mounts(c, volume));
    pod.spec.volumes.iter().filter(|volume| !is_mounted(volume)).filter_map(image_of_volume).collect()
}

fn mounts(container: &Container, volume: &Volume) -> bool {
    container.volume_mounts.iter().any(|mount| mount.name == volume.name)
}

fn image_of_volume(volume: &Volume) -> Option<NeededImage> {
    let VolumeSource::Image { reference, pull_policy } = &volume.source else { return None };
    let (volume, name) = (Some(volume.name.clone()), reference.clone());
    Some(NeededImage { volume, name, pull_policy: *pull_policy })
}
