//! The simulated world: it answers what the machine asks for.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use podrun_spec::model::{ContainerKind, HookKind, Pod, ProbeKind};
use podrun_spec::status::UserStatus;
use podrun_spec::time::Timestamp;

use super::probers::Probers;
use super::{End, Fact, Mode, Moment, Options, Script, TimedFact, Timeline};
use crate::action::Action;
use crate::input::{ExitStatus, Input, Now, PulledImage, StartFailure};
use crate::machine::Machine;
use crate::state::Stage;

/// Size of an image that is pulled.
const SIMULATED_BYTES: u64 = 50_000_000;

/// Boot time of the beginning: not zero, so that nothing depends on it.
const BOOT: Duration = Duration::from_secs(3600);

/// A life of more steps than these is cut off: nobody reads them, and memory is finite.
const MOST_STEPS: usize = 100_000;

/// How a container behaves from now on.
#[derive(Clone, Copy, Debug)]
struct Manner {
    /// How long a run lasts and what it ends with; none until something ends it.
    run: Option<(Duration, i32)>,
    pull: Mode,
    start: Mode,
    post_start: Mode,
    pre_stop: Mode,
    /// How long it takes to obey its stop signal; none for ever.
    term: Option<Duration>,
    term_code: i32,
}

pub(super) struct World {
    options: Options,
    machine: Machine,
    manners: BTreeMap<String, Manner>,
    volumes_work: bool,
    sandbox_works: bool,
    probers: Probers,
    facts: VecDeque<TimedFact>,
    /// Answers on their way, in the order in which they were given.
    coming: Vec<(Duration, Input)>,
    /// Attempts that run.
    running: BTreeMap<String, u32>,
    now: Duration,
    timeline: Timeline,
}

/// What comes next.
enum Next {
    Fact,
    Answer(usize),
    Tick,
    Probe,
}

impl World {
    pub(super) fn new(pod: &Pod, script: &Script, options: Options) -> Self {
        let manner = |(kind, container): (ContainerKind, &podrun_spec::model::Container)| {
            let manner = Manner {
                run: (kind == ContainerKind::Init).then_some((options.init, 0)),
                pull: Mode::Well,
                start: Mode::Well,
                post_start: Mode::Well,
                pre_stop: Mode::Well,
                term: Some(options.exit),
                term_code: 0,
            };
            (container.name.clone(), manner)
        };
        let machine = Machine::new(pod);
        Self {
            options,
            manners: pod.spec.all_containers().map(manner).collect(),
            volumes_work: true,
            sandbox_works: true,
            probers: Probers::new(pod),
            facts: script.facts().iter().cloned().collect(),
            coming: Vec::new(),
            running: BTreeMap::new(),
            now: Duration::ZERO,
            timeline: Timeline { moments: Vec::new(), end: End::Quiet },
            machine,
        }
    }

    /// Lets it happen.
    pub(super) fn live(mut self) -> Timeline {
        let last = self.facts.back().map_or(Duration::ZERO, |fact| fact.at);
        let until = last.saturating_add(self.options.after);
        // How things are at the very beginning, and what is said about the place, comes before the Pod is accepted.
        let (settings, rest): (VecDeque<_>, VecDeque<_>) =
            self.facts.drain(..).partition(|f| f.at.is_zero() && f.fact.is_setting());
        settings.into_iter().for_each(|f| self.happen(f.fact));
        self.facts = rest;
        let decides = |f: &TimedFact| {
            f.at.is_zero() && matches!(f.fact, Fact::Unschedulable(_) | Fact::Reject(..) | Fact::Admit)
        };
        if !self.facts.iter().any(decides) {
            self.tell(Input::Created);
        }
        self.timeline.end = loop {
            if self.machine.stage() == Stage::Finished && self.facts.is_empty() {
                break End::Finished;
            }
            let Some((at, next)) = self.next() else { break End::Quiet };
            if at > until || self.timeline.moments.len() >= MOST_STEPS {
                break End::TimeUp;
            }
            self.now = self.now.max(at);
            match next {
                Next::Fact => {
                    if let Some(fact) = self.facts.pop_front() {
                        self.happen(fact.fact);
                    }
                }
                Next::Answer(index) => {
                    let (_, input) = self.coming.remove(index);
                    self.deliver(input);
                }
                Next::Tick => self.tell(Input::Tick),
                Next::Probe => {
                    if let Some(input) = self.probers.make(&self.machine, BOOT + self.now) {
                        self.tell(input);
                    }
                }
            }
        };
        self.timeline
    }

