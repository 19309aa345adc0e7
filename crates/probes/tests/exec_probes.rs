//! Commands: verdicts, bounds, and that nothing is left of them.

mod common;

use std::fs;
use std::os::fd::AsFd as _;
use std::path::Path;
use std::time::{Duration, Instant};

use common::{LONG, SHORT, SLACK, TestCgroup};
use podrun_namespaces::{Kind, Kinds, Namespace, on_thread_in};
use podrun_probes::exec::{DirectSpawner, End, NoExec, Process as _, Spawner as _, probe, run};
use podrun_probes::{Error, Executor, Handler, Hook, MAX_OUTPUT, Network, Outcome};
use podrun_testkit::require;

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

fn shell(script: &str) -> Vec<String> {
    words(&["/bin/sh", "-c", script])
}

fn spawner(group: &TestCgroup) -> DirectSpawner {
    let path = ("PATH".to_owned(), "/usr/bin:/bin".to_owned());
    DirectSpawner::new(group.handle()).expect("/dev/null").environment(vec![path])
}

#[tokio::test]
async fn the_exit_code_decides_and_the_output_is_told() {
    require!(root, cgroup2);
    let group = TestCgroup::new();
    let spawner = spawner(&group);
    let success = |output: &str| Outcome::Success { output: output.to_owned() };
    let failure = |output: &str| Outcome::Failure { output: output.to_owned() };
    for (command, expected) in [
        (words(&["true"]), success("")),
        (words(&["false"]), failure("")),
        (words(&["echo", "$HOME", "a  b"]), success("$HOME a  b\n")),
        (shell("echo out; echo err >&2; exit 3"), failure("out\nerr\n")),
        (shell("kill -9 $$"), failure("")),
        (shell("printf '\\033[2J'"), success("\\u{1b}[2J")),
        (shell("cat; echo $0 done"), success("/bin/sh done\n")),
        (shell("ls /proc/self/fd | wc -l"), success("4\n")),
    ] {
        assert_eq!(probe(&spawner, &command, LONG).await.expect("it starts"), expected, "{command:?}");
        group.assert_empty();
    }
}

#[tokio::test]
async fn a_command_that_cannot_be_started_is_no_verdict() {
    require!(root, cgroup2);
    let group = TestCgroup::new();
    let spawner = spawner(&group);
    for (command, expected) in [
        (words(&[]), "the command is empty"),
        (words(&[""]), "executable file \"\" not found in $PATH"),
        (words(&["no-such-program"]), "executable file \"no-such-program\" not found in $PATH"),
        (
            words(&["/no/such/program"]),
            "start \"/no/such/program\": execute the program in the new process: No such file or directory (os error 2)",
        ),
        (
            words(&["/etc"]),
            "start \"/etc\": execute the program in the new process: Permission denied (os error 13)",
        ),
        (words(&["true", "a\0b"]), "start \"true\": NUL byte in argument \"a\\0b\""),
    ] {
        let error = probe(&spawner, &command, LONG).await.expect_err("it does not start");
        assert_eq!(error.in_one_line(), expected);
        group.assert_empty();
    }
    let error = probe(&NoExec, &words(&["true"]), LONG).await.expect_err("there is no way");
    assert!(matches!(error, Error::NoExec));
}

#[tokio::test]
async fn at_the_timeout_the_whole_tree_is_killed() {
    require!(root, cgroup2);
    let group = TestCgroup::new();
    let spawner = spawner(&group);
    for script in [
        "sleep 1000",
        "trap '' TERM INT HUP; sleep 1000",
        "setsid sleep 1000 & sleep 1000",
        // It ends, but its child holds the output open.
        "sleep 1000 &",
        "(setsid sh -c 'sleep 1000 & sleep 1000' &) ; sleep 1000",
        "while :; do :; done",
        "yes",
    ] {
        let begun = Instant::now();
        let outcome = probe(&spawner, &shell(script), SHORT).await.expect("it starts");
        let took = begun.elapsed();
        let output = format!("command timed out: {:?} timed out after 200ms", format!("/bin/sh -c {script}"));
        assert_eq!(outcome, Outcome::Failure { output }, "{script}");
        assert!(took >= SHORT && took < SHORT + SLACK, "{script}: {took:?}");
        group.assert_empty();
    }
}

