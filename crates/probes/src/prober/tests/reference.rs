//! The kubelet's worker as it stands there: a loop that sleeps, with a ticker and a channel of one place.
//!
//! Written from `pkg/kubelet/prober/worker.go` and independent of the state machine; milliseconds are plain numbers.

use crate::Kind;
use crate::prober::{Attempt, Observation, Pod, Run, Settings, Verdict};

/// What happens around the probe.
#[derive(Clone, Debug)]
pub(crate) struct World {
    /// From when on what is observed, in order, the first at 0.
    pub(crate) observations: Vec<(u64, Observation<u32>)>,
    /// When probes out of turn are asked for, in order.
    pub(crate) kicks: Vec<u64>,
    /// How the probes go and how long they take, over and over.
    pub(crate) probes: Vec<(Attempt, u64)>,
    /// When the world ends.
    pub(crate) end: u64,
}

impl World {
    pub(crate) fn at(&self, now: u64) -> &Observation<u32> {
        let current = self.observations.iter().rev().find(|(from, _)| *from <= now);
        &current.expect("the first is at 0").1
    }
}

/// What can be seen of a prober.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    Probe(u64),
    Publish(u64, Verdict),
    End(u64),
}

struct Worker<'a> {
    settings: &'a Settings,
    world: &'a World,
    now: u64,
    probes: usize,
    id: Option<u32>,
    stored: Option<Verdict>,
    last_result: Verdict,
    result_run: u32,
    on_hold: bool,
    seen: Vec<Seen>,
}

pub(crate) fn run(settings: &Settings, start: u64, world: &World) -> Vec<Seen> {
    let mut worker = Worker {
        settings,
        world,
        now: start,
        probes: 0,
        id: None,
        stored: None,
        last_result: Verdict::Success,
        result_run: 0,
        on_hold: false,
        seen: Vec::new(),
    };
    let period = u64::try_from(settings.period.as_millis()).expect("short");
    let mut next_fire = start + period;
    let mut kicks = world.kicks.as_slice();
    while worker.do_probe() {
        match kicks {
            [kick, rest @ ..] if *kick <= worker.now || *kick <= next_fire => {
                // A channel of one place: kicks that came while one waited there are lost.
                let lost = rest.iter().take_while(|later| **later <= worker.now).count();
                kicks = &rest[lost..];
                worker.now = worker.now.max(*kick);
                next_fire = worker.now + period;
            }
            _ => {
                worker.now = worker.now.max(next_fire);
                while next_fire <= worker.now {
                    next_fire += period;
                }
            }
        }
        if worker.now > world.end {
            return worker.seen;
        }
    }
    worker.seen.push(Seen::End(worker.now));
    worker.seen
}

impl Worker<'_> {
    fn set(&mut self, verdict: Verdict) {
        if self.stored != Some(verdict) {
            self.stored = Some(verdict);
            self.seen.push(Seen::Publish(self.now, verdict));
        }
    }

    fn do_probe(&mut self) -> bool {
        let settings = self.settings;
        let status = self.world.at(self.now);
        if status.pod == Pod::Ended {
            return false;
        }
        let Some(container) = status.container else { return true };
        if self.id != Some(container.id) {
            self.id = Some(container.id);
            self.stored = None;
            self.set(match settings.kind {
                Kind::Readiness => Verdict::Failure,
                Kind::Liveness => Verdict::Success,
                Kind::Startup => Verdict::Unknown,
            });
            self.on_hold = false;
        }
        if self.on_hold {
            return true;
        }
        let (since, started) = match container.run {
            Run::Stopped { comes_back } => {
                self.set(Verdict::Failure);
                return comes_back;
            }
            Run::Running { since, started } => (u64::try_from(since.as_millis()).expect("short"), started),
        };
        if status.pod == Pod::Deleting && matches!(settings.kind, Kind::Liveness | Kind::Startup) {
            self.set(Verdict::Success);
            return false;
        }
        if self.now.saturating_sub(since) / 1000 < settings.initial_delay.as_secs() {
            return true;
        }
        if started {
            if settings.kind == Kind::Startup {
                return true;
            }
        } else if settings.kind != Kind::Startup {
            return true;
        }
        self.seen.push(Seen::Probe(self.now));
        let (attempt, duration) = self.world.probes[self.probes % self.world.probes.len()];
        self.probes += 1;
        self.now += duration;
        let result = match attempt {
            Attempt::Errored => return true,
            Attempt::Succeeded => Verdict::Success,
            Attempt::Failed => Verdict::Failure,
        };
        if self.last_result == result {
            self.result_run += 1;
        } else {
            self.last_result = result;
            self.result_run = 1;
        }
        let below = |threshold| self.result_run < threshold;
        if (result == Verdict::Failure && below(settings.failure_threshold))
            || (result == Verdict::Success && below(settings.success_threshold))
        {
            return true;
        }
        self.set(result);
        if matches!(settings.kind, Kind::Liveness | Kind::Startup) && result == Verdict::Failure {
            self.on_hold = true;
            self.result_run = 0;
        }
        true
    }
}
