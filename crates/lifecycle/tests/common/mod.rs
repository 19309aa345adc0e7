//! Pods for tests and a machine under a clock that the test moves.
#![allow(dead_code, unreachable_pub, reason = "each test binary uses its own part")]

use std::sync::LazyLock;
use std::time::Duration;

use podrun_lifecycle::{Action, ExitStatus, Input, Machine, Now, PodEvent, StartFailure};
use podrun_spec::model::{
    Container, MountPropagation, Pod, PullPolicy, RecursiveReadOnly, RestartPolicy, Volume, VolumeMount,
    VolumeSource,
};
use podrun_spec::status::{PodStatus, UserStatus};
use podrun_spec::time::Timestamp;

/// Wall-clock second at which tests begin.
pub const EPOCH: i64 = 1_800_000_000;

pub fn container(name: &str) -> Container {
    Container { name: name.to_owned(), ..parsed().spec.containers.remove(0) }
}

pub fn mount(name: &str, path: &str) -> VolumeMount {
    VolumeMount {
        name: name.to_owned(),
        mount_path: path.to_owned(),
        sub_path: None,
        sub_path_expr: None,
        read_only: false,
        recursive_read_only: RecursiveReadOnly::Disabled,
        propagation: MountPropagation::None,
    }
}

/// Returns a volume with the files of an image.
pub fn image_volume(name: &str, reference: &str) -> Volume {
    let (reference, pull_policy) = (reference.to_owned(), PullPolicy::IfNotPresent);
    Volume { name: name.to_owned(), source: VolumeSource::Image { reference, pull_policy } }
}

/// Returns a Pod with these init and regular containers.
pub fn pod(policy: RestartPolicy, init: &[&str], regular: &[&str]) -> Pod {
    let mut pod = parsed();
    "UID".clone_into(&mut pod.meta.uid);
    pod.spec.init_containers = init.iter().map(|n| container(n)).collect();
    pod.spec.containers = regular.iter().map(|n| container(n)).collect();
    pod.spec.restart_policy = policy;
    pod
}

fn parsed() -> Pod {
    const TEXT: &str = "{apiVersion: v1, kind: Pod, metadata: {name: p},
                         spec: {containers: [{name: c, image: 'localhost/test:1'}]}}";
    static POD: LazyLock<Pod> =
        LazyLock::new(|| podrun_spec::parse("test.yaml", TEXT).expect("a valid Pod").pods.remove(0).pod);
    POD.clone()
}

pub fn user() -> UserStatus {
    UserStatus { uid: 0, gid: 0, supplemental_groups: vec![0] }
}

/// A machine, its clock, and what it has said so far.
pub struct Bench {
    pub machine: Machine,
    pub boot: Duration,
    pub actions: Vec<Action>,
    pub statuses: Vec<PodStatus>,
}

impl Bench {
    pub fn new(pod: &Pod) -> Self {
        let machine = Machine::new(pod);
        let statuses = vec![machine.status()];
        Self { machine, boot: Duration::from_secs(1000), actions: Vec::new(), statuses }
    }

    /// Returns a machine whose sandbox stands.
    pub fn ready(pod: &Pod) -> Self {
        let mut bench = Self::new(pod);
        bench.step(Input::Created);
        bench.step(Input::VolumesReady);
        bench.step(Input::SandboxReady { pod_ips: vec!["10.0.0.2".to_owned()] });
        bench
    }

    pub fn wall(&self) -> Timestamp {
        let since = i64::try_from(self.boot.as_nanos()).expect("a short test");
        Timestamp(EPOCH * 1_000_000_000 + since)
    }

    /// Sends an input and returns what is to be done, without events.
    pub fn step(&mut self, input: Input) -> Vec<Action> {
        let now = Now { wall: self.wall(), boot: self.boot };
        let actions = self.machine.step(now, input);
        let status = self.machine.status();
        if self.statuses.last() != Some(&status) {
            self.statuses.push(status);
        }
        self.actions.extend(actions.iter().cloned());
        actions.into_iter().filter(|a| !matches!(a, Action::Emit(_))).collect()
    }

    pub fn tick(&mut self) -> Vec<Action> {
        self.step(Input::Tick)
    }

    /// Moves the clock to the deadline, ticks, and returns the seconds that passed with what is to be done.
    pub fn tick_at_deadline(&mut self) -> (u64, Vec<Action>) {
        let deadline = self.machine.deadline().expect("a deadline").max(self.boot);
        let waited = deadline.saturating_sub(self.boot).as_secs();
        self.boot = deadline;
        (waited, self.tick())
    }

    pub fn pass(&mut self, seconds: u64) {
        self.boot += Duration::from_secs(seconds);
    }

    pub fn image_ready(&mut self, container: &str) -> Vec<Action> {
        self.step(Input::ImageReady {
            container: Some(container.to_owned()),
            volume: None,
            image_id: "sha256:1".to_owned(),
            pulled: None,
        })
    }

    pub fn image_failed(&mut self, container: &str, reason: &str, message: &str) -> Vec<Action> {
        self.step(Input::ImageFailed {
            container: Some(container.to_owned()),
            volume: None,
            reason: reason.to_owned(),
            message: message.to_owned(),
        })
    }

    pub fn started(&mut self, container: &str, attempt: u32) -> Vec<Action> {
        let at = self.wall();
        self.step(Input::Started { container: container.to_owned(), attempt, at, user: user() })
    }

    /// Answers everything up to the start of a container.
    pub fn start(&mut self, container: &str, attempt: u32) -> Vec<Action> {
        assert_eq!(self.image_ready(container), [start(container, attempt)]);
        self.started(container, attempt)
    }

    pub fn start_failed(&mut self, container: &str, attempt: u32, failure: StartFailure) -> Vec<Action> {
        self.step(Input::StartFailed { container: container.to_owned(), attempt, failure })
    }

    pub fn exited(&mut self, container: &str, attempt: u32, code: i32) -> Vec<Action> {
        self.exited_with(container, attempt, ExitStatus::Code(code), false, "")
    }

    pub fn exited_with(
        &mut self,
        container: &str,
        attempt: u32,
        status: ExitStatus,
        oom_killed: bool,
        message: &str,
    ) -> Vec<Action> {
        let at = self.wall();
        let (container, message) = (container.to_owned(), message.to_owned());
        self.step(Input::Exited { container, attempt, status, oom_killed, message, at })
    }

    pub fn delete(&mut self, grace_seconds: Option<u64>) -> Vec<Action> {
        self.step(Input::Delete { grace_seconds })
    }

    pub fn events(&self) -> Vec<&PodEvent> {
        self.actions
            .iter()
            .filter_map(|a| if let Action::Emit(event) = a { Some(event) } else { None })
            .collect()
    }

    /// Returns the events as `reason: message` and forgets them.
    pub fn take_events(&mut self) -> Vec<String> {
        let texts = self.events().iter().map(|e| format!("{}: {}", e.reason, e.message)).collect();
        self.actions.clear();
        texts
    }
}

pub fn ensure(container: &str) -> Action {
    Action::EnsureImage { container: Some(container.to_owned()), volume: None }
}

pub fn start(container: &str, attempt: u32) -> Action {
    Action::Start { container: container.to_owned(), attempt }
}

pub fn signal(container: &str, attempt: u32) -> Action {
    Action::SendStopSignal { container: container.to_owned(), attempt }
}

pub fn kill(container: &str, attempt: u32) -> Action {
    Action::Kill { container: container.to_owned(), attempt }
}

pub fn remove(container: &str, attempt: u32) -> Action {
    Action::RemoveAttempt { container: container.to_owned(), attempt }
}
