//! The images of a Pod's containers, those that are volumes among them: looked for in the store, and pulled in the
//! background where the policy says so.
//!
//! ```text
//!   EnsureImage ──> in the store, and the policy is content ──────────────────────────> ImageReady
//!              └──> ImagePulling ──> a task pulls ──> Done::Pulled ──┬──────────────────> ImageReady
//!                                                                    └──────────────────> ImageFailed
//! ```
//!
//! While one image is pulled, the next one that will be needed is pulled ahead, silently: containers start one after the
//! other, and their downloads need not. What was pulled ahead counts as the pull of the container that then asks for it.
//! A container and a volume that none mounts may want the same image at the same time: they share the pull.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use podrun_image::pull::{image_to_pull, never_and_absent};
use podrun_image::registry::{Client, Keyring};
use podrun_image::{
    Decision, Hold, PullError, PullOptions, PullPolicy as ImagePullPolicy, Pulled, Reference, decide,
};
use podrun_lifecycle::{Input, PulledImage};
use podrun_plan::facts::ImageFacts;
use podrun_plan::model::{ContainerPlan, MountPlan, MountSource, VolumeSourcePlan};
use podrun_plan::stop_signal;
use podrun_spec::model::{Object, ObjectKind, PullPolicy, RegistryConfig};
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::{Done, Supervisor};
use crate::engine::lease_of;
use crate::error::chain;
use crate::memory;
use crate::paths::Paths;
use crate::registries;

/// An image that is here.
#[derive(Clone)]
pub(super) struct Image {
    /// What `imageID` says: `sha256:…`, or `repository@sha256:…` for one that was pulled.
    pub(super) id: String,
    /// What it says.
    pub(super) facts: ImageFacts,
    /// Keeps its layers from being deleted.
    pub(super) hold: Arc<Hold>,
}

/// The waiting reason of a container without an image, and its text.
#[derive(Clone, Debug)]
pub(super) struct NoImage {
    pub(super) reason: &'static str,
    pub(super) message: String,
}

/// An image that the Pod needs.
#[derive(Clone, PartialEq, Eq)]
struct Need {
    /// The container that needs it; none for a volume that no container mounts.
    container: Option<String>,
    /// The volume that it is; none for the one that the container runs.
    volume: Option<String>,
    /// As the Pod names it.
    image: String,
    policy: PullPolicy,
}

/// What has become of a pull.
pub(super) struct PullDone {
    /// The image, as the Pod names it.
    image: String,
    result: std::result::Result<(Image, PulledImage), NoImage>,
}

/// The pulls of one Pod, by the image as the Pod names it.
#[derive(Default)]
pub(super) struct Pulls {
    /// Made with the first pull: it has connections and tokens.
    client: Option<(Client, Keyring)>,
    running: HashMap<String, Running>,
    /// What was pulled ahead, until a container asks for it.
    ahead: HashMap<String, PulledImage>,
    /// Images of which a pull was begun ahead, so that it is done once.
    tried: HashSet<String>,
}

struct Running {
    task: AbortHandle,
    /// What waits for it; nothing while it is ahead.
    needs: Vec<Need>,
}

/// What the store has of an image, and what is to be done.
struct Look {
    decision: Decision,
    reference: Reference,
    present: Option<(podrun_image::Image, Hold)>,
}

impl Supervisor {
    pub(super) fn ensure_image(&mut self, container: Option<String>, volume: Option<String>) {
        let Some(need) = self.need(container, volume) else { return };
        if let Some(container) = &need.container
            && let Some((image_id, facts)) = self.next_image(container)
        {
            self.keep_image(container, facts);
            self.hold = None;
            self.inputs.push_back(need.ready(image_id, None));
            return;
        }
        let look = self.look(&need.image, need.policy);
        let asks = matches!(&look, Ok(Look { decision: Decision::Pull, .. }));
        if asks && let Some(running) = self.pulls.running.get_mut(&need.image) {
            // A start that was given up may have asked before.
            if !running.needs.contains(&need) {
                running.needs.push(need.clone());
            }
            self.inputs.push_back(need.pulling());
            self.pull_ahead();
            return;
        }
        let was_pulled = self.pulls.ahead.remove(&need.image);
        match look {
            Err(none) => self.on_image(need, Err(none)),
            Ok(Look { present: Some(present), decision, reference })
                if was_pulled.is_some() || decision != Decision::Pull =>
            {
                if was_pulled.is_some() {
                    self.inputs.push_back(need.pulling());
                }
                let image = self.lease(&need.image, &reference, present);
                self.on_image(need, image.map(|image| (image, was_pulled)));
            }
            Ok(Look { decision: Decision::NeverAndAbsent, .. }) => {
                let none = NoImage::never(&need.image);
                self.on_image(need, Err(none));
            }
            Ok(Look { reference, .. }) => {
                self.inputs.push_back(need.pulling());
                self.pull(need.image.clone(), reference, Some(need));
                self.pull_ahead();
            }
        }
    }

