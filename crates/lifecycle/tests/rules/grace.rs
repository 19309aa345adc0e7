//! Semantics 8: how the grace is spent between hook, turn, stop signal and kill.

use crate::story::story;

/// What a preStop hook does.
#[derive(Clone, Copy, Debug)]
enum Hook {
    None,
    Takes { millis: u64 },
    Fails,
    Hangs,
}

const HOOKS: [Hook; 10] = [
    Hook::None,
    Hook::Takes { millis: 0 },
    Hook::Takes { millis: 400 },
    Hook::Takes { millis: 1000 },
    Hook::Takes { millis: 1999 },
    Hook::Takes { millis: 3000 },
    Hook::Takes { millis: 4500 },
    Hook::Takes { millis: 9000 },
    Hook::Fails,
    Hook::Hangs,
];

/// When the process obeys, in milliseconds after the stop signal; none if never.
const OBEYS: [Option<u64>; 5] = [None, Some(0), Some(1500), Some(2000), Some(6000)];

/// The rule, written down a second time: milliseconds from the beginning of the stop to the stop signal and to the kill.
fn rule(grace: u64, hook: Hook) -> (u64, u64) {
    let bound = grace * 1000;
    let took = match hook {
        _ if grace == 0 => 0,
        Hook::None | Hook::Fails => 0,
        Hook::Takes { millis } => millis.min(bound),
        Hook::Hangs => bound,
    };
    let left = grace - took / 1000;
    (took, took + left.max(2) * 1000)
}

fn check(spec: &str, begin: u64, grace: u64, hook: Hook, obeys: Option<u64>, how: &str) {
    let (signal, kill) = rule(grace, hook);
    let mode = match hook {
        Hook::None => String::new(),
        Hook::Takes { millis } => format!(" 0s:hook:c/preStop={millis}ms"),
        Hook::Fails => " 0s:hook:c/preStop=fail".to_owned(),
        Hook::Hangs => " 0s:hook:c/preStop=hang".to_owned(),
    };
    let term = obeys.map_or_else(|| " 0s:ignore-term:c".to_owned(), |after| format!(" 0s:term:c={after}ms"));
    let life = story(spec, &format!("{how}{mode}{term}"));
    #[expect(clippy::cast_precision_loss, reason = "small numbers")]
    let at = |millis: u64, what: &str| format!("{} {what} c", (begin * 1000 + millis) as f64 / 1000.0);
    let mut expected = Vec::new();
    if grace > 0 && !matches!(hook, Hook::None) {
        expected.push(at(0, "hook"));
    }
    expected.push(at(signal, "term"));
    if obeys.is_none_or(|after| signal + after > kill) {
        expected.push(at(kill, "kill"));
    }
    let mut stops = life.stops();
    stops.retain(|stop| stop.ends_with(" c"));
    // What comes after is the stop of another run.
    stops.truncate(expected.len());
    assert_eq!(stops, expected, "grace {grace} {hook:?} obeys {obeys:?} {how}\n{}", life.text());
    let failed = !life.events(&["FailedPreStopHook"]).is_empty();
    let hung = matches!(hook, Hook::Hangs) || matches!(hook, Hook::Takes { millis } if millis > kill);
    let died = hung && grace > 0;
    assert!(failed || !(matches!(hook, Hook::Fails) && grace > 0), "{hook:?}\n{}", life.text());
    assert!(!died || failed, "a command that is cut off has failed: {hook:?} grace {grace}\n{}", life.text());
}

/// Returns a Pod whose container has the hook, with this much else in it.
fn spec(pod: &str, container: &str, hook: Hook) -> String {
    let hook = match hook {
        Hook::None => "",
        _ => "lifecycle: {preStop: {exec: {command: [x]}}}, ",
    };
    format!("{pod}, containers: [{{name: c, image: i, {hook}{container}}}]")
}

#[test]
fn a_deletion_spends_its_grace_in_whole_seconds() {
    let mut cases = 0;
    for hook in HOOKS {
        for obeys in OBEYS {
            for grace in 1..=12 {
                // As the deletion asks, and as the Pod has it; at least a second.
                let own = spec(&format!("terminationGracePeriodSeconds: {grace}"), "", hook);
                check(&own, 5, grace, hook, obeys, "5s:delete");
                check(
                    &spec("restartPolicy: Never", "", hook),
                    5,
                    grace,
                    hook,
                    obeys,
                    &format!("5s:delete={grace}"),
                );
                cases += 2;
            }
            check(&spec("terminationGracePeriodSeconds: 0", "", hook), 5, 1, hook, obeys, "5s:delete");
            check(&spec("terminationGracePeriodSeconds: 30", "", hook), 5, 1, hook, obeys, "5s:evict=big. ");
            cases += 2;
        }
    }
    assert_eq!(cases, 1300);
}

