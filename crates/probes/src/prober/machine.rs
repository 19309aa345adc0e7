//! The rules of the kubelet's probe worker (`pkg/kubelet/prober/worker.go`), without its goroutine.
//!
//! ```text
//!           tick: due ──> no container, on hold, too early,      ──> Wait
//!             ^           not its turn, not running
//!             │           pod is over, or being deleted          ──> End
//!             │           otherwise                              ──> Probe ──┐
//!             └───────────────── finish: counted, published ─────────────────┘
//! ```

use std::time::Duration;

use super::Settings;
use crate::Kind;

/// What is known of the health of a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// It has not been found out.
    Unknown,
    /// It is well.
    Success,
    /// It is not.
    Failure,
}

/// How one probe went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Attempt {
    /// It succeeded, perhaps with a warning.
    Succeeded,
    /// It failed.
    Failed,
    /// It could not be made. That is no verdict: nothing is counted.
    Errored,
}

/// What of its Pod matters to a probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Pod {
    /// It runs or is to run.
    Active,
    /// Its deletion was asked for.
    Deleting,
    /// Its phase is `Succeeded` or `Failed`.
    Ended,
}

/// What of a container matters to its probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Container<Id> {
    /// What tells this run of the container from those before: a restarted one is another.
    pub id: Id,
    /// Whether it runs.
    pub run: Run,
}

/// Whether a container runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Run {
    /// It does.
    Running {
        /// Since when.
        since: Duration,
        /// `started` of its status: its startup probe has succeeded, or it has none.
        started: bool,
    },
    /// It does not.
    Stopped {
        /// Whether it will run again, or has not run yet: false only for one that has terminated and stays so.
        comes_back: bool,
    },
}

/// The facts that a probe depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Observation<Id> {
    /// The state of the Pod.
    pub pod: Pod,
    /// The container, as soon as there is one.
    pub container: Option<Container<Id>>,
}

/// What to do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[must_use]
pub enum Step {
    /// Nothing until [`Prober::next_tick`].
    Wait,
    /// Make the probe, then call [`Prober::finish`].
    Probe,
    /// Nothing, ever again.
    End,
}

/// What a tick brings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[must_use]
pub struct Tick {
    /// The new verdict, if it has changed or is that of a new container.
    pub published: Option<Verdict>,
    /// What to do.
    pub step: Step,
}

/// Decides when one probe of one container is made, and what its results mean.
///
/// It does nothing by itself and knows no clock. Times are durations since any fixed moment, of a clock that never goes
/// backwards; `Id` tells one run of the container from the next.
///
/// Whoever drives it calls [`tick`](Self::tick) when [`next_tick`](Self::next_tick) has come, makes the probe if the
/// answer is [`Step::Probe`], and hands the result to [`finish`](Self::finish). A published [`Verdict::Failure`] of a
/// liveness or startup probe is the order to kill the container.
#[derive(Clone, Debug)]
pub struct Prober<Id> {
    settings: Settings,
    /// When the ticker fires next.
    next: Duration,
    /// When a probe out of turn was asked for.
    kicked: Option<Duration>,
    /// The run of the container that is known.
    container: Option<Id>,
    published: Option<Verdict>,
    last: Verdict,
    /// How often in a row `last` was seen.
    run: u32,
    on_hold: bool,
    /// For which run of the container a probe is being made.
    in_flight: Option<Id>,
    ended: bool,
}

impl<Id: Clone + PartialEq> Prober<Id> {
    /// Returns a prober whose first tick is at `start`, and the others every period from then on.
    ///
    /// A kubelet adds [`start_jitter`](super::start_jitter) to the current time.
    pub const fn new(settings: Settings, start: Duration) -> Self {
        Self {
            settings,
            next: start,
            kicked: None,
            container: None,
            published: None,
            last: Verdict::Success,
            run: 0,
            on_hold: false,
            in_flight: None,
            ended: false,
        }
    }

    /// Returns the settings.
    pub const fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Returns the verdict about the current run of the container, if one has been seen.
    pub const fn verdict(&self) -> Option<Verdict> {
        self.published
    }

    /// Returns whether the container has failed a liveness or startup probe and is not probed until it is replaced.
    pub const fn is_on_hold(&self) -> bool {
        self.on_hold
    }

    /// Returns when [`tick`](Self::tick) is to be called; `None` while a probe is being made and at the end.
    ///
    /// It may lie in the past: after a probe that took longer than its period the next one follows at once.
    pub fn next_tick(&self) -> Option<Duration> {
        let waits = !self.ended && self.in_flight.is_none();
        waits.then(|| self.kicked.map_or(self.next, |kicked| kicked.min(self.next)))
    }

