//! Programs start in new namespaces and cgroups with exactly what they are given.

use std::fs::{self, File};
use std::io::{self, Read as _, pipe};
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::thread;

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use podrun_namespaces::{
    Child, Command, Error, ExitStatus, IdMap, IdMaps, Kind, Kinds, Namespace, PidFd, SetGroups, Step,
    unshare, write_id_maps,
};
use podrun_testkit::{LeakCheck, cgroup2_mount, child, require};
use serial_test::{file_serial, serial};

use crate::programs::{Waiting, run, shell};

fn errno(error: &io::Error) -> i32 {
    error.raw_os_error().expect("an errno of the kernel")
}

/// Returns what each descriptor of a process leads to, by number.
fn descriptors(pid: &str) -> Vec<(u32, String)> {
    let entries = fs::read_dir(format!("/proc/{pid}/fd")).expect("proc");
    let mut found: Vec<(u32, String)> = entries
        .map(|entry| {
            let entry = entry.expect("an entry");
            let number = entry.file_name().into_string().expect("ASCII").parse().expect("a number");
            let target = fs::read_link(entry.path()).map(|path| path.display().to_string());
            (number, target.unwrap_or_default())
        })
        .collect();
    found.sort();
    found
}

fn target(fd: BorrowedFd<'_>) -> String {
    fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd())).expect("proc").display().to_string()
}

/// Stops the shell, at a moment when it and the loader have no file of their own open.
const STOP: &str = "kill -STOP $$";

fn wait_until_stopped(child: &Child) {
    let status =
        waitid(Id::PIDFd(child.as_fd()), WaitPidFlag::WSTOPPED | WaitPidFlag::WNOWAIT).expect("our child");
    assert!(matches!(status, WaitStatus::Stopped(..)), "{status:?}");
}

fn kill(mut child: Child) {
    child.kill().expect("our child");
    assert_eq!(child.wait().expect("our child").signal(), Some(nix::libc::SIGKILL));
}

fn status_line(child: &Child, name: &str) -> String {
    let status = fs::read_to_string(format!("/proc/{}/status", child.pid())).expect("proc");
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.expect("a line of this name").trim().to_owned()
}

#[test]
#[file_serial(kernel)]
#[serial(kernel)]
fn a_program_sees_its_arguments_and_environment_and_no_others() {
    let leaks = LeakCheck::start();
    let env = File::options().read(true).custom_flags(nix::libc::O_PATH).open("/usr/bin/env").expect("env");
    let mut command = Command::from_fd(env.as_fd(), "renamed");
    command.env("ONE", "1").envs([("TWO", "2"), ("EMPTY", "")]);
    assert_eq!(run(&command), (ExitStatus::Exited(0), "ONE=1\nTWO=2\nEMPTY=\n".to_owned()));

    let mut echo = shell("echo \"$0\" \"$@\"");
    echo.arg("zero").args(["a b", ""]).arg("ü");
    assert_eq!(run(&echo).1, "zero a b  ü\n");
    drop(command);
    drop(env);
    leaks.finish();
}

#[test]
#[file_serial(kernel)]
#[serial(kernel)]
fn a_program_has_exactly_the_given_descriptors_in_that_order() {
    let leaks = LeakCheck::start();
    let (reader, writer) = pipe().expect("a pipe");
    // One that would be inherited, were the rest not closed.
    let stray = File::open("/").expect("/");
    fcntl(&stray, FcntlArg::F_SETFD(FdFlag::empty())).expect("a descriptor of ours");
    let (stdin, stderr) = (io::stdin(), io::stderr());
    // The low numbers change places with each other, which only works if each is saved before it is overwritten.
    let given = [reader.as_fd(), stdin.as_fd(), stray.as_fd(), stderr.as_fd(), stray.as_fd(), stdin.as_fd()];
    let child = shell(STOP).fds(given).spawn().expect("a shell");
    wait_until_stopped(&child);
    let expected: Vec<(u32, String)> = (0..).zip(given.map(target)).collect();
    assert_eq!(descriptors(&child.pid().to_string()), expected);
    drop((reader, writer, stray));
    kill(child);
    leaks.finish();
}

