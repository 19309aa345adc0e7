//! Logs hold every line once, in order, and can be read in every way.

mod common;

use common::{Podrun, WAIT_FOR_TERM, pod, sh, status, with_spec};
use podrun_testkit::require;
use serde_json::json;

const LINES: u32 = 100_000;

/// Fails unless the lines are the numbers from 1 to [`LINES`], in order, and `last`.
fn assert_numbers<'a>(lines: impl Iterator<Item = &'a str>, last: &str) {
    let mut expected = 1;
    for line in lines {
        if expected > LINES {
            assert_eq!(line, last);
        } else {
            assert_eq!(line.parse(), Ok(expected), "after {} lines", expected - 1);
        }
        expected += 1;
    }
    assert_eq!(expected, LINES + 2, "lines");
}

#[test]
fn two_fast_writers_lose_nothing() {
    require!(root, cgroup2, overlay, program("busybox"));
    let podrun = Podrun::new();
    let writer = |name: &str| sh(name, &format!("seq {LINES}; printf 'the end of {name}'"));
    let path = podrun.write(&pod("fast", &[writer("a"), writer("b")]));
    let mut followed = podrun.spawn(&["run", &path]);
    let mut lines = Vec::new();
    while let Some(line) = followed.line() {
        lines.push(line);
    }
    followed.finish().ok();
    for name in ["a", "b"] {
        let last = format!("the end of {name}");
        let prefix = format!("[{name}] ");
        assert_numbers(lines.iter().filter_map(|line| line.strip_prefix(&prefix)), &last);
        assert_numbers(podrun.logs("fast", name).lines(), &last);
    }
    podrun.finish();
}

#[test]
fn a_follower_sees_each_line_and_ends_with_the_container() {
    require!(root, cgroup2, overlay, program("busybox"));
    let podrun = Podrun::new();
    let script = format!("echo 0; until [ -e /dev/shm/go ]; do :; done; seq {LINES}; echo -n end");
    podrun.start(&pod("follow", &[sh("c", &script), sh("starter", "sleep 1; touch /dev/shm/go")]));
    podrun.wait_log("follow", "c", "0");
    let text = podrun.podrun(&["logs", "follow", "-c", "c", "-f"]).ok();
    assert_numbers(text.lines().skip(1), "end");
    podrun.finish();
}

#[test]
fn long_lines_stay_whole() {
    require!(root, cgroup2, overlay, program("busybox"));
    let podrun = Podrun::new();
    let script = "head -c 100000 /dev/zero | tr '\\0' x; echo; echo short; printf 'a\\000b\\n'";
    podrun.run(&pod("long", &[sh("c", script)])).ok();
    let log = podrun.logs("long", "c");
    let lines: Vec<&str> = log.lines().collect();
    assert_eq!((lines.len(), lines[0].len(), lines[1], lines[2]), (3, 100_000, "short", "a\0b"));
    podrun.finish();
}

#[test]
fn parts_of_a_log_can_be_asked_for() {
    require!(root, cgroup2, overlay, program("busybox"));
    let podrun = Podrun::new();
    let init = json!({ "initContainers": [sh("i", "echo from init")] });
    let containers = [sh("a", "seq 5"), sh("b", "echo from b")];
    podrun.run(&with_spec(pod("parts", &containers), init)).ok();
    let logs = |arguments: &[&str]| podrun.podrun(&[&["logs", "parts"], arguments].concat());
    for (arguments, expected) in [
        (&["-c", "a", "--tail", "2"][..], "4\n5\n"),
        (&["-c", "a", "--tail=0"], ""),
        (&["-c", "a", "--tail=-1"], "1\n2\n3\n4\n5\n"),
        (&["a", "--tail=1"], "5\n"),
        (&["-c", "a", "--limit-bytes=4"], "1\n2\n"),
        (&["-c", "a", "--since=1h", "--tail=1"], "5\n"),
        (&["-c", "a", "--since-time=2100-01-01T00:00:00Z"], ""),
        (&["-c", "b", "--prefix"], "[pod/parts/b] from b\n"),
        (&["--all-containers", "--tail=1"], "from init\n5\nfrom b\n"),
    ] {
        assert_eq!(logs(arguments).ok(), expected, "{arguments:?}");
    }
    let defaulted = logs(&["--tail=1"]);
    assert_eq!(defaulted.stdout, "5\n");
    assert!(defaulted.stderr.contains("Defaulted container \"a\" out of: a, b"), "{}", defaulted.stderr);
    let stamped = logs(&["-c", "b", "--timestamps"]).ok();
    let (time, text) = stamped.split_once(' ').expect("a time and a text");
    assert_eq!(text, "from b\n");
    assert!(time.len() == "2026-01-01T00:00:00.000000000Z".len() && time.ends_with('Z'), "{time}");
    assert!(logs(&["-c", "x"]).fails(4).contains("\"x\" in pod \"parts\" is not available"));
    podrun.finish();
}

