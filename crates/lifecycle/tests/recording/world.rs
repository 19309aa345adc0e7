//! The world around the machine: it answers actions with what was recorded.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use podrun_lifecycle::{Action, ExitStatus, Input, PulledImage, StartFailure};
use podrun_spec::model::{HookKind, ProbeKind};
use podrun_spec::time::Timestamp;
use serde_json::Value;

use super::script::{End, How, Run, Script};
use super::{Event, Recording, normal};
use crate::common::{self, Bench};

/// What a machine showed.
pub(crate) struct Replay {
    pub(crate) statuses: Vec<Value>,
    pub(crate) events: BTreeSet<Event>,
}

struct World {
    bench: Bench,
    scripts: BTreeMap<String, Script>,
    /// Answers on their way, by the time at which they arrive.
    coming: Vec<(Duration, Input)>,
    /// What the volumes fail with, and whether they ever work.
    volume_error: Option<String>,
    volumes_work: bool,
    pulled: bool,
    /// The Pod's deadline ends it.
    exceeds_deadline: bool,
}

/// What recordings say of the image that they pull; how long it took is left out of them.
const PULLED: PulledImage = PulledImage { took: Duration::from_millis(10), bytes: 2_120_203 };

/// Time between an action and its answer.
const LATENCY: Duration = Duration::from_millis(20);

/// Drives a machine with the facts of the recording.
pub(crate) fn replay(recording: &Recording) -> Replay {
    let events = recording.events();
    let mut world = World {
        bench: Bench::new(&recording.pod()),
        scripts: recording.scripts(),
        coming: Vec::new(),
        volume_error: recording.messages("FailedMount", "").pop(),
        volumes_work: recording.sandbox_was_ready(),
        pulled: events.iter().any(|e| e.3.starts_with("Successfully pulled")),
        exceeds_deadline: events.iter().any(|e| e.1 == "DeadlineExceeded"),
    };
    world.send(recording.beginning());
    world.run(recording.steps());
    let statuses: Vec<_> = world.bench.statuses.iter().map(normal::wire).collect();
    let events = world.bench.events().into_iter().map(|e| {
        normal::event(
            format!("{:?}", e.kind),
            e.reason.clone(),
            e.field_path.clone().unwrap_or_default(),
            &e.message,
        )
    });
    Replay { events: events.collect(), statuses: normal::normal(&statuses) }
}

impl World {
    /// Lets what is to happen happen, and takes the next step from outside whenever nothing recorded is to come before.
    fn run(&mut self, mut steps: VecDeque<(f64, Vec<Input>)>) {
        let mut last_step = None;
        for _ in 0..1000 {
            let now = self.bench.boot;
            let deadline = self.bench.machine.deadline().map(|at| at.max(now));
            let waits = steps.is_empty() || self.has_more();
            let deadline = deadline.filter(|at| *at == now || waits);
            let answer = (0..self.coming.len()).min_by_key(|&i| self.coming[i].0);
            match (answer, deadline) {
                (Some(i), at) if at.is_none_or(|at| self.coming[i].0 <= at) => {
                    let (at, input) = self.coming.remove(i);
                    self.bench.boot = now.max(at);
                    self.send(input);
                }
                (_, Some(at)) => {
                    self.bench.boot = at;
                    self.send(Input::Tick);
                }
                _ => {
                    let Some((t, inputs)) = steps.pop_front() else { break };
                    self.bench.boot += Duration::from_secs_f64(last_step.map_or(0.1, |last| t - last));
                    last_step = Some(t);
                    for input in inputs {
                        self.step_from_outside(input);
                    }
                }
            }
        }
    }

