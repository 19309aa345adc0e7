//! Probes of a simulated world: when they are made and what their results amount to.
//!
//! The rules are the kubelet's, as far as a world without failing transports needs them. `podrun-probes` has them all.

use std::collections::BTreeMap;
use std::time::Duration;

use podrun_spec::model::{Pod, Probe, ProbeKind};

use crate::input::Input;
use crate::machine::Machine;
use crate::view::{PodView, RunView};

/// A probe of one run of a container.
#[derive(Clone, Debug)]
struct Prober {
    attempt: u32,
    next: Duration,
    /// The last result, and how often it came in a row.
    last: Option<(bool, u32)>,
    /// What was published last.
    verdict: Option<bool>,
    is_over: bool,
}

/// All probes of a Pod.
#[derive(Clone, Debug)]
pub(super) struct Probers {
    probes: BTreeMap<(String, ProbeKind), Probe>,
    health: BTreeMap<(String, ProbeKind), bool>,
    runs: BTreeMap<(String, ProbeKind), Prober>,
}

/// A period of zero would be a probe without end.
const SHORTEST: Duration = Duration::from_millis(1);

impl Probers {
    pub(super) fn new(pod: &Pod) -> Self {
        let mut probes = BTreeMap::new();
        for (_, container) in pod.spec.all_containers() {
            for kind in [ProbeKind::Startup, ProbeKind::Liveness, ProbeKind::Readiness] {
                if let Some(probe) = container.life.probe(kind) {
                    probes.insert((container.name.clone(), kind), probe.clone());
                }
            }
        }
        Self { probes, health: BTreeMap::new(), runs: BTreeMap::new() }
    }

    /// From now on the probe succeeds or fails.
    pub(super) fn set(&mut self, container: &str, kind: ProbeKind, healthy: bool) {
        self.health.insert((container.to_owned(), kind), healthy);
    }

    /// Begins the probes of new runs.
    pub(super) fn follow(&mut self, machine: &Machine, now: Duration) {
        for key in self.probes.keys() {
            let Some(run) = machine.probe_view(&key.0).and_then(|view| view.container) else { continue };
            let is_new = self.runs.get(key).is_none_or(|prober| prober.attempt != run.attempt);
            if is_new && matches!(run.run, RunView::Running { .. }) {
                let verdict = match key.1 {
                    ProbeKind::Startup => None,
                    ProbeKind::Liveness => Some(true),
                    ProbeKind::Readiness => Some(false),
                };
                let prober = Prober { attempt: run.attempt, next: now, last: None, verdict, is_over: false };
                self.runs.insert(key.clone(), prober);
            }
        }
    }

    /// Returns when the next probe is due.
    pub(super) fn next(&self) -> Option<Duration> {
        self.runs.values().filter(|p| !p.is_over).map(|p| p.next).min()
    }

    /// Returns whether probes go on without anything to tell.
    pub(super) fn are_settled(&self) -> bool {
        self.runs.iter().all(|(key, prober)| {
            let healthy = self.health.get(key).copied().unwrap_or(true);
            prober.is_over || (prober.verdict == Some(healthy) && healthy)
        })
    }

    /// Makes the probe that is due; returns what is to be told of it.
    pub(super) fn make(&mut self, machine: &Machine, now: Duration) -> Option<Input> {
        let (key, prober) = self.runs.iter_mut().filter(|(_, p)| !p.is_over).min_by_key(|(_, p)| p.next)?;
        let probe = &self.probes[key];
        prober.next = now + probe.period.max(SHORTEST);
        let view = machine.probe_view(&key.0)?;
        let run = view.container.filter(|run| run.attempt == prober.attempt).map(|run| run.run);
        let is_silent = match view.pod {
            PodView::Active => false,
            PodView::Deleting => key.1 != ProbeKind::Readiness,
            PodView::Ended => true,
        };
        let Some(RunView::Running { since, started }) = run.filter(|_| !is_silent) else {
            prober.is_over = true;
            return None;
        };
        if key.1 == ProbeKind::Startup && started {
            prober.is_over = true;
            return None;
        }
        let is_early = now.saturating_sub(since).as_secs() < probe.initial_delay.as_secs();
        if is_early || (key.1 != ProbeKind::Startup && !started) {
            return None;
        }
        let healthy = self.health.get(key).copied().unwrap_or(true);
        let count = prober.last.filter(|(last, _)| *last == healthy).map_or(1, |(_, count)| count + 1);
        prober.last = Some((healthy, count));
        let threshold = if healthy { probe.success_threshold } else { probe.failure_threshold };
        let is_news = count >= threshold && prober.verdict != Some(healthy);
        if is_news {
            prober.verdict = Some(healthy);
            // The order to kill is given once.
            prober.is_over = !healthy && key.1 != ProbeKind::Readiness;
        }
        let event =
            (!healthy).then(|| ("Unhealthy".to_owned(), format!("{:?} probe failed: as scripted", key.1)));
        if !is_news && event.is_none() {
            return None;
        }
        Some(Input::Probed {
            container: key.0.clone(),
            attempt: prober.attempt,
            probe: key.1,
            healthy: is_news.then_some(healthy),
            event,
        })
    }

    /// Makes readiness probes of a container due that has just come up: the kubelet does not wait for their period.
    pub(super) fn kick(&mut self, container: &str, now: Duration) {
        if let Some(prober) = self.runs.get_mut(&(container.to_owned(), ProbeKind::Readiness)) {
            prober.next = now;
        }
    }
}