    /// Returns what comes next and when; none where nothing more would change.
    fn next(&self) -> Option<(Duration, Next)> {
        let fact = self.facts.front().map(|fact| (fact.at, Next::Fact));
        let answer = (0..self.coming.len()).min_by_key(|&i| self.coming[i].0);
        let answer = answer.map(|i| (self.coming[i].0, Next::Answer(i)));
        let tick = self.machine.deadline().map(|at| (at.saturating_sub(BOOT), Next::Tick));
        let is_waiting = fact.is_some() || answer.is_some() || tick.is_some();
        let probe = self.probers.next().filter(|_| is_waiting || !self.probers.are_settled());
        let probe = probe.map(|at| (at.saturating_sub(BOOT), Next::Probe));
        // Of what comes at the same time, the first in this list.
        [answer, fact, tick, probe].into_iter().flatten().min_by_key(|(at, _)| *at)
    }

    /// Tells the machine something and takes up what it asks for.
    fn tell(&mut self, input: Input) {
        let now = Now { wall: self.wall(), boot: BOOT + self.now };
        let actions = self.machine.step(now, input.clone());
        let status = self.machine.status();
        for action in &actions {
            if let Some((after, input)) = self.answer(action) {
                self.coming.push((self.now + after, input));
            }
        }
        let came_up = matches!(input, Input::Probed { probe: ProbeKind::Startup, healthy: Some(true), .. });
        if let (true, Input::Probed { container, .. }) = (came_up, &input) {
            self.probers.kick(container, BOOT + self.now);
        }
        self.probers.follow(&self.machine, BOOT + self.now);
        self.timeline.moments.push(Moment { at: self.now, input, actions, status });
    }

    fn wall(&self) -> Timestamp {
        let since = i64::try_from(self.now.as_nanos()).unwrap_or(i64::MAX);
        Timestamp(self.options.begin.0.saturating_add(since))
    }

    /// Tells the machine an answer, if it is still true.
    fn deliver(&mut self, mut input: Input) {
        let now = self.wall();
        match &mut input {
            Input::Started { container, attempt, at, .. } => {
                *at = now;
                self.running.insert(container.clone(), *attempt);
                if let Some((after, code)) = self.manners[container].run {
                    let exit = exit(container, *attempt, ExitStatus::Code(code), false);
                    self.coming.push((self.now + after, exit));
                }
            }
            Input::Exited { container, attempt, at, .. } => {
                if self.running.get(container) != Some(attempt) {
                    return;
                }
                *at = now;
                self.running.remove(container);
                self.end_hooks(container.clone(), *attempt);
            }
            Input::StartFailed { failure: StartFailure::Exec { at, .. }, .. } => *at = now,
            Input::SandboxStopped => self.running.clear(),
            _ => {}
        }
        self.tell(input);
    }

    /// Ends hooks that would go on for ever: they end with their container.
    fn end_hooks(&mut self, container: String, attempt: u32) {
        if self.manners[&container].post_start == Mode::Otherwise {
            let hook = HookKind::PostStart;
            let failure = Some("the container has ended".to_owned());
            let done = Input::HookDone { container, attempt, hook, failure, event: None };
            self.coming.push((self.now, done));
        }
    }

    fn happen(&mut self, fact: Fact) {
        match fact {
            Fact::Exit(c, code) => self.end(&c, ExitStatus::Code(code), false),
            Fact::Oom(c) => self.end(&c, ExitStatus::Signal(9), true),
            Fact::Run(c, run) => self.manner(&c).run = run,
            Fact::Probe(c, kind, healthy) => self.probers.set(&c, kind, healthy),
            Fact::Hook(c, HookKind::PostStart, mode) => self.manner(&c).post_start = mode,
            Fact::Hook(c, HookKind::PreStop, mode) => self.manner(&c).pre_stop = mode,
            Fact::TermCode(c, code) => self.manner(&c).term_code = code,
            Fact::Term(c, after) => self.manner(&c).term = after,
            Fact::Pull(c, mode) => self.manner(&c).pull = mode,
            Fact::Start(c, mode) => self.manner(&c).start = mode,
            Fact::Volumes(work) => self.volumes_work = work,
            Fact::Sandbox(works) => self.sandbox_works = works,
            Fact::SandboxLost => {
                self.running.clear();
                self.tell(Input::SandboxLost);
            }
            Fact::Condition(kind, status) => {
                self.tell(Input::ConditionSet { kind, status, reason: None, message: None });
            }
            Fact::Unschedulable(message) => self.tell(Input::Unschedulable { message }),
            Fact::Admit => self.tell(Input::Created),
            Fact::Reject(reason, message) => self.tell(Input::Rejected { reason, message }),
            Fact::Evict(message) => self.tell(Input::Evicted { message }),
            Fact::Delete(grace_seconds) => self.tell(Input::Delete { grace_seconds }),
        }
    }

    fn manner(&mut self, container: &str) -> &mut Manner {
        // The script was checked: all containers are there.
        self.manners.entry(container.to_owned()).or_insert(Manner {
            run: None,
            pull: Mode::Well,
            start: Mode::Well,
            post_start: Mode::Well,
            pre_stop: Mode::Well,
            term: None,
            term_code: 0,
        })
    }