#[test]
#[file_serial(kernel)]
#[serial(kernel)]
fn a_program_may_have_no_descriptor_at_all() {
    let leaks = LeakCheck::start();
    let child = shell(STOP).spawn().expect("a shell");
    wait_until_stopped(&child);
    assert_eq!(descriptors(&child.pid().to_string()), []);
    kill(child);
    leaks.finish();
}

#[test]
#[file_serial(kernel)]
#[serial(kernel)]
fn a_failing_exec_is_told_by_step_and_errno_and_leaves_no_process() {
    let leaks = LeakCheck::start();
    let directory = tempfile::tempdir().expect("a directory");
    let text = directory.path().join("text");
    fs::write(&text, "not a program").expect("a file");
    let absent = directory.path().join("absent");
    fs::set_permissions(&text, fs::Permissions::from_mode(0o644)).expect("our file");
    let garbage = directory.path().join("garbage");
    fs::write(&garbage, "\x7fELF").expect("a file");
    fs::set_permissions(&garbage, fs::Permissions::from_mode(0o755)).expect("our file");

    let table = [(&text, nix::libc::EACCES), (&absent, nix::libc::ENOENT), (&garbage, nix::libc::ENOEXEC)];
    for (path, expected) in table {
        match Command::new(path).spawn().expect_err("it cannot run") {
            Error::Spawn { step: Step::Exec, source } => assert_eq!(errno(&source), expected, "{path:?}"),
            other => panic!("{path:?}: {other}"),
        }
    }
    let file = File::open(&text).expect("our file");
    let error = Command::from_fd(file.as_fd(), "text").spawn().expect_err("it cannot run");
    assert_eq!(error.to_string(), "execute the program in the new process");
    drop(file);
    leaks.finish();
}

#[test]
fn a_nul_byte_is_refused_before_anything_is_started() {
    for command in [Command::new("/bin/\0sh").arg("x"), shell("a\0b").arg("x"), shell("").env("A\0", "x")] {
        assert!(matches!(command.spawn().expect_err("NUL"), Error::Nul { .. }));
    }
}

#[test]
#[file_serial(kernel)]
#[serial(kernel)]
fn signals_start_out_at_their_defaults() {
    let leaks = LeakCheck::start();
    // Rust's runtime ignores SIGPIPE in this process.
    let waiting = Waiting::start(|_| {});
    for line in ["SigBlk", "SigIgn"] {
        assert_eq!(status_line(&waiting.child, line), "0000000000000000", "{line}");
    }
    drop(waiting);
    leaks.finish();
}

#[test]
#[file_serial(kernel)]
#[serial(kernel)]
fn the_callers_signal_mask_is_as_before() {
    let blocked = || {
        let status = fs::read_to_string("/proc/thread-self/status").expect("proc");
        status.lines().find(|line| line.starts_with("SigBlk")).expect("the line").to_owned()
    };
    let before = blocked();
    assert!(run(&shell("exit 0")).0.success());
    assert_eq!(blocked(), before);
}

#[test]
#[file_serial(kernel)]
#[serial(kernel)]
fn a_session_is_started_only_on_request() {
    let leaks = LeakCheck::start();
    let session = |child: &Child| {
        let stat = fs::read_to_string(format!("/proc/{}/stat", child.pid())).expect("proc");
        let after_name = stat.rsplit_once(") ").expect("the name in parentheses").1.to_owned();
        after_name.split(' ').nth(3).expect("the session").parse::<i32>().expect("a number")
    };
    let with = Waiting::start(|command| _ = command.setsid(true));
    let without = Waiting::start(|_| {});
    assert_eq!(session(&with.child), with.child.pid());
    assert_ne!(session(&without.child), without.child.pid());
    drop((with, without));
    leaks.finish();
}