    /// Returns the image that a container runs, or the one that is a volume.
    fn need(&self, container: Option<String>, volume: Option<String>) -> Option<Need> {
        let (image, policy) = match &volume {
            None => {
                let plan = self.plan.container(container.as_deref()?)?;
                (plan.image.clone(), plan.pull_policy)
            }
            Some(name) => self.plan.sandbox.volumes.iter().find_map(|volume| match &volume.source {
                VolumeSourcePlan::Image { reference, pull_policy } if volume.name == *name => {
                    Some((reference.clone(), *pull_policy))
                }
                _ => None,
            })?,
        };
        Some(Need { container, volume, image, policy })
    }

    /// Returns the images that a container needs, its own last.
    fn needs<'a>(&'a self, container: &'a str) -> impl Iterator<Item = Need> + 'a {
        let plan = self.plan.container(container);
        let volumes = plan.into_iter().flat_map(image_volumes).map(|volume| Some(volume.to_owned()));
        volumes.chain([None]).filter_map(|volume| self.need(Some(container.to_owned()), volume))
    }

    /// Begins to pull an image, for a container or ahead.
    fn pull(&mut self, image: String, reference: Reference, need: Option<Need>) {
        let (client, keyring) = match self.registry_access() {
            Ok(access) => access,
            Err(message) => {
                if let Some(need) = need {
                    self.on_image(need, Err(NoImage { reason: "ErrImagePull", message }));
                }
                return;
            }
        };
        memory::return_large_blocks();
        let (paths, done, name) = (self.paths.clone(), self.done.clone(), image.clone());
        let lease = lease_of(&self.pod.meta.uid);
        let task = tokio::spawn(async move {
            let result = pull(&paths, &client, keyring, &reference, &lease).await;
            let result = result.map_err(|error| no_image(&name, &error));
            // The loop is gone only when the process is ending.
            let _ = done.send(Done::Pulled(Box::new(PullDone { image: name, result }))).await;
        });
        let needs = need.into_iter().collect();
        self.pulls.running.insert(image, Running { task: task.abort_handle(), needs });
    }

    /// Pulls the next image that will be needed, if nothing else is pulled ahead.
    fn pull_ahead(&mut self) {
        if self.stopping || self.pulls.running.values().any(|running| running.needs.is_empty()) {
            return;
        }
        let spec = &self.pod.spec;
        let names = spec.init_containers.iter().chain(&spec.containers).map(|container| &container.name);
        let names = names.filter(|name| !self.images.contains_key(*name));
        let needs: Vec<Need> = names.flat_map(|name| self.needs(name)).collect();
        for Need { volume, image, policy, .. } in needs {
            // A volume that is here has been asked for.
            if volume.is_some_and(|volume| self.volume_images.contains_key(&volume)) {
                continue;
            }
            if self.pulls.running.contains_key(&image) || self.pulls.tried.contains(&image) {
                continue;
            }
            // What goes wrong here goes wrong again when the container asks, and is reported then.
            if let Ok(Look { decision: Decision::Pull, reference, .. }) = self.look(&image, policy) {
                self.pulls.tried.insert(image.clone());
                self.pull(image, reference, None);
                return;
            }
        }
    }

    /// Takes in what has become of a pull.
    pub(super) fn on_pulled(&mut self, PullDone { image, result }: PullDone) {
        let needs = self.pulls.running.remove(&image).map_or_else(Vec::new, |running| running.needs);
        // The store keeps what came ahead; if it should be removed before a container asks, it is pulled again. What failed
        // ahead fails again then.
        if needs.is_empty()
            && let Ok((_, pulled)) = &result
        {
            self.pulls.ahead.insert(image, *pulled);
        }
        for need in needs {
            self.on_image(need, result.clone().map(|(image, pulled)| (image, Some(pulled))));
        }
        self.pull_ahead();
        if self.pulls.running.is_empty() {
            self.pulls.client = None;
            memory::release();
        }
    }

    fn on_image(&mut self, need: Need, result: std::result::Result<(Image, Option<PulledImage>), NoImage>) {
        let input = match result {
            Ok((Image { id, facts, hold }, pulled)) => {
                let input = need.ready(id, pulled);
                match need {
                    // Other images may have to be pulled before it is mounted. The lease keeps it meanwhile, and nobody
                    // else is kept from the store.
                    Need { volume: Some(volume), .. } => {
                        self.volume_images.insert(volume, facts.layers);
                    }
                    Need { container: Some(container), .. } => {
                        self.keep_image(&container, facts);
                        self.hold = Some(hold);
                    }
                    Need { container: None, volume: None, .. } => {}
                }
                input
            }
            Err(NoImage { reason, message }) => {
                let Need { container, volume, .. } = need;
                Input::ImageFailed { container, volume, reason: reason.to_owned(), message }
            }
        };
        self.inputs.push_back(input);
    }

