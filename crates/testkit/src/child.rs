//! Runs a closure in a forked child with a single thread.
//!
//! libtest runs tests in threads, and the kernel refuses `unshare(CLONE_NEWUSER)` and `setns` into a
//! mount namespace to a process with more than one; a changed working directory, umask or mount
//! namespace would also leak into the other tests. A forked child has one thread and dies after.

use std::cell::RefCell;
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::{AsFd as _, BorrowedFd, FromRawFd as _, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Once;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, fork};

/// No child of a test may take longer.
const LIMIT: Duration = Duration::from_secs(120);
/// What a child exits with after a panic; the same number as rustc's test harness uses.
const PANICKED: i32 = 101;

/// Runs `body` in a forked, single-threaded child and waits for it.
///
/// What the child prints through `print!` is lost, since libtest captures it in memory. Both
/// processes drop what the closure captured by value: lend guards to it instead of moving them in.
///
/// # Panics
/// With the child's own message if the child panics, with its status if it exits or is killed
/// otherwise, and if it takes longer than two minutes.
pub fn run(body: impl FnOnce()) {
    let (status, message) = fork_and_wait(|| {
        body();
        0
    });
    match status {
        WaitStatus::Exited(_, 0) => {}
        WaitStatus::Exited(_, PANICKED) => panic!("in the forked child: {message}"),
        other => panic!("the forked child ended as {other:?} {message}"),
    }
}

/// Runs `body` in a forked, single-threaded child and returns the code it exits with.
///
/// # Panics
/// If the child panics, is killed by a signal or takes longer than two minutes.
pub fn exit_code(body: impl FnOnce() -> i32) -> i32 {
    match fork_and_wait(body) {
        (WaitStatus::Exited(_, PANICKED), message) if !message.is_empty() => {
            panic!("in the forked child: {message}")
        }
        (WaitStatus::Exited(_, code), _) => code,
        (other, _) => panic!("the forked child ended as {other:?}"),
    }
}

fn fork_and_wait(body: impl FnOnce() -> i32) -> (WaitStatus, String) {
    install_hook();
    let (reader, writer) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC).expect("a pipe");
    // SAFETY: after fork a child of a threaded process may rely on async-signal-safe calls only. This
    // one also allocates and panics: glibc takes malloc's locks around fork, and our panic hook takes
    // none. What remains is bounded: a child stuck in a lock fails its test after LIMIT.
    match unsafe { fork() }.expect("fork") {
        ForkResult::Child => {
            drop(reader);
            in_child(body, writer)
        }
        ForkResult::Parent { child } => {
            drop(writer);
            let status = wait(child);
            let mut message = String::new();
            // A grandchild may hold the pipe open, so only what is there already is read.
            if status != WaitStatus::Exited(child, 0) && readable(reader.as_fd()) {
                let mut bytes = vec![0; 64 * 1024];
                let count = File::from(reader).read(&mut bytes).unwrap_or(0);
                message = String::from_utf8_lossy(&bytes[..count]).into_owned();
            }
            (status, message)
        }
    }
}

thread_local! {
    /// Where a panic of this thread is reported; set in a forked child only, whose one thread is a
    /// copy of the one that forked.
    static REPORT: RefCell<Option<File>> = const { RefCell::new(None) };
}

/// Makes panics of forked children go to their parent, once and before any fork: setting a hook
/// takes a lock that another thread may hold, by panicking, at the moment of the fork.
fn install_hook() {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        let previous = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            REPORT.with_borrow(|report| match report {
                // The parent sees the exit code even if it cannot be told the message.
                Some(pipe) => drop((&*pipe).write_all(info.to_string().as_bytes())),
                None => previous(info),
            });
        }));
    });
}

fn in_child(body: impl FnOnce() -> i32, report: OwnedFd) -> ! {
    REPORT.set(Some(File::from(report)));
    let code = catch_unwind(AssertUnwindSafe(body)).unwrap_or(PANICKED);
    // SAFETY: _exit has no preconditions. exit() would run the parent's atexit handlers here.
    unsafe { libc::_exit(code) }
}

fn readable(fd: BorrowedFd<'_>) -> bool {
    let mut fds = [PollFd::new(fd, PollFlags::POLLIN)];
    poll(&mut fds, PollTimeout::ZERO) == Ok(1)
        && fds[0].revents().is_some_and(|events| events.contains(PollFlags::POLLIN))
}

/// Waits for our own child through a pidfd, which alone can be waited for with a time limit.
fn wait(child: Pid) -> WaitStatus {
    // SAFETY: pidfd_open takes two integers. The child is ours and not reaped, so the pid is its own.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, child.as_raw(), 0) };
    let fd = Errno::result(fd).expect("pidfd_open of our own child");
    // SAFETY: the kernel has just returned this descriptor to us and nobody else knows it.
    let pidfd = unsafe { OwnedFd::from_raw_fd(i32::try_from(fd).expect("a file descriptor is an int")) };
    let deadline = Instant::now() + LIMIT;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = PollTimeout::try_from(left).expect("two minutes fit");
        match poll(&mut [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)], timeout) {
            Ok(0) => {
                kill(&pidfd);
                waitpid(child, None).expect("our own child");
                panic!("the forked child took longer than {LIMIT:?} and was killed");
            }
            Ok(_) => return waitpid(child, None).expect("our own child"),
            Err(Errno::EINTR) => {}
            Err(errno) => panic!("poll: {errno}"),
        }
    }
}

fn kill(pidfd: &OwnedFd) {
    use std::os::fd::AsRawFd as _;
    let none = std::ptr::null::<libc::siginfo_t>();
    // SAFETY: the descriptor is open as long as `pidfd` is borrowed; a null siginfo is allowed.
    unsafe { libc::syscall(libc::SYS_pidfd_send_signal, pidfd.as_raw_fd(), Signal::SIGKILL as i32, none, 0) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_child_has_one_thread() {
        run(|| {
            let threads = std::fs::read_dir("/proc/self/task").expect("proc").count();
            assert_eq!(threads, 1);
        });
    }

    #[test]
    #[should_panic(expected = "the sky is falling")]
    fn a_panic_in_the_child_fails_the_test() {
        run(|| panic!("the sky is falling"));
    }

    #[test]
    #[should_panic(expected = "SIGABRT")]
    fn a_signal_in_the_child_fails_the_test() {
        // SAFETY: abort has no preconditions.
        run(|| unsafe { libc::abort() });
    }

    #[test]
    fn forks_while_other_threads_panic_do_not_hang() {
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..50 {
                        let caught = catch_unwind(|| run(|| panic!("in a child")));
                        assert!(caught.is_err(), "the child's panic reaches its parent");
                    }
                });
            }
        });
    }

    #[test]
    fn a_child_of_a_child_reports_to_its_own_parent() {
        run(|| {
            let caught = catch_unwind(|| run(|| panic!("deep below")));
            let message = *caught.expect_err("it panics").downcast::<String>().expect("a message");
            assert!(message.contains("deep below"), "{message}");
        });
    }

    #[test]
    fn the_code_comes_back() {
        assert_eq!(exit_code(|| 42), 42);
    }
}