#[test]
#[file_serial(kernel)]
#[serial(kernel)]
fn namespaces_asked_for_are_new_and_all_others_are_the_callers() {
    require!(root);
    let leaks = LeakCheck::start();
    let requests = Kind::ALL.map(Kinds::only).into_iter().chain([
        Kinds::EMPTY,
        Kind::Net | Kind::Ipc | Kind::Uts | Kind::Pid | Kind::Mnt,
        Kinds::ALL,
    ]);
    for request in requests {
        let waiting = Waiting::start(|command| _ = command.namespaces(request));
        for kind in Kind::ALL {
            let theirs = Namespace::of_process(waiting.child.as_fd(), kind).expect("our child lives");
            let ours = Namespace::of_current(kind).expect("proc");
            assert_eq!(theirs.kind(), kind);
            assert_eq!(theirs.id() != ours.id(), request.contains(kind), "{kind} with {request}");
        }
    }
    leaks.finish();
}

#[test]
#[file_serial(kernel)]
#[serial(kernel)]
fn the_first_program_of_a_pid_namespace_is_process_one_and_takes_all_others_along() {
    require!(root);
    let leaks = LeakCheck::start();
    let mut command = shell("echo $$; sleep 1000 & exit 3");
    command.namespaces(Kinds::PID);
    // The pipe only ends because the kernel kills the sleeper when process one exits.
    assert_eq!(run(&command), (ExitStatus::Exited(3), "1\n".to_owned()));
    leaks.finish();
}

#[test]
#[file_serial(kernel)]
#[serial(kernel)]
fn a_user_namespace_starts_as_its_root() {
    require!(root, userns);
    let leaks = LeakCheck::start();
    let maps = IdMaps::new([IdMap::new(0, 100_000, 1000)]).expect("a good map");
    for (setgroups, expected) in [(SetGroups::Allow, "allow"), (SetGroups::Deny, "deny")] {
        let mut command = shell("id -u; id -g; cat /proc/self/setgroups; cat /proc/self/uid_map");
        command.id_maps(maps.clone(), maps.clone(), setgroups).namespaces(Kind::User | Kind::Uts);
        let (status, output) = run(&command);
        assert!(status.success());
        let words: Vec<&str> = output.split_whitespace().collect();
        assert_eq!(words, ["0", "0", expected, "0", "100000", "1000"]);
    }
    leaks.finish();
}

#[test]
#[file_serial(kernel)]
#[serial(kernel)]
fn an_id_map_without_id_zero_is_a_failure_of_its_step() {
    require!(root, userns);
    let leaks = LeakCheck::start();
    let without = IdMaps::new([IdMap::new(1, 100_000, 1000)]).expect("a good map");
    let with = IdMaps::identity();
    let error = shell("").id_maps(without, with, SetGroups::Allow).spawn().expect_err("no id 0");
    assert!(
        matches!(&error, Error::Spawn { step: Step::SetUid, source } if errno(source) == nix::libc::EINVAL)
    );
    leaks.finish();
}

#[test]
#[file_serial(kernel)]
#[serial(kernel)]
fn a_refused_id_map_leaves_no_process() {
    require!(root, userns);
    let leaks = LeakCheck::start();
    child::run(|| {
        // The new namespace's parent is one that maps its id 0 only, so there is no id 1 to hand down.
        let own = PidFd::open(std::process::id().try_into().expect("a pid")).expect("ourselves");
        let only_root = IdMaps::new([IdMap::new(0, 0, 1)]).expect("a good map");
        unshare(Kinds::USER).expect("one thread");
        write_id_maps(own.as_fd(), &only_root, &only_root, SetGroups::Deny).expect("our own ids");
        let two = IdMaps::new([IdMap::new(0, 0, 2)]).expect("a good map");
        let error = shell("").id_maps(two.clone(), two, SetGroups::Deny).spawn().expect_err("no ids to give");
        assert!(
            matches!(&error, Error::WriteIdMap { source, .. } if errno(source) == nix::libc::EPERM),
            "{error}"
        );
        let any = nix::sys::wait::waitpid(None, None);
        assert_eq!(any, Err(nix::errno::Errno::ECHILD), "the child has been reaped");
    });
    leaks.finish();
}

