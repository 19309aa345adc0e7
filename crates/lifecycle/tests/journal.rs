//! A journal that was written while a machine lived replays to the same decisions.

use std::time::Duration;

use podrun_lifecycle::journal::{self, Divergence, JournalError, Replay};
use podrun_lifecycle::simulate::{Options, Script, Timeline, simulate};
use podrun_lifecycle::{Action, Input, Machine, Now};
use podrun_spec::WirePod;
use podrun_spec::model::Pod;
use podrun_spec::time::Timestamp;

fn pod() -> (Pod, WirePod) {
    let text = "{apiVersion: v1, kind: Pod, metadata: {name: p}, spec: {restartPolicy: Always,
        initContainers: [{name: s, image: 'i:1', restartPolicy: Always}],
        containers: [{name: web, image: 'i:1', livenessProbe: {tcpSocket: {port: 1}, periodSeconds: 1},
            lifecycle: {postStart: {sleep: {seconds: 1}}, preStop: {exec: {command: [x]}}}}]}}";
    let wire = podrun_spec::parse("p.yaml", text).expect("a valid Pod").pods.remove(0).wire;
    let wire = wire.with_metadata("the-uid", Timestamp(0), 1, None);
    let (pod, wire) = podrun_spec::from_json(wire.to_json()).expect("what was stored is read");
    (pod, wire)
}

fn life(pod: &Pod) -> Timeline {
    let script: Script =
        "5s:exit:web=3 6s:probe:web/liveness=fail 40s:exit:s=1 60s:sandbox-lost 90s:delete=5"
            .parse()
            .expect("a script");
    simulate(pod, &script, &Options::default()).expect("it runs")
}

fn now(at: Duration) -> Now {
    Now { wall: Timestamp(i64::try_from(at.as_nanos()).expect("soon")), boot: Duration::from_secs(3600) + at }
}

/// Writes the life down, with the actions or without.
fn write(wire: &WirePod, life: &Timeline, with_actions: bool) -> Vec<String> {
    let mut lines = vec![journal::header(wire)];
    lines.extend(
        life.moments
            .iter()
            .map(|m| journal::step(now(m.at), &m.input, with_actions.then_some(m.actions.as_slice()))),
    );
    lines
}

#[test]
fn a_replay_comes_to_the_same_decisions_and_statuses() {
    let (pod, wire) = pod();
    let life = life(&pod);
    for with_actions in [true, false] {
        let text = write(&wire, &life, with_actions).concat();
        let replay = Replay::new(text.as_bytes()).expect("a journal");
        assert_eq!(replay.pod(), &pod);
        let steps: Vec<_> = replay.map(|step| step.expect("a step")).collect();
        assert_eq!(steps.len(), life.moments.len());
        for (step, moment) in steps.iter().zip(&life.moments) {
            assert_eq!((&step.actions, &step.status), (&moment.actions, &moment.status));
            assert_eq!(step.divergence, None);
        }
        let lines: Vec<_> = steps.iter().flat_map(|step| step.lines.clone()).collect();
        assert_eq!(lines, life.lines());
    }
}

#[test]
fn the_first_decision_that_differs_is_named() {
    let (pod, wire) = pod();
    let life = life(&pod);
    let mut lines = write(&wire, &life, true);
    let place = lines.iter().position(|line| line.contains("SendStopSignal")).expect("a stop");
    lines[place] = lines[place].replace("SendStopSignal", "Kill");
    let text = lines.concat();
    let steps = Replay::new(text.as_bytes()).expect("a journal").map(|step| step.expect("a step"));
    let diverging: Vec<_> = steps.filter(|step| step.divergence.is_some()).collect();
    assert_eq!(diverging.len(), 1);
    assert_eq!(diverging[0].line, place + 1);
    let Some(Divergence::Actions { journal }) = &diverging[0].divergence else { panic!("{diverging:?}") };
    assert!(journal.iter().any(|action| matches!(action, Action::Kill { .. })));
    assert!(diverging[0].actions.iter().any(|action| matches!(action, Action::SendStopSignal { .. })));
}

#[test]
fn a_supervisor_that_took_over_is_followed() {
    let (pod, wire) = pod();
    let life = life(&pod);
    // At many steps: the supervisor dies after it, or after it and before its state is written down.
    for cut in (1..life.moments.len()).step_by(3) {
        for lost in [0, 1] {
            let mut text = journal::header(&wire);
            let mut machine = Machine::new(&pod);
            let mut written = machine.state().clone();
            for (index, moment) in life.moments[..cut].iter().enumerate() {
                let actions = machine.step(now(moment.at), moment.input.clone());
                text += &journal::step(now(moment.at), &moment.input, Some(&actions));
                if index + lost < cut {
                    written = machine.state().clone();
                }
            }
            let mut machine = Machine::restore(&pod, written);
            text += &journal::resumed(&machine);
            let at = now(life.moments[cut].at);
            let delete = Input::Delete { grace_seconds: Some(0) };
            let actions = machine.step(at, delete.clone());
            text += &journal::step(at, &delete, Some(&actions));
            let steps: Vec<_> =
                Replay::new(text.as_bytes()).expect("a journal").map(|step| step.expect("a step")).collect();
            let last = steps.last().expect("a step");
            assert_eq!((last.divergence.as_ref(), &last.status), (None, &machine.status()), "{cut} {lost}");
            let resumed = &steps[steps.len() - 2];
            assert!(resumed.input.is_none());
            assert!(lost == 1 || resumed.divergence.is_none(), "{cut}");
        }
    }
}

#[test]
fn a_last_line_that_was_cut_off_is_the_end() {
    let (pod, wire) = pod();
    let text = write(&wire, &life(&pod), true).concat();
    let steps = |text: &str| Replay::new(text.as_bytes()).expect("a journal").flatten().count();
    let all = steps(&text);
    assert_eq!(steps(&text[..text.len() - 10]), all - 1);
    assert!(Replay::new(&text.as_bytes()[..text.len() - 10]).expect("a journal").all(|step| step.is_ok()));
}

#[test]
fn what_is_no_journal_is_refused_with_its_line() {
    let (pod, wire) = pod();
    let lines = write(&wire, &life(&pod), true);
    let first_error = |text: &str| match Replay::new(text.as_bytes()) {
        Err(error) => Some(error),
        Ok(mut replay) => replay.find_map(Result::err),
    };
    assert!(matches!(first_error(""), Some(JournalError::Misplaced { line: 1, .. })));
    assert!(matches!(first_error(&lines[1]), Some(JournalError::Misplaced { line: 1, .. })));
    assert!(matches!(first_error("{}\n"), Some(JournalError::Decode { line: 1, .. })));
    let twice = [lines[0].clone(), lines[1].clone(), lines[0].clone()].concat();
    assert!(matches!(first_error(&twice), Some(JournalError::Misplaced { line: 3, .. })));
    let broken = [lines[0].clone(), "{\"step\":\n".to_owned(), lines[1].clone()].concat();
    assert!(matches!(first_error(&broken), Some(JournalError::Decode { line: 2, .. })));
    let newer = lines[0].replace("\"version\":1", "\"version\":2");
    assert!(matches!(first_error(&newer), Some(JournalError::Version { version: 2 })));
    let no_pod = lines[0].replace("\"restartPolicy\":\"Always\"", "\"restartPolicy\":\"Maybe\"");
    assert!(matches!(first_error(&no_pod), Some(JournalError::Pod { .. })));
}