    /// Keeps what an image says that a container is about to run.
    ///
    /// The state, which is written before the start, has what is needed to stop it.
    pub(super) fn keep_image(&mut self, container: &str, facts: ImageFacts) {
        let spec = self.pod.spec.container(container);
        // With an image that names no signal that there is the container does not start.
        if let Some(Ok(signal)) = spec.map(|(_, spec)| stop_signal(spec, &facts)) {
            self.stop_signals.insert(container.to_owned(), signal);
        }
        self.images.insert(container.to_owned(), facts);
    }

    /// Ends all pulls: the Pod ends. What has come of layers stays in the store for the next one.
    pub(super) fn give_up_pulls(&mut self) {
        for running in std::mem::take(&mut self.pulls).running.into_values() {
            running.task.abort();
        }
    }

    /// Returns a client and the Pod's credentials: those of its `imagePullSecrets` before the machine's own, as a kubelet
    /// has it.
    fn registry_access(&mut self) -> std::result::Result<(Client, Keyring), String> {
        if let Some(access) = &self.pulls.client {
            return Ok(access.clone());
        }
        let registries = registries::registries(&self.paths).map_err(|error| chain(&error))?;
        let of_machine = registries::credentials(&self.paths, &registries).map_err(|error| chain(&error))?;
        let (mut keyring, missing) =
            pull_secrets(&self.pod.spec.image_pull_secrets, &self.pod.meta.namespace, &self.record.objects);
        if !missing.is_empty() {
            let message = format!(
                "Unable to retrieve some image pull secrets ({}); attempting to pull the image may not succeed.",
                missing.join(", ")
            );
            self.warn("FailedToRetrieveImagePullSecret", message, None);
        }
        keyring.extend(of_machine);
        let access = (Client::new(registries), keyring);
        self.pulls.client = Some(access.clone());
        Ok(access)
    }

    /// Returns a container's image if it is here, whatever the policy: the container was started with it.
    pub(super) fn present_image(&self, container: &str) -> std::result::Result<Option<Image>, NoImage> {
        self.need(Some(container.to_owned()), None).map(|need| self.present(&need)).transpose()
    }

    /// Finds the images that a container has as volumes, where a supervisor before this one has ensured them.
    pub(super) fn find_volumes(&mut self, container: &str) -> std::result::Result<(), NoImage> {
        for need in self.needs(container).collect::<Vec<_>>() {
            if let Some(volume) = need.volume.clone().filter(|name| !self.volume_images.contains_key(name)) {
                let image = self.present(&need)?;
                self.volume_images.insert(volume, image.facts.layers);
            }
        }
        Ok(())
    }

    fn present(&self, need: &Need) -> std::result::Result<Image, NoImage> {
        let Look { reference, present, .. } = self.look(&need.image, need.policy)?;
        self.lease(&need.image, &reference, present.ok_or_else(|| NoImage::never(&need.image))?)
    }

    /// Returns a container's image if nothing has to be pulled for it, and nothing was. One that mounts images as well has
    /// to wait for its turn.
    pub(super) fn image_without_pull(&self, plan: &ContainerPlan) -> Option<Image> {
        let pulls = &self.pulls;
        if pulls.running.contains_key(&plan.image) || pulls.ahead.contains_key(&plan.image) {
            return None;
        }
        if image_volumes(plan).next().is_some() {
            return None;
        }
        let Look { reference, present, .. } =
            self.look(&plan.image, plan.pull_policy).ok().filter(|look| look.decision != Decision::Pull)?;
        self.lease(&plan.image, &reference, present?).ok()
    }

    /// Notes that the Pod uses an image, so that it is not removed before the Pod is.
    fn lease(
        &self,
        name: &str,
        reference: &Reference,
        (image, hold): (podrun_image::Image, Hold),
    ) -> std::result::Result<Image, NoImage> {
        hold.lease(&lease_of(&self.pod.meta.uid), &image).map_err(|error| NoImage::inspect(name, &error))?;
        Ok(Image { id: image.image_id(reference), facts: facts(image), hold: Arc::new(hold) })
    }

