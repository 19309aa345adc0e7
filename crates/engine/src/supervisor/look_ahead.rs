//! Preparing the next container while the one before it starts.
//!
//! Regular containers start one after the other, and the state machine asks for the next one only when the one before
//! runs. Until then this process has nothing to do, while init makes the container: time to mount the next one's root.
//! What is prepared and not asked for is dropped; its names go with the Pod.

use podrun_plan::facts::ImageFacts;
use podrun_plan::model::ContainerSetup;
use podrun_sandbox::Prepared;

use super::Supervisor;
use super::carry_out::Unstartable;
use super::images::Image;

/// A container that has not been asked for yet.
pub(super) struct Next {
    container: String,
    image_id: String,
    image: ImageFacts,
    setup: ContainerSetup,
    prepared: Prepared,
}

impl Supervisor {
    /// Prepares the regular container after `started`, if it has never been looked at.
    ///
    /// Only the first supervisor of a Pod does that: with a later one, something of the container may be there already.
    pub(super) fn look_ahead(&mut self, started: &str) {
        let containers = &self.pod.spec.containers;
        let next = containers.iter().skip_while(|c| c.name != started).nth(1).map(|c| c.name.clone());
        let Some(name) = next.filter(|name| self.first && !self.images.contains_key(name)) else { return };
        // What goes wrong here goes wrong again when the container is asked for, and is reported then.
        self.next = self.prepare_next(name).ok();
    }

    fn prepare_next(&self, container: String) -> Result<Next, Unstartable> {
        let plan = self.plan.container(&container).ok_or(Unstartable::InitGone)?;
        let sandbox = self.sandbox.as_ref().ok_or(Unstartable::InitGone)?;
        // Held until the layers are mounted.
        let Image { id, facts, hold: _hold } = self.image_without_pull(plan).ok_or(Unstartable::InitGone)?;
        let setup = self.setup_with(&container, 0, &facts)?;
        let prepared = podrun_container::prepare(&setup, sandbox)?;
        Ok(Next { container, image_id: id, image: facts, setup, prepared })
    }

    /// Returns the image of a container that was prepared ahead.
    pub(super) fn next_image(&self, container: &str) -> Option<(String, ImageFacts)> {
        let next = self.next.as_ref().filter(|next| next.container == container)?;
        Some((next.image_id.clone(), next.image.clone()))
    }

    /// Returns what was prepared for this start; what was prepared for another one is dropped.
    pub(super) fn take_next(&mut self, container: &str, attempt: u32) -> Option<(ContainerSetup, Prepared)> {
        let next = self.next.take()?;
        (next.container == container && attempt == 0).then_some((next.setup, next.prepared))
    }
}
