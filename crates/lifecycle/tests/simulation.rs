//! Scripts are read, checked and carried out.

use std::time::Duration;

use podrun_lifecycle::simulate::{End, Fact, Options, Script, ScriptError, TimedFact, simulate};
use podrun_lifecycle::{Input, LineKind};
use podrun_spec::model::Pod;
use podrun_spec::status::Phase;

fn pod(spec: &str) -> Pod {
    let text = format!("{{apiVersion: v1, kind: Pod, metadata: {{name: p}}, spec: {{{spec}}}}}");
    podrun_spec::parse("p.yaml", &text).expect("a valid Pod").pods.remove(0).pod
}

const WEB: &str = "containers: [{name: web, image: 'i:1', livenessProbe: {tcpSocket: {port: 1}},
                   lifecycle: {preStop: {sleep: {seconds: 1}}}}]";

#[test]
fn facts_are_read() {
    let ms = Duration::from_millis;
    for (text, at, fact) in [
        ("30s:exit:web=137", ms(30_000), Fact::Exit("web".to_owned(), 137)),
        ("1m30s:oom:web", ms(90_000), Fact::Oom("web".to_owned())),
        ("1h1m1s1ms:delete", ms(3_661_001), Fact::Delete(None)),
        ("1.5s:delete=0", ms(1500), Fact::Delete(Some(0))),
        ("0s:run:web=5s/1", ms(0), Fact::Run("web".to_owned(), Some((ms(5000), 1)))),
        ("0s:run:web=on", ms(0), Fact::Run("web".to_owned(), None)),
        ("2s:ignore-term:web", ms(2000), Fact::Term("web".to_owned(), None)),
        ("2s:term:web=3s", ms(2000), Fact::Term("web".to_owned(), Some(ms(3000)))),
        ("2s:term:web=7", ms(2000), Fact::TermCode("web".to_owned(), 7)),
        ("2s:volumes=fail", ms(2000), Fact::Volumes(false)),
        ("2s:sandbox=ok", ms(2000), Fact::Sandbox(true)),
        ("2s:sandbox-lost", ms(2000), Fact::SandboxLost),
        ("2s:condition:a.b/c=True", ms(2000), Fact::Condition("a.b/c".to_owned(), true)),
        ("0s:reject:OutOfcpu=none left", ms(0), Fact::Reject("OutOfcpu".to_owned(), "none left".to_owned())),
        ("0s:unschedulable=0/1 nodes: none", ms(0), Fact::Unschedulable("0/1 nodes: none".to_owned())),
        ("9s:admit", ms(9000), Fact::Admit),
        ("9s:evict=too big. ", ms(9000), Fact::Evict("too big. ".to_owned())),
    ] {
        assert_eq!(text.parse::<TimedFact>(), Ok(TimedFact { at, fact }), "{text}");
    }
}

#[test]
fn what_is_no_fact_is_refused_with_what_was_expected() {
    for (text, expected) in [
        ("exit", "TIME:FACT"),
        ("exit:web=1", "a time before the first colon"),
        ("30:exit:web=1", "a time before the first colon"),
        ("s:delete", "a time before the first colon"),
        ("1s1m:delete", "a time before the first colon"),
        ("-1s:delete", "a time before the first colon"),
        ("1s:exit=1", "a name after the colon"),
        ("1s:exit:web", "an exit code"),
        ("1s:exit:web=256", "an exit code"),
        ("1s:oom:web=1", "no value"),
        ("1s:delete:web", "no name"),
        ("1s:delete=soon", "seconds"),
        ("1s:probe:web=fail", "a probe"),
        ("1s:probe:web/liveness=maybe", "=ok or =fail"),
        ("1s:hook:web/preStart=ok", "a hook"),
        ("1s:hook:web/preStop=absent", "=ok, =fail, =hang or a time"),
        ("1s:pull:web=hang", "=ok, =fail, =absent or a time"),
        ("1s:run:web=5s", "a time and an exit code"),
        ("1s:condition:x=true", "=True or =False"),
        ("1s:explode", "a fact"),
    ] {
        let error = text.parse::<TimedFact>().expect_err(text).to_string();
        assert!(error.starts_with(&format!("read `{text}`: expected {expected}")), "{text}: {error}");
    }
}

