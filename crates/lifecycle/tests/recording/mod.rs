//! A recording: what is in the file, the facts to be drawn from it, and its replay.

mod normal;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use podrun_lifecycle::{Action, ExitStatus, Input, StartFailure};
use podrun_spec::model::{Pod, PullPolicy, QosClass, RestartPolicy};
use serde_json::{Map, Value};

use crate::common::{self, Bench};

/// Type, reason, field path, message.
pub(crate) type Event = (String, String, String, String);

/// How a run of a container went.
#[derive(Clone, Debug)]
struct Run {
    seconds: u64,
    /// None for a run that was never seen to end.
    end: Option<End>,
}

#[derive(Clone, Debug)]
struct End {
    code: i32,
    reason: String,
    message: String,
    /// It ended before the Pod was deleted.
    by_itself: bool,
}

/// What happens to the starts of one container, in order.
#[derive(Clone, Debug, Default)]
struct Script {
    /// Failures before the first run, each `(reason, message)`; the last one stays if there is no run.
    failures: VecDeque<(String, String)>,
    runs: Vec<Run>,
}

pub(crate) struct Recording {
    file: Value,
}

/// What a machine showed.
pub(crate) struct Replay {
    pub(crate) statuses: Vec<Value>,
    pub(crate) events: BTreeSet<Event>,
}

impl Recording {
    pub(crate) fn load(name: &str) -> Self {
        let path = format!("{}/tests/golden/{name}.json", env!("CARGO_MANIFEST_DIR"));
        let text = std::fs::read_to_string(&path).expect("the recording");
        Self { file: serde_json::from_str(&text).expect("JSON") }
    }

    fn sequence(&self) -> &[Value] {
        self.file["sequence"].as_array().expect("a sequence")
    }

    /// Returns the recorded statuses in comparable form.
    pub(crate) fn statuses(&self) -> Vec<Value> {
        let statuses: Vec<_> = self.sequence().iter().map(|e| e["status"].clone()).collect();
        normal::normal(&statuses)
    }

    pub(crate) fn events(&self) -> BTreeSet<Event> {
        let events = self.file["events"].as_array().expect("events");
        let word = |event: &Value, key: &str| event[key].as_str().unwrap_or_default().to_owned();
        events
            .iter()
            .map(|e| {
                normal::event(word(e, "type"), word(e, "reason"), word(e, "fieldPath"), &word(e, "message"))
            })
            .collect()
    }

    fn pod(&self) -> Pod {
        let (meta, spec) = (&self.file["manifest"]["metadata"], &self.file["manifest"]["spec"]);
        let policy = match spec["restartPolicy"].as_str() {
            None | Some("Always") => RestartPolicy::Always,
            Some("OnFailure") => RestartPolicy::OnFailure,
            _ => RestartPolicy::Never,
        };
        let mut pod = common::pod(policy, &[], &[]);
        let containers = |list: &Value| {
            let list = list.as_array().cloned().unwrap_or_default();
            list.iter()
                .map(|c| {
                    let text = |v: &Value| v.as_str().expect("text").to_owned();
                    let mut container = common::container(&text(&c["name"]));
                    container.image = text(&c["image"]);
                    container.pull_policy = match c["imagePullPolicy"].as_str() {
                        Some("Always") => PullPolicy::Always,
                        Some("Never") => PullPolicy::Never,
                        _ => PullPolicy::IfNotPresent,
                    };
                    let mounts = c["volumeMounts"].as_array().cloned().unwrap_or_default();
                    container.volume_mounts = mounts
                        .iter()
                        .map(|m| common::mount(&text(&m["name"]), &text(&m["mountPath"])))
                        .collect();
                    container
                })
                .collect()
        };
        meta["name"].as_str().expect("a name").clone_into(&mut pod.meta.name);
        pod.spec.init_containers = containers(&spec["initContainers"]);
        pod.spec.containers = containers(&spec["containers"]);
        pod.spec.termination_grace_period =
            Duration::from_secs(spec["terminationGracePeriodSeconds"].as_u64().unwrap_or(30));
        pod.spec.qos_class = match self.sequence()[0]["status"]["qosClass"].as_str() {
            Some("Guaranteed") => QosClass::Guaranteed,
            Some("Burstable") => QosClass::Burstable,
            _ => QosClass::BestEffort,
        };
        pod
    }

    /// Returns the deletes: seconds since the submit, grace.
    fn deletes(&self) -> VecDeque<(f64, Option<u64>)> {
        let steps = self.file["steps"].as_array().expect("steps");
        let deletes = steps.iter().filter(|s| s["do"] == "delete");
        deletes.map(|s| (s["t"].as_f64().expect("a time"), s["grace"].as_u64())).collect()
    }

