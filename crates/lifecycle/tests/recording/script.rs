//! What happens to each container, as it can be drawn from the recorded statuses and events.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use podrun_spec::model::{ContainerLife, ProbeKind};
use serde_json::Value;

use super::{Recording, normal, number, second};

/// How a run of a container went.
#[derive(Clone, Debug, Default)]
pub(super) struct Run {
    pub(super) seconds: u64,
    /// None for a run that was never seen to end.
    pub(super) end: Option<End>,
    /// Verdicts of its probes: when, which, what; the time counts from when the run was first seen.
    pub(super) verdicts: Vec<(Duration, ProbeKind, bool)>,
    /// Those after the Pod was deleted; the time counts from there.
    pub(super) last_verdicts: Vec<(Duration, ProbeKind, bool)>,
}

#[derive(Clone, Debug)]
pub(super) struct End {
    pub(super) code: i32,
    pub(super) reason: String,
    pub(super) message: String,
    pub(super) how: How,
}

/// What ended a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum How {
    /// It ended by itself.
    Itself,
    /// It was stopped with the Pod, for its postStart hook, or with all containers.
    Stop,
    /// A probe had it killed.
    Probe(ProbeKind),
}

/// What happens to the starts of one container, in order.
#[derive(Clone, Debug, Default)]
pub(super) struct Script {
    /// Failures before the first run, each `(reason, message)`; the last one stays if there is no run.
    pub(super) failures: VecDeque<(String, String)>,
    pub(super) runs: Vec<Run>,
    /// How often a start failed before the first run.
    pub(super) tries: usize,
    /// What its probes had to tell, all told at each start.
    pub(super) unhealthy: Vec<String>,
    /// Why its postStart hook fails.
    pub(super) hook_error: Option<String>,
    /// Its preStop hook fails or never returns.
    pub(super) pre_stop_fails: bool,
    /// The waiting reason in the status that was looked at last.
    last_reason: String,
}

/// What is being followed of a run while the statuses are gone through.
struct Follow {
    first_seen: f64,
    startup: bool,
    readiness: bool,
}

/// Reasons that say nothing about a start that failed.
const NO_FAILURE: [&str; 5] = [
    "CrashLoopBackOff",
    "ImagePullBackOff",
    "PostStartHookError",
    "RestartingAllContainers",
    "RunContainerError",
];

impl Recording {
    pub(super) fn scripts(&self) -> BTreeMap<String, Script> {
        let lives = self.lives();
        let mut scripts: BTreeMap<String, Script> = BTreeMap::new();
        let mut runs: BTreeMap<String, BTreeMap<u32, Run>> = BTreeMap::new();
        let mut follows: BTreeMap<u32, Follow> = BTreeMap::new();
        let mut deleted_at = None;
        for entry in self.sequence() {
            let t = entry["t"].as_f64().expect("a time");
            if entry.get("deleting").is_some() {
                deleted_at.get_or_insert(t);
            }
            for container in normal::containers(&entry["status"]) {
                let name = container["name"].as_str().expect("a name").to_owned();
                let script = scripts.entry(name.clone()).or_default();
                script.note_failure(container);
                let runs = runs.entry(name.clone()).or_default();
                if container["state"]["running"].is_object() {
                    let id = number(&container["containerID"]);
                    let run = runs.entry(id).or_default();
                    let follow = follows.entry(id).or_insert(Follow {
                        first_seen: t,
                        startup: false,
                        readiness: false,
                    });
                    run.note_verdicts(follow, &lives[&name], container, t, deleted_at);
                }
                for end in [&container["lastState"]["terminated"], &container["state"]["terminated"]] {
                    if end["containerID"].is_string() {
                        let run = runs.entry(number(&end["containerID"])).or_default();
                        run.note_end(end, deleted_at.is_some());
                    }
                }
            }
        }
        for (name, runs) in runs {
            let script = scripts.entry(name.clone()).or_default();
            script.runs = runs.into_values().collect();
            self.explain(&name, script);
        }
        scripts
    }

