//! The phase of a Pod as a function of its containers' statuses: the kubelet's `getPhase`.

use podrun_spec::model::ContainerKind;
use podrun_spec::status::{ContainerState, ContainerStatus, Phase};

/// A container as the phase and the conditions see it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seen<'a> {
    pub(crate) kind: ContainerKind,
    pub(crate) status: &'a ContainerStatus,
    /// It is started again after the end that the status shows.
    pub(crate) comes_back: bool,
}

impl Seen<'_> {
    /// Returns whether it runs or has run, and does not wait for another run.
    pub(crate) const fn has_begun(&self) -> bool {
        !matches!(self.status.state, ContainerState::Waiting { .. })
    }
}

/// What the containers are doing.
#[derive(Default)]
struct Counters {
    pending_init: usize,
    pending_sidecars: usize,
    waiting: usize,
    /// Regular ones and sidecars.
    running: usize,
    /// Regular ones only, like those below.
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
/// never ran makes the Pod Pending, whatever its siblings do. How a sidecar ended does not matter.
pub(crate) fn phase(containers: &[Seen<'_>], no_more_starts: bool) -> Phase {
    let mut count = Counters::default();
    for seen in containers {
        match seen.kind {
            ContainerKind::Init => {
                let end = match (&seen.status.state, &seen.status.last_state) {
                    (ContainerState::Terminated(end), _) => Some(end),
                    (ContainerState::Waiting { .. }, last) => last.as_ref(),
                    (ContainerState::Running { .. }, _) => None,
                };
                match end {
                    Some(end) if end.exit_code != 0 && !seen.comes_back => return Phase::Failed,
                    Some(_) => {}
                    None => count.pending_init += 1,
                }
            }
            ContainerKind::Sidecar => match (&seen.status.state, &seen.status.last_state) {
                (ContainerState::Running { .. }, _) => {
                    count.running += 1;
                    count.pending_sidecars += usize::from(!seen.status.started);
                }
                (ContainerState::Waiting { .. }, None) => {
                    count.pending_sidecars += 1;
                    count.waiting += 1;
                }
                (ContainerState::Waiting { .. } | ContainerState::Terminated(_), _) => {}
            },
            ContainerKind::Regular => match (&seen.status.state, &seen.status.last_state) {
                (ContainerState::Running { .. }, _) => count.running += 1,
                (ContainerState::Terminated(end), _) => {
                    count.stopped += 1;
                    count.stopped_final += usize::from(!seen.comes_back);
                    count.succeeded += usize::from(end.exit_code == 0);
                }
                (ContainerState::Waiting { .. }, Some(_)) => {
                    count.stopped += 1;
                    count.stopped_final += usize::from(!seen.comes_back);
                }
                (ContainerState::Waiting { .. }, None) => count.waiting += 1,
            },
        }
    }
    let mut regular = containers.iter().filter(|seen| seen.kind == ContainerKind::Regular);
    let held_by_sidecar = count.pending_sidecars > 0 && !regular.any(Seen::has_begun);

    if count.pending_init > 0 || held_by_sidecar || count.waiting > 0 {
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
    use podrun_spec::model::RestartPolicy;
    use podrun_spec::status::Terminated;
    use podrun_spec::time::Timestamp;

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

    /// Reads `w` waiting, `r` running, `u` running but not come up, `0`/`1` ended with that code, `b0`/`b1` waiting after
    /// an end with that code; a leading `s` makes a sidecar of an init container.
    fn read(
        policy: RestartPolicy,
        kind: ContainerKind,
        text: &str,
    ) -> Vec<(ContainerKind, ContainerStatus, bool)> {
        let waiting = || ContainerState::Waiting { reason: "R".to_owned(), message: None };
        let running = || ContainerState::Running { started_at: Timestamp::from_unix_seconds(0) };
        let comes_back = |kind, code| match kind {
            ContainerKind::Sidecar => true,
            ContainerKind::Init => code != 0 && policy != Never,
            ContainerKind::Regular => policy == Always || policy == OnFailure && code != 0,
        };
        let one = |word: &str| {
            let (kind, word) = word.strip_prefix('s').map_or((kind, word), |w| (ContainerKind::Sidecar, w));
            let (state, last_state, started) = match word {
                "w" => (waiting(), None, false),
                "r" => (running(), None, true),
                "u" => (running(), None, false),
                "b0" => (waiting(), Some(end(0)), false),
                "b1" => (waiting(), Some(end(1)), false),
                code => (ContainerState::Terminated(end(code.parse().expect("a code"))), None, false),
            };
            let code = match (&state, &last_state) {
                (ContainerState::Terminated(end), _) | (_, Some(end)) => Some(end.exit_code),
                _ => None,
            };
            let comes_back = code.is_some_and(|code| comes_back(kind, code));
            (kind, ContainerStatus { state, last_state, started, ..ContainerStatus::default() }, comes_back)
        };
        text.split_whitespace().map(one).collect()
    }

    fn phase_of(policy: RestartPolicy, init: &str, regular: &str, no_more_starts: bool) -> Phase {
        let mut all = read(policy, ContainerKind::Init, init);
        all.extend(read(policy, ContainerKind::Regular, regular));
        let seen: Vec<_> = all
            .iter()
            .map(|(kind, status, comes_back)| Seen { kind: *kind, status, comes_back: *comes_back })
            .collect();
        phase(&seen, no_more_starts)
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
            // A sidecar that has not come up keeps the Pod Pending until a regular container has begun.
            (Always, "sw", "w", Phase::Pending),
            (Always, "su", "w", Phase::Pending),
            (Always, "sr", "w", Phase::Pending),
            (Always, "su", "r", Phase::Running),
            (Always, "su", "b1", Phase::Pending),
            (Always, "sb1", "r", Phase::Running),
            (Always, "sw", "r", Phase::Pending),
            (Always, "s1 w", "w", Phase::Pending),
            // It keeps the Pod Running while it runs, and its end counts for nothing.
            (Never, "sr", "0", Phase::Running),
            (Never, "sr", "1", Phase::Running),
            (Never, "s1", "0", Phase::Succeeded),
            (Never, "s0", "1", Phase::Failed),
            (Never, "sb1", "0", Phase::Succeeded),
        ];
        for (policy, init, regular, expected) in going {
            let found = phase_of(policy, init, regular, false);
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
            (Always, "s7", "0", Phase::Succeeded),
            (OnFailure, "", "1", Phase::Failed),
            (Always, "", "0 w", Phase::Pending),
            (Always, "1", "w", Phase::Pending),
        ] {
            let found = phase_of(policy, init, regular, true);
            assert_eq!(found, expected, "{policy:?} init [{init}] regular [{regular}]");
        }
    }
}
