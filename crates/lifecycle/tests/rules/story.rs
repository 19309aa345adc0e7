//! Short lives of Pods and what is asked of them.

use std::cell::RefCell;
use std::collections::HashMap;
use std::time::Duration;

use podrun_lifecycle::simulate::{Options, Script, Timeline, simulate};
use podrun_lifecycle::{Action, Input, LineKind};
use podrun_spec::model::Pod;
use podrun_spec::status::{ContainerState, ContainerStatus, PodStatus};
use podrun_spec::time::Timestamp;

/// Returns the Pod with this spec, in YAML's flow style without the outer braces.
pub(crate) fn pod(spec: &str) -> Pod {
    thread_local! {
        // Reading takes longer than most of these lives.
        static READ: RefCell<HashMap<String, Pod>> = RefCell::default();
    }
    let read = || {
        let text = format!("{{apiVersion: v1, kind: Pod, metadata: {{name: p}}, spec: {{{spec}}}}}");
        let mut pod = podrun_spec::parse("p.yaml", &text).expect(spec).pods.remove(0).pod;
        "UID".clone_into(&mut pod.meta.uid);
        pod
    };
    READ.with_borrow_mut(|pods| pods.entry(spec.to_owned()).or_insert_with(read).clone())
}

/// Nothing takes time by itself, except init containers, which work for a second.
pub(crate) const AT_ONCE: Options = Options {
    begin: Timestamp(0),
    setup: Duration::ZERO,
    image: Duration::ZERO,
    start: Duration::ZERO,
    init: Duration::from_secs(1),
    exit: Duration::ZERO,
    after: Duration::from_secs(600),
};

/// The life of a Pod.
pub(crate) struct Story {
    timeline: Timeline,
}

/// Lets a Pod live; facts are apart by white space, and each begins with its time.
pub(crate) fn story(spec: &str, script: &str) -> Story {
    life(&pod(spec), script)
}

pub(crate) fn life(pod: &Pod, script: &str) -> Story {
    let facts = facts(script).into_iter().map(|fact| fact.parse().expect(fact)).collect();
    Story { timeline: simulate(pod, &Script::new(facts), &AT_ONCE).expect(script) }
}

/// Splits a script where a blank is followed by a time.
fn facts(script: &str) -> Vec<&str> {
    let is_time = |word: &str| {
        let time = word.split(' ').next().and_then(|w| w.split_once(':')).map_or("", |(time, _)| time);
        time.starts_with(|c: char| c.is_ascii_digit()) && time.ends_with('s')
    };
    let places = script.match_indices(' ').map(|(i, _)| i);
    let mut begins: Vec<_> = places.filter(|&i| is_time(&script[i + 1..])).map(|i| i + 1).collect();
    begins.insert(0, 0);
    begins.push(script.len() + 1);
    begins.windows(2).map(|two| &script[two[0]..two[1] - 1]).filter(|fact| !fact.is_empty()).collect()
}

impl Story {
    /// Returns the actions for which `tell` has something to say, each behind its second.
    fn told(&self, tell: impl Fn(&Action) -> Option<String>) -> Vec<String> {
        let moments = self.timeline.moments.iter();
        moments
            .flat_map(|m| m.actions.iter().filter_map(&tell).map(|text| format!("{} {text}", seconds(m.at))))
            .collect()
    }

    /// Returns what was started when: `3 web#1`.
    pub(crate) fn starts(&self) -> Vec<String> {
        self.told(|action| match action {
            Action::Start { container, attempt } => Some(format!("{container}#{attempt}")),
            _ => None,
        })
    }

    /// Returns what was done to stop containers: `3 hook web`, `4 term web`, `6 kill web`.
    pub(crate) fn stops(&self) -> Vec<String> {
        self.told(|action| match action {
            Action::RunHook { container, hook: podrun_spec::model::HookKind::PreStop, .. } => {
                Some(format!("hook {container}"))
            }
            Action::SendStopSignal { container, .. } => Some(format!("term {container}")),
            Action::Kill { container, .. } => Some(format!("kill {container}")),
            Action::StopSandbox => Some("sandbox".to_owned()),
            _ => None,
        })
    }