#[tokio::test]
async fn nothing_outlives_the_command_that_started_it() {
    require!(root, cgroup2);
    let group = TestCgroup::new();
    let spawner = spawner(&group);
    for script in [
        "sleep 1000 >/dev/null 2>&1 &",
        "setsid sleep 1000 >/dev/null 2>&1 & exit 3",
        "(setsid sh -c 'sleep 1000 & sleep 1000' >/dev/null 2>&1 &)",
    ] {
        let begun = Instant::now();
        let outcome = probe(&spawner, &shell(script), LONG).await.expect("it starts");
        assert_eq!(outcome.is_success(), !script.ends_with("exit 3"), "{script}: {outcome:?}");
        assert!(begun.elapsed() < Duration::from_secs(5), "{script}");
        group.assert_empty();
    }
}

#[tokio::test]
async fn output_is_bounded_and_does_not_block_the_command() {
    require!(root, cgroup2);
    let group = TestCgroup::new();
    let spawner = spawner(&group);
    let megabyte = shell("head -c 1000000 /dev/zero | tr '\\0' x; exit 1");
    let outcome = probe(&spawner, &megabyte, LONG).await.expect("it starts");
    assert_eq!(outcome, Outcome::Failure { output: "x".repeat(MAX_OUTPUT) });
    let finished = run(&spawner, &words(&["yes"]), Some(SHORT)).await.expect("it starts");
    assert_eq!((finished.end, finished.output.len()), (End::TimedOut, MAX_OUTPUT));
    assert!(finished.cleanup.is_ok(), "{finished:?}");
}

