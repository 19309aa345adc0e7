//! From the start of a container to its end.

use std::fs;
use std::time::Instant;

use nix::sys::signal::Signal;
use podrun_container::oom_killed;
use podrun_plan::model::Owner;
use podrun_sandbox::protocol::{ExitStatus, Stage};
use podrun_sandbox::{InitEvent, Sandbox, SandboxError};
use podrun_testkit::require;

use crate::common::{PATIENCE, Pod, content, eventually, init_program, is_readable};

#[test]
fn a_container_runs_and_its_exit_code_and_log_are_kept() {
    require!(root, cgroup2, overlay, program("busybox"));
    let mut pod = Pod::new();
    let setup = pod.shell("web", "echo hello; echo oops >&2; printf DONE; exit 7");
    let ended = pod.run(&setup);
    assert_eq!(ended.exited.status, ExitStatus::Code(7));
    let mut lines: Vec<&str> =
        ended.log.lines().map(|line| line.split_once(' ').expect("a time").1).collect();
    lines.sort_unstable();
    assert_eq!(lines, ["stderr F oops", "stdout F hello", "stdout P DONE"]);
    let started = ended.started.expect("it was told");
    assert!(started.started_at <= ended.exited.finished_at);
    pod.remove();
}

#[test]
fn every_exit_code_and_signal_is_told() {
    require!(root, cgroup2, overlay, program("busybox"));
    let mut pod = Pod::new();
    let table = [
        ("exit 0", ExitStatus::Code(0), 0),
        ("exit 255", ExitStatus::Code(255), 255),
        ("exec /bin/false", ExitStatus::Code(1), 1),
        // As PID 1 of its namespace the shell is immune to its own signals; a fault is not one.
        ("ulimit -t 1; while :; do :; done", ExitStatus::Signal(libc::SIGKILL), 137),
    ];
    for (index, (script, status, code)) in table.into_iter().enumerate() {
        let setup = pod.shell(&format!("c{index}"), script);
        let ended = pod.run(&setup);
        assert_eq!((ended.exited.status, ended.code()), (status, code), "{script}");
    }
    pod.remove();
}

#[test]
fn a_death_by_a_real_time_signal_is_told() {
    require!(root, cgroup2, overlay, program("busybox"));
    let mut pod = Pod::planned();
    // Where the shell is not PID 1, its own signals kill it.
    pod.plan.namespaces.pid = Owner::Pod;
    let mut pod = pod.created();
    // An orphan that dies the same way must not keep init from noticing the others.
    let setup = pod.shell("c", "(sh -c 'kill -41 $$' &); kill -40 $$");
    assert_eq!(pod.run(&setup).exited.status, ExitStatus::Signal(40));
    let after = pod.shell("after", "exit 5");
    assert_eq!(pod.run(&after).exited.status, ExitStatus::Code(5));
    pod.remove();
}

#[test]
fn the_main_process_gets_signals_and_the_whole_cgroup_is_killed() {
    require!(root, cgroup2, overlay, program("busybox"));
    let mut pod = Pod::new();
    let polite =
        pod.shell("polite", "trap 'echo bye; exit 3' TERM; echo ready; while :; do sleep 0.05; done");
    let deaf = pod.shell("deaf", "trap '' TERM; (sleep 1000 &); sleep 1000");
    pod.start(&polite);
    pod.start(&deaf);
    eventually("the trap is set", || {
        fs::read_to_string(&polite.log_path).is_ok_and(|log| log.contains("ready"))
    });
    pod.sandbox().signal(&polite.id, Signal::SIGTERM as i32).expect("init is told");
    let ended = pod.wait(&polite);
    assert_eq!((ended.code(), content(&ended.log).as_str()), (3, "ready\nbye\n"));
    pod.sandbox().signal(&polite.id, Signal::SIGTERM as i32).expect("one that has ended gets nothing");

    pod.sandbox().kill(&deaf.id).expect("killed");
    assert_eq!(pod.wait(&deaf).exited.status, ExitStatus::Signal(libc::SIGKILL));
    pod.sandbox().release(&deaf.id).expect("its cgroup is removed");
    pod.sandbox().release(&deaf.id).expect("twice");
    assert!(matches!(pod.sandbox().kill("other_deaf_0"), Err(SandboxError::ForeignContainer { .. })));
    pod.remove();
}

