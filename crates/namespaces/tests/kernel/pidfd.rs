//! Pidfds name processes, and refuse to name anything else.

use std::fs::File;
use std::io::{Read as _, Seek as _, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};

use nix::libc;
use podrun_namespaces::{Command, Error, PidFd};
use podrun_testkit::LeakCheck;
use serial_test::{file_serial, serial};

use crate::programs::Waiting;

fn own_pid() -> i32 {
    std::process::id().try_into().expect("a pid")
}

#[test]
fn a_pidfd_knows_its_process() {
    let own = PidFd::open(own_pid()).expect("ourselves");
    assert_eq!(own.pid().expect("proc"), Some(own_pid()));
    assert_eq!(own.try_clone().expect("room").pid().expect("proc"), Some(own_pid()));
    own.send_signal(0).expect("we may signal ourselves");
    let again = PidFd::try_from(OwnedFd::from(own)).expect("it is one");
    assert_eq!(again.pid().expect("proc"), Some(own_pid()));
}

#[test]
fn other_files_are_no_pidfds() {
    let file = File::open("/proc/self/status").expect("proc");
    assert!(matches!(PidFd::try_from(OwnedFd::from(file)), Err(Error::NotPidFd)));
}

#[test]
fn numbers_without_a_process_are_refused() {
    for (pid, errno) in [(0, libc::EINVAL), (-1, libc::EINVAL), (i32::MAX, libc::ESRCH)] {
        let error = PidFd::open(pid).expect_err("no such process");
        assert_eq!(error.to_string(), format!("open a pidfd of process {pid}"));
        assert!(matches!(error, Error::OpenPidFd { source, .. } if source.raw_os_error() == Some(errno)));
    }
}

#[test]
fn only_a_parent_can_wait() {
    let init = PidFd::open(1).expect("process one");
    let error = init.try_wait().expect_err("not our child");
    assert!(matches!(error, Error::Wait { source } if source.raw_os_error() == Some(libc::ECHILD)));
}

#[test]
#[file_serial(kernel)]
#[serial(kernel)]
fn an_opened_pidfd_is_as_good_as_the_first() {
    let leaks = LeakCheck::start();
    let child = Command::new("/bin/false").spawn().expect("false");
    let pidfd = PidFd::open(child.pid()).expect("not reaped, so it is still there");
    assert_eq!(pidfd.wait().expect("our child").code(), Some(1));
    let gone = pidfd.send_signal(0).expect_err("reaped");
    assert!(matches!(gone, Error::Signal { source, .. } if source.raw_os_error() == Some(libc::ESRCH)));
    assert_eq!(pidfd.pid().expect("proc"), None);
    drop(pidfd);
    drop(child);
    leaks.finish();
}

#[test]
#[file_serial(kernel)]
#[serial(kernel)]
fn descriptors_can_be_copied_out_of_a_process() {
    let leaks = LeakCheck::start();
    let mut file = tempfile::tempfile().expect("a file");
    let waiting = Waiting::start(|_| {});
    let own = PidFd::open(own_pid()).expect("ourselves");
    let number = std::os::fd::AsRawFd::as_raw_fd(&file.as_fd());
    let mut copy = File::from(own.getfd(number).expect("our own descriptor"));
    copy.write_all(b"through the copy").expect("a file");
    file.rewind().expect("a file");
    let mut text = String::new();
    file.read_to_string(&mut text).expect("text");
    assert_eq!(text, "through the copy");

    let theirs = waiting.child.pidfd().getfd(0).expect("our child's stdin");
    drop(theirs);
    let error = waiting.child.pidfd().getfd(3).expect_err("it has three");
    assert!(matches!(error, Error::GetFd { fd: 3, source } if source.raw_os_error() == Some(libc::EBADF)));
    drop((waiting, own, copy, file));
    leaks.finish();
}
