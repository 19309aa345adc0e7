//! Starting containers: who is next, and what it waits for.

use std::time::Duration;

use crate::backoff::go_duration;
use crate::container::{Record, Waiting};
use crate::events;
use crate::facts::{NeededImage, PodFacts};
use crate::machine::Step;
use crate::rules::is_restarted;
use crate::sidecars::{Agenda, agenda};
use crate::state::{StartStep, State};

/// Wait after an error that has no back-off of its own: the kubelet's wait after a failed sync.
pub(crate) const ERROR_RETRY: Duration = Duration::from_secs(10);

/// What the next start of a container waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wait {
    /// The time after an error.
    Error(Duration),
    /// The back-off after its last run.
    Crash(Duration),
    /// The back-off after the last try to pull an image that it needs, by its place among those.
    Pull(Duration, usize),
}

impl Wait {
    const fn until(self) -> Duration {
        match self {
            Self::Error(at) | Self::Crash(at) | Self::Pull(at, _) => at,
        }
    }

    /// Returns the reason that the container shows meanwhile; none keeps the error's.
    const fn reason(self) -> Option<&'static str> {
        match self {
            Self::Error(_) => None,
            Self::Crash(_) => Some("CrashLoopBackOff"),
            Self::Pull(..) => Some("ImagePullBackOff"),
        }
    }

    /// Returns whether the container has yet to show that it waits for this.
    fn is_news(self, record: &Record) -> bool {
        self.reason().is_some_and(|reason| record.waiting.as_ref().is_none_or(|w| w.reason != reason))
    }
}

/// Returns whether a container that waits for no other should be started, now or later.
pub(crate) fn wants_start(pod: &PodFacts, record: &Record, container: usize) -> bool {
    match (&record.run, record.ended()) {
        (None, _) => true,
        (Some(_), None) => false,
        (Some(_), Some(end)) => record.comes_back || is_restarted(pod, &pod.containers[container], end),
    }
}

/// Returns what the next start of a container waits for.
fn wait(pod: &PodFacts, state: &State, container: usize) -> Option<Wait> {
    let (now, record) = (state.clock, &state.containers[container]);
    if let Some(at) = record.retry_at.filter(|at| *at > now) {
        return Some(Wait::Error(at));
    }
    let finished = record.finished_boot().filter(|_| !record.is_restart_due);
    if let Some(at) = finished.and_then(|finished| record.backoff.until(finished, now)) {
        return Some(Wait::Crash(at));
    }
    let until = |(need, image): (usize, &NeededImage)| {
        let until = state.images.get(&image.name)?.backoff.until_since_update(now)?;
        Some((until, need))
    };
    let longest = pod.containers[container].images.iter().enumerate().filter_map(until).max();
    longest.map(|(until, need)| Wait::Pull(until, need))
}

/// Returns when the next start is due, or now where a back-off has yet to be shown.
pub(crate) fn deadline(pod: &PodFacts, state: &State) -> Option<Duration> {
    let due = |&container: &usize| {
        let wait = wait(pod, state, container)?;
        if wait.is_news(&state.containers[container]) && !is_starting(state, container) {
            Some(state.clock)
        } else {
            // One is started at a time; the answer to the start in progress leads to the next.
            state.in_flight.is_none().then(|| wait.until())
        }
    };
    agenda(pod, state).starts.iter().filter_map(due).min()
}

fn is_starting(state: &State, container: usize) -> bool {
    state.in_flight.is_some_and(|f| f.container == container)
}

impl Step<'_> {
    pub(crate) fn wants_start(&self, container: usize) -> bool {
        wants_start(self.pod, &self.state.containers[container], container)
    }

    /// Goes on with stops, ends the Pod if nothing is left to run, else shows back-offs and starts the next container.
    pub(crate) fn sync_containers(&mut self) {
        for container in 0..self.pod.containers.len() {
            self.continue_stop(container);
        }
        let Agenda { starts, has_failed } = agenda(self.pod, self.state);
        if has_failed || self.is_over() {
            return self.begin_stopping();
        }
        for &container in &starts {
            if !is_starting(self.state, container) {
                self.show_wait(container);
            }
        }
        if self.state.in_flight.is_some() {
            return;
        }
        // The search goes on behind the container that was tried last, so that one which fails at once and is tried
        // again at once does not keep the others from their first start.
        let (before, behind): (Vec<_>, Vec<_>) = starts.into_iter().partition(|&c| c < self.state.cursor);
        let next = behind.into_iter().chain(before).find(|&c| wait(self.pod, self.state, c).is_none());
        if let Some(container) = next {
            self.begin_start(container);
        }
    }

    /// Returns whether nothing is left to run. Sidecars do not count.
    fn is_over(&self) -> bool {
        let awaits_hook = matches!(self.state.in_flight.map(|f| f.step), Some(StartStep::PostStart { .. }));
        !awaits_hook
            && self.pod.regular().all(|c| self.state.containers[c].ended().is_some() && !self.wants_start(c))
    }

    /// Shows the back-off that a container is in, but not before its last outcome has stood in a status.
    fn show_wait(&mut self, container: usize) {
        let Some(wait) = wait(self.pod, self.state, container) else { return };
        if !wait.is_news(&self.state.containers[container]) {
            return;
        }
        let outcome = self.state.containers[container].waiting.is_some()
            || self.state.containers[container].ended().is_some();
        if outcome && !self.state.containers[container].outcome_shown {
            self.state.containers[container].outcome_shown = true;
            return;
        }
        let facts = &self.pod.containers[container];
        match wait {
            Wait::Error(_) => {}
            Wait::Crash(_) => {
                let delay = go_duration(self.state.containers[container].backoff.delay());
                let (name, title) = (&facts.name, self.pod.title());
                self.emit(events::restart_backoff(name, self.pod), Some(container));
                let message = format!("back-off {delay} restarting failed container={name} pod={title}");
                self.set_waiting(container, "CrashLoopBackOff", message);
            }
            Wait::Pull(_, need) => {
                let image = &facts.images[need].name;
                let error = self.state.images.get(image).map_or("", |f| f.error.as_str());
                let message = format!("Back-off pulling image \"{image}\": {error}");
                self.emit(events::pull_backoff(image), self.whose_image(container, need));
                self.emit(events::failed("ImagePullBackOff"), Some(container));
                self.set_waiting(container, "ImagePullBackOff", message);
            }
        }
    }

    pub(crate) fn set_waiting(&mut self, container: usize, reason: &str, message: String) {
        let waiting = Waiting { reason: reason.to_owned(), message: Some(message) };
        self.state.containers[container].waiting = Some(waiting);
    }

    fn begin_start(&mut self, container: usize) {
        let now = self.now.boot;
        let record = &mut self.state.containers[container];
        let before = record.previous.as_ref().and_then(|past| past.finished_boot);
        let finished = if record.is_restart_due { before } else { record.finished_boot() };
        if let Some(finished) = finished {
            record.backoff.lengthen(finished, now);
        }
        record.is_restart_due = false;
        record.retry_at = None;
        self.state.cursor = container + 1;
        self.ask_image(container, 0);
    }

    /// Returns the container whose start is waited for, if it is this attempt of this one.
    pub(crate) fn start_in_flight(&self, name: &str, attempt: u32) -> Option<usize> {
        let start = self.state.in_flight?;
        let fits =
            start.step == StartStep::Start { attempt } && self.pod.containers[start.container].name == name;
        fits.then_some(start.container)
    }
}
