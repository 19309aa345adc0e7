//! Probes: when each is due, the probe itself in a task of its own, and what its result means for the machine.
//!
//! The probers are pure and live in the supervisor's loop, which wakes for the earliest of them: a Pod without probes pays
//! nothing, and one with many has no task or timer for each.

use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;
use std::time::Duration;

use podrun_lifecycle::{Input, Machine, PodView, RunView};
use podrun_probes::{
    Attempt, Container, Error, Kind, Observation, Outcome, Pod as PodState, Prober, Run, Settings, Step,
    Verdict, probe_event, start_jitter,
};
use podrun_spec::model::{Pod, Probe, ProbeKind};
use podrun_spec::status::PodStatus;

use super::{Done, Supervisor, handlers};

/// All probes of a Pod.
#[derive(Default)]
pub(super) struct Probes {
    drivers: Vec<Driver>,
}

/// One probe of one container.
struct Driver {
    container: String,
    kind: ProbeKind,
    prober: Prober<u32>,
    /// The run that was last seen to have started.
    started: Option<u32>,
    /// Whether it does not wait for its turn when its container has come up.
    at_once: bool,
}

/// How a probe went.
pub(super) struct Probed {
    driver: usize,
    attempt: u32,
    result: Result<Outcome, Arc<Error>>,
}

impl Probes {
    /// Returns the probes of a Pod. Those of a supervisor that takes over begin at random times, so that not all of them
    /// come at once, and with what `known` says of the containers that run.
    pub(super) fn new(pod: &Pod, machine: &Machine, now: Duration, known: Option<&PodStatus>) -> Self {
        const KINDS: [ProbeKind; 3] = [ProbeKind::Startup, ProbeKind::Liveness, ProbeKind::Readiness];
        let mut drivers = Vec::new();
        for (_, container) in pod.spec.all_containers() {
            let probes = KINDS.iter().filter_map(|&kind| Some((kind, container.life.probe(kind)?)));
            for (kind, probe) in probes {
                let settings = settings(probe, kind);
                let wait = known.map_or(Duration::ZERO, |_| {
                    start_jitter(settings.period, Duration::ZERO, random(&container.name, kind))
                });
                let mut driver = Driver {
                    container: container.name.clone(),
                    kind,
                    prober: Prober::new(settings, now + wait),
                    started: None,
                    at_once: container.life.readiness.as_ref().is_some_and(|other| is_alike(probe, other)),
                };
                if let Some(known) = known {
                    driver.resume(machine, known);
                }
                drivers.push(driver);
            }
        }
        Self { drivers }
    }

    /// Returns when the next probe is due, in the machine's time.
    pub(super) fn next(&self) -> Option<Duration> {
        self.drivers.iter().filter_map(|driver| driver.prober.next_tick()).min()
    }

    /// Takes note of what the machine knows now.
    pub(super) fn observe(&mut self, machine: &Machine, now: Duration) {
        for driver in &mut self.drivers {
            if let Some(observation) = observe(machine, &driver.container) {
                driver.observe(&observation, now);
            }
        }
    }
}

impl Driver {
    /// Goes on from what the supervisor before knew: a container that was ready stays so until a probe says otherwise.
    fn resume(&mut self, machine: &Machine, known: &PodStatus) {
        let statuses = known.init_container_statuses.iter().chain(&known.container_statuses);
        let status = statuses.into_iter().find(|status| status.name == self.container);
        let running = observe(machine, &self.container).and_then(|seen| seen.container);
        if let (Some(status), Some(Container { id, run: Run::Running { started, .. } })) = (status, running) {
            let verdict = match self.kind {
                ProbeKind::Startup if started => Verdict::Success,
                ProbeKind::Startup => Verdict::Unknown,
                ProbeKind::Liveness => Verdict::Success,
                ProbeKind::Readiness if status.ready => Verdict::Success,
                ProbeKind::Readiness => Verdict::Failure,
            };
            self.prober.resume(id, verdict);
            self.started = started.then_some(id);
        }
    }

    /// A readiness probe does not wait for its turn when its container has come up. A liveness probe that is like it keeps
    /// in step, so that the two are one: see [`podrun_probes::Executor::probe_shared`].
    fn observe(&mut self, observation: &Observation<u32>, now: Duration) {
        // What a new run begins with, the machine knows.
        let _ = self.prober.observe(observation);
        let Some(Container { id, run: Run::Running { started: true, .. } }) = observation.container else {
            return;
        };
        if self.started != Some(id) {
            self.started = Some(id);
            if self.at_once {
                self.prober.kick(now);
            }
        }
    }
}

