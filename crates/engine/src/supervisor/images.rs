//! The images of a Pod's containers: looked for in the store, and pulled in the background where the policy says so.
//!
//! ```text
//!   EnsureImage ──> in the store, and the policy is content ──────────────────────────> ImageReady
//!              └──> ImagePulling ──> a task pulls ──> Done::Pulled ──┬──────────────────> ImageReady
//!                                                                    └──────────────────> ImageFailed
//! ```
//!
//! While one image is pulled, the next one that will be needed is pulled ahead, silently: containers start one after the
//! other, and their downloads need not. What was pulled ahead counts as the pull of the container that then asks for it.

use std::collections::{HashMap, HashSet};

use podrun_image::pull::{image_to_pull, never_and_absent};
use podrun_image::registry::{Client, Keyring};
use podrun_image::{
    Decision, Hold, PullError, PullOptions, PullPolicy as ImagePullPolicy, Pulled, Reference, decide,
};
use podrun_lifecycle::{Input, PulledImage};
use podrun_plan::facts::ImageFacts;
use podrun_plan::model::ContainerPlan;
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
pub(super) struct Image {
    /// What `imageID` says: `sha256:…`, or `repository@sha256:…` for one that was pulled.
    pub(super) id: String,
    /// What it says.
    pub(super) facts: ImageFacts,
    /// Keeps its layers from being deleted.
    pub(super) hold: Hold,
}

/// The waiting reason of a container without an image, and its text.
#[derive(Debug)]
pub(super) struct NoImage {
    pub(super) reason: &'static str,
    pub(super) message: String,
}

/// What has become of a pull.
pub(super) struct PullDone {
    /// The image, as containers name it.
    image: String,
    result: std::result::Result<(Image, PulledImage), NoImage>,
}

/// The pulls of one Pod, by the image as containers name it.
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
    /// The container that waits for it; none while it is ahead.
    container: Option<String>,
}

/// What the store has for a container, and what is to be done.
struct Look {
    decision: Decision,
    reference: Reference,
    present: Option<(podrun_image::Image, Hold)>,
}

impl Supervisor {
    pub(super) fn ensure_image(&mut self, container: String) {
        let Some(plan) = self.plan.container(&container) else { return };
        let image = plan.image.clone();
        if let Some((image_id, facts)) = self.next_image(&container) {
            self.images.insert(container.clone(), facts);
            self.hold = None;
            self.inputs.push_back(Input::ImageReady { container, image_id, pulled: None });
            return;
        }
        let look = self.look(plan);
        let asks = matches!(&look, Ok(Look { decision: Decision::Pull, .. }));
        if asks && let Some(running) = self.pulls.running.get_mut(&image) {
            running.container = Some(container.clone());
            self.inputs.push_back(Input::ImagePulling { container });
            self.pull_ahead();
            return;
        }
        let was_pulled = self.pulls.ahead.remove(&image);
        match look {
            Err(none) => self.on_image(container, Err(none)),
            Ok(Look { present: Some(present), decision, reference })
                if was_pulled.is_some() || decision != Decision::Pull =>
            {
                if was_pulled.is_some() {
                    self.inputs.push_back(Input::ImagePulling { container: container.clone() });
                }
                let image = self.lease(&image, &reference, present);
                self.on_image(container, image.map(|image| (image, was_pulled)));
            }
            Ok(Look { decision: Decision::NeverAndAbsent, .. }) => {
                self.on_image(container, Err(NoImage::never(&image)));
            }
            Ok(Look { reference, .. }) => {
                self.inputs.push_back(Input::ImagePulling { container: container.clone() });
                self.pull(image, reference, Some(container));
                self.pull_ahead();
            }
        }
    }

    /// Begins to pull an image, for a container or ahead.
    fn pull(&mut self, image: String, reference: Reference, container: Option<String>) {
        let (client, keyring) = match self.registry_access() {
            Ok(access) => access,
            Err(message) => {
                if let Some(container) = container {
                    self.on_image(container, Err(NoImage { reason: "ErrImagePull", message }));
                }
                return;
            }
        };
        let (paths, done, name) = (self.paths.clone(), self.done.clone(), image.clone());
        let lease = lease_of(&self.pod.meta.uid);
        let task = tokio::spawn(async move {
            let result = pull(&paths, &client, keyring, &reference, &lease).await;
            let result = result.map_err(|error| no_image(&name, &error));
            // The loop is gone only when the process is ending.
            let _ = done.send(Done::Pulled(Box::new(PullDone { image: name, result }))).await;
        });
        self.pulls.running.insert(image, Running { task: task.abort_handle(), container });
    }

