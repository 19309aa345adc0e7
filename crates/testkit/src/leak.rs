//! Compares the host before and after a test.

use std::time::{Duration, Instant};

use crate::ledger::{Ledger, Scope};

/// How long leftovers may take to vanish: the kernel frees network namespaces, and with them the
/// links inside, from a work queue after the last reference is gone.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often to look meanwhile; cgroups, mounts and links of a host offer no common event.
const INTERVAL: Duration = Duration::from_millis(20);

/// Fails a test that leaves processes, mounts, links, namespaces, cgroups or descriptors behind.
///
/// [`LeakCheck::start`] counts for the whole host:
/// - processes: descendants of this process including zombies, orphans of its session, all whose name
///   or executable is `podrun` or `podrun-init`, and all in a cgroup whose path contains `podrun`;
/// - namespaces held by those processes or by a thread of this one;
/// - lines of `/proc/self/mountinfo` and network links of this process;
/// - cgroups below the cgroup2 mount whose path contains `podrun`;
/// - file descriptors of this process.
///
/// Anything that another test makes meanwhile counts too if it outlives the wait of ten seconds, so
/// tests that count for the whole host take turns, also across processes: they carry the attribute
/// `#[serial_test::file_serial(kernel)]`.
///
/// Tests that shall run beside each other give everything they make a common marker, for instance
/// the pod's UID or the last component of a [`TempRoot`](crate::TempRoot), and use
/// [`LeakCheck::only`]: then an object counts only if its path, name, command line, working
/// directory or cgroup contains the marker.
///
/// Dropping it is the same as [`LeakCheck::finish`], except during a panic: then nothing is compared,
/// because the first failure is the one to read.
#[derive(Debug)]
pub struct LeakCheck {
    scope: Scope,
    before: Ledger,
    done: bool,
}

impl LeakCheck {
    /// Counts what there is on the host before the test.
    #[must_use = "dropped at once it compares nothing"]
    pub fn start() -> Self {
        Self::with(Scope::Host)
    }

    /// Counts only what carries `marker`.
    ///
    /// # Panics
    /// If the marker is empty, since that would be found everywhere.
    #[must_use = "dropped at once it compares nothing"]
    pub fn only(marker: &str) -> Self {
        assert!(!marker.is_empty(), "an empty marker marks everything");
        Self::with(Scope::Marked(marker.to_owned()))
    }

    fn with(scope: Scope) -> Self {
        let before = Ledger::count(&scope, true);
        Self { scope, before, done: false }
    }

    /// Compares with what there is now, waiting a bounded time for the kernel to clean up.
    ///
    /// # Panics
    /// With one line per object that is left.
    pub fn finish(mut self) {
        self.compare();
    }

    /// Returns what is left after `patience`; empty if nothing is.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "no event tells that a cgroup, mount or link is gone")]
    pub fn leftovers(&self, patience: Duration) -> String {
        let deadline = Instant::now() + patience;
        loop {
            let left = Ledger::count(&self.scope, false).added_since(&self.before);
            if left.is_empty() || Instant::now() >= deadline {
                return left;
            }
            std::thread::sleep(INTERVAL);
        }
    }

    fn compare(&mut self) {
        if std::mem::replace(&mut self.done, true) {
            return;
        }
        let left = self.leftovers(PATIENCE);
        assert!(left.is_empty(), "left behind after {PATIENCE:?}:\n{left}");
    }
}

impl Drop for LeakCheck {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.compare();
        }
    }
}
