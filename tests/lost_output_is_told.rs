//! A result that cannot be written is an error, and a reader that has gone away is none.

mod common;

use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::os::fd::AsFd as _;
use std::process::Stdio;

use common::{Podrun, container, pod, sh};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use podrun_namespaces::PidFd;
use podrun_testkit::require;

/// Runs podrun with its output to a disk that is full; returns exit code and errors.
fn to_a_full_disk(podrun: &Podrun, arguments: &[&str]) -> (Option<i32>, String) {
    let full = File::options().write(true).open("/dev/full").expect("a device of every Linux");
    let output = podrun.command(arguments).stdout(full).stderr(Stdio::piped()).output().expect("podrun runs");
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn a_full_disk_loses_no_result_silently() {
    let podrun = Podrun::empty();
    for arguments in
        [["version", "-o", "json"].as_slice(), &["completion", "bash"], &["simulate", "tests/pods/demo.yaml"]]
    {
        let (code, errors) = to_a_full_disk(&podrun, arguments);
        assert_eq!(code, Some(125), "{arguments:?}: {errors}");
        assert_eq!(errors, "error: write standard output: No space left on device (os error 28)\n");
    }
    podrun.finish();
}

#[test]
fn what_containers_say_is_not_lost_silently() {
    require!(root, cgroup2, overlay, program("busybox"));
    let podrun = Podrun::new();
    podrun.start(&pod("web", &[sh("app", "echo hello; exec sleep 1000")]));
    podrun.wait_log("web", "app", "hello");
    for arguments in [
        ["logs", "web"].as_slice(),
        &["logs", "web", "-f"],
        &["exec", "web", "--", "echo", "hello"],
        &["get", "pods", "-w"],
        &["events", "-w"],
    ] {
        let (code, errors) = to_a_full_disk(&podrun, arguments);
        assert_eq!(code, Some(125), "{arguments:?}: {errors}");
        assert!(errors.contains("write standard output: No space left on device"), "{arguments:?}: {errors}");
    }
    podrun.finish();
}

#[test]
fn whoever_watches_for_nobody_ends() {
    require!(root, cgroup2, overlay, program("busybox"));
    let podrun = Podrun::new();
    podrun.start(&pod("web", &[container("app", &["sleep", "1000"])]));
    podrun.wait_running("web", "app");
    let (reader, writer) = std::io::pipe().expect("a pipe");
    let mut command = podrun.command(&["events", "-w"]);
    let mut watch = command.stdout(writer).stderr(Stdio::null()).spawn().expect("podrun runs");
    drop(command);
    let mut lines = BufReader::new(reader).lines();
    assert!(lines.next().expect("a header").expect("text").starts_with("LAST SEEN"));
    drop(lines);
    // The next event finds nobody.
    podrun.podrun(&["delete", "pod", "web", "--now"]).ok();
    let process = PidFd::open(watch.id().try_into().expect("a pid is an int")).expect("our own child");
    let ended = poll(&mut [PollFd::new(process.as_fd(), PollFlags::POLLIN)], PollTimeout::from(60_000_u16));
    watch.kill().expect("our own child");
    assert_eq!((ended, watch.wait().expect("our own child").code()), (Ok(1), Some(0)));
    podrun.finish();
}