#[test]
fn a_failed_probe_takes_its_own_grace_or_the_pods() {
    let mut cases = 0;
    for probe in ["liveness", "startup"] {
        for hook in HOOKS {
            for obeys in OBEYS {
                for grace in [1, 2, 3, 5, 9] {
                    for own in [true, false] {
                        let (pod, own) = if own {
                            (60, format!("terminationGracePeriodSeconds: {grace}, "))
                        } else {
                            (grace, String::new())
                        };
                        let probes = format!(
                            "{probe}Probe: {{{own}tcpSocket: {{port: 1}}, periodSeconds: 1, failureThreshold: 1}}"
                        );
                        let spec = spec(&format!("terminationGracePeriodSeconds: {pod}"), &probes, hook);
                        let script = format!("0s:probe:c/{probe}=fail 0s:probe:c/{probe}=fail");
                        check(&spec, 0, grace, hook, obeys, &script);
                        cases += 1;
                    }
                }
            }
        }
    }
    assert_eq!(cases, 1000);
}

#[test]
fn a_failed_post_start_hook_leads_to_a_stop_with_the_pods_grace() {
    for hook in HOOKS {
        for obeys in OBEYS {
            for grace in [0, 1, 2, 3, 7] {
                let pod = format!("terminationGracePeriodSeconds: {grace}");
                let spec = spec(&pod, "", hook)
                    .replace("lifecycle: {", "lifecycle: {postStart: {exec: {command: [x]}}, ");
                if spec.contains("postStart") {
                    check(&spec, 0, grace, hook, obeys, "0s:hook:c/postStart=fail 9s:hook:c/postStart=ok");
                }
            }
        }
    }
}

#[test]
fn without_grace_there_is_neither_hook_nor_signal() {
    let spec = spec("terminationGracePeriodSeconds: 9", "", Hook::Hangs);
    for (script, expected) in [
        ("5s:delete=0", vec!["5 kill c"]),
        ("0s:hook:c/preStop=hang 5s:delete 6s:delete=0", vec!["5 hook c", "6 kill c"]),
        (
            "0s:hook:c/preStop=1s 0s:ignore-term:c 5s:delete 7s:delete=0",
            vec!["5 hook c", "6 term c", "7 kill c"],
        ),
        (
            "0s:hook:c/preStop=hang 0s:ignore-term:c 5s:delete 15s:delete=0",
            vec!["5 hook c", "14 term c", "15 kill c"],
        ),
    ] {
        let life = story(&spec, script);
        let stops: Vec<_> = life.stops().into_iter().filter(|s| s.ends_with(" c")).collect();
        assert_eq!(stops, expected, "{script}");
    }
}

#[test]
fn a_second_deletion_does_not_interrupt_the_first() {
    let spec = spec("terminationGracePeriodSeconds: 30", "", Hook::Takes { millis: 0 });
    for (script, kill) in [
        ("0s:ignore-term:c 5s:delete 6s:delete=1", "35 kill c"),
        ("0s:ignore-term:c 5s:delete=10 6s:delete=1 7s:delete=60", "15 kill c"),
        ("0s:ignore-term:c 0s:hook:c/preStop=4s 5s:delete=10 6s:delete=1", "15 kill c"),
    ] {
        let life = story(&spec, script);
        assert_eq!(life.stops()[2], kill, "{script}\n{}", life.text());
    }
}

#[test]
fn a_deletion_gives_a_stop_that_has_another_cause_its_own_grace() {
    let live = "livenessProbe: {tcpSocket: {port: 1}, periodSeconds: 1, failureThreshold: 1, terminationGracePeriodSeconds: 20}";
    let plain = spec("terminationGracePeriodSeconds: 60", live, Hook::None);
    let hooked = spec("terminationGracePeriodSeconds: 60", live, Hook::Hangs);
    let fail = "0s:probe:c/liveness=fail 0s:ignore-term:c";
    for (spec, script, expected) in [
        // Shorter and longer than what is left; the signal is not sent again.
        (&plain, "5s:delete=4", vec!["0 term c", "9 kill c"]),
        (&plain, "5s:delete=40", vec!["0 term c", "45 kill c"]),
        (&plain, "5s:delete=1", vec!["0 term c", "7 kill c"]),
        // The hook goes on, within the new grace, and is not run again.
        (&hooked, "5s:delete=4", vec!["0 hook c", "9 term c", "11 kill c"]),
        // What was killed already is dead.
        (&plain, "25s:delete=40", vec!["0 term c", "20 kill c"]),
    ] {
        let hang = if spec.contains("preStop") { " 0s:hook:c/preStop=hang" } else { "" };
        let life = story(spec, &format!("{fail}{hang} {script}"));
        let mut stops = life.stops();
        stops.truncate(expected.len());
        assert_eq!(stops, expected, "{script}\n{}", life.text());
    }
}

#[test]
fn what_is_stopped_says_why_once() {
    let live = "livenessProbe: {tcpSocket: {port: 1}, periodSeconds: 1, failureThreshold: 1}";
    let spec = spec("", live, Hook::None).trim_start_matches(", ").to_owned();
    let life = story(&spec, "0s:ignore-term:c 3s:probe:c/liveness=fail 10s:delete=3");
    assert_eq!(
        life.events(&["Killing"]),
        [
            "3 Killing: Container c failed liveness probe, will be restarted",
            "10 Killing: Stopping container c"
        ]
    );
}
