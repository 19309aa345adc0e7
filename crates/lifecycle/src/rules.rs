//! What follows from the end of a container: restart policies and restart rules.

use podrun_spec::model::{ContainerKind, ContainerRestart, RestartAction, RestartPolicy};
use podrun_spec::status::Terminated;

use crate::container::init_failed;
use crate::facts::{ContainerFacts, PodFacts};

/// What follows from the end of a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// Nothing: it stays as it is.
    Nothing,
    /// It is started again.
    Restart,
    /// All containers of the Pod are started anew.
    RestartAll,
}

/// Returns what follows from an end of a container.
///
/// The container's own rules come first, then its own policy, then the Pod's. A sidecar comes back whatever happened; an
/// init container that did its job does not.
pub(crate) fn next(pod: &PodFacts, container: &ContainerFacts, end: &Terminated) -> Next {
    let restart = &container.life.restart;
    let rule = matching(restart, end.exit_code);
    if rule == Some(RestartAction::RestartAllContainers) {
        return Next::RestartAll;
    }
    let again = match container.kind {
        ContainerKind::Sidecar => true,
        ContainerKind::Init if !init_failed(end) => false,
        ContainerKind::Init | ContainerKind::Regular if rule.is_some() => true,
        ContainerKind::Init if restart.policy.is_none() => pod.restart_policy != RestartPolicy::Never,
        ContainerKind::Init | ContainerKind::Regular => match restart.policy.unwrap_or(pod.restart_policy) {
            RestartPolicy::Always => true,
            RestartPolicy::OnFailure => end.exit_code != 0,
            RestartPolicy::Never => false,
        },
    };
    if again { Next::Restart } else { Next::Nothing }
}

/// Returns whether a container that ended like this runs again.
pub(crate) fn is_restarted(pod: &PodFacts, container: &ContainerFacts, end: &Terminated) -> bool {
    next(pod, container, end) != Next::Nothing
}

/// Returns whether a container that a probe has killed runs again, whatever its exit code.
pub(crate) fn is_restarted_after_probe(pod: &PodFacts, container: &ContainerFacts) -> bool {
    container.kind == ContainerKind::Sidecar
        || container.life.restart.policy.unwrap_or(pod.restart_policy) != RestartPolicy::Never
}

/// Returns the action of the first rule that speaks about the exit code. Rules without a policy of the container's own do
/// not count.
fn matching(restart: &ContainerRestart, exit_code: i32) -> Option<RestartAction> {
    restart.policy?;
    let rule = restart.rules.iter().find(|rule| rule.exit_codes.contains(&exit_code) == rule.is_in);
    rule.map(|rule| rule.action)
}
