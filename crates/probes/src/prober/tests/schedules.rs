use proptest::collection::vec;
use proptest::prelude::*;

use super::reference::{self, Seen, World};
use super::{ms, running, stopped};
use crate::Kind;
use crate::prober::{Attempt, Observation, Pod, Prober, Run, Settings, Step};

/// Drives the state machine through the same world, as an event loop does.
fn drive(settings: &Settings, start: u64, world: &World) -> Vec<Seen> {
    let mut prober = Prober::new(*settings, ms(start));
    let mut seen = Vec::new();
    let mut kicks = world.kicks.iter().copied().peekable();
    let mut now = start;
    let mut probes = world.probes.iter().cycle();
    while let Some(due) = prober.next_tick() {
        let due = u64::try_from(due.as_millis()).expect("short");
        // What comes before the tick, or at the same moment, has happened by then.
        if let Some(kick) = kicks.next_if(|kick| *kick <= now.max(due)) {
            prober.kick(ms(kick));
            continue;
        }
        now = now.max(due);
        if now > world.end {
            return seen;
        }
        let tick = prober.tick(ms(now), world.at(now));
        seen.extend(tick.published.map(|verdict| Seen::Publish(now, verdict)));
        match tick.step {
            Step::Wait => {}
            Step::End => seen.push(Seen::End(now)),
            Step::Probe => {
                seen.push(Seen::Probe(now));
                let (attempt, duration) = probes.next().expect("a cycle");
                now += duration;
                seen.extend(prober.finish(*attempt).map(|verdict| Seen::Publish(now, verdict)));
            }
        }
    }
    seen
}

/// Leaves of verdicts that follow each other at the same moment the last.
fn collapsed(seen: Vec<Seen>) -> Vec<Seen> {
    let mut kept: Vec<Seen> = Vec::new();
    for event in seen {
        if let (Seen::Publish(at, _), Some(Seen::Publish(before, _))) = (event, kept.last())
            && at == *before
        {
            kept.pop();
        }
        kept.push(event);
    }
    kept
}

fn kind() -> impl Strategy<Value = Kind> {
    prop_oneof![Just(Kind::Startup), Just(Kind::Liveness), Just(Kind::Readiness)]
}

fn settings() -> impl Strategy<Value = Settings> {
    let period = prop_oneof![10..1000_u64, Just(1000), Just(3000)];
    (kind(), 0..4_u64, period, 1..4_u32, 1..4_u32).prop_map(|(kind, delay, period, success, failure)| {
        Settings {
            initial_delay: ms(delay * 1000),
            period: ms(period),
            success_threshold: success,
            failure_threshold: failure,
            ..Settings::new(kind)
        }
    })
}

fn observation() -> impl Strategy<Value = Observation<u32>> {
    let container = prop_oneof![
        1 => Just(Observation { pod: Pod::Active, container: None }),
        8 => (1..5_u32, 0..12_000_u64, any::<bool>()).prop_map(|(id, since, started)| running(id, since, started)),
        2 => (1..5_u32, prop::bool::weighted(0.9)).prop_map(|(id, comes_back)| stopped(id, comes_back)),
    ];
    let pod = prop_oneof![12 => Just(Pod::Active), 2 => Just(Pod::Deleting), 1 => Just(Pod::Ended)];
    (container, pod).prop_map(|(observation, pod)| Observation { pod, ..observation })
}

fn world() -> impl Strategy<Value = World> {
    let attempt = prop_oneof![
        4 => Just(Attempt::Succeeded),
        4 => Just(Attempt::Failed),
        1 => Just(Attempt::Errored)
    ];
    let duration = prop_oneof![Just(0_u64), 1..50_u64, 0..3500_u64];
    let changes = vec((0..15_000_u64, observation()), 0..8);
    let parts = (observation(), changes, vec(0..15_000_u64, 0..5), vec((attempt, duration), 1..12));
    parts.prop_map(|(first, mut changes, mut kicks, probes)| {
        changes.push((0, first));
        changes.sort_by_key(|(from, _)| *from);
        kicks.sort_unstable();
        World { observations: changes, kicks, probes, end: 15_000 }
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_schedule_goes_as_in_the_kubelet(settings in settings(), start in 0..500_u64, mut world in world()) {
        // The kubelet's worker does not listen while it waits for its first probe.
        world.kicks.retain(|kick| *kick > start);
        let expected = reference::run(&settings, start, &world);
        let seen = drive(&settings, start, &world);
        prop_assert_eq!(collapsed(seen), collapsed(expected));
    }

    #[test]
    fn any_schedule_keeps_the_promises(settings in settings(), world in world()) {
        let seen = drive(&settings, 0, &world);
        let probes = seen.iter().filter(|event| matches!(event, Seen::Probe(_))).count() as u64;
        let ticks = world.end / u64::try_from(settings.period.as_millis()).expect("short") + 1;
        prop_assert!(probes <= ticks + world.kicks.len() as u64);
        for event in &seen {
            match event {
                Seen::Probe(at) => {
                    let observation = world.at(*at);
                    prop_assert!(observation.pod != Pod::Ended);
                    prop_assert!(observation.pod == Pod::Active || settings.kind == Kind::Readiness);
                    let run = observation.container.map(|container| container.run);
                    let Some(Run::Running { since, started }) = run else { panic!("probed while {run:?}") };
                    prop_assert_eq!(started, settings.kind != Kind::Startup);
                    prop_assert!(ms(*at).saturating_sub(since) >= settings.initial_delay);
                }
                Seen::Publish(..) => {}
                Seen::End(_) => prop_assert_eq!(seen.last(), Some(event)),
            }
        }
    }
}
