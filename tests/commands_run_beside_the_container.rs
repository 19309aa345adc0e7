//! `podrun exec`: as kubectl's, in whatever state the Pod's supervisor is.

mod common;

use std::fs::File;
use std::io::Write as _;
use std::process::Stdio;

use nix::pty::{OpenptyResult, openpty};
use podrun_sandbox::protocol::TerminalSize;
use podrun_testkit::require;
use serde_json::json;

use common::processes::{kill, supervisor, wait_for};
use common::{Podrun, Running, WAIT_FOR_TERM, container, pod, sh, with, with_spec};

/// Waits until something is true.
#[track_caller]
fn eventually(what: &str, mut test: impl FnMut() -> bool) {
    wait_for(what, || test().then_some(()));
}

#[test]
fn output_input_and_exit_code_are_the_commands() {
    require!(root, cgroup2, overlay, netns, program("busybox"));
    let podrun = Podrun::new();
    let app = with(
        sh("app", WAIT_FOR_TERM),
        json!({
            "env": [{"name": "GREETING", "value": "hello  world"}],
            "workingDir": "/tmp",
            "securityContext": {"runAsUser": 1234, "runAsGroup": 2345},
        }),
    );
    podrun.start(&pod("web", &[app, container("other", &["sleep", "1000"])]));
    podrun.wait_ready("web");

    let told = podrun.podrun(&[
        "exec",
        "web",
        "--",
        "sh",
        "-c",
        "echo \"$GREETING\"; pwd; id -u; id -g; echo err >&2; exit 3",
    ]);
    assert_eq!((told.code, told.stdout.as_str()), (3, "hello  world\n/tmp\n1234\n2345\n"));
    assert_eq!(told.stderr, "Defaulted container \"app\" out of: app, other\nerr\n");
    let other = podrun.podrun(&["exec", "web", "-c", "other", "--", "id", "-u"]);
    assert_eq!((other.code, other.stdout.as_str(), other.stderr.as_str()), (0, "0\n", ""));
    assert_eq!(podrun.podrun(&["exec", "pod/web/other", "hostname"]).ok(), "web\n");

    // Without -i it reads nothing; with it everything, to the end.
    let run =
        |arguments: &[&str]| Running::start_with_input(podrun.command(arguments), "some\nwords\n").finish();
    assert_eq!(run(&["exec", "-q", "web", "--", "wc", "-l"]).ok(), "0\n");
    assert_eq!(run(&["exec", "-q", "-i", "web", "--", "wc", "-l"]).ok(), "2\n");

    for (arguments, code, words) in [
        (vec!["exec", "-q", "web", "--", "sh", "-c", "kill -9 $$"], 137, ""),
        (
            vec!["exec", "-q", "web", "--", "nosuch"],
            127,
            "error: exec \"nosuch\": executable file not found in $PATH\n",
        ),
        (vec!["exec", "-q", "web", "--", "/etc"], 126, "error: exec \"/etc\": permission denied\n"),
        (vec!["exec", "nosuch", "--", "true"], 4, "error: pod \"default/nosuch\" not found\n"),
        (vec!["exec", "-c", "nosuch", "web", "--", "true"], 4, "hint: it has app, other\n"),
    ] {
        let stderr = podrun.podrun(&arguments).fails(code);
        assert!(stderr.ends_with(words), "{arguments:?}: {stderr}");
    }
    podrun.podrun(&["delete", "pod", "web", "--now"]).ok();
    podrun.finish();
}

#[test]
fn much_output_comes_whole_and_a_reader_may_go_away() {
    require!(root, cgroup2, overlay, netns, program("busybox"));
    let podrun = Podrun::new();
    podrun.start(&pod("web", &[sh("app", WAIT_FOR_TERM)]));
    podrun.wait_ready("web");
    let much = podrun.podrun(&["exec", "web", "--", "seq", "1", "200000"]).ok();
    assert_eq!(much.lines().count(), 200_000);
    let mut endless = podrun.spawn(&["exec", "web", "--", "yes"]);
    assert_eq!(endless.line().as_deref(), Some("y"));
    endless.signal(libc::SIGINT);
    endless.kill();
    eventually("it is killed with its caller", || {
        podrun.podrun(&["exec", "web", "--", "ps", "-o", "args"]).ok().matches("yes").count() == 0
    });
    podrun.podrun(&["delete", "pod", "web", "--now"]).ok();
    podrun.finish();
}

#[test]
fn no_supervisor_is_needed() {
    require!(root, cgroup2, overlay, netns, program("busybox"));
    let podrun = Podrun::new();
    let uid = podrun.start(&pod("web", &[sh("app", WAIT_FOR_TERM)]));
    podrun.wait_ready("web");
    let mut session =
        Running::start_with_input(podrun.command(&["exec", "-i", "web", "--", "cat"]), "before\n");
    assert_eq!(session.line().as_deref(), Some("before"));
    kill(&supervisor(&podrun, &uid).expect("it runs"));
    assert_eq!(podrun.podrun(&["exec", "web", "--", "echo", "alone"]).ok(), "alone\n");
    assert_eq!(podrun.get("web", "{.status.phase}"), "Running", "the next one has taken over");
    assert_eq!(session.finish().ok(), "", "the session has gone on to its end");
    podrun.podrun(&["delete", "pod", "web", "--now"]).ok();
    podrun.finish();
}

