//! Processes of podrun under test, and their ends.

use std::fs;
use std::os::fd::AsFd as _;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use podrun_namespaces::PidFd;

use super::{Podrun, cgroup};

/// Nothing that is waited for takes longer.
const LIMIT: Duration = Duration::from_secs(60);

/// Returns the supervisor of a Pod, if there is one: the process that has the Pod's lock open and prints nowhere.
pub(crate) fn supervisor(podrun: &Podrun, uid: &str) -> Option<PidFd> {
    let lock = podrun.state().join("run/supervisors").join(uid).join("lock");
    let is_supervisor = |pid: &i32| {
        let null = fs::read_link(format!("/proc/{pid}/fd/1")).is_ok_and(|to| to == Path::new("/dev/null"));
        let fds = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().filter_map(Result::ok);
        null && fds.filter_map(|fd| fs::read_link(fd.path()).ok()).any(|target| target == lock)
    };
    let pids: Vec<i32> = pids().into_iter().filter(is_supervisor).collect();
    // What has ended since then has no lock any more, whoever has its number now.
    pids.into_iter()
        .filter_map(|pid| Some((pid, PidFd::open(pid).ok()?)))
        .find(|(pid, _)| is_supervisor(pid))
        .map(|found| found.1)
}

/// Returns all processes of podrun below this root: commands and supervisors.
pub(crate) fn of_root(podrun: &Podrun) -> Vec<PidFd> {
    let root = podrun.state().display().to_string();
    let is_ours = |pid: &i32| {
        let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let mut words = command.split(|byte| *byte == 0);
        words.next().is_some_and(|program| program.ends_with(b"/podrun"))
            && words.any(|word| word == root.as_bytes())
    };
    let pids: Vec<i32> = pids().into_iter().filter(is_ours).collect();
    pids.into_iter().filter_map(|pid| PidFd::open(pid).ok().filter(|_| is_ours(&pid))).collect()
}

/// Returns whether a path stands on some process's command line.
pub(crate) fn is_named(path: &Path) -> bool {
    let path = path.as_os_str().as_encoded_bytes();
    pids().into_iter().any(|pid| {
        let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        command.split(|byte| *byte == 0).any(|word| word == path)
    })
}

/// Returns the init of a Pod, if there is one.
pub(crate) fn init(uid: &str) -> Option<PidFd> {
    let text = fs::read_to_string(cgroup::of_pod(uid)?.join("init/cgroup.procs")).ok()?;
    PidFd::open(text.lines().next()?.parse().ok()?).ok()
}

/// Kills a process that is no child of ours and waits for its end; one that has ended is fine.
pub(crate) fn kill(process: &PidFd) {
    // ESRCH: it has ended.
    drop(process.send_signal(libc::SIGKILL));
    let mut fds = [PollFd::new(process.as_fd(), PollFlags::POLLIN)];
    let limit = PollTimeout::try_from(LIMIT).expect("a minute fits");
    assert_eq!(poll(&mut fds, limit), Ok(1), "a killed process ends");
}

/// Waits for something that no event tells of.
#[track_caller]
#[expect(clippy::disallowed_methods, reason = "processes of others and files have no common event")]
pub(crate) fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + LIMIT;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "{what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Lets time pass, so that what happens next happens at a moment that nobody has chosen.
#[expect(clippy::disallowed_methods, reason = "the point is that nothing is waited for")]
pub(crate) fn let_pass(time: Duration) {
    std::thread::sleep(time);
}

fn pids() -> Vec<i32> {
    let entries = fs::read_dir("/proc").expect("proc").filter_map(Result::ok);
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}
