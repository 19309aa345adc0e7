//! Stop signals.

use super::{Cause, one_of};
use crate::path::Path;

/// What the API knows, beside real-time signals by their distance from the ends.
const LINUX: [&str; 36] = [
    "SIGABRT",
    "SIGALRM",
    "SIGBUS",
    "SIGCHLD",
    "SIGCLD",
    "SIGCONT",
    "SIGFPE",
    "SIGHUP",
    "SIGILL",
    "SIGINT",
    "SIGIO",
    "SIGIOT",
    "SIGKILL",
    "SIGPIPE",
    "SIGPOLL",
    "SIGPROF",
    "SIGPWR",
    "SIGQUIT",
    "SIGSEGV",
    "SIGSTKFLT",
    "SIGSTOP",
    "SIGSYS",
    "SIGTERM",
    "SIGTRAP",
    "SIGTSTP",
    "SIGTTIN",
    "SIGTTOU",
    "SIGURG",
    "SIGUSR1",
    "SIGUSR2",
    "SIGVTALRM",
    "SIGWINCH",
    "SIGXCPU",
    "SIGXFSZ",
    "SIGRTMIN",
    "SIGRTMAX",
];
const WINDOWS: [&str; 2] = ["SIGKILL", "SIGTERM"];

/// Checks `lifecycle.stopSignal`.
///
/// An API server whose feature gate is open wants `os` beside it; one whose gate is closed accepts what has none and
/// drops it. Both manifests mean the same, so `os` is not asked for here.
pub(super) fn stop_signal(signal: Option<&String>, os: &str, path: &Path, causes: &mut Vec<Cause>) {
    if os == "windows" {
        one_of(path, signal, &WINDOWS, causes);
        return;
    }
    let real_time =
        (1..=15).map(|n| format!("SIGRTMIN+{n}")).chain((1..=14).map(|n| format!("SIGRTMAX-{n}")));
    let real_time: Vec<_> = real_time.collect();
    let mut all: Vec<_> = LINUX.into_iter().chain(real_time.iter().map(String::as_str)).collect();
    all.sort_unstable();
    one_of(path, signal, &all, causes);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_have_the_names_of_the_api() {
        let fine = |signal: &str, os: &str| {
            let mut causes = Vec::new();
            stop_signal(Some(&signal.to_owned()), os, &Path::new("s"), &mut causes);
            causes.is_empty()
        };
        for signal in
            ["SIGTERM", "SIGRTMIN", "SIGRTMIN+1", "SIGRTMIN+15", "SIGRTMAX-14", "SIGRTMAX-1", "SIGRTMAX"]
        {
            assert!(fine(signal, "") && fine(signal, "linux"), "{signal}");
        }
        for signal in ["TERM", "sigterm", "15", "SIGRTMIN+16", "SIGRTMAX-15", "SIGRTMAX-0", "SIGRTMIN+01"] {
            assert!(!fine(signal, ""), "{signal}");
        }
        assert!(fine("SIGKILL", "windows") && !fine("SIGUSR1", "windows"));
    }
}