    /// Pulls the next image that will be needed, if nothing else is pulled ahead.
    fn pull_ahead(&mut self) {
        if self.stopping || self.pulls.running.values().any(|running| running.container.is_none()) {
            return;
        }
        let spec = &self.pod.spec;
        let names =
            spec.init_containers.iter().chain(&spec.containers).map(|container| container.name.clone());
        let names: Vec<String> = names.filter(|name| !self.images.contains_key(name)).collect();
        for name in names {
            let Some(plan) = self.plan.container(&name) else { continue };
            let image = plan.image.clone();
            if self.pulls.running.contains_key(&image) || self.pulls.tried.contains(&image) {
                continue;
            }
            // What goes wrong here goes wrong again when the container asks, and is reported then.
            if let Ok(Look { decision: Decision::Pull, reference, .. }) = self.look(plan) {
                self.pulls.tried.insert(image.clone());
                self.pull(image, reference, None);
                return;
            }
        }
    }

    /// Takes in what has become of a pull.
    pub(super) fn on_pulled(&mut self, PullDone { image, result }: PullDone) {
        let container = self.pulls.running.remove(&image).and_then(|running| running.container);
        match (container, result) {
            (Some(container), result) => {
                self.on_image(container, result.map(|(image, pulled)| (image, Some(pulled))));
            }
            // The store keeps it; if it should be removed before a container asks, it is pulled again.
            (None, Ok((_, pulled))) => drop(self.pulls.ahead.insert(image, pulled)),
            // As above.
            (None, Err(_)) => {}
        }
        self.pull_ahead();
        if self.pulls.running.is_empty() {
            self.pulls.client = None;
            memory::release();
        }
    }

    fn on_image(
        &mut self,
        container: String,
        result: std::result::Result<(Image, Option<PulledImage>), NoImage>,
    ) {
        self.inputs.push_back(match result {
            Ok((Image { id: image_id, facts, hold }, pulled)) => {
                self.images.insert(container.clone(), facts);
                self.hold = Some(hold);
                Input::ImageReady { container, image_id, pulled }
            }
            Err(NoImage { reason, message }) => {
                Input::ImageFailed { container, reason: reason.to_owned(), message }
            }
        });
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
    pub(super) fn present_image(&self, plan: &ContainerPlan) -> std::result::Result<Image, NoImage> {
        let Look { reference, present, .. } = self.look(plan)?;
        self.lease(&plan.image, &reference, present.ok_or_else(|| NoImage::never(&plan.image))?)
    }

    /// Returns a container's image if nothing has to be pulled for it, and nothing was.
    pub(super) fn image_without_pull(&self, plan: &ContainerPlan) -> Option<Image> {
        let pulls = &self.pulls;
        if pulls.running.contains_key(&plan.image) || pulls.ahead.contains_key(&plan.image) {
            return None;
        }
        let Look { reference, present, .. } =
            self.look(plan).ok().filter(|look| look.decision != Decision::Pull)?;
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
        Ok(Image { id: image.image_id(reference), facts: facts(image), hold })
    }

    /// Looks for a container's image in the store, and decides what to do about it.
    fn look(&self, plan: &ContainerPlan) -> std::result::Result<Look, NoImage> {
        let (_, reference) =
            image_to_pull(&plan.image).map_err(|message| NoImage { reason: "InvalidImageName", message })?;
        let inspect = |error| NoImage::inspect(&plan.image, &error);
        let store = podrun_image::Store::open(&self.paths.images()).map_err(inspect)?;
        // From here to the mount nobody may delete the layers.
        let hold = store.hold().map_err(inspect)?;
        let found = store.resolve(&reference).map_err(inspect)?;
        let policy = match plan.pull_policy {
            PullPolicy::Always => ImagePullPolicy::Always,
            PullPolicy::IfNotPresent => ImagePullPolicy::IfNotPresent,
            PullPolicy::Never => ImagePullPolicy::Never,
        };
        let decision = decide(policy, &reference, found.is_some());
        let present = found.map(|image| (image, hold));
        Ok(Look { decision, reference, present })
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
    Ok((Image { id: image.image_id(reference), facts: facts(image), hold }, pulled))
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