    /// Looks for an image in the store, and decides what to do about it.
    fn look(&self, image: &str, policy: PullPolicy) -> std::result::Result<Look, NoImage> {
        let (_, reference) =
            image_to_pull(image).map_err(|message| NoImage { reason: "InvalidImageName", message })?;
        let inspect = |error| NoImage::inspect(image, &error);
        let store = podrun_image::Store::open(&self.paths.images()).map_err(inspect)?;
        // From here to the mount nobody may delete the layers.
        let hold = store.hold().map_err(inspect)?;
        let found = store.resolve(&reference).map_err(inspect)?;
        let policy = match policy {
            PullPolicy::Always => ImagePullPolicy::Always,
            PullPolicy::IfNotPresent => ImagePullPolicy::IfNotPresent,
            PullPolicy::Never => ImagePullPolicy::Never,
        };
        let decision = decide(policy, &reference, found.is_some());
        let present = found.map(|image| (image, hold));
        Ok(Look { decision, reference, present })
    }
}

/// Returns the volumes of a container that are images. One that it mounts in several places comes as often.
fn image_volumes(plan: &ContainerPlan) -> impl Iterator<Item = &str> {
    let of_image = |mount: &&MountPlan| matches!(mount.source, MountSource::Image { .. });
    plan.mounts.iter().filter(of_image).filter_map(|mount| mount.volume.as_deref())
}

impl Need {
    fn pulling(&self) -> Input {
        Input::ImagePulling { container: self.container.clone(), volume: self.volume.clone() }
    }

    fn ready(&self, image_id: String, pulled: Option<PulledImage>) -> Input {
        let (container, volume) = (self.container.clone(), self.volume.clone());
        Input::ImageReady { container, volume, image_id, pulled }
    }
}

impl NoImage {
    fn inspect(image: &str, error: &podrun_image::Error) -> Self {
        let message = format!("Failed to inspect image \"{image}\": {}", chain(error));
        Self { reason: "ImageInspectError", message }
    }

    fn never(image: &str) -> Self {
        Self { reason: "ErrImageNeverPull", message: never_and_absent(image) }
    }
}

async fn pull(
    paths: &Paths,
    client: &Client,
    keyring: Keyring,
    reference: &Reference,
    lease: &str,
) -> std::result::Result<(Image, PulledImage), PullError> {
    let begun = Instant::now();
    let mut options = PullOptions::default();
    options.keyring = keyring;
    let store = podrun_image::Store::open(&paths.images())?;
    let Pulled { image, hold, .. } = store.pull(client, reference, &options).await?;
    // One that is pulled ahead has to be there when a container asks for it.
    hold.lease(lease, &image)?;
    let pulled = PulledImage { took: begun.elapsed(), bytes: image.size };
    Ok((Image { id: image.image_id(reference), facts: facts(image), hold: Arc::new(hold) }, pulled))
}

/// Puts a failed pull into the words of a kubelet, and of containerd below it.
fn no_image(name: &str, error: &PullError) -> NoImage {
    let cause = chain(error);
    if error.registry().is_some_and(podrun_image::registry::RegistryError::is_unavailable) {
        let message = format!("image pull failed for {name} because the registry is unavailable: {cause}");
        return NoImage { reason: "RegistryUnavailable", message };
    }
    let hint = match error {
        PullError::LocalOnly(_) => ": load it with `podrun image load`",
        _ => "",
    };
    let message = format!("failed to pull and unpack image \"{name}\": {cause}{hint}");
    NoImage { reason: "ErrImagePull", message }
}

fn facts(image: podrun_image::Image) -> ImageFacts {
    let config = image.config;
    ImageFacts {
        id: image.id.to_string(),
        layers: image.layers,
        entrypoint: config.entrypoint,
        cmd: config.cmd,
        env: config.env,
        user: config.user,
        working_dir: config.working_dir,
        stop_signal: config.stop_signal.unwrap_or_default(),
    }
}

/// Returns the credentials in the Secrets of these names, and the names of those that have none.
fn pull_secrets(names: &[String], namespace: &str, objects: &[Object]) -> (Keyring, Vec<String>) {
    let mut keyring = Keyring::default();
    let mut missing = Vec::new();
    for name in names {
        let is_it = |object: &&Object| {
            object.kind == ObjectKind::Secret && object.namespace == namespace && object.name == *name
        };
        let read = objects.iter().find(is_it).and_then(Object::registry_config).map(|config| match config {
            RegistryConfig::ConfigJson(bytes) => Keyring::from_auth_json(bytes),
            RegistryConfig::Config(bytes) => Keyring::from_dockercfg(bytes),
        });
        match read {
            Some(Ok(secret)) => keyring.extend(secret),
            // The error says where in the document, which does not help who sees the event.
            Some(Err(_)) | None => missing.push(name.clone()),
        }
    }
    (keyring, missing)
}
