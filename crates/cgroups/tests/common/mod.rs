//! Guards for tests on a real hierarchy: a cgroup of one's own, and processes to put into it.

#![allow(
    dead_code,
    clippy::allow_attributes,
    reason = "each test file is a crate of its own and uses a part of this"
)]

use std::io::{PipeReader, PipeWriter, Read as _, Write as _, pipe};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, fork};
use podrun_cgroups::{Cgroup, Hierarchy};

/// Far more than anything here takes, even in an emulated machine.
pub(crate) fn soon() -> Instant {
    Instant::now() + Duration::from_secs(20)
}

/// A cgroup below the root of the hierarchy, removed with all it holds at the end of the test.
pub(crate) struct TestCgroup {
    pub(crate) cgroup: Cgroup,
}

impl TestCgroup {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let root = Hierarchy::find().unwrap().open_root().unwrap();
        let cgroup = root.create_child(&format!("podrun-test-{}-{number}", std::process::id())).unwrap();
        Self { cgroup }
    }
}

impl Drop for TestCgroup {
    fn drop(&mut self) {
        let removed = self.cgroup.remove_tree(soon());
        // A second panic would abort the run and hide the first.
        if !std::thread::panicking() {
            removed.unwrap();
        }
    }
}

/// A forked child that is put into a cgroup before it runs, and reaped at the end of the test.
pub(crate) struct Child {
    pub(crate) pid: Pid,
    to: PipeWriter,
    from: PipeReader,
    reaped: bool,
}

/// The child's ends of its pipes.
pub(crate) struct Gate {
    to: PipeWriter,
    from: PipeReader,
}

impl Gate {
    /// Waits for a byte of the parent's.
    pub(crate) fn wait(&mut self) {
        let mut byte = [0];
        if self.from.read_exact(&mut byte).is_err() {
            // SAFETY: the parent is gone, and _exit only ends this forked process.
            unsafe { libc::_exit(99) }
        }
    }

    /// Sends a byte to the parent.
    pub(crate) fn answer(&mut self) {
        let sent = self.to.write_all(&[1]);
        assert!(sent.is_ok(), "the parent reads until it has reaped this child");
    }
}

impl Child {
    /// Forks a child that runs `body` in `cgroup` and exits with what it returns.
    ///
    /// The child is a copy of one thread of many, so `body` makes system calls and nothing else: no memory is
    /// allocated, no lock taken.
    pub(crate) fn in_cgroup(cgroup: &Cgroup, body: impl FnOnce(&mut Gate) -> i32) -> Self {
        let (child_from, to) = pipe().unwrap();
        let (from, child_to) = pipe().unwrap();
        // SAFETY: the child calls only what is async-signal-safe (see above) and never returns from here.
        match unsafe { fork() }.unwrap() {
            ForkResult::Parent { child } => {
                let mut child = Self { pid: child, to, from, reaped: false };
                cgroup.add_process(child.pid.as_raw().cast_unsigned()).unwrap();
                child.go();
                child
            }
            ForkResult::Child => {
                let mut gate = Gate { to: child_to, from: child_from };
                gate.wait();
                let code = body(&mut gate);
                // SAFETY: _exit is async-signal-safe and runs no destructor of the parent's copies.
                unsafe { libc::_exit(code) }
            }
        }
    }

    /// A child that waits to be killed.
    pub(crate) fn idle(cgroup: &Cgroup) -> Self {
        Self::in_cgroup(cgroup, |gate| {
            gate.wait();
            0
        })
    }

    /// Lets the child pass its gate.
    pub(crate) fn go(&mut self) {
        self.to.write_all(&[1]).unwrap();
    }

    /// Waits for the child's answer; tells whether it came within `patience`.
    pub(crate) fn answered(&mut self, patience: Duration) -> bool {
        use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
        use std::os::fd::AsFd as _;
        let mut fds = [PollFd::new(self.from.as_fd(), PollFlags::POLLIN)];
        let ready = poll(&mut fds, PollTimeout::try_from(patience).unwrap()).unwrap();
        ready == 1 && self.from.read(&mut [0]).unwrap() == 1
    }

    pub(crate) fn pid(&self) -> u32 {
        self.pid.as_raw().cast_unsigned()
    }

    pub(crate) fn wait(&mut self) -> WaitStatus {
        let status = waitpid(self.pid, None).unwrap();
        self.reaped = true;
        status
    }

    pub(crate) fn was_killed(&mut self) -> bool {
        matches!(self.wait(), WaitStatus::Signaled(_, Signal::SIGKILL, _))
    }
}

impl Drop for Child {
    #[expect(clippy::disallowed_methods, reason = "the child is not reaped yet, so its pid is still its own")]
    fn drop(&mut self) {
        if !self.reaped {
            kill(self.pid, Signal::SIGKILL).unwrap();
            waitpid(self.pid, None).unwrap();
        }
    }
}