    fn scripts(&self) -> BTreeMap<String, Script> {
        let mut scripts: BTreeMap<String, Script> = BTreeMap::new();
        let mut runs: BTreeMap<String, BTreeMap<u32, Run>> = BTreeMap::new();
        for entry in self.sequence() {
            let deleting = entry.get("deleting").is_some();
            for container in normal::containers(&entry["status"]) {
                let name = container["name"].as_str().expect("a name").to_owned();
                let script = scripts.entry(name.clone()).or_default();
                let waiting = &container["state"]["waiting"];
                if let (Some(reason), Some(message)) =
                    (waiting["reason"].as_str(), waiting["message"].as_str())
                {
                    let failure = (reason.to_owned(), message.to_owned());
                    let is_failure =
                        !matches!(reason, "CrashLoopBackOff" | "ImagePullBackOff" | "RunContainerError");
                    if is_failure && script.failures.back() != Some(&failure) {
                        script.failures.push_back(failure);
                    }
                }
                if let Some(id) = container["state"]["running"].is_object().then(|| &container["containerID"])
                {
                    let runs = runs.entry(name.clone()).or_default();
                    runs.entry(number(id)).or_insert(Run { seconds: 0, end: None });
                }
                for end in [&container["lastState"]["terminated"], &container["state"]["terminated"]] {
                    if let Some(id) = end.get("containerID") {
                        let run = runs.entry(name.clone()).or_default().entry(number(id));
                        let run = run.or_insert(Run { seconds: 0, end: None });
                        run.seconds = (second(&end["finishedAt"]) - second(&end["startedAt"]))
                            .clamp(0, 100)
                            .unsigned_abs();
                        run.end.get_or_insert(End {
                            code: i32::try_from(end["exitCode"].as_i64().expect("a code"))
                                .expect("a small code"),
                            reason: end["reason"].as_str().expect("a reason").to_owned(),
                            message: end["message"].as_str().unwrap_or_default().to_owned(),
                            by_itself: !deleting,
                        });
                    }
                }
            }
        }
        for (name, runs) in runs {
            scripts.entry(name).or_default().runs = runs.into_values().collect();
        }
        scripts
    }

    fn sandbox_was_ready(&self) -> bool {
        self.sequence().iter().any(|e| {
            let conditions = e["status"]["conditions"].as_array().cloned().unwrap_or_default();
            conditions.iter().any(|c| c["type"] == "PodReadyToStartContainers" && c["status"] == "True")
        })
    }
}

/// Applies `change` to each container of each status.
pub(crate) fn each_container(statuses: &mut [Value], mut change: impl FnMut(&mut Map<String, Value>)) {
    for status in statuses {
        for list in ["initContainerStatuses", "containerStatuses"] {
            let list = status[list].as_array_mut().into_iter().flatten();
            list.filter_map(Value::as_object_mut).for_each(&mut change);
        }
    }
}

/// Reads the number of `containerd://ID7`.
fn number(id: &Value) -> u32 {
    id.as_str().and_then(|id| id.rsplit("ID").next()?.parse().ok()).expect("an id")
}

/// Reads the seconds of `T+7`.
fn second(time: &Value) -> i64 {
    time.as_str().and_then(|t| t.strip_prefix('T')?.parse().ok()).unwrap_or(0)
}

/// The world around the machine: it answers actions with what was recorded.
struct World {
    bench: Bench,
    scripts: BTreeMap<String, Script>,
    /// Answers on their way, by the time at which they arrive.
    coming: Vec<(Duration, Input)>,
    volumes_work: bool,
    pulled: bool,
}

/// Time between an action and its answer.
const LATENCY: Duration = Duration::from_millis(20);

