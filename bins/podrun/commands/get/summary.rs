//! One Pod on one line, in kubectl's words (`printPod` in `pkg/printers/internalversion/printers.go`).

use podrun_engine::PodView;
use podrun_spec::model::{ContainerKind, PodSpec};
use podrun_spec::status::{ContainerState, ContainerStatus, Phase, PodStatus, Terminated};
use podrun_spec::time::Timestamp;

use crate::output::{age, since};

/// The columns READY, STATUS and RESTARTS.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Summary {
    pub(crate) ready: usize,
    pub(crate) total: usize,
    pub(crate) status: String,
    pub(crate) restarts: String,
}

/// Returns how kubectl's printer would describe the Pod.
pub(crate) fn summary(view: &PodView, now: Timestamp) -> Summary {
    summarize(&view.pod.spec, &view.published.status, view.published.deletion.is_some(), now)
}

fn summarize(spec: &PodSpec, status: &PodStatus, is_deleting: bool, now: Timestamp) -> Summary {
    let is_sidecar =
        |c: &ContainerStatus| matches!(spec.container(&c.name), Some((ContainerKind::Sidecar, _)));
    let init = &status.init_container_statuses;
    let sidecars = || init.iter().filter(|c| is_sidecar(c));
    // Those behind the init container that holds the Pod up have not begun.
    let holding = init.iter().position(|c| !is_past(c, is_sidecar(c)));
    let begun = &init[..holding.unwrap_or(init.len())];
    let is_initialized = status.conditions.iter().any(|c| c.kind == "Initialized" && c.status);
    let is_initializing = holding.is_some() && !is_initialized;

    let total = spec.all_containers().filter(|(kind, _)| *kind != ContainerKind::Init).count();
    let mut ready = begun.iter().filter(|c| is_sidecar(c) && c.ready).count();
    let mut counted: Vec<&ContainerStatus> =
        if is_initializing { init[..=holding.unwrap_or(0)].iter().collect() } else { sidecars().collect() };
    let mut text = status.reason.clone().unwrap_or_else(|| status.phase.as_str().to_owned());
    if let Some(index) = holding {
        text = initializing(&init[index], index, init.len());
    }
    if !is_initializing {
        let regular = &status.container_statuses;
        let serving = regular.iter().filter(|c| c.ready && is_running(c)).count();
        ready += serving;
        counted.extend(regular);
        for container in regular.iter().rev() {
            match &container.state {
                ContainerState::Waiting { reason, .. } if !reason.is_empty() => text.clone_from(reason),
                ContainerState::Terminated(ended) => text = ended_text("", ended),
                _ => {}
            }
        }
        if text == "Completed" && serving > 0 {
            let is_ready = status.conditions.iter().any(|c| c.kind == "Ready" && c.status);
            if is_ready { "Running" } else { "NotReady" }.clone_into(&mut text);
        }
    }
    if status.phase == Phase::Unknown {
        Phase::Unknown.as_str().clone_into(&mut text);
    } else if is_deleting && !status.phase.is_terminal() {
        "Terminating".clone_into(&mut text);
    }
    Summary { ready, total, status: text, restarts: restarts(&counted, now) }
}

/// Returns the number of restarts, with the time since the last one.
fn restarts(counted: &[&ContainerStatus], now: Timestamp) -> String {
    let count: u32 = counted.iter().map(|c| c.restart_count).sum();
    match counted.iter().filter_map(|c| c.last_state.as_ref()?.finished_at).max() {
        Some(last) if count > 0 => format!("{count} ({} ago)", age(since(last, now))),
        _ => count.to_string(),
    }
}

fn is_running(container: &ContainerStatus) -> bool {
    matches!(container.state, ContainerState::Running { .. })
}

/// Returns whether an init container lets those behind it begin.
fn is_past(container: &ContainerStatus, is_sidecar: bool) -> bool {
    matches!(&container.state, ContainerState::Terminated(ended) if ended.exit_code == 0)
        || (is_sidecar && container.started)
}

/// Returns the state of the init container that holds the Pod up.
fn initializing(container: &ContainerStatus, index: usize, total: usize) -> String {
    match &container.state {
        ContainerState::Terminated(ended) => ended_text("Init:", ended),
        ContainerState::Waiting { reason, .. } if !reason.is_empty() && reason != "PodInitializing" => {
            format!("Init:{reason}")
        }
        _ => format!("Init:{index}/{total}"),
    }
}

fn ended_text(prefix: &str, ended: &Terminated) -> String {
    if ended.reason.is_empty() {
        format!("{prefix}ExitCode:{}", ended.exit_code)
    } else {
        format!("{prefix}{}", ended.reason)
    }
}

#[cfg(test)]
mod tests {
    use podrun_spec::status::Condition;