#[test]
#[file_serial(kernel)]
#[serial(kernel)]
fn a_program_starts_inside_its_cgroup() {
    require!(root, cgroup2);
    let leaks = LeakCheck::start();
    let path =
        cgroup2_mount().expect("required above").join(format!("podrun-namespaces-{}", std::process::id()));
    fs::create_dir(&path).expect("a cgroup");
    let directory = File::open(&path).expect("our cgroup");
    let mut command = shell("grep ^0:: /proc/self/cgroup");
    command.into_cgroup(directory.as_fd());
    let (status, output) = run(&command);
    fs::remove_dir(&path).expect("it is empty again");
    assert!(status.success());
    assert!(output.trim_end().ends_with(&*path.file_name().expect("a name").to_string_lossy()), "{output}");

    let error = command.spawn().expect_err("the cgroup is gone");
    assert!(matches!(error, Error::Clone { source, .. } if errno(&source) == nix::libc::ENOENT));
    drop(command);
    drop(directory);
    leaks.finish();
}

#[test]
#[file_serial(kernel)]
#[serial(kernel)]
fn a_directory_that_is_no_cgroup_is_refused() {
    let root = File::open("/proc").expect("proc");
    let error = shell("").into_cgroup(root.as_fd()).spawn().expect_err("no cgroup");
    assert!(matches!(error, Error::Clone { source, .. } if errno(&source) == nix::libc::EBADF));
}

#[test]
#[file_serial(kernel)]
#[serial(kernel)]
fn each_way_to_end_is_told_apart() {
    let leaks = LeakCheck::start();
    assert_eq!(run(&shell("exit 0")).0, ExitStatus::Exited(0));
    assert_eq!(run(&shell("exit 255")).0, ExitStatus::Exited(255));
    // The last is a real-time signal, which has no name.
    for signal in [nix::libc::SIGKILL, nix::libc::SIGTERM, 40] {
        let (reader, _writer) = pipe().expect("a pipe");
        let mut child = shell("read line").fds([reader.as_fd()]).spawn().expect("a shell");
        assert_eq!(child.try_wait().expect("our child"), None);
        child.send_signal(signal).expect("our child");
        let expected = ExitStatus::Signaled { signal, core_dumped: false };
        assert_eq!(child.pidfd().wait().expect("our child"), expected);
        // Reaped behind the child's back.
        assert!(matches!(child.wait(), Err(Error::Wait { source }) if errno(&source) == nix::libc::ECHILD));
        assert!(
            matches!(child.kill(), Err(Error::Signal { source, .. }) if errno(&source) == nix::libc::ESRCH)
        );
    }
    leaks.finish();
}

#[test]
#[file_serial(kernel)]
#[serial(kernel)]
fn a_status_once_taken_stays() {
    let mut child = Command::new("/bin/true").spawn().expect("true");
    let status = child.wait().expect("our child");
    assert_eq!(status, ExitStatus::Exited(0));
    assert_eq!(child.wait().expect("kept"), status);
    assert_eq!(child.try_wait().expect("kept"), Some(status));
}

#[test]
#[file_serial(kernel)]
#[serial(kernel)]
fn many_threads_can_start_programs_while_others_allocate() {
    let leaks = LeakCheck::start();
    thread::scope(|scope| {
        for number in 0..4 {
            scope.spawn(move || {
                for round in 0..50 {
                    let (status, output) = run(shell("echo \"$0\"").arg(format!("{number}-{round}")));
                    assert!(status.success());
                    assert_eq!(output, format!("{number}-{round}\n"));
                }
            });
            scope.spawn(|| {
                for size in 0..20_000 {
                    std::hint::black_box(vec![0_u8; size]);
                }
            });
        }
    });
    leaks.finish();
}

#[test]
#[file_serial(kernel)]
#[serial(kernel)]
fn a_pipe_of_one_child_is_not_held_open_by_another() {
    let (mut reader, writer) = pipe().expect("a pipe");
    let waiting = Waiting::start(|_| {});
    drop(writer);
    let mut nothing = Vec::new();
    reader.read_to_end(&mut nothing).expect("the end");
    drop(waiting);
}