impl Supervisor {
    /// Makes the probes that are due.
    pub(super) fn on_probe_time(&mut self) {
        let now = self.boot();
        for index in 0..self.probes.drivers.len() {
            let driver = &mut self.probes.drivers[index];
            if driver.prober.next_tick().is_none_or(|due| due > now) {
                continue;
            }
            let Some(observation) = observe(&self.machine, &driver.container) else { continue };
            // What it publishes without a probe follows from what the machine has said.
            let step = driver.prober.tick(now, &observation).step;
            if let (Step::Probe, Some(container)) = (step, observation.container) {
                self.begin_probe(index, container.id);
            }
        }
    }

    fn begin_probe(&mut self, driver: usize, attempt: u32) {
        let Driver { container, kind, .. } = &self.probes.drivers[driver];
        let (name, kind) = (container.clone(), *kind);
        let executor = self.executor(&name, attempt);
        let spec = self.pod.spec.container(&name).map(|(_, spec)| spec);
        let probe = spec.and_then(|spec| Some((spec, spec.life.probe(kind)?)));
        let (Some((spec, probe)), Some(executor)) = (probe, executor) else {
            // Without a sandbox there is nothing to say.
            let _ = self.probes.drivers[driver].prober.finish(Attempt::Errored);
            return;
        };
        let handler = match handlers::probe(&probe.handler, spec) {
            Ok(handler) => handler,
            Err(error) => return self.on_probed(Probed { driver, attempt, result: Err(Arc::new(error)) }),
        };
        let (timeout, done) = (probe.timeout, self.done.clone());
        tokio::spawn(async move {
            let result = executor.probe_shared(&handler, timeout).await;
            // The loop is gone only when the process is ending.
            let _ = done.send(Done::Probed(Probed { driver, attempt, result })).await;
        });
    }

    /// Takes in how a probe went.
    pub(super) fn on_probed(&mut self, probed: Probed) {
        let Probed { driver, attempt, result } = probed;
        let Some(Driver { container, kind, prober, .. }) = self.probes.drivers.get_mut(driver) else {
            return;
        };
        let healthy = match prober.finish(Attempt::from(&result)) {
            Some(Verdict::Success) => Some(true),
            Some(Verdict::Failure) => Some(false),
            Some(Verdict::Unknown) | None => None,
        };
        let current = observe(&self.machine, container).and_then(|seen| seen.container);
        let running = current.is_some_and(|c| c.id == attempt && matches!(c.run, Run::Running { .. }));
        let event = probe_event(kind_of(*kind), result.as_ref().map_err(Arc::as_ref));
        // What is said about a container that has ended meanwhile says no more than that.
        let event = event.filter(|_| running).map(|event| (event.reason.to_owned(), event.message));
        if healthy.is_some() || event.is_some() {
            let (container, probe) = (container.clone(), *kind);
            self.inputs.push_back(Input::Probed { container, attempt, probe, healthy, event });
        }
    }
}

fn observe(machine: &Machine, container: &str) -> Option<Observation<u32>> {
    let view = machine.probe_view(container)?;
    let pod = match view.pod {
        PodView::Active => PodState::Active,
        PodView::Deleting => PodState::Deleting,
        PodView::Ended => PodState::Ended,
    };
    let container = view.container.map(|container| Container {
        id: container.attempt,
        run: match container.run {
            RunView::Running { since, started } => Run::Running { since, started },
            RunView::Stopped { comes_back } => Run::Stopped { comes_back },
        },
    });
    Some(Observation { pod, container })
}

/// Returns whether two probes of a container do the same at the same times.
fn is_alike(one: &Probe, other: &Probe) -> bool {
    let times = |probe: &Probe| (probe.initial_delay, probe.period, probe.timeout);
    one.handler == other.handler && times(one) == times(other)
}

const fn settings(probe: &Probe, kind: ProbeKind) -> Settings {
    Settings {
        kind: kind_of(kind),
        initial_delay: probe.initial_delay,
        period: probe.period,
        timeout: probe.timeout,
        success_threshold: probe.success_threshold,
        failure_threshold: probe.failure_threshold,
    }
}

const fn kind_of(kind: ProbeKind) -> Kind {
    match kind {
        ProbeKind::Startup => Kind::Startup,
        ProbeKind::Liveness => Kind::Liveness,
        ProbeKind::Readiness => Kind::Readiness,
    }
}

/// Returns a number from 0 up to 1: the state of the standard library's hasher is random.
fn random(container: &str, kind: ProbeKind) -> f64 {
    let bits = RandomState::new().hash_one((container, kind));
    #[expect(clippy::cast_precision_loss, reason = "32 bits fit into the 52 of a double")]
    let fraction = (bits >> 32) as f64 / f64::from(u32::MAX);
    fraction
}