    fn step_from_outside(&mut self, input: Input) {
        let is_first_delete = matches!(input, Input::Delete { .. })
            && !self.bench.statuses.is_empty()
            && self.scripts.values().any(|s| s.runs.iter().any(|r| !r.last_verdicts.is_empty()));
        if is_first_delete {
            let now = self.bench.boot;
            for (name, script) in &mut self.scripts {
                for (attempt, run) in (0..).zip(&mut script.runs) {
                    let verdicts = run.last_verdicts.iter();
                    self.coming.extend(verdicts.map(|(after, kind, healthy)| {
                        (now + *after, probed(name, attempt, *kind, Some(*healthy), None))
                    }));
                }
            }
        }
        self.send(input);
    }

    /// Returns whether the recording shows more starts, or the end by the deadline.
    fn has_more(&self) -> bool {
        let is_open = !self.bench.machine.status().phase.is_terminal();
        let count =
            |is_meant: &dyn Fn(&Action) -> bool| self.bench.actions.iter().filter(|a| is_meant(a)).count();
        let starts = self.scripts.iter().any(|(name, script)| {
            if script.runs.is_empty() {
                let is_try = |a: &Action| {
                    matches!(a, Action::EnsureImage { container, .. } if container.as_ref() == Some(name))
                };
                return count(&is_try) < script.tries;
            }
            let is_start = |a: &Action| matches!(a, Action::Start { container, .. } if container == name);
            !script.failures.is_empty() || count(&is_start) < script.runs.len()
        });
        starts || (self.exceeds_deadline && is_open)
    }

    fn send(&mut self, mut input: Input) {
        if let Input::Exited { at, .. } = &mut input {
            *at = self.bench.wall();
        }
        for action in self.bench.step(input) {
            let now = self.bench.boot;
            for (after, input) in self.answer(action) {
                self.coming.push((now + after, input));
            }
        }
    }

    fn answer(&mut self, action: Action) -> Vec<(Duration, Input)> {
        let soon = |input| vec![(LATENCY, input)];
        match action {
            Action::PrepareVolumes => {
                let failure =
                    if self.volumes_work { self.volume_error.take() } else { self.volume_error.clone() };
                soon(failure.map_or(Input::VolumesReady, |message| Input::VolumesFailed { message }))
            }
            Action::CreateSandbox => soon(Input::SandboxReady { pod_ips: vec!["POD_IP".to_owned()] }),
            Action::EnsureImage { container: None, .. } => panic!("no recorded Pod has images as volumes"),
            Action::EnsureImage { container: Some(name), .. } => {
                let failure = self.scripts[&name].failures.front().cloned();
                let container = Some(name);
                match failure {
                    Some((reason, message)) if !reason.starts_with("CreateContainer") => {
                        soon(Input::ImageFailed { container, volume: None, reason, message })
                    }
                    _ => {
                        let pulled = self.pulled.then_some(PULLED);
                        let image_id = "IMAGE_ID".to_owned();
                        soon(Input::ImageReady { container, volume: None, image_id, pulled })
                    }
                }
            }
            Action::Start { container, attempt } => self.start(container, attempt),
            Action::RunHook { container, attempt, hook } => self.run_hook(container, attempt, hook),
            Action::SendStopSignal { container, attempt } => {
                let run = self.run_of(&container, attempt).clone();
                // What the container's probes say meanwhile comes first.
                let verdicts = run.last_verdicts.iter().map(|(after, ..)| *after + Duration::from_secs(1));
                let after = verdicts.max().unwrap_or(LATENCY);
                match &run.end {
                    Some(end) if end.code == 137 => Vec::new(),
                    Some(end) => vec![exit(&container, attempt, end, after)],
                    // Nobody saw how it ended.
                    None => vec![exit(&container, attempt, &ended_with(0, "Completed"), after)],
                }
            }
            Action::Kill { container, attempt } => {
                vec![exit(&container, attempt, &ended_with(137, "Error"), LATENCY)]
            }
            Action::StopSandbox => soon(Input::SandboxStopped),
            Action::CleanUp => soon(Input::CleanedUp),
            Action::RemoveAttempt { .. } | Action::Emit(_) | Action::Finish { .. } => Vec::new(),
        }
    }