/// Awaits an event that is told by a change of a cgroup.
async fn until_empty(group: &TestCgroup) {
    let deadline = Instant::now() + LONG;
    while !group.cgroup.children().expect("a cgroup").is_empty() {
        assert!(Instant::now() < deadline, "something is left");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    group.assert_empty();
}

#[tokio::test]
async fn a_probe_that_is_given_up_leaves_nothing() {
    require!(root, cgroup2);
    let group = TestCgroup::new();
    let spawner = spawner(&group);
    let command = shell("setsid sleep 1000 & sleep 1000");
    // At different moments: before the clone, around it, and while it runs.
    for micros in [0, 50, 200, 500, 1000, 2000, 20_000] {
        let given_up =
            tokio::time::timeout(Duration::from_micros(micros), run(&spawner, &command, None)).await;
        assert!(given_up.is_err());
        until_empty(&group).await;
    }
    let mut process = spawner
        .spawn(&words(&["true"]), fs::File::open("/dev/null").expect("null").into())
        .await
        .expect("starts");
    assert!(process.wait().await.expect("it ends").success());
    assert!(process.wait().await.expect("again").success());
    drop(process);
    until_empty(&group).await;
}

#[tokio::test]
async fn hooks_run_commands_without_a_timeout_and_tell_why_they_failed() {
    require!(root, cgroup2);
    let group = TestCgroup::new();
    let executor = Executor::new(spawner(&group), Network::of_caller(), "127.0.0.1", "1.36");
    let hook = |script| Hook::Exec(shell(script));
    assert!(executor.hook(&hook("sleep 0.1")).await.is_ok());
    for (script, expected) in [
        ("echo no; exit 3", "command '/bin/sh -c echo no; exit 3' exited with 3: no\n"),
        ("kill -9 $$", "command '/bin/sh -c kill -9 $$' exited with 137: "),
    ] {
        let error = executor.hook(&hook(script)).await.expect_err("it fails");
        assert_eq!(error.to_string(), expected);
    }
    let error = executor.hook(&Hook::Exec(words(&["no-such-program"]))).await.expect_err("it fails");
    assert_eq!(error.to_string(), "the hook could not be run");
    group.assert_empty();
}

#[tokio::test]
async fn identical_probes_at_the_same_time_run_once() {
    require!(root, cgroup2);
    let group = TestCgroup::new();
    let directory = std::env::temp_dir().join(format!("podrun-probes-{}", std::process::id()));
    fs::create_dir(&directory).expect("a directory");
    let log = directory.join("log");
    let executor = Executor::new(spawner(&group), Network::of_caller(), "127.0.0.1", "1.36");
    let handler = |word: &str| Handler::Exec(shell(&format!("echo {word} >> {}; sleep 0.1", log.display())));
    let (one, other) = (handler("one"), handler("other"));
    let (first, second, third, fourth) = tokio::join!(
        executor.probe_shared(&one, LONG),
        executor.probe_shared(&one, LONG),
        executor.probe_shared(&other, LONG),
        executor.probe_shared(&one, LONG * 2),
    );
    for outcome in [first, second, third, fourth] {
        assert!(outcome.expect("it starts").is_success());
    }
    assert!(executor.probe_shared(&one, LONG).await.expect("it starts").is_success());
    let mut lines: Vec<_> = fs::read_to_string(&log).expect("a log").lines().map(str::to_owned).collect();
    lines.sort();
    assert_eq!(lines, ["one", "one", "one", "other"]);
    // Nobody waits any more: the command goes with the last who did.
    let long = Handler::Exec(shell("sleep 1000"));
    let wait = || tokio::time::timeout(SHORT, executor.probe_shared(&long, LONG));
    let (first, second) = tokio::join!(wait(), wait());
    assert!(first.is_err() && second.is_err());
    until_empty(&group).await;
    let missing = Handler::Exec(words(&["no-such-program"]));
    let (first, second) =
        tokio::join!(executor.probe_shared(&missing, LONG), executor.probe_shared(&missing, LONG));
    assert_eq!(first.expect_err("none").to_string(), second.expect_err("none").to_string());
    fs::remove_dir_all(&directory).expect("ours");
}

/// Keeps new namespaces for a test, and a process in them that must not be probed as somebody else's.
fn new_namespaces() -> Vec<Namespace> {
    let current = Namespace::of_current(Kind::Net).expect("proc");
    let made = on_thread_in(&current, || {
        podrun_namespaces::unshare(Kinds::NET | Kinds::UTS | Kinds::IPC | Kinds::MNT)?;
        [Kind::Net, Kind::Uts, Kind::Ipc, Kind::Mnt].into_iter().map(Namespace::of_current).collect()
    });
    made.and_then(|made: Result<Vec<_>, _>| made).expect("root may")
}

#[tokio::test]
async fn commands_run_in_the_given_namespaces_and_directory() {
    require!(root, cgroup2, netns);
    let group = TestCgroup::new();
    let namespaces = new_namespaces();
    let expected: String = namespaces.iter().map(|namespace| format!("{}\n", namespace.id())).collect();
    let inside = spawner(&group).namespaces(namespaces).directory("/proc");
    let script = "cd self/ns && readlink net uts ipc mnt; cd ../..; pwd";
    let outcome = probe(&inside, &shell(script), LONG).await.expect("it starts");
    assert_eq!(outcome, Outcome::Success { output: format!("{expected}/proc\n") });
    // Neither this thread nor its directory has moved.
    assert!(!expected.contains(&Namespace::of_current(Kind::Net).expect("proc").id().to_string()));
    assert_ne!(std::env::current_dir().expect("one"), Path::new("/proc"));
    let nowhere = spawner(&group).directory("/no/such");
    let error = probe(&nowhere, &words(&["true"]), LONG).await.expect_err("there is none");
    assert_eq!(
        error.in_one_line(),
        "change to directory \"/no/such\": No such file or directory (os error 2)"
    );
}

#[tokio::test]
async fn commands_are_among_the_processes_of_a_container() {
    require!(root, cgroup2);
    let group = TestCgroup::new();
    let null = fs::File::open("/dev/null").expect("null");
    let (stdin, hold) = std::io::pipe().expect("a pipe");
    let mut first = podrun_namespaces::Command::new("/bin/sh")
        .args(["-c", "read line"])
        .fds([stdin.as_fd(), null.as_fd(), null.as_fd()])
        .namespaces(Kinds::PID)
        .spawn()
        .expect("root may");
    let pids = Namespace::of_process(first.as_fd(), Kind::Pid).expect("it waits");
    let inside = spawner(&group).namespaces(vec![pids]);
    // Its parent is out of sight, and the first process is the shell.
    let outcome = probe(&inside, &shell("echo $$ $PPID; kill -0 1"), LONG).await.expect("it starts");
    assert_eq!(outcome, Outcome::Success { output: "2 0\n".to_owned() });
    group.assert_empty();
    drop(hold);
    first.wait().expect("it reads the end");
}