    /// Returns the events with these reasons: `3 Killing: Stopping container web`.
    pub(crate) fn events(&self, reasons: &[&str]) -> Vec<String> {
        self.told(|action| match action {
            Action::Emit(e) if reasons.contains(&e.reason.as_str()) => {
                Some(format!("{}: {}", e.reason, e.message))
            }
            _ => None,
        })
    }

    /// Returns how a container's status went: `3 Running ready`.
    pub(crate) fn states(&self, container: &str) -> Vec<String> {
        let mut states: Vec<(u64, String)> = Vec::new();
        for moment in &self.timeline.moments {
            let Some(status) = find(&moment.status, container) else { continue };
            let text = shown(status);
            if states.last().is_none_or(|(_, last)| *last != text) {
                states.push((moment.at.as_secs(), text));
            }
        }
        states.into_iter().map(|(at, text)| format!("{at} {text}")).collect()
    }

    /// Returns how a condition went: `3 False ContainersNotReady`.
    pub(crate) fn condition(&self, kind: &str) -> Vec<String> {
        let mut words: Vec<(u64, String)> = Vec::new();
        for moment in &self.timeline.moments {
            let Some(c) = moment.status.conditions.iter().find(|c| c.kind == kind) else { continue };
            let reason = c.reason.as_deref().map(|r| format!(" {r}")).unwrap_or_default();
            let text = format!("{}{reason}", if c.status { "True" } else { "False" });
            if words.last().is_none_or(|(_, last)| *last != text) {
                words.push((moment.at.as_secs(), text));
            }
        }
        words.into_iter().map(|(at, text)| format!("{at} {text}")).collect()
    }

    /// Returns the phases: `0 Pending`.
    pub(crate) fn phases(&self) -> Vec<String> {
        let mut phases: Vec<(u64, &str)> = Vec::new();
        for moment in &self.timeline.moments {
            let phase = moment.status.phase.as_str();
            if phases.last().is_none_or(|(_, last)| *last != phase) {
                phases.push((moment.at.as_secs(), phase));
            }
        }
        phases.into_iter().map(|(at, phase)| format!("{at} {phase}")).collect()
    }

    /// Returns when a container ended for the last time.
    pub(crate) fn ended(&self, name: &str) -> Option<Duration> {
        let ends = |i: &Input| matches!(i, Input::Exited { container, .. } if container == name);
        self.timeline.moments.iter().rfind(|m| ends(&m.input)).map(|m| m.at)
    }

    /// Returns the status at a time, after all that happened then.
    pub(crate) fn at(&self, seconds: u64) -> &PodStatus {
        let until = Duration::from_secs(seconds);
        let moment = self.timeline.moments.iter().rfind(|m| m.at <= until).expect("a moment");
        &moment.status
    }

    pub(crate) fn status(&self) -> &PodStatus {
        &self.timeline.moments.last().expect("a moment").status
    }

    pub(crate) fn statuses(&self) -> impl Iterator<Item = &PodStatus> {
        self.timeline.moments.iter().map(|m| &m.status)
    }

    /// Returns the whole story as text, for the message of a failed assertion.
    pub(crate) fn text(&self) -> String {
        let lines = self.timeline.lines().into_iter().filter(|line| line.kind != LineKind::Decision);
        lines.map(|line| line.to_string()).collect::<Vec<_>>().join("\n")
    }
}

/// Returns `3` or `3.5`.
fn seconds(at: Duration) -> String {
    format!("{}", at.as_secs_f64())
}

pub(crate) fn find<'a>(status: &'a PodStatus, container: &str) -> Option<&'a ContainerStatus> {
    let all = status.init_container_statuses.iter().chain(&status.container_statuses);
    all.into_iter().find(|c| c.name == container)
}

/// Returns a container's status in a few words: `Running started ready`, `Waiting CrashLoopBackOff`, `Error(3)`.
pub(crate) fn shown(status: &ContainerStatus) -> String {
    let state = match &status.state {
        ContainerState::Waiting { reason, .. } => format!("Waiting {reason}"),
        ContainerState::Running { .. } => "Running".to_owned(),
        ContainerState::Terminated(end) => format!("{}({})", end.reason, end.exit_code),
    };
    let word = |is: bool, word: &'static str| if is { word } else { "" };
    format!("{state}{}{}", word(status.started, " started"), word(status.ready, " ready"))
}