    fn run_of(&self, container: &str, attempt: u32) -> &Run {
        &self.scripts[container].runs[attempt as usize]
    }

    fn start(&mut self, container: String, attempt: u32) -> Vec<(Duration, Input)> {
        let at = self.bench.wall();
        let script = self.scripts.get_mut(&container).expect("a script");
        if let Some((reason, message)) = script.failures.front().cloned() {
            if !script.runs.is_empty() {
                script.failures.pop_front();
                // The number of the attempt is used again.
                self.bench.actions.retain(|a| *a != common::start(&container, attempt));
            }
            let failure = StartFailure::Config { reason, message };
            return vec![(LATENCY, Input::StartFailed { container, attempt, failure })];
        }
        let run = &script.runs[attempt as usize];
        if let Some(end) = run.end.as_ref().filter(|end| end.reason == "StartError") {
            let failure = StartFailure::Exec { message: end.message.clone(), exit_code: end.code, at };
            return vec![(LATENCY, Input::StartFailed { container, attempt, failure })];
        }
        let started = Input::Started { container: container.clone(), attempt, at, user: common::user() };
        let mut inputs = vec![(LATENCY, started)];
        let begun = 2 * LATENCY;
        inputs.extend(run.verdicts.iter().map(|(after, kind, healthy)| {
            (begun + *after, probed(&container, attempt, *kind, Some(*healthy), None))
        }));
        inputs.extend(script.unhealthy.iter().map(|message| {
            let kind = match message.split(' ').next() {
                Some("Startup") => ProbeKind::Startup,
                Some("Liveness") => ProbeKind::Liveness,
                _ => ProbeKind::Readiness,
            };
            (begun, probed(&container, attempt, kind, None, Some(message)))
        }));
        let after = Duration::from_secs(run.seconds);
        match &run.end {
            Some(end) if end.how == How::Itself => inputs.push(exit(&container, attempt, end, after)),
            Some(End { how: How::Probe(kind), .. }) => {
                inputs.push((begun + after, probed(&container, attempt, *kind, Some(false), None)));
            }
            _ => {}
        }
        inputs
    }

    fn run_hook(&self, container: String, attempt: u32, hook: HookKind) -> Vec<(Duration, Input)> {
        let script = &self.scripts[&container];
        let killed = self.run_of(&container, attempt).end.as_ref().is_some_and(|end| end.code == 137);
        let failure = match hook {
            HookKind::PostStart => script.hook_error.clone(),
            HookKind::PreStop if script.pre_stop_fails && killed => return Vec::new(),
            HookKind::PreStop => script.pre_stop_fails.then(|| "no".to_owned()),
        };
        vec![(LATENCY, Input::HookDone { container, attempt, hook, failure, event: None })]
    }
}

fn probed(
    container: &str,
    attempt: u32,
    probe: ProbeKind,
    healthy: Option<bool>,
    unhealthy: Option<&String>,
) -> Input {
    let event = unhealthy.map(|message| ("Unhealthy".to_owned(), message.clone()));
    Input::Probed { container: container.to_owned(), attempt, probe, healthy, event }
}

fn ended_with(code: i32, reason: &str) -> End {
    End { code, reason: reason.to_owned(), message: String::new(), how: How::Stop }
}

/// Returns the end of a run, to arrive some time after its start or its stop signal.
fn exit(container: &str, attempt: u32, end: &End, after: Duration) -> (Duration, Input) {
    let oom_killed = end.reason == "OOMKilled";
    let status = if end.code > 128 { ExitStatus::Signal(end.code - 128) } else { ExitStatus::Code(end.code) };
    let input = Input::Exited {
        container: container.to_owned(),
        attempt,
        status,
        oom_killed,
        message: end.message.clone(),
        // Set on arrival.
        at: Timestamp(0),
    };
    (after + LATENCY + Duration::from_millis(1), input)
}