#[test]
fn what_cannot_be_executed_is_told_in_plain_words() {
    require!(root, cgroup2, overlay, program("busybox"));
    let mut pod = Pod::new();
    fs::write(pod.layer.join("bin/garbage"), "\u{1}\u{2}").expect("write");
    fs::set_permissions(pod.layer.join("bin/garbage"), std::os::unix::fs::PermissionsExt::from_mode(0o755))
        .expect("chmod");
    let table = [
        ("nosuch", "exec \"nosuch\": executable file not found in $PATH"),
        ("/nosuch", "exec \"/nosuch\": no such file or directory"),
        ("/etc/passwd", "exec \"/etc/passwd\": permission denied"),
        ("/tmp", "exec \"/tmp\": permission denied"),
        ("/bin/garbage", "exec \"/bin/garbage\": exec format error"),
    ];
    for (index, (program, message)) in table.into_iter().enumerate() {
        let setup = pod.setup(&format!("c{index}"), &[program]);
        let failed = pod.try_start(&setup).expect_err(program);
        assert_eq!((failed.failure.message.as_str(), failed.exit_code), (message, 128));
        assert_eq!(failed.failure.stage, Stage::Exec);
        assert_eq!(failed.failure.stage.reason(), "RunContainerError");
    }
    assert_eq!(content(&pod.run(&pod.shell("ok", "echo fine")).log), "fine\n");
    pod.remove();
}

#[test]
fn a_user_that_the_image_does_not_have_is_a_create_error() {
    require!(root, cgroup2, overlay, program("busybox"));
    let mut pod = Pod::new();
    let mut setup = pod.shell("c", "true");
    setup.image_user = "bob".to_owned();
    let failure = pod.try_start(&setup).expect_err("no such user").failure;
    assert_eq!(failure.message, "unable to find user bob: no matching entries in passwd file");
    assert_eq!(failure.stage.reason(), "CreateContainerError");
    pod.remove();
}

#[test]
fn starting_twice_gives_the_same_answer_again() {
    require!(root, cgroup2, overlay, program("busybox"));
    let mut pod = Pod::new();
    let setup = pod.shell("c", "sleep 1000");
    let first = pod.start(&setup);
    let error = podrun_container::prepare(&setup, pod.sandbox()).expect_err("it runs");
    assert_eq!(error.to_string(), format!("container {} is running", setup.id));
    let other = pod.shell("other", "sleep 1000");
    let prepared = podrun_container::prepare(&other, pod.sandbox()).expect("prepared");
    pod.sandbox().start(&setup, prepared).expect("init is told");
    assert!(matches!(pod.event(), InitEvent::Started { started, .. } if started == first));
    podrun_container::prepare(&other, pod.sandbox()).expect("what was never started can be prepared again");
    pod.sandbox().kill(&setup.id).expect("killed");
    pod.wait(&setup);
    pod.sandbox().forget(&setup.id).expect("init is told");
    pod.remove();
}

#[test]
fn a_flood_of_output_is_kept_to_the_last_line() {
    require!(root, cgroup2, overlay, program("busybox"));
    let mut pod = Pod::new();
    let setup = pod.shell("c", "seq 1 200000");
    let ended = pod.run(&setup);
    let expected: String = (1..=200_000).map(|n| format!("{n}\n")).collect();
    assert!(content(&ended.log) == expected, "every line, in order");
    pod.remove();
}

#[test]
fn lines_longer_than_an_entry_are_joined_by_readers() {
    require!(root, cgroup2, overlay, program("busybox"));
    let mut pod = Pod::new();
    let ended = pod.run(&pod.shell("c", "head -c 50000 /dev/zero | tr '\\0' x; echo; echo end"));
    assert_eq!(content(&ended.log), "x".repeat(50_000) + "\nend\n");
    assert_eq!(ended.log.matches(" stdout P ").count(), 3);
    pod.remove();
}

