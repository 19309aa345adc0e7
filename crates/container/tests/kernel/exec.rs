//! Commands beside the main process of a container.

use std::fs;
use std::io::{self, PipeReader, Read};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use podrun_plan::model::{ContainerSetup, Owner};
use podrun_sandbox::protocol::{ExecTarget, ExitStatus, Failure, Stage};
use podrun_sandbox::{Exec, ExecEvent, Execs, Stdio};
use podrun_testkit::require;

use crate::common::{PATIENCE, Pod, chain, eventually, is_readable};

/// A command and what it writes, both streams in one.
pub(crate) struct Running {
    pub(crate) exec: Exec,
    pub(crate) output: PipeReader,
}

/// A command that has ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Ended {
    pub(crate) status: ExitStatus,
    pub(crate) output: String,
}

fn execs(pod: &Pod) -> Execs {
    Execs::new(&pod.plan).expect("there is a sandbox")
}

pub(crate) fn begin(pod: &Pod, setup: &ContainerSetup, args: &[&str]) -> Running {
    let (output, writer) = io::pipe().expect("a pipe");
    let args: Vec<String> = args.iter().map(|arg| (*arg).to_owned()).collect();
    let stdio = Stdio::Pipes { stdin: None, stdout: writer.as_fd(), stderr: writer.as_fd() };
    let exec = execs(pod).start(ExecTarget::Id(setup.id.clone()), &args, &stdio);
    Running { exec: exec.unwrap_or_else(|error| panic!("{}", chain(&error))), output }
}

pub(crate) fn next(exec: &mut Exec) -> ExecEvent {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(event) = exec.recv().expect("init is there") {
            return event;
        }
        let left = deadline.saturating_duration_since(Instant::now());
        let mut fds = [PollFd::new(exec.events(), PollFlags::POLLIN)];
        let ready = poll(&mut fds, PollTimeout::try_from(left).expect("fits")).expect("poll");
        assert!(ready > 0, "nothing happened in {PATIENCE:?}");
    }
}

/// Waits until init has closed the connection: everything is removed.
fn closed(exec: &Exec) {
    let mut fds = [PollFd::new(exec.connection(), PollFlags::POLLIN)];
    let patience = PollTimeout::try_from(PATIENCE).expect("fits");
    assert!(poll(&mut fds, patience).expect("poll") > 0, "not closed in {PATIENCE:?}");
}

impl Running {
    pub(crate) fn started(pod: &Pod, setup: &ContainerSetup, args: &[&str]) -> Self {
        let mut running = begin(pod, setup, args);
        assert_eq!(next(&mut running.exec), ExecEvent::Started);
        running
    }

    fn end(mut self) -> Ended {
        let mut output = String::new();
        // Before anything is waited for: a command that has more to say than a pipe holds does not end unread.
        self.output.read_to_string(&mut output).expect("read");
        let ExecEvent::Exited(status) = next(&mut self.exec) else { panic!("it ends first") };
        assert_eq!(next(&mut self.exec), ExecEvent::Gone);
        closed(&self.exec);
        Ended { status, output }
    }
}

pub(crate) fn run(pod: &Pod, setup: &ContainerSetup, args: &[&str]) -> Ended {
    Running::started(pod, setup, args).end()
}

pub(crate) fn shell(pod: &Pod, setup: &ContainerSetup, script: &str) -> String {
    let ended = run(pod, setup, &["sh", "-c", script]);
    assert_eq!(ended.status, ExitStatus::Code(0), "{script}: {}", ended.output);
    ended.output
}

pub(crate) fn refused(pod: &Pod, setup: &ContainerSetup, args: &[&str]) -> Failure {
    let mut running = begin(pod, setup, args);
    let ExecEvent::Failed(failure) = next(&mut running.exec) else { panic!("it must fail") };
    assert_eq!(next(&mut running.exec), ExecEvent::Gone);
    closed(&running.exec);
    failure
}

/// A container whose process 1 reaps nobody.
pub(crate) fn sleeper(pod: &mut Pod) -> ContainerSetup {
    let setup = pod.setup("sleeper", &["sleep", "10000"]);
    pod.start(&setup);
    setup
}