    use super::*;

    const NOW: Timestamp = Timestamp(100_000_000_000);

    fn ended(exit_code: i32, reason: &str) -> Terminated {
        Terminated {
            exit_code,
            reason: reason.to_owned(),
            message: None,
            started_at: None,
            finished_at: Some(Timestamp(70_000_000_000)),
            container_id: String::new(),
        }
    }

    /// Reads `name:state`, where the state is `run`, `ready`, `ok`, `err`, `loop` or a waiting reason.
    fn container(text: &str) -> ContainerStatus {
        let (name, state) = text.split_once(':').expect("name:state");
        let waiting = |reason: &str| ContainerState::Waiting { reason: reason.to_owned(), message: None };
        let mut status = ContainerStatus { name: name.to_owned(), ..ContainerStatus::default() };
        status.state = match state {
            "run" | "ready" => ContainerState::Running { started_at: Timestamp(0) },
            "ok" => ContainerState::Terminated(ended(0, "Completed")),
            "err" => ContainerState::Terminated(ended(1, "Error")),
            "loop" => waiting("CrashLoopBackOff"),
            reason => waiting(reason),
        };
        status.started = matches!(state, "run" | "ready");
        status.ready = state == "ready";
        if state == "loop" {
            status.restart_count = 2;
            status.last_state = Some(ended(1, "Error"));
        }
        status
    }

    /// The Pod has an init container `i`, a sidecar `s` and the regular containers `a` and `b`.
    fn row(phase: Phase, init: &str, regular: &str, conditions: &[&str], is_deleting: bool) -> String {
        const TEXT: &str = "{apiVersion: v1, kind: Pod, metadata: {name: p}, spec: {
            initContainers: [{name: i, image: x}, {name: s, image: x, restartPolicy: Always}],
            containers: [{name: a, image: x}, {name: b, image: x}]}}";
        let spec = podrun_spec::parse("p.yaml", TEXT).expect("valid").pods.remove(0).pod.spec;
        let list = |text: &str| text.split_whitespace().map(container).collect();
        let condition = |kind: &&str| Condition {
            kind: (*kind).to_owned(),
            status: true,
            reason: None,
            message: None,
            last_transition_time: None,
            observed_generation: None,
        };
        let status = PodStatus {
            phase,
            conditions: conditions.iter().map(condition).collect(),
            init_container_statuses: list(init),
            container_statuses: list(regular),
            ..PodStatus::default()
        };
        let Summary { ready, total, status, restarts } = summarize(&spec, &status, is_deleting, NOW);
        format!("{ready}/{total} {status} {restarts}")
    }

    #[test]
    fn rows_are_those_of_kubectl() {
        use Phase::{Failed, Pending, Running, Succeeded, Unknown};
        let both: &[&str] = &["Initialized", "Ready"];
        let only: &[&str] = &["Initialized"];
        let wait = "a:PodInitializing b:PodInitializing";
        for (phase, init, regular, conditions, is_deleting, expected) in [
            (Pending, "i:run s:PodInitializing", wait, &[][..], false, "0/3 Init:0/2 0"),
            (Pending, "i:err s:PodInitializing", wait, &[], false, "0/3 Init:Error 0"),
            (Pending, "i:loop s:PodInitializing", wait, &[], false, "0/3 Init:CrashLoopBackOff 2 (30s ago)"),
            (Pending, "i:ok s:PodInitializing", wait, &[], false, "0/3 Init:1/2 0"),
            // A sidecar counts from its start on.
            (Pending, "i:ok s:ready", "a:ErrImagePull b:ready", only, false, "2/3 ErrImagePull 0"),
            (Running, "i:ok s:ready", "a:ready b:ready", both, false, "3/3 Running 0"),
            (Running, "i:ok s:run", "a:ready b:run", only, false, "1/3 Running 0"),
            (Running, "i:ok s:ready", "a:loop b:ready", only, false, "2/3 CrashLoopBackOff 2 (30s ago)"),
            (Running, "i:ok s:ready", "a:ok b:ready", only, false, "2/3 NotReady 0"),
            (Running, "i:ok s:ready", "a:ok b:ready", both, false, "2/3 Running 0"),
            (Running, "i:ok s:ready", "a:ready b:ready", both, true, "3/3 Terminating 0"),
            (Succeeded, "i:ok s:ok", "a:ok b:ok", only, true, "0/3 Completed 0"),
            (Failed, "i:ok s:ok", "a:err b:ok", only, false, "0/3 Error 0"),
            (Unknown, "i:ok s:ready", "a:ready b:ready", both, false, "3/3 Unknown 0"),
        ] {
            assert_eq!(row(phase, init, regular, conditions, is_deleting), expected, "{init} {regular}");
        }
    }
}
