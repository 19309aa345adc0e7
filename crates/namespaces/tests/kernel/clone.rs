//! The bare clone3 runs the caller's own code in the child.

use std::fs::{self, File};
use std::io::{Read as _, Write as _, pipe};
use std::os::fd::AsFd as _;

use nix::libc;
use podrun_namespaces::{CloneArgs, Cloned, ExitStatus, Kind, Kinds, clone3, threads};
use podrun_testkit::{LeakCheck, cgroup2_mount, child, require};
use serial_test::{file_serial, serial};

fn leave(code: i32) -> ! {
    // SAFETY: ends the process, has no preconditions.
    unsafe { libc::_exit(code) }
}

#[test]
#[file_serial(kernel)]
#[serial(kernel)]
fn a_single_threaded_process_runs_any_code_in_the_child() {
    require!(root, cgroup2);
    let leaks = LeakCheck::start();
    let path = cgroup2_mount().expect("required above").join(format!("podrun-clone-{}", std::process::id()));
    fs::create_dir(&path).expect("a cgroup");
    let directory = File::open(&path).expect("our cgroup");
    child::run(|| {
        threads::require_single_threaded("the test").expect("a forked child has one thread");
        let (mut reader, writer) = pipe().expect("a pipe");
        let kinds = Kind::Mnt | Kind::Pid | Kind::Cgroup;
        let args =
            CloneArgs::new().namespaces(kinds).into_cgroup(directory.as_fd()).clear_signal_handlers(true);
        // SAFETY: this process has one thread, and the child ends by _exit.
        match unsafe { clone3(&args) }.expect("root may") {
            Cloned::Child => {
                let cgroup = fs::read_to_string("/proc/thread-self/cgroup").unwrap_or_default();
                let inside = cgroup.lines().find(|line| line.starts_with("0::")).unwrap_or("none").to_owned();
                let text = format!("{} {inside}", std::process::id());
                leave(i32::from((&writer).write_all(text.as_bytes()).is_err()) + 20)
            }
            Cloned::Parent { pid, pidfd } => {
                drop(writer);
                assert!(pid > 0);
                let mut text = String::new();
                reader.read_to_string(&mut text).expect("text");
                assert_eq!(pidfd.wait().expect("our child"), ExitStatus::Exited(20));
                // Process one of its pid namespace, at the root of its cgroup namespace.
                assert_eq!(text, "1 0::/");
            }
        }
    });
    drop(directory);
    fs::remove_dir(&path).expect("it is empty again");
    leaks.finish();
}

#[test]
#[file_serial(kernel)]
#[serial(kernel)]
fn a_plain_clone_is_a_fork_with_a_pidfd() {
    let leaks = LeakCheck::start();
    // SAFETY: the child only calls _exit.
    match unsafe { clone3(&CloneArgs::new()) }.expect("a fork") {
        Cloned::Child => leave(7),
        Cloned::Parent { pid, pidfd } => {
            assert_eq!(pidfd.pid().expect("proc"), Some(pid));
            assert_eq!(pidfd.wait().expect("our child"), ExitStatus::Exited(7));
            assert_eq!(pidfd.pid().expect("proc"), None);
        }
    }
    leaks.finish();
}

#[test]
#[file_serial(kernel)]
#[serial(kernel)]
fn a_user_namespace_can_be_made_by_a_threaded_process() {
    require!(userns);
    // SAFETY: the child only calls _exit.
    match unsafe { clone3(&CloneArgs::new().namespaces(Kinds::USER)) }.expect("userns are allowed") {
        Cloned::Child => leave(0),
        Cloned::Parent { pidfd, .. } => assert!(pidfd.wait().expect("our child").success()),
    }
}