#[test]
fn a_script_is_checked_against_the_pod() {
    let check = |text: &str| {
        let script: Script = text.parse().expect("a script");
        simulate(&pod(WEB), &script, &Options::default()).map(|_| ())
    };
    assert_eq!(check("1s:exit:web=1 2s:probe:web/liveness=fail 3s:hook:web/preStop=hang"), Ok(()));
    let known = vec!["web".to_owned()];
    assert_eq!(
        check("1s:exit:wbe=1"),
        Err(ScriptError::UnknownContainer { container: "wbe".to_owned(), known })
    );
    let missing = |what| Err(ScriptError::Missing { container: "web".to_owned(), what });
    assert_eq!(check("1s:probe:web/startup=fail"), missing("startupProbe"));
    assert_eq!(check("1s:hook:web/postStart=fail"), missing("postStart hook"));
}

#[test]
fn facts_happen_in_order_of_their_times_whatever_the_order_of_the_words() {
    let script: Script = "20s:delete 10s:exit:web=3".parse().expect("a script");
    let timeline = simulate(&pod(WEB), &script, &Options::default()).expect("it runs");
    let facts: Vec<_> = timeline
        .lines()
        .iter()
        .filter(|line| line.kind == LineKind::Fact && line.at >= Duration::from_secs(10))
        .map(ToString::to_string)
        .filter(|text| text.contains("ended") || text.contains("delete"))
        .collect();
    assert_eq!(
        facts,
        [
            "    10.000s  fact    web#0 ended with 3",
            "    20.000s  fact    delete",
            "    20.010s  fact    web#1 ended with 0",
        ]
    );
    assert_eq!((timeline.end, timeline.status().phase), (End::Finished, Phase::Succeeded));
}

#[test]
fn it_ends_when_nothing_more_would_happen_or_time_is_up() {
    let run = |script: &str| {
        let script = script.parse().expect("a script");
        let timeline = simulate(&pod(WEB), &script, &Options::default()).expect("it runs");
        (timeline.end, timeline.moments.last().map(|m| m.at.as_secs()))
    };
    // A healthy Pod is probed for ever, and there is nothing to tell of it.
    assert_eq!(run(""), (End::Quiet, Some(0)));
    assert_eq!(run("0s:run:web=1s/0").0, End::TimeUp);
    assert_eq!(run("5s:delete"), (End::Finished, Some(5)));
}

#[test]
fn what_is_scripted_for_the_world_comes_true() {
    let run = |spec: &str, script: &str| {
        let script = Script::new(script.split('|').map(|fact| fact.parse().expect(fact)).collect());
        let timeline = simulate(&pod(spec), &script, &Options::default()).expect("it runs");
        timeline.lines().iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
    };
    for (script, expected) in [
        ("0s:volumes=fail|5s:volumes=ok", "event   Warning FailedMount: as scripted"),
        ("0s:sandbox=fail|5s:sandbox=ok", "Failed to create pod sandbox: as scripted"),
        ("0s:pull:web=fail", "web: Waiting ErrImagePull"),
        ("0s:pull:web=absent", "web: Waiting ErrImageNeverPull"),
        ("0s:pull:web=3s", "     3.200s  fact    web: the image is pulled"),
        ("0s:start:web=fail", "web: Waiting RunContainerError last=StartError(128)"),
        ("0s:start:web=error", "web: Waiting CreateContainerError"),
        ("0s:start:web=2s", "     2.210s  fact    web#0 runs"),
        ("4s:oom:web", "web: Terminated OOMKilled(137)"),
        ("4s:sandbox-lost", "event   Normal SandboxChanged"),
        ("4s:evict=big. ", "event   Warning Evicted: big. "),
        ("0s:unschedulable=none|4s:admit", "     4.000s  fact    the Pod is accepted"),
        ("0s:reject:OutOfcpu=none", "Pending -> Failed (OutOfcpu)"),
        ("4s:condition:x=True", "status  x=True"),
        ("4s:ignore-term:web|5s:delete=9", "    14.000s  do      web#0: kill"),
        ("0s:term:web=2s|5s:delete=9", "     7.000s  fact    web#0 ended with 0"),
        ("0s:term:web=3|5s:delete=9", "     5.010s  fact    web#0 ended with 3"),
        ("0s:hook:web/preStop=2s|5s:delete=9", "     7.000s  do      web#0: send the stop signal"),
        ("0s:hook:web/preStop=fail|5s:delete", "Warning FailedPreStopHook"),
    ] {
        let text = run(WEB, script);
        assert!(text.contains(expected), "{script}: expected {expected}\n{text}");
    }
}

#[test]
fn a_simulation_is_repeatable() {
    let script: Script =
        "3s:exit:web=1 4s:probe:web/liveness=fail 30s:sandbox-lost 60s:delete".parse().expect("a script");
    let run = || simulate(&pod(WEB), &script, &Options::default()).expect("it runs");
    assert_eq!(run().moments, run().moments);
    assert!(run().moments.iter().any(|moment| moment.input == Input::SandboxLost));
}
