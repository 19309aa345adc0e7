//! The conditions of a Pod, in the kubelet's order and words (`pkg/kubelet/status/generate.go`).

use podrun_spec::model::ContainerKind;
use podrun_spec::status::{Condition, Phase};

use crate::facts::PodFacts;
use crate::phase::Seen;

/// Conditions that nobody else may set: a kubelet writes them itself.
const OWN: [&str; 9] = [
    "AllContainersRestarting",
    "ContainersReady",
    "DisruptionTarget",
    "Initialized",
    "PodReadyToStartContainers",
    "PodResizeInProgress",
    "PodResizePending",
    "PodScheduled",
    "Ready",
];

/// What the conditions speak about.
pub(crate) struct Facts<'a> {
    pub(crate) pod: &'a PodFacts,
    /// The generation that they speak about.
    pub(crate) generation: i64,
    /// The phase that the containers amount to; the published one may lag behind.
    pub(crate) phase: Phase,
    /// The sandbox stands, with its network.
    pub(crate) sandbox_ready: bool,
    /// Initialized is True, which it stays.
    pub(crate) was_initialized: bool,
    /// All containers are to be started anew.
    pub(crate) is_restarting_all: bool,
    /// Conditions that others keep.
    pub(crate) foreign: &'a [Condition],
    /// All containers, in spec order.
    pub(crate) seen: &'a [Seen<'a>],
}

/// What a condition says.
struct Finding {
    status: bool,
    reason: Option<&'static str>,
    message: Option<String>,
}

impl Finding {
    const fn plain(status: bool) -> Self {
        Self { status, reason: None, message: None }
    }

    const fn because(status: bool, reason: &'static str) -> Self {
        Self { status, reason: Some(reason), message: None }
    }

    fn unmet(reason: &'static str, message: String) -> Self {
        Self { status: false, reason: Some(reason), message: Some(message) }
    }

    /// Returns the condition, as yet without its time.
    fn into_condition(self, kind: &str, generation: Option<i64>) -> Condition {
        Condition {
            kind: kind.to_owned(),
            status: self.status,
            reason: self.reason.map(str::to_owned),
            message: self.message,
            last_transition_time: None,
            observed_generation: generation,
        }
    }
}

/// Returns whether a condition is podrun's own.
pub(crate) fn is_own(kind: &str) -> bool {
    OWN.contains(&kind)
}

pub(crate) fn is_true(conditions: &[Condition], kind: &str) -> bool {
    conditions.iter().any(|c| c.kind == kind && c.status)
}

/// Returns the conditions of a Pod that has not been accepted.
pub(crate) fn unscheduled(pod: &PodFacts, message: Option<&str>) -> Vec<Condition> {
    let unmet = message.map(|message| Finding::unmet("Unschedulable", message.to_owned()));
    unmet.into_iter().map(|finding| finding.into_condition("PodScheduled", Some(pod.generation))).collect()
}

/// Returns the conditions, as yet without times.
pub(crate) fn conditions(facts: &Facts<'_>) -> Vec<Condition> {
    let mut findings = vec![
        ("PodReadyToStartContainers", Finding::plain(facts.sandbox_ready)),
        ("Initialized", initialized(facts)),
        ("Ready", ready(facts)),
        ("ContainersReady", containers_ready(facts)),
        ("PodScheduled", Finding::plain(true)),
    ];
    if facts.pod.may_restart_all() {
        findings.push(("AllContainersRestarting", restarting_all(facts)));
    }
    let into_condition = |(kind, finding): (&str, Finding)| {
        // The kubelet forgets the generation of this one.
        let generation = (kind != "AllContainersRestarting").then_some(facts.generation);
        finding.into_condition(kind, generation)
    };
    findings.into_iter().map(into_condition).collect()
}

fn initialized(facts: &Facts<'_>) -> Finding {
    if facts.phase == Phase::Succeeded {
        return Finding::because(true, "PodCompleted");
    }
    if facts.was_initialized
        || facts.seen.iter().any(|seen| seen.kind == ContainerKind::Regular && seen.has_begun())
    {
        return Finding::plain(true);
    }
    let is_incomplete = |seen: &Seen<'_>| match seen.kind {
        ContainerKind::Init => !seen.status.ready,
        ContainerKind::Sidecar => !seen.status.started,
        ContainerKind::Regular => false,
    };
    match names(facts.seen, is_incomplete) {
        None => Finding::plain(true),
        Some(names) => {
            Finding::unmet("ContainersNotInitialized", format!("containers with incomplete status: {names}"))
        }
    }
}

fn containers_ready(facts: &Facts<'_>) -> Finding {
    match facts.phase {
        Phase::Succeeded => return Finding::because(false, "PodCompleted"),
        Phase::Failed => return Finding::because(false, "PodFailed"),
        _ => {}
    }
    match names(facts.seen, |seen| seen.kind != ContainerKind::Init && !seen.status.ready) {
        None => Finding::plain(true),
        Some(names) => {
            Finding::unmet("ContainersNotReady", format!("containers with unready status: {names}"))
        }
    }
}

fn ready(facts: &Facts<'_>) -> Finding {
    let containers = containers_ready(facts);
    if !containers.status {
        return containers;
    }
    let unmet = |gate: &String| match facts.foreign.iter().find(|c| c.kind == *gate) {
        None => Some(format!("corresponding condition of pod readiness gate \"{gate}\" does not exist.")),
        Some(c) if !c.status => {
            Some(format!("the status of pod readiness gate \"{gate}\" is not \"True\", but False"))
        }
        Some(_) => None,
    };
    let unmet: Vec<_> = facts.pod.readiness_gates.iter().filter_map(unmet).collect();
    if unmet.is_empty() {
        return Finding::plain(true);
    }
    Finding::unmet("ReadinessGatesNotReady", unmet.join(", "))
}

fn restarting_all(facts: &Facts<'_>) -> Finding {
    match facts.phase {
        Phase::Succeeded => Finding::because(false, "PodCompleted"),
        Phase::Failed => Finding::because(false, "PodFailed"),
        _ if facts.is_restarting_all => Finding {
            status: true,
            reason: Some("RestartAllContainersStarted"),
            message: Some("container exited with restart policy rule".to_owned()),
        },
        _ => Finding::plain(false),
    }
}

/// Returns the names of some containers as Go prints a list: `[a b]`; none where there are none.
fn names(seen: &[Seen<'_>], is_meant: impl Fn(&Seen<'_>) -> bool) -> Option<String> {
    let names: Vec<_> = seen.iter().filter(|s| is_meant(s)).map(|s| s.status.name.as_str()).collect();
    (!names.is_empty()).then(|| format!("[{}]", names.join(" ")))
}