#[test]
fn a_grandchild_that_holds_the_pipe_does_not_hold_up_the_end() {
    require!(root, cgroup2, overlay, program("busybox"));
    let mut pod = Pod::planned();
    // With one pid namespace for the Pod, processes outlive the main process of their container.
    pod.plan.namespaces.pid = Owner::Pod;
    let mut pod = pod.created();
    let setup = pod.shell("c", "(sleep 0.3; echo late) & printf early; exit 5");
    let ended = pod.run(&setup);
    assert_eq!((ended.code(), content(&ended.log).as_str()), (5, "early"));
    eventually("what comes later is logged", || {
        content(&fs::read_to_string(&setup.log_path).expect("the log")) == "earlylate\n"
    });
    pod.remove();
}

#[test]
fn a_full_log_does_not_stop_the_container() {
    require!(root, cgroup2, overlay, program("busybox"));
    let mut pod = Pod::new();
    let setup = pod.shell("c", "seq 1 100; exit 4");
    let mut prepared = podrun_container::prepare(&setup, pod.sandbox()).expect("prepared");
    prepared.log = fs::OpenOptions::new().append(true).open("/dev/full").expect("the full device").into();
    pod.sandbox().start(&setup, prepared).expect("init is told");
    let mut lost = 0;
    loop {
        match pod.event() {
            InitEvent::Started { .. } => {}
            InitEvent::LogError(error) => {
                assert_eq!(error.errno, libc::ENOSPC);
                lost = error.lost.entries;
            }
            InitEvent::Exited(exited) => {
                assert_eq!(exited.status, ExitStatus::Code(4));
                break;
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(lost > 0);
    pod.remove();
}

#[test]
fn when_init_is_killed_so_is_every_container() {
    require!(root, cgroup2, overlay, program("busybox"));
    let mut pod = Pod::new();
    let setup = pod.shell("c", "sleep 1000");
    pod.start(&setup);
    pod.sandbox().pidfd().send_signal(libc::SIGKILL).expect("killed");
    eventually("init's pidfd tells", || is_readable(pod.sandbox.as_ref().expect("made").pidfd()));
    let cgroup = pod.sandbox().container_cgroup(&setup.id).expect("still there");
    cgroup.wait_empty(Instant::now() + PATIENCE).expect("the kernel ends the namespace");
    drop(cgroup);
    assert!(matches!(pod.sandbox().recv(), Err(SandboxError::InitGone { .. })));
    pod.remove();
}

#[test]
fn memory_that_is_not_counted_is_none() {
    require!(root, cgroup2, overlay, program("busybox"));
    let mut pod = Pod::new();
    let setup = pod.shell("c", "true");
    pod.run(&setup);
    let cgroup = pod.sandbox().container_cgroup(&setup.id).expect("there");
    let expected = if cgroup.read("memory.events").is_ok() { Some(false) } else { None };
    assert_eq!(oom_killed(&cgroup).expect("readable"), expected);
    drop(cgroup);
    pod.remove();
}

#[test]
fn a_sandbox_is_made_once_and_again_after_its_end() {
    require!(root, cgroup2, overlay, program("busybox"));
    let mut pod = Pod::new();
    let mine = pod.plan.run_dir.join("mine");
    fs::write(&mine, "").expect("write");
    let again = Sandbox::create(&pod.plan, &init_program(), &pod.cgroup_mount);
    assert!(matches!(again, Err(SandboxError::Exists { .. })));
    pod.sandbox().pidfd().send_signal(libc::SIGKILL).expect("killed");
    pod.sandbox.take().expect("made").stop().expect("stopped");
    let mut pod = pod.created();
    assert_eq!(pod.output("echo again"), "again\n");
    fs::remove_file(mine).expect("what others keep in the directory stays");
    pod.remove();
}

#[test]
fn what_fails_half_way_leaves_nothing() {
    require!(root, cgroup2, overlay, program("busybox"));
    let mut pod = Pod::planned();
    pod.plan.sysctls = vec![("net.no.such".to_owned(), "1".to_owned())];
    let error =
        Sandbox::create(&pod.plan, &init_program(), &pod.cgroup_mount).expect_err("no such parameter");
    assert_eq!(error.to_string(), "set the sandbox up: set net.no.such to \"1\": no such file or directory");
    assert!(!pod.plan.run_dir.exists());
    assert!(!pod.cgroup_mount.join(&pod.plan.cgroup.path).exists());
    pod.remove();
}