#[test]
fn a_command_tells_how_it_ended_and_what_it_wrote() {
    require!(root, cgroup2, overlay, program("busybox"));
    let mut pod = Pod::new();
    let setup = sleeper(&mut pod);
    let ended = run(&pod, &setup, &["sh", "-c", "echo out; echo err >&2; exit 7"]);
    assert_eq!(ended, Ended { status: ExitStatus::Code(7), output: "out\nerr\n".to_owned() });
    let killed = run(&pod, &setup, &["sh", "-c", "kill -15 $$"]);
    assert_eq!(killed.status, ExitStatus::Signal(15));
    // More than a pipe holds.
    assert_eq!(shell(&pod, &setup, "seq 1 20000").lines().count(), 20_000);
    assert_eq!(shell(&pod, &setup, "cat; readlink /proc/self/fd/0; echo \"$1\""), "/dev/null\n\n");
    pod.remove();
}

#[test]
fn what_cannot_be_executed_says_why() {
    require!(root, cgroup2, overlay, program("busybox"));
    let mut pod = Pod::new();
    let setup = sleeper(&mut pod);
    let missing = refused(&pod, &setup, &["nosuch"]);
    assert_eq!((missing.stage, missing.errno), (Stage::Exec, libc::ENOENT));
    assert_eq!(missing.message, "exec \"nosuch\": executable file not found in $PATH");
    let directory = refused(&pod, &setup, &["/tmp"]);
    assert_eq!((directory.stage, directory.errno), (Stage::Exec, libc::EACCES));
    assert_eq!(refused(&pod, &setup, &[]).stage, Stage::Exec);
    let other = pod.setup("other", &["true"]);
    let stranger = refused(&pod, &other, &["true"]);
    assert_eq!((stranger.stage, stranger.errno), (Stage::Sandbox, libc::ESRCH));
    pod.remove();
}

/// What is the same in every process of a container, by name, as the shell of the image finds it out.
const FINGERPRINT: &str = "
    cd /proc/self/ns; for n in *; do echo ns $n $(readlink $n); done; cd \"$OLDPWD\"
    grep -E '^(Umask|Uid|Gid|Groups|Cap.*|NoNewPrivs|Seccomp.*|Cpus_allowed|Mems_allowed|Sig(Blk|Ign|Cgt)):' \
        /proc/self/status
    cat /proc/self/limits /proc/self/oom_score_adj /proc/self/mountinfo
    ls -l /proc/self/fd/ 2>/dev/null | grep -c -E ' [3-9] -> /dev|socket|anon_inode'
    umask; id; pwd; hostname; env | sort | grep -v -E '^(SHLVL|_|OLDPWD)='
    readlink /proc/self/root; readlink /proc/self/cwd; tr '\\0' ' ' </proc/self/timens_offsets";

#[test]
fn a_command_is_what_the_main_process_is() {
    require!(root, cgroup2, overlay, program("busybox"));
    for (pid, uid, no_new_privs, privileged) in [
        (Owner::Container, None, false, false),
        (Owner::Container, Some(1000), true, false),
        (Owner::Pod, Some(1000), false, false),
        (Owner::Pod, None, true, true),
        (Owner::Host, None, false, false),
    ] {
        let mut pod = Pod::planned();
        pod.plan.namespaces.pid = pid;
        let mut pod = pod.created();
        let mut setup = pod.shell("c", &format!("{FINGERPRINT}; echo end; exec sleep 10000"));
        setup.image_user = "app".to_owned();
        setup.cwd = "/home/app".to_owned();
        setup.env.push("GREETING=hello  world".to_owned());
        setup.security.run_as_user = uid;
        setup.security.supplemental_groups = vec![3000, 4000];
        setup.security.no_new_privs = no_new_privs;
        setup.security.rlimits = vec![("NOFILE".to_owned(), 100, 200), ("CORE".to_owned(), 0, 0)];
        setup.oom_score_adj = 999;
        if privileged {
            setup.security.privileged = true;
            setup.security.seccomp = false;
            setup.security.capabilities = u64::MAX >> 23;
            setup.namespaces.cgroup = Owner::Host;
        }
        pod.start(&setup);
        let log = || crate::common::content(&fs::read_to_string(&setup.log_path).expect("a log"));
        eventually("the main process has told", || log().ends_with("end\n"));
        let main = log().replace("end\n", "");
        let command = shell(&pod, &setup, FINGERPRINT);
        let what = format!("pid {pid:?} uid {uid:?} no_new_privs {no_new_privs} privileged {privileged}");
        assert!(main.contains("GREETING=hello  world") && main.lines().count() > 60, "{main}");
        for none in ["SigBlk", "SigIgn", "SigCgt"].map(|set| format!("{set}:\t{:016x}\n", 0)) {
            assert!(main.contains(&none), "{none} {main}");
        }
        for (main, command) in main.lines().zip(command.lines()) {
            assert_eq!(main, command, "{what}");
        }
        assert_eq!(main.lines().count(), command.lines().count(), "{what}");
        pod.remove();
    }
}