/// Drives a machine with the facts of the recording.
pub(crate) fn replay(recording: &Recording) -> Replay {
    let bench = Bench::new(&recording.pod());
    let pulled = recording.events().iter().any(|e| e.3.starts_with("Successfully pulled"));
    let volumes_work = recording.sandbox_was_ready();
    let mut world = World { bench, scripts: recording.scripts(), coming: Vec::new(), volumes_work, pulled };
    let mut deletes = recording.deletes();
    let mut last_delete = None;
    world.send(Input::Created);
    for _ in 0..1000 {
        let now = world.bench.boot;
        let deadline = world.bench.machine.deadline().map(|at| at.max(now));
        // Without a deletion to come time runs on; else only as far as something recorded happens next.
        let deadline = deadline.filter(|at| *at == now || deletes.is_empty() || world.has_more());
        let answer = (0..world.coming.len()).min_by_key(|&i| world.coming[i].0);
        match (answer, deadline) {
            (Some(i), at) if at.is_none_or(|at| world.coming[i].0 <= at) => {
                let (at, input) = world.coming.remove(i);
                world.bench.boot = now.max(at);
                world.send(input);
            }
            (_, Some(at)) => {
                world.bench.boot = at;
                world.send(Input::Tick);
            }
            _ => {
                let Some((t, grace_seconds)) = deletes.pop_front() else { break };
                world.bench.boot += Duration::from_secs_f64(last_delete.map_or(0.1, |last| t - last));
                last_delete = Some(t);
                world.send(Input::Delete { grace_seconds });
            }
        }
    }
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
    fn has_more(&self) -> bool {
        self.scripts.values().any(|s| !s.runs.is_empty() && !self.exhausted(s))
    }

    fn exhausted(&self, script: &Script) -> bool {
        let name = self.scripts.iter().find(|(_, s)| std::ptr::eq(*s, script)).map(|(n, _)| n.as_str());
        let starts = self
            .bench
            .actions
            .iter()
            .filter(|a| matches!(a, Action::Start { container, .. } if Some(container.as_str()) == name));
        script.failures.is_empty() && starts.count() >= script.runs.len()
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
        let at = common::Bench::wall(&self.bench);
        let soon = |input| vec![(LATENCY, input)];
        match action {
            Action::PrepareVolumes if self.volumes_work => soon(Input::VolumesReady),
            Action::PrepareVolumes => soon(Input::VolumesFailed {
                message: "MountVolume.SetUp failed for volume \"v\" : configmap \"golden-none\" not found"
                    .to_owned(),
            }),
            Action::CreateSandbox => soon(Input::SandboxReady { pod_ips: vec!["POD_IP".to_owned()] }),
            Action::EnsureImage { container } => match self.scripts[&container].failures.front().cloned() {
                Some((reason, message)) if !reason.starts_with("CreateContainer") => {
                    soon(Input::ImageFailed { container, reason, message })
                }
                _ => {
                    let pulled = self.pulled;
                    soon(Input::ImageReady { container, image_id: "IMAGE_ID".to_owned(), pulled })
                }
            },
            Action::Start { container, attempt } => {
                let script = self.scripts.get_mut(&container).expect("a script");
                if let Some((reason, message)) = script.failures.front().cloned() {
                    if !script.runs.is_empty() {
                        script.failures.pop_front();
                        // The number of the attempt is used again.
                        self.bench.actions.retain(|a| *a != common::start(&container, attempt));
                    }
                    let failure = StartFailure::Config { reason, message };
                    return soon(Input::StartFailed { container, attempt, failure });
                }
                let run = &script.runs[attempt as usize];
                match &run.end {
                    Some(end) if end.reason == "StartError" => {
                        let failure =
                            StartFailure::Exec { message: end.message.clone(), exit_code: end.code, at };
                        soon(Input::StartFailed { container, attempt, failure })
                    }
                    end => {
                        let user = common::user();
                        let exit = end.as_ref().filter(|end| end.by_itself);
                        let exit = exit.map(|end| {
                            exit_input(&container, attempt, end, Duration::from_secs(run.seconds))
                        });
                        let mut inputs = soon(Input::Started { container, attempt, at, user });
                        inputs.extend(exit);
                        inputs
                    }
                }
            }
            Action::SendStopSignal { container, attempt } => {
                let end = self.scripts[&container].runs[attempt as usize].end.clone();
                let obeyed = end.filter(|end| end.code != 137);
                obeyed.map(|end| exit_input(&container, attempt, &end, LATENCY)).into_iter().collect()
            }
            Action::Kill { container, attempt } => {
                let killed =
                    End { code: 137, reason: "Error".to_owned(), message: String::new(), by_itself: false };
                vec![exit_input(&container, attempt, &killed, LATENCY)]
            }
            Action::StopSandbox => soon(Input::SandboxStopped),
            Action::CleanUp => soon(Input::CleanedUp),
            Action::RunHook { .. }
            | Action::RemoveAttempt { .. }
            | Action::Emit(_)
            | Action::Finish { .. } => Vec::new(),
        }
    }
}

/// Returns the end of a run, to arrive some time after its start.
fn exit_input(container: &str, attempt: u32, end: &End, after: Duration) -> (Duration, Input) {
    let oom_killed = end.reason == "OOMKilled";
    let status = if end.code > 128 { ExitStatus::Signal(end.code - 128) } else { ExitStatus::Code(end.code) };
    let input = Input::Exited {
        container: container.to_owned(),
        attempt,
        status,
        oom_killed,
        message: end.message.clone(),
        // Set on arrival.
        at: podrun_spec::time::Timestamp(0),
    };
    (after + LATENCY + Duration::from_millis(1), input)
}
