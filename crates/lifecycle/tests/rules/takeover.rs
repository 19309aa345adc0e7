//! What a supervisor that takes over has to carry out again, at every point of a life.

use std::time::Duration;

use podrun_lifecycle::{Action, Input, Machine, Now, State};
use podrun_spec::model::{HookKind, Pod};
use podrun_spec::status::UserStatus;
use podrun_spec::time::Timestamp;

use crate::story::{find, pod, shown};

const SPEC: &str = "initContainers: [{name: s, image: i, restartPolicy: Always}],
    containers: [{name: c, image: i, lifecycle: {postStart: {exec: {command: [x]}}, preStop: {exec: {command: [x]}}}},
                 {name: d, image: i}]";

/// A machine that is put away and taken up again before every input.
struct Life {
    pod: Pod,
    machine: Machine,
    now: Now,
}

impl Life {
    fn new() -> Self {
        let pod = pod(SPEC);
        let now = Now { wall: Timestamp(0), boot: Duration::from_secs(100) };
        Self { machine: Machine::new(&pod), pod, now }
    }

    fn restored(&self) -> Machine {
        let text = serde_json::to_string(self.machine.state()).expect("it is written");
        let state: State = serde_json::from_str(&text).expect("it is read");
        Machine::restore(&self.pod, state)
    }

    /// Returns what a supervisor that takes over now has to do.
    fn outstanding(&self) -> Vec<Action> {
        self.restored().outstanding()
    }

    fn tell(&mut self, input: Input) {
        self.machine.step(self.now, input);
    }

    fn pass(&mut self, seconds: u64) {
        self.now.boot += Duration::from_secs(seconds);
        self.tell(Input::Tick);
    }

    fn image(&mut self, container: &str) {
        let container = Some(container.to_owned());
        self.tell(Input::ImageReady { container, volume: None, image_id: String::new(), pulled: None });
    }

    fn started(&mut self, container: &str) {
        let user = UserStatus { uid: 0, gid: 0, supplemental_groups: Vec::new() };
        let (container, at) = (container.to_owned(), self.now.wall);
        self.tell(Input::Started { container, attempt: 0, at, user });
    }

    fn hook_done(&mut self, hook: HookKind, failure: Option<&str>) {
        let failure = failure.map(str::to_owned);
        self.tell(Input::HookDone { container: "c".to_owned(), attempt: 0, hook, failure, event: None });
    }

    /// Lives until the postStart hook of `c` runs.
    fn in_post_start() -> Self {
        let mut life = Self::new();
        life.tell(Input::Created);
        life.tell(Input::VolumesReady);
        life.tell(Input::SandboxReady { pod_ips: Vec::new() });
        for name in ["s", "c"] {
            life.image(name);
            life.started(name);
        }
        life
    }
}

fn ensure(container: &str) -> Action {
    Action::EnsureImage { container: Some(container.to_owned()), volume: None }
}

fn signal(container: &str) -> Action {
    Action::SendStopSignal { container: container.to_owned(), attempt: 0 }
}

fn kill(container: &str) -> Action {
    Action::Kill { container: container.to_owned(), attempt: 0 }
}

fn pre_stop() -> Action {
    Action::RunHook { container: "c".to_owned(), attempt: 0, hook: HookKind::PreStop }
}

#[test]
fn what_was_not_answered_is_asked_for_again() {
    let mut life = Life::new();
    assert_eq!(life.outstanding(), []);
    life.tell(Input::Created);
    assert_eq!(life.outstanding(), [Action::PrepareVolumes]);
    life.tell(Input::VolumesReady);
    assert_eq!(life.outstanding(), [Action::CreateSandbox]);
    life.tell(Input::SandboxReady { pod_ips: Vec::new() });
    assert_eq!(life.outstanding(), [ensure("s")]);
    life.image("s");
    assert_eq!(life.outstanding(), [Action::Start { container: "s".to_owned(), attempt: 0 }]);
    life.started("s");
    assert_eq!(life.outstanding(), [ensure("c")]);
}

#[test]
fn a_post_start_hook_is_not_run_again_and_its_container_counts_as_started() {
    let mut life = Life::in_post_start();
    let run = Action::RunHook { container: "c".to_owned(), attempt: 0, hook: HookKind::PostStart };
    assert_eq!(life.machine.outstanding(), [run]);
    assert_eq!(shown(find(&life.machine.status(), "c").expect("c")), "Waiting PodInitializing");
    assert_eq!(life.outstanding(), []);
    life.machine = life.restored();
    life.tell(Input::Tick);
    assert_eq!(shown(find(&life.machine.status(), "c").expect("c")), "Running started ready");
    assert_eq!(life.outstanding(), [ensure("d")]);
    // An answer that still comes is late.
    life.hook_done(HookKind::PostStart, Some("no"));
    assert_eq!(shown(find(&life.machine.status(), "c").expect("c")), "Running started ready");
}

#[test]
fn a_post_start_hook_that_has_failed_leads_to_its_stop_all_the_same() {
    let mut life = Life::in_post_start();
    life.hook_done(HookKind::PostStart, Some("no"));
    assert_eq!(life.outstanding(), [pre_stop()]);
    life.machine = life.restored();
    life.hook_done(HookKind::PreStop, None);
    assert_eq!(life.outstanding(), [signal("c")]);
    life.machine = life.restored();
    let (container, at) = ("c".to_owned(), life.now.wall);
    let status = podrun_lifecycle::ExitStatus::Code(0);
    let message = String::new();
    life.tell(Input::Exited { container, attempt: 0, status, oom_killed: false, message, at });
    assert_eq!(shown(find(&life.machine.status(), "c").expect("c")), "Waiting PostStartHookError");
    assert_eq!(life.outstanding(), [ensure("d")]);
}

#[test]
fn each_step_of_a_stop_is_taken_up_and_the_grace_runs_on() {
    let mut life = Life::in_post_start();
    life.hook_done(HookKind::PostStart, None);
    life.image("d");
    life.started("d");
    life.tell(Input::Delete { grace_seconds: Some(10) });
    assert_eq!(life.outstanding(), [pre_stop(), signal("d")]);
    life.pass(4);
    life.machine = life.restored();
    assert_eq!(life.outstanding(), [pre_stop(), signal("d")], "the sidecar waits for its turn");
    life.pass(6);
    assert_eq!(life.outstanding(), [signal("s"), signal("c"), kill("d")]);
    life.machine = life.restored();
    life.pass(2);
    assert_eq!(life.outstanding(), [kill("s"), kill("c"), kill("d")]);
}
