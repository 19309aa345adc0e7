//! One Pod on one line, in kubectl's words.

use podrun_engine::PodView;
use podrun_spec::status::{ContainerState, ContainerStatus, Phase, Terminated};
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
    let status = &view.published.status;
    let total = view.pod.spec.containers.len();
    let ready = status.container_statuses.iter().filter(|c| c.ready && is_running(c)).count();
    let initialized = status.conditions.iter().any(|c| c.kind == "Initialized" && c.status);
    let initializing = if initialized { None } else { initializing(&status.init_container_statuses) };
    let counted: &[ContainerStatus] =
        if initializing.is_some() { &status.init_container_statuses } else { &status.container_statuses };
    let count: u32 = counted.iter().map(|c| c.restart_count).sum();
    let last = counted.iter().filter_map(|c| c.last_state.as_ref()?.finished_at).max();
    let restarts = match last {
        Some(last) if count > 0 => format!("{count} ({} ago)", age(since(last, now))),
        _ => count.to_string(),
    };
    let mut text = status.reason.clone().unwrap_or_else(|| status.phase.as_str().to_owned());
    if status.phase == Phase::Unknown {
        return Summary { ready, total, status: text, restarts };
    }
    if let Some(initializing) = initializing {
        text = initializing;
    } else {
        for container in status.container_statuses.iter().rev() {
            match &container.state {
                ContainerState::Waiting { reason, .. } if !reason.is_empty() => text.clone_from(reason),
                ContainerState::Terminated(ended) => text = ended_text("", ended),
                _ => {}
            }
        }
        if text == "Completed" && status.container_statuses.iter().any(|c| c.ready && is_running(c)) {
            let is_ready = status.conditions.iter().any(|c| c.kind == "Ready" && c.status);
            if is_ready { "Running" } else { "NotReady" }.clone_into(&mut text);
        }
    }
    if view.published.deletion.is_some() && !status.phase.is_terminal() {
        "Terminating".clone_into(&mut text);
    }
    Summary { ready, total, status: text, restarts }
}

fn is_running(container: &ContainerStatus) -> bool {
    matches!(container.state, ContainerState::Running { .. })
}

/// Returns the state of the first init container that is not done.
fn initializing(containers: &[ContainerStatus]) -> Option<String> {
    let total = containers.len();
    let (index, container) = containers
        .iter()
        .enumerate()
        .find(|(_, c)| !matches!(&c.state, ContainerState::Terminated(ended) if ended.exit_code == 0))?;
    Some(match &container.state {
        ContainerState::Terminated(ended) => ended_text("Init:", ended),
        ContainerState::Waiting { reason, .. } if !reason.is_empty() && reason != "PodInitializing" => {
            format!("Init:{reason}")
        }
        _ => format!("Init:{index}/{total}"),
    })
}

fn ended_text(prefix: &str, ended: &Terminated) -> String {
    if ended.reason.is_empty() {
        format!("{prefix}ExitCode:{}", ended.exit_code)
    } else {
        format!("{prefix}{}", ended.reason)
    }
}
