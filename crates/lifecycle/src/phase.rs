//! The phase of a Pod as a function of its containers' statuses: the kubelet's `getPhase`.

use podrun_spec::model::{ContainerKind, RestartPolicy};
use podrun_spec::status::{ContainerState, ContainerStatus, Phase, Terminated};

use crate::container::is_restarted;

/// What the regular containers are doing.
#[derive(Default)]
struct Counters {
    waiting: usize,
    running: usize,
    stopped: usize,
    /// Of the stopped ones: those that are not started again.
    stopped_final: usize,
    /// Of the stopped ones: those that show exit code 0.
    succeeded: usize,
}

/// Returns the phase that the statuses amount to.
///
/// `no_more_starts` is true once everything has stopped and stays so: then nothing is Running for being restarted soon.
/// A container that waits for its restart is stopped and not succeeded, so a Pod in CrashLoopBackOff is Running; one that
/// never ran makes the Pod Pending, whatever its siblings do.
pub(crate) fn phase(
    policy: RestartPolicy,
    init: &[ContainerStatus],
    regular: &[ContainerStatus],
    no_more_starts: bool,
) -> Phase {
    let mut pending_init = 0_usize;
    for status in init {
        match (&status.state, &status.last_state) {
            (ContainerState::Terminated(end), _) | (ContainerState::Waiting { .. }, Some(end)) => {
                if end.exit_code != 0 && policy == RestartPolicy::Never {
                    return Phase::Failed;
                }
            }
            (ContainerState::Running { .. } | ContainerState::Waiting { .. }, _) => pending_init += 1,
        }
    }

    let mut count = Counters::default();
    let is_final = |end: &Terminated| !is_restarted(policy, ContainerKind::Regular, end);
    for status in regular {
        match (&status.state, &status.last_state) {
            (ContainerState::Running { .. }, _) => count.running += 1,
            (ContainerState::Terminated(end), _) => {
                count.stopped += 1;
                count.stopped_final += usize::from(is_final(end));
                count.succeeded += usize::from(end.exit_code == 0);
            }
            (ContainerState::Waiting { .. }, Some(end)) => {
                count.stopped += 1;
                count.stopped_final += usize::from(is_final(end));
            }
            (ContainerState::Waiting { .. }, None) => count.waiting += 1,
        }
    }

    if pending_init > 0 || count.waiting > 0 {
        Phase::Pending
    } else if count.running > 0 {
        Phase::Running
    } else if count.stopped == 0 {
        Phase::Pending
    } else if !no_more_starts && count.stopped != count.stopped_final {
        Phase::Running
    } else if count.stopped == count.succeeded {
        Phase::Succeeded
    } else {
        Phase::Failed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use RestartPolicy::{Always, Never, OnFailure};

    fn end(exit_code: i32) -> Terminated {
        Terminated {
            exit_code,
            reason: String::new(),
            message: None,
            started_at: None,
            finished_at: None,
            container_id: String::new(),
        }
    }

    /// Reads `w` waiting, `r` running, `0`/`1` ended with that code, `b0`/`b1` waiting after an end with that code.
    fn statuses(text: &str) -> Vec<ContainerStatus> {
        let waiting = || ContainerState::Waiting { reason: "R".to_owned(), message: None };
        let one = |word: &str| {
            let (state, last_state) = match word {
                "w" => (waiting(), None),
                "r" => (
                    ContainerState::Running {
                        started_at: podrun_spec::time::Timestamp::from_unix_seconds(0),
                    },
                    None,
                ),
                "b0" => (waiting(), Some(end(0))),
                "b1" => (waiting(), Some(end(1))),
                code => (ContainerState::Terminated(end(code.parse().expect("a code"))), None),
            };
            ContainerStatus { state, last_state, ..ContainerStatus::default() }
        };
        text.split_whitespace().map(one).collect()
    }

    #[test]
    fn phases_follow_the_counters() {
        let going = [
            // Init containers that have yet to succeed keep the Pod Pending; a final failure fails it.
            (Always, "w", "w", Phase::Pending),
            (Always, "r", "w", Phase::Pending),
            (Always, "1", "w", Phase::Pending),
            (Always, "b1", "w", Phase::Pending),
            (Never, "1", "w", Phase::Failed),
            (Never, "0 1 w", "w", Phase::Failed),
            (OnFailure, "1 w", "w", Phase::Pending),
            (Always, "0", "r", Phase::Running),
            (Always, "r", "r", Phase::Pending),
            (Always, "b0", "r", Phase::Running),
            // One container that never ran is enough for Pending.
            (Always, "", "w", Phase::Pending),
            (Always, "", "r w", Phase::Pending),
            (Always, "", "0 w", Phase::Pending),
            (Always, "", "r r", Phase::Running),
            // Restarts to come.
            (Always, "", "0", Phase::Running),
            (Always, "", "1", Phase::Running),
            (Always, "", "b1", Phase::Running),
            (Always, "", "b0", Phase::Running),
            (OnFailure, "", "1", Phase::Running),
            (OnFailure, "", "0 b1", Phase::Running),
            (OnFailure, "", "0 r", Phase::Running),
            // Everything has ended for good.
            (OnFailure, "", "0 0", Phase::Succeeded),
            (Never, "", "0", Phase::Succeeded),
            (Never, "", "0 1", Phase::Failed),
            (Never, "", "1 r", Phase::Running),
            (Never, "", "b1", Phase::Failed),
        ];
        for (policy, init, regular, expected) in going {
            let found = phase(policy, &statuses(init), &statuses(regular), false);
            assert_eq!(found, expected, "{policy:?} init [{init}] regular [{regular}]");
        }
    }

    #[test]
    fn an_ended_pod_is_never_running_for_a_restart() {
        for (policy, init, regular, expected) in [
            (Always, "", "0", Phase::Succeeded),
            (Always, "", "0 0", Phase::Succeeded),
            (Always, "", "0 1", Phase::Failed),
            (Always, "", "1", Phase::Failed),
            (Always, "", "b0", Phase::Failed),
            (OnFailure, "", "1", Phase::Failed),
            (Always, "", "0 w", Phase::Pending),
            (Always, "1", "w", Phase::Pending),
        ] {
            let found = phase(policy, &statuses(init), &statuses(regular), true);
            assert_eq!(found, expected, "{policy:?} init [{init}] regular [{regular}]");
        }
    }
}