    fn end(&mut self, container: &str, status: ExitStatus, oom_killed: bool) {
        if let Some(attempt) = self.running.get(container) {
            self.deliver(exit(container, *attempt, status, oom_killed));
        }
    }

    /// Returns the answer to an action and when it comes.
    fn answer(&self, action: &Action) -> Option<(Duration, Input)> {
        let options = &self.options;
        let failure = || "as scripted".to_owned();
        match action {
            Action::PrepareVolumes if self.volumes_work => Some((options.setup, Input::VolumesReady)),
            Action::PrepareVolumes => Some((options.setup, Input::VolumesFailed { message: failure() })),
            Action::CreateSandbox if self.sandbox_works => {
                Some((options.setup, Input::SandboxReady { pod_ips: vec!["10.0.0.2".to_owned()] }))
            }
            Action::CreateSandbox => Some((options.setup, Input::SandboxFailed { message: failure() })),
            Action::EnsureImage { container: Some(container), volume: None } => Some(self.image(container)),
            // A script says nothing about volumes, and they are there.
            Action::EnsureImage { container, volume } => {
                let (container, volume) = (container.clone(), volume.clone());
                let image_id = "sha256:simulated".to_owned();
                Some((options.image, Input::ImageReady { container, volume, image_id, pulled: None }))
            }
            Action::Start { container, attempt } => Some(self.start(container, *attempt)),
            Action::RunHook { container, attempt, hook } => self.hook(container, *attempt, *hook),
            Action::SendStopSignal { container, attempt } => {
                let manner = self.manners[container];
                let status = ExitStatus::Code(manner.term_code);
                manner.term.map(|after| (after, exit(container, *attempt, status, false)))
            }
            Action::Kill { container, attempt } => {
                Some((options.exit, exit(container, *attempt, ExitStatus::Signal(9), false)))
            }
            Action::StopSandbox => Some((options.setup, Input::SandboxStopped)),
            Action::CleanUp => Some((options.setup, Input::CleanedUp)),
            Action::RemoveAttempt { .. } | Action::Emit(_) | Action::Finish { .. } => None,
        }
    }

    fn image(&self, name: &str) -> (Duration, Input) {
        let container = name.to_owned();
        let failed = |reason: &str, message: String| Input::ImageFailed {
            container: Some(container.clone()),
            volume: None,
            reason: reason.to_owned(),
            message,
        };
        let here = |pulled| Input::ImageReady {
            container: Some(container.clone()),
            volume: None,
            image_id: "sha256:simulated".to_owned(),
            pulled,
        };
        match self.manners[name].pull {
            Mode::Well => (self.options.image, here(None)),
            Mode::After(after) => (after, here(Some(PulledImage { took: after, bytes: SIMULATED_BYTES }))),
            Mode::Fails => (self.options.image, failed("ErrImagePull", "as scripted".to_owned())),
            Mode::Otherwise => (
                self.options.image,
                failed("ErrImageNeverPull", "the image is not present with pull policy of Never".to_owned()),
            ),
        }
    }

    fn start(&self, name: &str, attempt: u32) -> (Duration, Input) {
        let container = name.to_owned();
        let message = "as scripted".to_owned();
        let at = Timestamp(0);
        let user = UserStatus { uid: 0, gid: 0, supplemental_groups: vec![0] };
        let failed = |failure| Input::StartFailed { container: name.to_owned(), attempt, failure };
        match self.manners[name].start {
            Mode::Well => (self.options.start, Input::Started { container, attempt, at, user }),
            Mode::After(after) => (after, Input::Started { container, attempt, at, user }),
            Mode::Fails => (self.options.start, failed(StartFailure::Exec { message, exit_code: 128, at })),
            Mode::Otherwise => {
                let reason = "CreateContainerError".to_owned();
                (self.options.start, failed(StartFailure::Config { reason, message }))
            }
        }
    }

    fn hook(&self, name: &str, attempt: u32, hook: HookKind) -> Option<(Duration, Input)> {
        let manner = &self.manners[name];
        let mode = match hook {
            HookKind::PostStart => manner.post_start,
            HookKind::PreStop => manner.pre_stop,
        };
        let (after, failure) = match mode {
            Mode::Well => (Duration::ZERO, None),
            Mode::After(after) => (after, None),
            Mode::Fails => (Duration::ZERO, Some("as scripted".to_owned())),
            Mode::Otherwise => return None,
        };
        let container = name.to_owned();
        Some((after, Input::HookDone { container, attempt, hook, failure, event: None }))
    }
}

fn exit(container: &str, attempt: u32, status: ExitStatus, oom_killed: bool) -> Input {
    let (container, message, at) = (container.to_owned(), String::new(), Timestamp(0));
    Input::Exited { container, attempt, status, oom_killed, message, at }
}