#[test]
fn a_command_has_three_descriptors_and_a_leaf_of_its_own() {
    require!(root, cgroup2, overlay, program("busybox"));
    let mut pod = Pod::new();
    let setup = sleeper(&mut pod);
    // `ls` itself opens the directory as 3.
    assert_eq!(shell(&pod, &setup, "ls /proc/self/fd | tr '\\n' ' '"), "0 1 2 3 ");
    let cgroup = shell(&pod, &setup, "grep ^0 /proc/self/cgroup");
    assert!(cgroup.starts_with("0::/exec-"), "{cgroup}");
    let leaves = pod.sandbox().container_cgroup(&setup.id).expect("there").children().expect("listed");
    assert_eq!(leaves, Vec::<String>::new());
    pod.remove();
}

#[test]
fn a_thousand_commands_leave_nothing() {
    require!(root, cgroup2, overlay, program("busybox"));
    let mut pod = Pod::new();
    let setup = sleeper(&mut pod);
    let init = pod.sandbox().pidfd().pid().expect("read").expect("alive");
    let state = |pod: &Pod| {
        let descriptors = fs::read_dir(format!("/proc/{init}/fd")).expect("init's").count();
        let processes = shell(pod, &setup, "cd /proc; ls -d [0-9]* | wc -l");
        (descriptors, processes)
    };
    // The first one has something made that stays.
    shell(&pod, &setup, "true");
    let before = state(&pod);
    for round in 0..250 {
        // Four at a time: one is dropped, one leaves a daemon behind, one fails.
        let dropped = begin(&pod, &setup, &["sleep", "1000"]);
        let daemon = begin(&pod, &setup, &["sh", "-c", "(setsid sleep 1000 >/dev/null 2>&1 &) & exit 3"]);
        let broken = begin(&pod, &setup, &["nosuch"]);
        let plain = run(&pod, &setup, &["true"]);
        assert_eq!(plain.status, ExitStatus::Code(0), "{round}");
        drop((dropped, daemon, broken));
    }
    let cgroup = pod.sandbox().container_cgroup(&setup.id).expect("there");
    eventually("the leaves are gone", || cgroup.children().expect("listed").is_empty());
    eventually("all is as before", || state(&pod) == before);
    drop(cgroup);
    pod.remove();
}

#[test]
fn what_a_command_leaves_behind_is_killed_and_reaped() {
    require!(root, cgroup2, overlay, program("busybox"));
    let mut pod = Pod::new();
    // Its process 1 never reaps anybody.
    let setup = sleeper(&mut pod);
    let tree = "(setsid sh -c '(sleep 1000 & sleep 1000) & sleep 1000' >/dev/null 2>&1 &); sleep 1000 & ";
    for end in ["exit 5", "wait", "exec sleep 1000"] {
        let script = format!("{tree} echo up; exec >/dev/null 2>&1; {end}");
        let mut running = Running::started(&pod, &setup, &["sh", "-c", &script]);
        let mut word = [0; 3];
        running.output.read_exact(&mut word).expect("its word");
        if end == "exit 5" {
            assert_eq!(next(&mut running.exec), ExecEvent::Exited(ExitStatus::Code(5)));
            assert!(!is_readable(running.exec.events()), "what is left lives on");
        }
        running.exec.kill().expect("asked");
        let last = next(&mut running.exec);
        if end != "exit 5" {
            assert_eq!(last, ExecEvent::Exited(ExitStatus::Signal(libc::SIGKILL)), "{end}");
            assert_eq!(next(&mut running.exec), ExecEvent::Gone);
        }
        closed(&running.exec);
        let processes = shell(&pod, &setup, "ps -o pid,ppid,stat,args");
        assert_eq!(processes.matches("sleep").count(), 1, "{end}: {processes}");
        assert!(!processes.contains(" Z"), "{end}: {processes}");
    }
    pod.remove();
}

