//! The images that a Pod needs: asking for them, and what is told of them.
//!
//! Those of a container belong to its start: first the images that are its volumes, then its own. The image of a volume
//! that no container mounts is asked for beside all starts, one after the other, until it is here. No start waits for it,
//! and nothing but events tells of it.

use std::time::Duration;

use podrun_spec::model::PullPolicy;

use crate::action::Action;
use crate::events;
use crate::facts::{NeededImage, PodFacts};
use crate::input::PulledImage;
use crate::machine::Step;
use crate::start::ERROR_RETRY;
use crate::state::{Asked, InFlight, Stage, StartStep, State, Unmounted};

/// Wait after an error of an image that no start waits for: no sync of a kubelet fails for it, so the next one looks again.
const SYNC: Duration = Duration::from_secs(60);

/// What needs an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Need {
    /// The start of a container; `image` is the place among those that it needs.
    Start { container: usize, image: usize },
    /// A volume that no container mounts, by its place among those.
    Unmounted(usize),
}

/// Returns when the image of a volume that no container mounts is to be asked for.
pub(crate) fn deadline(pod: &PodFacts, state: &State) -> Option<Duration> {
    if unmounted_in_flight(state).is_some() {
        // The answer leads to the next.
        return None;
    }
    let absent = pod.unmounted.iter().zip(&state.unmounted).filter(|(_, unmounted)| !unmounted.is_here);
    absent.map(|(image, unmounted)| due(state, image, unmounted)).min()
}

/// Returns when the image of such a volume may be asked for.
fn due(state: &State, image: &NeededImage, unmounted: &Unmounted) -> Duration {
    let failed = state.images.get(&image.name);
    let backoff = failed.and_then(|failed| failed.backoff.until_since_update(state.clock));
    unmounted.retry_at.max(backoff).unwrap_or(state.clock)
}

/// Returns the volume that no container mounts whose image is waited for. A Pod that ends waits for none.
fn unmounted_in_flight(state: &State) -> Option<usize> {
    let place = state.unmounted.iter().position(|unmounted| unmounted.asked.is_some());
    place.filter(|_| state.stage < Stage::Stopping)
}

/// Returns the requests for images that are not answered yet.
pub(crate) fn outstanding(pod: &PodFacts, state: &State) -> impl Iterator<Item = Action> {
    let start = state.in_flight.and_then(|start| match start.step {
        StartStep::Image { need, .. } => Some(Need::Start { container: start.container, image: need }),
        StartStep::Start { .. } | StartStep::PostStart { .. } => None,
    });
    let unmounted = unmounted_in_flight(state).map(Need::Unmounted);
    start.into_iter().chain(unmounted).map(|need| need.ensure(pod))
}

impl Need {
    fn image(self, pod: &PodFacts) -> &NeededImage {
        match self {
            Self::Start { container, image } => &pod.containers[container].images[image],
            Self::Unmounted(volume) => &pod.unmounted[volume],
        }
    }

    fn container(self) -> Option<usize> {
        match self {
            Self::Start { container, .. } => Some(container),
            Self::Unmounted(_) => None,
        }
    }

    /// Returns what events of the image are about: the container that runs it, or the Pod whose volume it is.
    fn about(self, pod: &PodFacts) -> Option<usize> {
        self.container().filter(|_| self.image(pod).volume.is_none())
    }

    fn ensure(self, pod: &PodFacts) -> Action {
        let container = self.container().map(|container| pod.containers[container].name.clone());
        Action::EnsureImage { container, volume: self.image(pod).volume.clone() }
    }
}