#[test]
fn the_previous_run_can_be_read() {
    require!(root, cgroup2, overlay, program("busybox"));
    let podrun = Podrun::new();
    let script = format!(
        "[ -e /dev/shm/again ] || {{ touch /dev/shm/again; echo first; exit 1; }}; echo second; {WAIT_FOR_TERM}"
    );
    let spec = json!({ "restartPolicy": "OnFailure" });
    podrun.start(&with_spec(pod("previous", &[sh("c", &script)]), spec));
    podrun.wait_for("previous", &status("c", "restartCount"), "1");
    podrun.wait_ready("previous");
    podrun.wait_log("previous", "c", "second");
    assert_eq!(podrun.logs("previous", "c"), "second\n");
    assert_eq!(podrun.podrun(&["logs", "previous", "--previous"]).ok(), "first\n");
    podrun.delete("previous");

    podrun.run(&pod("once", &[sh("c", "true")])).ok();
    let error = podrun.podrun(&["logs", "once", "-p"]).fails(4);
    assert!(error.contains("previous terminated container \"c\" in pod \"once\" not found"), "{error}");
    podrun.finish();
}

#[test]
fn a_container_that_waits_hides_no_log() {
    require!(root, cgroup2, overlay, program("busybox"));
    let podrun = Podrun::new();
    let pod = with_spec(
        pod("web", &[sh("app", "true")]),
        json!({
            "restartPolicy": "Always",
            "initContainers": [sh("init", "echo no luck; exit 1")],
        }),
    );
    podrun.start(&pod);
    podrun.wait_event("web", "Back-off");
    let logs = podrun.podrun(&["logs", "web", "--all-containers", "--prefix"]);
    assert_eq!((logs.code, logs.stdout.as_str()), (1, "[pod/web/init] no luck\n"), "{}", logs.stderr);
    assert!(logs.stderr.contains("container \"app\" in pod \"web\" is waiting to start"), "{}", logs.stderr);
    podrun.finish();
}

#[test]
fn pods_with_a_label_have_their_last_lines_shown() {
    require!(root, cgroup2, overlay, program("busybox"));
    let podrun = Podrun::new();
    for name in ["a", "b"] {
        let mut pod = pod(name, &[sh("app", "seq 20")]);
        pod["metadata"]["labels"] = json!({ "app": "web" });
        podrun.start(&pod);
        podrun.wait_exit(name, "app");
    }
    let logs = |options: &[&str]| podrun.podrun(&[&["logs", "-l", "app=web"], options].concat()).ok();
    let last_ten: Vec<String> = (11..=20).chain(11..=20).map(|n| n.to_string()).collect();
    assert_eq!(logs(&[]).lines().collect::<Vec<_>>(), last_ten);
    assert_eq!(logs(&["--tail=1", "--prefix"]), "[pod/a/app] 20\n[pod/b/app] 20\n");
    assert_eq!(logs(&["--tail=-1"]).lines().count(), 40);
    podrun.podrun(&["logs", "-l", "app=web", "-f"]).fails(2);
    assert_eq!(podrun.podrun(&["logs", "-l", "app=db"]).ok(), "");
    podrun.finish();
}