#[test]
fn a_daemon_may_be_left_and_dies_with_the_container() {
    require!(root, cgroup2, overlay, program("busybox"));
    for pid in [Owner::Container, Owner::Pod] {
        let mut pod = Pod::planned();
        pod.plan.namespaces.pid = pid;
        let mut pod = pod.created();
        let setup = pod.shell("c", "sleep 10000 & echo $! >/tmp/pid; wait");
        pod.start(&setup);
        let script = "setsid sleep 4321 >/dev/null 2>&1 & exit 0";
        let mut running = Running::started(&pod, &setup, &["sh", "-c", script]);
        assert_eq!(next(&mut running.exec), ExecEvent::Exited(ExitStatus::Code(0)));
        running.exec.leave().expect("told");
        let daemon = "ps -o args | grep -c '[s]leep 4321'; true";
        assert_eq!(shell(&pod, &setup, daemon), "1\n");
        let cgroup = pod.sandbox().container_cgroup(&setup.id).expect("there");
        assert_eq!(cgroup.children().expect("listed").len(), 1, "its leaf is kept");
        shell(&pod, &setup, "kill -9 $(ps -o pid,args | grep '[s]leep 4321' | awk '{print $1}')");
        eventually("its leaf goes with it", || cgroup.children().expect("listed").is_empty());

        let mut running = Running::started(&pod, &setup, &["sh", "-c", script]);
        assert_eq!(next(&mut running.exec), ExecEvent::Exited(ExitStatus::Code(0)));
        running.exec.leave().expect("told");
        let mut waiting = Running::started(&pod, &setup, &["sleep", "1000"]);
        pod.sandbox().signal(&setup.id, libc::SIGKILL).expect("told");
        pod.wait(&setup);
        // The parent of the command is killed with everything: how it ended is not told then.
        assert_eq!(next(&mut waiting.exec), ExecEvent::Gone, "{pid:?}");
        eventually("nobody is left", || cgroup.children().expect("listed").is_empty());
        drop(cgroup);
        pod.remove();
    }
}

#[test]
fn commands_need_no_supervisor_and_end_with_their_caller() {
    require!(root, cgroup2, overlay, program("busybox"));
    let mut pod = Pod::new();
    let setup = sleeper(&mut pod);
    let cgroup = pod.sandbox().container_cgroup(&setup.id).expect("there");
    let waiting = Running::started(&pod, &setup, &["sleep", "1000"]);
    let supervisor = pod.sandbox.take();
    drop(supervisor);
    assert_eq!(shell(&pod, &setup, "echo alone"), "alone\n");
    let (sandbox, _) = podrun_sandbox::Sandbox::adopt(&pod.plan, &pod.cgroup_mount)
        .expect("init answers")
        .expect("there is a sandbox");
    pod.sandbox = Some(sandbox);
    assert!(!is_readable(waiting.exec.events()), "it is not the supervisor's");
    drop(waiting);
    eventually("it is gone", || cgroup.children().expect("listed").is_empty());
    drop(cgroup);
    pod.remove();
}

#[test]
fn output_that_is_no_pipe_is_refused() {
    require!(root, cgroup2, overlay, program("busybox"));
    let mut pod = Pod::new();
    let setup = sleeper(&mut pod);
    let file = fs::File::create(pod.root.path().join("file")).expect("a file of the host");
    let stdio = Stdio::Pipes { stdin: None, stdout: file.as_fd(), stderr: file.as_fd() };
    let args = ["true".to_owned()];
    let mut exec = execs(&pod).start(ExecTarget::Id(setup.id.clone()), &args, &stdio).expect("asked");
    assert_eq!(next(&mut exec), ExecEvent::Gone);
    closed(&exec);
    pod.remove();
}

#[test]
fn a_slow_reader_is_waited_for() {
    require!(root, cgroup2, overlay, program("busybox"));
    let mut pod = Pod::new();
    let setup = sleeper(&mut pod);
    let running = Running::started(&pod, &setup, &["sh", "-c", "seq 1 100000 | tail -n 100000"]);
    std::thread::park_timeout(Duration::from_millis(100));
    let mut reader = running.output;
    let mut output = String::new();
    reader.read_to_string(&mut output).expect("read");
    assert_eq!(output.lines().count(), 100_000);
    pod.remove();
}