    /// Takes note of a new run of the container: the old verdict is forgotten and probing resumes.
    ///
    /// Every tick does it as well; calling it as soon as something happens makes the verdict known at once. Returns the
    /// initial verdict of a new run: success for liveness, failure for readiness, unknown for startup.
    ///
    /// How many results of the same kind were seen in a row is kept, as in a kubelet, unless the old run was killed
    /// because of this probe.
    pub fn observe(&mut self, observation: &Observation<Id>) -> Option<Verdict> {
        let container =
            observation.container.as_ref().filter(|_| observation.pod != Pod::Ended && !self.ended)?;
        if self.container.as_ref() == Some(&container.id) {
            return None;
        }
        self.container = Some(container.id.clone());
        self.on_hold = false;
        self.published = Some(match self.settings.kind {
            Kind::Liveness => Verdict::Success,
            Kind::Readiness => Verdict::Failure,
            Kind::Startup => Verdict::Unknown,
        });
        self.published
    }

    /// Takes note of a run of the container about which a verdict is known already, from a program that this one follows.
    ///
    /// So the container does not count as not ready, or as not started, until its first probe. To be called before the first
    /// tick.
    pub fn resume(&mut self, id: Id, verdict: Verdict) {
        self.container = Some(id);
        self.published = Some(verdict);
    }

    /// Asks for a probe at once; the ticker counts from then on. While a probe is being made the next one follows it.
    ///
    /// A kubelet does it to a readiness probe whenever it sees the container started and not ready, so that readiness
    /// does not have to wait for a period after the startup probe.
    pub fn kick(&mut self, now: Duration) {
        self.kicked.get_or_insert(now);
    }

    /// Decides what to do at `now`. Before [`next_tick`](Self::next_tick) it is to wait.
    pub fn tick(&mut self, now: Duration, observation: &Observation<Id>) -> Tick {
        if self.ended {
            return Tick { published: None, step: Step::End };
        }
        if !self.take_tick(now) {
            return Tick { published: None, step: Step::Wait };
        }
        if observation.pod == Pod::Ended {
            self.ended = true;
            return Tick { published: None, step: Step::End };
        }
        let fresh = self.observe(observation);
        let (changed, step) = self.decide(now, observation);
        self.ended = step == Step::End;
        Tick { published: changed.or(fresh), step }
    }

    /// Takes note of how the probe went; returns the new verdict, if it has changed.
    ///
    /// A verdict is reached when as many results of the same kind as the threshold says were seen in a row. If the
    /// container was replaced meanwhile the result is counted but is no verdict about the new run.
    pub fn finish(&mut self, attempt: Attempt) -> Option<Verdict> {
        let probed = self.in_flight.take()?;
        let (verdict, threshold) = match attempt {
            Attempt::Succeeded => (Verdict::Success, self.settings.success_threshold),
            Attempt::Failed => (Verdict::Failure, self.settings.failure_threshold),
            Attempt::Errored => return None,
        };
        self.run = if self.last == verdict { self.run.saturating_add(1) } else { 1 };
        self.last = verdict;
        if self.run < threshold {
            return None;
        }
        let is_current = self.container.as_ref() == Some(&probed);
        if verdict == Verdict::Failure && self.settings.kind != Kind::Readiness {
            self.run = 0;
            self.on_hold |= is_current;
        }
        if is_current { self.publish(verdict) } else { None }
    }

    /// Uses up the tick that is due, if one is: those that were missed are not made up for.
    fn take_tick(&mut self, now: Duration) -> bool {
        if self.in_flight.is_some() {
            return false;
        }
        let period = self.settings.effective_period();
        if self.kicked.is_some_and(|kicked| kicked <= now) {
            self.kicked = None;
            self.next = now.saturating_add(period);
            return true;
        }
        let Some(late) = now.checked_sub(self.next) else { return false };
        let missed = late.as_nanos() / period.as_nanos();
        let into_period = late.as_nanos() - missed * period.as_nanos();
        // Less than a period, which is far from the limit of u64.
        let into_period = Duration::from_nanos(u64::try_from(into_period).unwrap_or(0));
        self.next = now.saturating_add(period.saturating_sub(into_period));
        true
    }

    fn decide(&mut self, now: Duration, observation: &Observation<Id>) -> (Option<Verdict>, Step) {
        let kind = self.settings.kind;
        let Some(container) = &observation.container else { return (None, Step::Wait) };
        if self.on_hold {
            return (None, Step::Wait);
        }
        let (since, started) = match container.run {
            Run::Running { since, started } => (since, started),
            Run::Stopped { comes_back } => {
                let step = if comes_back { Step::Wait } else { Step::End };
                return (self.publish(Verdict::Failure), step);
            }
        };
        if observation.pod == Pod::Deleting && kind != Kind::Readiness {
            // For a quiet end: nothing is to be killed because of a probe any more.
            return (self.publish(Verdict::Success), Step::End);
        }
        let ran_for = now.saturating_sub(since).as_secs();
        let is_too_early = ran_for < self.settings.initial_delay.as_secs();
        if is_too_early || started == (kind == Kind::Startup) {
            return (None, Step::Wait);
        }
        self.in_flight = Some(container.id.clone());
        (None, Step::Probe)
    }

    fn publish(&mut self, verdict: Verdict) -> Option<Verdict> {
        let is_new = self.published != Some(verdict);
        self.published = Some(verdict);
        is_new.then_some(verdict)
    }
}