#[test]
fn a_terminal_is_the_containers_own() {
    require!(root, cgroup2, overlay, netns, program("busybox"));
    let podrun = Podrun::new();
    let app = with(sh("app", WAIT_FOR_TERM), json!({"securityContext": {"runAsUser": 1234}}));
    podrun.start(&pod("web", &[app]));
    podrun.wait_ready("web");
    let OpenptyResult { master, slave } = openpty(None, None).expect("a terminal");
    let size = |rows, columns| TerminalSize { rows, columns }.give_to(&slave).expect("a size");
    size(33, 77);
    let mut command = podrun.command(&["exec", "-it", "web", "--", "sh"]);
    command.stdin(Stdio::from(slave.try_clone().expect("a copy")));
    let mut session = Running::start(command);
    let mut keys = File::from(master);
    let mut answer = |session: &mut Running, line: &str| {
        keys.write_all(format!("{line}; echo E''ND\n").as_bytes()).expect("written");
        let mut text = String::new();
        loop {
            let line = session.line().expect("an answer");
            if line.trim_end() == "END" {
                return text;
            }
            if !line.contains("E''ND") {
                text += line.trim_end();
                text.push('\n');
            }
        }
    };
    assert!(answer(&mut session, "true").contains("built-in shell"), "it is interactive");
    assert_eq!(answer(&mut session, "tty; echo $TERM"), "/dev/pts/0\nxterm\n");
    assert_eq!(
        answer(&mut session, "stat -c %u /dev/pts/0; test -t 0 -a -t 1 -a -t 2; echo $?"),
        "1234\n0\n"
    );
    assert_eq!(answer(&mut session, "stty size"), "33 77\n");
    size(12, 34);
    session.signal(libc::SIGWINCH);
    eventually("the size is passed on", || answer(&mut session, "stty size") == "12 34\n");
    // Ctrl-C is the command's, and the shell's terminal is its controlling one.
    keys.write_all(b"sleep 1000\n").expect("written");
    eventually("it sleeps", || {
        podrun.podrun(&["exec", "web", "--", "ps", "-o", "args"]).ok().contains("sleep 1000")
    });
    keys.write_all(b"\x03").expect("written");
    keys.write_all(b"exit 7\n").expect("written");
    let mut rest = session.finish();
    rest.stderr.clear();
    assert_eq!(rest.code, 7, "{rest:?}");

    // Without a terminal of ours there is none there.
    let plain = podrun.podrun(&["exec", "-it", "web", "--", "sh", "-c", "test -t 1 || echo none"]);
    assert_eq!(plain.stdout, "none\n");
    assert!(plain.stderr.contains("standard input is no terminal"), "{}", plain.stderr);
    drop((keys, slave));
    podrun.podrun(&["delete", "pod", "web", "--now"]).ok();
    podrun.finish();
}

#[test]
fn a_daemon_lives_on_and_what_is_over_is_told() {
    require!(root, cgroup2, overlay, netns, program("busybox"));
    let podrun = Podrun::new();
    podrun.start(&with_spec(pod("web", &[sh("app", WAIT_FOR_TERM)]), json!({"shareProcessNamespace": true})));
    podrun.wait_ready("web");
    podrun.podrun(&["exec", "web", "--", "sh", "-c", "setsid sleep 4321 >/dev/null 2>&1 &"]).ok();
    let processes = podrun.podrun(&["exec", "web", "--", "ps", "-o", "args"]).ok();
    assert!(processes.contains("sleep 4321"), "{processes}");
    // It may be killed with the container.
    podrun.podrun(&[
        "exec",
        "web",
        "--",
        "sh",
        "-c",
        "kill $(ps -o pid,args | grep '[t]rap' | awk '{print $1}')",
    ]);
    podrun.wait_for("web", "{.status.phase}", "Succeeded");
    let stderr = podrun.podrun(&["exec", "web", "--", "true"]).fails(1);
    assert_eq!(
        stderr,
        "error: cannot exec into a container in a completed pod; current phase is Succeeded\n"
    );
    podrun.podrun(&["delete", "pod", "web", "--now"]).ok();
    podrun.finish();
}

#[test]
fn probes_leave_nothing_behind_and_a_hook_may_leave_a_daemon() {
    require!(root, cgroup2, overlay, netns, program("busybox"));
    let podrun = Podrun::new();
    // Its process 1 reaps nobody.
    let app = with(
        container("app", &["sleep", "100000"]),
        json!({
            "lifecycle": {"postStart": {"exec": {"command": ["sh", "-c", "setsid sleep 4321 >/dev/null 2>&1 &"]}}},
            "readinessProbe": {
                "exec": {"command": ["sh", "-c", "(setsid sleep 5432 >/dev/null 2>&1 &); exit 0"]},
                "periodSeconds": 1,
            },
            "livenessProbe": {
                "exec": {"command": ["sh", "-c", "(setsid sleep 6543 &); sleep 6543 & sleep 6543"]},
                "periodSeconds": 1,
                "timeoutSeconds": 1,
                "failureThreshold": 1000,
            },
        }),
    );
    podrun.start(&pod("web", &[app]));
    podrun.wait_ready("web");
    eventually("probes have timed out", || {
        podrun.podrun(&["describe", "pod", "web"]).ok().contains("Liveness probe failed: command timed out")
    });
    // Between two probes there is a moment without any.
    eventually("nothing of a probe is left", || {
        let processes = podrun.podrun(&["exec", "web", "--", "ps", "-o", "stat,args"]).ok();
        assert!(processes.contains("sleep 4321"), "the daemon lives: {processes}");
        assert!(processes.matches("sleep 6543").count() <= 4, "they do not pile up: {processes}");
        // One that has just ended may be about to be reaped; one that nobody reaps stays.
        !processes.contains("sleep 5432") && !processes.lines().any(|line| line.starts_with('Z'))
    });
    podrun.podrun(&["delete", "pod", "web", "--now"]).ok();
    podrun.finish();
}