    fn lives(&self) -> BTreeMap<String, ContainerLife> {
        self.pod().spec.all_containers().map(|(_, c)| (c.name.clone(), c.life.clone())).collect()
    }

    /// Adds what only the events tell.
    fn explain(&self, name: &str, script: &mut Script) {
        script.unhealthy = self.messages("Unhealthy", name);
        let killing = self.messages("Killing", name);
        let probe = |word: &str| {
            let text = format!("failed {} probe", word.to_lowercase());
            // A Pod that ends as a whole does not say why.
            let is_told = script.unhealthy.iter().any(|m| m.starts_with(&format!("{word} probe failed")));
            killing.iter().any(|m| m.contains(&text)) || (is_told && word == "Liveness")
        };
        let killer = match (probe("Startup"), probe("Liveness")) {
            (true, _) => Some(ProbeKind::Startup),
            (false, true) => Some(ProbeKind::Liveness),
            (false, false) => None,
        };
        let stopped = killing.iter().any(|m| m.starts_with("Stopping container"));
        let lost_sandbox = !self.messages("SandboxChanged", "").is_empty();
        let hook_failed = !self.messages("FailedPostStartHook", name).is_empty();
        let last = script.runs.len().saturating_sub(1);
        for (index, run) in script.runs.iter_mut().enumerate() {
            if let Some(end) = run.end.as_mut().filter(|end| end.how == How::Itself) {
                end.how = match killer {
                    Some(kind) => How::Probe(kind),
                    None if hook_failed || (stopped && (lost_sandbox || index == last)) => How::Stop,
                    None => How::Itself,
                };
            }
        }
        if !hook_failed {
            script.hook_error = None;
        }
        script.pre_stop_fails = !self.messages("FailedPreStopHook", name).is_empty();
    }
}

impl Script {
    fn note_failure(&mut self, container: &Value) {
        let waiting = &container["state"]["waiting"];
        let reason = waiting["reason"].as_str().unwrap_or_default();
        let is_news = std::mem::replace(&mut self.last_reason, reason.to_owned()) != reason;
        let Some(message) = waiting["message"].as_str() else { return };
        if reason == "PostStartHookError" {
            self.hook_error = Some(message.to_owned());
        } else if !NO_FAILURE.contains(&reason) {
            self.tries += usize::from(is_news);
            let failure = (reason.to_owned(), message.to_owned());
            if self.failures.back() != Some(&failure) {
                self.failures.push_back(failure);
            }
        }
    }
}

impl Run {
    fn note_end(&mut self, end: &Value, deleting: bool) {
        let seconds = second(&end["finishedAt"]) - second(&end["startedAt"]);
        self.seconds = seconds.clamp(0, 100).unsigned_abs();
        self.end.get_or_insert(End {
            code: i32::try_from(end["exitCode"].as_i64().expect("a code")).expect("a small code"),
            reason: end["reason"].as_str().expect("a reason").to_owned(),
            message: end["message"].as_str().unwrap_or_default().to_owned(),
            how: if deleting { How::Stop } else { How::Itself },
        });
    }

    fn note_verdicts(
        &mut self,
        follow: &mut Follow,
        life: &ContainerLife,
        container: &Value,
        t: f64,
        deleted_at: Option<f64>,
    ) {
        let mut note = |kind, healthy| match deleted_at {
            Some(at) => self.last_verdicts.push((Duration::from_secs_f64(t - at), kind, healthy)),
            None => self.verdicts.push((Duration::from_secs_f64(t - follow.first_seen), kind, healthy)),
        };
        let is = |key: &str| container[key].as_bool().unwrap_or(false);
        if life.startup.is_some() && is("started") && !follow.startup {
            follow.startup = true;
            note(ProbeKind::Startup, true);
        }
        if life.readiness.is_some() && is("started") && is("ready") != follow.readiness {
            follow.readiness = is("ready");
            note(ProbeKind::Readiness, follow.readiness);
        }
    }
}
