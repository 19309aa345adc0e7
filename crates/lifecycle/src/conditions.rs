//! The conditions of a Pod, in the kubelet's order and words (`pkg/kubelet/status/generate.go`).

use podrun_spec::status::{Condition, ContainerStatus, Phase};
use podrun_spec::time::Timestamp;

/// What the conditions speak about.
pub(crate) struct Facts<'a> {
    /// The phase that the containers amount to; the published one may lag behind.
    pub(crate) phase: Phase,
    /// The sandbox stands, with its network.
    pub(crate) sandbox_ready: bool,
    /// A regular container has ever been started.
    pub(crate) any_regular_ran: bool,
    /// In spec order.
    pub(crate) init: &'a [ContainerStatus],
    /// In spec order.
    pub(crate) regular: &'a [ContainerStatus],
    pub(crate) generation: i64,
}

/// A condition without its time.
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
}

/// Returns the conditions; `before` keeps the time of those whose status is the same.
pub(crate) fn conditions(facts: &Facts<'_>, before: &[Condition], now: Timestamp) -> Vec<Condition> {
    let ready = containers_ready(facts);
    // With readiness gates, Ready will also ask them.
    let findings = [
        ("PodReadyToStartContainers", Finding::plain(facts.sandbox_ready)),
        ("Initialized", initialized(facts)),
        ("Ready", Finding { message: ready.message.clone(), ..ready }),
        ("ContainersReady", ready),
        ("PodScheduled", Finding::plain(true)),
    ];
    let stamp = |(kind, finding): (&str, Finding)| {
        let same = before.iter().find(|c| c.kind == kind && c.status == finding.status);
        Condition {
            kind: kind.to_owned(),
            status: finding.status,
            reason: finding.reason.map(str::to_owned),
            message: finding.message,
            last_transition_time: same.map_or(Some(now), |c| c.last_transition_time),
            observed_generation: Some(facts.generation),
        }
    };
    findings.into_iter().map(stamp).collect()
}

fn initialized(facts: &Facts<'_>) -> Finding {
    if facts.phase == Phase::Succeeded {
        return Finding::because(true, "PodCompleted");
    }
    if facts.any_regular_ran {
        return Finding::plain(true);
    }
    match names(facts.init) {
        None => Finding::plain(true),
        Some(names) => Finding {
            status: false,
            reason: Some("ContainersNotInitialized"),
            message: Some(format!("containers with incomplete status: {names}")),
        },
    }
}

fn containers_ready(facts: &Facts<'_>) -> Finding {
    match facts.phase {
        Phase::Succeeded => return Finding::because(false, "PodCompleted"),
        Phase::Failed => return Finding::because(false, "PodFailed"),
        _ => {}
    }
    match names(facts.regular) {
        None => Finding::plain(true),
        Some(names) => Finding {
            status: false,
            reason: Some("ContainersNotReady"),
            message: Some(format!("containers with unready status: {names}")),
        },
    }
}

/// Returns the names of those that are not ready as Go prints a list: `[a b]`; none where all are.
fn names(statuses: &[ContainerStatus]) -> Option<String> {
    let unready: Vec<_> = statuses.iter().filter(|s| !s.ready).map(|s| s.name.as_str()).collect();
    (!unready.is_empty()).then(|| format!("[{}]", unready.join(" ")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use podrun_spec::status::ContainerState;

    fn status(name: &str, ready: bool) -> ContainerStatus {
        ContainerStatus {
            name: name.to_owned(),
            state: ContainerState::Waiting { reason: "ContainerCreating".to_owned(), message: None },
            ready,
            ..ContainerStatus::default()
        }
    }

    fn facts<'a>(phase: Phase, init: &'a [ContainerStatus], regular: &'a [ContainerStatus]) -> Facts<'a> {
        Facts { phase, sandbox_ready: true, any_regular_ran: false, init, regular, generation: 1 }
    }

    fn shown(condition: &Condition) -> String {
        let word = |w: &Option<String>| w.clone().unwrap_or_default();
        format!(
            "{}={} {} {}",
            condition.kind,
            condition.status,
            word(&condition.reason),
            word(&condition.message)
        )
        .trim_end()
        .to_owned()
    }

    #[test]
    fn conditions_have_the_order_and_words_of_the_kubelet() {
        let init = [status("i1", true), status("i2", false), status("i3", false)];
        let regular = [status("b", false), status("a", false)];
        let found = conditions(&facts(Phase::Pending, &init, &regular), &[], Timestamp(0));
        assert_eq!(
            found.iter().map(shown).collect::<Vec<_>>(),
            [
                "PodReadyToStartContainers=true",
                "Initialized=false ContainersNotInitialized containers with incomplete status: [i2 i3]",
                "Ready=false ContainersNotReady containers with unready status: [b a]",
                "ContainersReady=false ContainersNotReady containers with unready status: [b a]",
                "PodScheduled=true",
            ]
        );
        assert!(found.iter().all(|c| c.observed_generation == Some(1)));
    }

    #[test]
    fn ended_pods_say_so() {
        let regular = [status("a", false)];
        for (phase, initialized, ready) in [
            (Phase::Succeeded, "Initialized=true PodCompleted", "Ready=false PodCompleted"),
            (Phase::Failed, "Initialized=true", "Ready=false PodFailed"),
        ] {
            let found = conditions(&facts(phase, &[], &regular), &[], Timestamp(0));
            assert_eq!(shown(&found[1]), initialized);
            assert_eq!(shown(&found[2]), ready);
        }
    }

    #[test]
    fn a_regular_container_that_ran_proves_initialization() {
        let (init, regular) = ([status("i", false)], [status("a", true)]);
        let mut facts = facts(Phase::Running, &init, &regular);
        facts.any_regular_ran = true;
        assert_eq!(shown(&conditions(&facts, &[], Timestamp(0))[1]), "Initialized=true");
    }

    #[test]
    fn the_transition_time_moves_only_with_the_status() {
        let (waiting, ready) = ([status("a", false)], [status("a", true)]);
        let mut found = conditions(&facts(Phase::Pending, &[], &waiting), &[], Timestamp(1));
        found = conditions(&facts(Phase::Failed, &[], &waiting), &found, Timestamp(2));
        assert_eq!(found[2].reason.as_deref(), Some("PodFailed"));
        assert_eq!(found[2].last_transition_time, Some(Timestamp(1)));
        found = conditions(&facts(Phase::Running, &[], &ready), &found, Timestamp(3));
        assert_eq!(found[2].last_transition_time, Some(Timestamp(3)));
        assert_eq!(found[4].last_transition_time, Some(Timestamp(1)));
    }
}