impl Step<'_> {
    /// Asks for one of the images that a container needs.
    pub(crate) fn ask_image(&mut self, container: usize, image: usize) {
        let Asked { since, announced } = self.ask(Need::Start { container, image });
        let step = StartStep::Image { since, announced, need: image };
        self.state.in_flight = Some(InFlight { container, step });
    }

    /// Asks for the next image of a volume that no container mounts, if none is waited for.
    pub(crate) fn ask_unmounted(&mut self) {
        if unmounted_in_flight(self.state).is_some() {
            return;
        }
        let mut volumes = self.pod.unmounted.iter().zip(&self.state.unmounted);
        let now = self.now.boot;
        let next = volumes
            .position(|(image, unmounted)| !unmounted.is_here && due(self.state, image, unmounted) <= now);
        if let Some(volume) = next {
            let asked = self.ask(Need::Unmounted(volume));
            self.state.unmounted[volume] = Unmounted { asked: Some(asked), ..Unmounted::default() };
        }
    }

    fn ask(&mut self, need: Need) -> Asked {
        let image = need.image(self.pod);
        // With `Always` the registry is asked for certain; otherwise the engine says so when it does.
        let announced = image.pull_policy == PullPolicy::Always;
        if announced {
            self.emit(events::pulling(&image.name), need.about(self.pod));
        }
        self.actions.push(need.ensure(self.pod));
        Asked { since: self.now.boot, announced }
    }

    /// Returns the image that is waited for, if it is this one.
    fn awaited(&self, container: Option<&str>, volume: Option<&str>) -> Option<(Need, Asked)> {
        let (need, asked) = match container {
            Some(name) => {
                let InFlight { container, step: StartStep::Image { since, announced, need } } =
                    self.state.in_flight?
                else {
                    return None;
                };
                let is_it = self.pod.containers[container].name == name;
                let need = is_it.then_some(Need::Start { container, image: need })?;
                (need, Asked { since, announced })
            }
            None => {
                let volume = unmounted_in_flight(self.state)?;
                (Need::Unmounted(volume), self.state.unmounted[volume].asked?)
            }
        };
        (need.image(self.pod).volume.as_deref() == volume).then_some((need, asked))
    }

    pub(crate) fn image_pulling(&mut self, container: Option<&str>, volume: Option<&str>) {
        let Some((need, asked)) = self.awaited(container, volume) else { return };
        if asked.announced {
            return;
        }
        self.emit(events::pulling(&need.image(self.pod).name), need.about(self.pod));
        // What happened before the pull began is not part of its duration.
        let since = self.now.boot;
        match need {
            Need::Start { container, image } => {
                let step = StartStep::Image { since, announced: true, need: image };
                self.state.in_flight = Some(InFlight { container, step });
            }
            Need::Unmounted(volume) => {
                self.state.unmounted[volume].asked = Some(Asked { since, announced: true });
            }
        }
    }

    pub(crate) fn image_ready(
        &mut self,
        container: Option<&str>,
        volume: Option<&str>,
        image_id: String,
        pulled: Option<PulledImage>,
    ) {
        let Some((need, Asked { since, announced })) = self.awaited(container, volume) else { return };
        let (image, about) = (&need.image(self.pod).name, need.about(self.pod));
        if let Some(pulled) = pulled {
            if !announced {
                self.emit(events::pulling(image), about);
            }
            let waited = self.now.boot.saturating_sub(since);
            self.emit(events::pulled(image, pulled, waited), about);
        } else {
            self.emit(events::present(image), about);
        }
        match need {
            // The container's own is the last.
            Need::Start { container, image } if volume.is_some() => self.ask_image(container, image + 1),
            Need::Start { container, .. } => {
                let record = &mut self.state.containers[container];
                record.image_id = image_id;
                let attempt = record.next_attempt;
                self.state.in_flight = Some(InFlight { container, step: StartStep::Start { attempt } });
                self.actions.push(Action::Start { container: self.name(container), attempt });
            }
            Need::Unmounted(volume) => {
                self.state.unmounted[volume] = Unmounted { is_here: true, ..Unmounted::default() };
            }
        }
    }

    pub(crate) fn image_failed(
        &mut self,
        container: Option<&str>,
        volume: Option<&str>,
        reason: &str,
        message: String,
    ) {
        let Some((need, asked)) = self.awaited(container, volume) else { return };
        let (image, about) = (&need.image(self.pod).name, need.about(self.pod));
        let was_pulled = match reason {
            "ErrImageNeverPull" => {
                self.emit(events::image_absent(&message), about);
                false
            }
            "InvalidImageName" | "ImageInspectError" => {
                self.emit(events::inspect_failed(&message), about);
                false
            }
            _ => {
                if !asked.announced {
                    self.emit(events::pulling(image), about);
                }
                self.emit(events::pull_failed(image, &message), about);
                self.back_off(image, format!("{reason}: {message}"));
                true
            }
        };
        let now = self.now.boot;
        match need {
            Need::Start { container, .. } => {
                self.state.in_flight = None;
                self.emit(events::failed(reason), Some(container));
                let record = &mut self.state.containers[container];
                record.outcome_shown = false;
                if !was_pulled {
                    record.retry_at = Some(now + ERROR_RETRY);
                }
                self.set_waiting(container, reason, message);
            }
            Need::Unmounted(volume) => {
                // No status shows that it waits.
                if was_pulled {
                    self.emit(events::pull_backoff(image), about);
                }
                let retry_at = (!was_pulled).then_some(now + SYNC);
                self.state.unmounted[volume] = Unmounted { retry_at, ..Unmounted::default() };
            }
        }
    }

    /// Makes the wait for the next pull of an image longer.
    fn back_off(&mut self, image: &str, error: String) {
        let now = self.now.boot;
        let failed = self.state.images.entry(image.to_owned()).or_default();
        failed.error = error;
        // Two may have waited for the same pull.
        if failed.backoff.until_since_update(now).is_none() {
            failed.backoff.lengthen(now, now);
        }
    }

    /// Returns what events of an image that a container needs are about.
    pub(crate) fn whose_image(&self, container: usize, image: usize) -> Option<usize> {
        Need::Start { container, image }.about(self.pod)
    }
}
