use std::time::Duration;

use super::{ms, running, stopped};
use crate::Kind;
use crate::prober::{Attempt, MIN_PERIOD, Observation, Pod, Prober, Settings, Step, Tick, Verdict};

use Attempt::{Errored, Failed, Succeeded};
use Verdict::{Failure, Success, Unknown};

const KINDS: [Kind; 3] = [Kind::Startup, Kind::Liveness, Kind::Readiness];

fn settings(kind: Kind) -> Settings {
    Settings { period: ms(1000), ..Settings::new(kind) }
}

/// What a probe of this kind needs `started` to be.
fn turn(kind: Kind) -> bool {
    kind != Kind::Startup
}

/// Probes once at the next tick; the container must be ready for it.
fn probe(prober: &mut Prober<u32>, observation: &Observation<u32>, attempt: Attempt) -> Option<Verdict> {
    let now = prober.next_tick().expect("not at the end");
    let tick = prober.tick(now, observation);
    assert_eq!(tick.step, Step::Probe, "at {now:?}");
    prober.finish(attempt)
}

#[test]
fn thresholds_decide_for_every_sequence_of_results() {
    // Every sequence of six attempts, for every kind and thresholds up to 3: 3 * 9 * 729 cases.
    let mut cases = 0;
    for kind in KINDS {
        for (success_threshold, failure_threshold) in (0..9).map(|n| (n / 3 + 1, n % 3 + 1)) {
            for code in 0..3_u32.pow(6) {
                let attempts =
                    (0..6).map(|place| [Succeeded, Failed, Errored][(code / 3_u32.pow(place) % 3) as usize]);
                let settings = Settings { success_threshold, failure_threshold, ..settings(kind) };
                let mut prober = Prober::new(settings, ms(0));
                let observation = running(1, 0, turn(kind));
                let mut counted: Vec<Attempt> = Vec::new();
                for attempt in attempts {
                    let now = prober.next_tick().expect("it never ends");
                    let step = prober.tick(now, &observation).step;
                    if prober.is_on_hold() {
                        assert_eq!(step, Step::Wait);
                        continue;
                    }
                    let before = prober.verdict();
                    let published = prober.finish(attempt);
                    if attempt != Errored {
                        counted.push(attempt);
                    }
                    let in_a_row = |wanted, times| {
                        let row = counted.iter().rev().take_while(|one| **one == wanted);
                        row.count() >= times as usize
                    };
                    let expected = match attempt {
                        Succeeded if in_a_row(Succeeded, success_threshold) => Some(Success),
                        Failed if in_a_row(Failed, failure_threshold) => Some(Failure),
                        _ => None,
                    };
                    assert_eq!(
                        published,
                        expected.filter(|_| expected != before),
                        "{settings:?} {counted:?}"
                    );
                    assert_eq!(prober.verdict(), expected.or(before));
                    let kills = expected == Some(Failure) && kind != Kind::Readiness;
                    assert_eq!(prober.is_on_hold(), kills, "{settings:?} {counted:?}");
                    cases += 1;
                }
            }
        }
    }
    assert!(cases > 60_000, "{cases}");
}

#[test]
fn a_new_container_has_the_initial_verdict_of_its_kind() {
    for (kind, initial) in [(Kind::Startup, Unknown), (Kind::Liveness, Success), (Kind::Readiness, Failure)] {
        let mut prober = Prober::new(settings(kind), ms(0));
        assert_eq!(prober.verdict(), None);
        let observation = running(1, 0, false);
        assert_eq!(prober.observe(&observation), Some(initial));
        assert_eq!(prober.observe(&observation), None, "once");
        assert_eq!(prober.verdict(), Some(initial));
        assert_eq!(prober.observe(&running(2, 0, false)), Some(initial));
    }
}

#[test]
fn nothing_happens_without_a_container_and_all_is_over_with_the_pod() {
    for kind in KINDS {
        let mut prober = Prober::new(settings(kind), ms(0));
        let nothing = Observation { pod: Pod::Active, container: None };
        assert_eq!(prober.tick(ms(0), &nothing), Tick { published: None, step: Step::Wait });
        let ended = Observation { pod: Pod::Ended, ..running(1, 0, turn(kind)) };
        assert_eq!(prober.tick(ms(1000), &ended), Tick { published: None, step: Step::End });
        assert_eq!(prober.next_tick(), None);
        assert_eq!(
            prober.tick(ms(2000), &running(2, 0, turn(kind))),
            Tick { published: None, step: Step::End }
        );
        assert_eq!(prober.observe(&running(2, 0, turn(kind))), None);
    }
}

#[test]
fn the_initial_delay_counts_whole_seconds_from_the_start_of_the_container() {
    for kind in KINDS {
        for delay in 0..4 {
            for since in [0, 300, 999, 5000] {
                for age in [0, 1, 999, 1000, 1001, 1999, 2000, 2999, 3000, 3001] {
                    let settings = Settings { initial_delay: Duration::from_secs(delay), ..settings(kind) };
                    let mut prober = Prober::new(settings, ms(since + age));
                    let tick = prober.tick(ms(since + age), &running(1, since, turn(kind)));
                    let expected = if age / 1000 < delay { Step::Wait } else { Step::Probe };
                    assert_eq!(tick.step, expected, "{kind} {delay} {since} {age}");
                }
            }
        }
    }
}

#[test]
fn a_container_in_the_future_is_too_young() {
    let settings = Settings { initial_delay: ms(1000), ..settings(Kind::Liveness) };
    assert_eq!(Prober::new(settings, ms(0)).tick(ms(0), &running(1, 5000, true)).step, Step::Wait);
}

#[test]
fn a_fraction_of_a_second_of_initial_delay_is_none() {
    let settings = Settings { initial_delay: ms(900), ..settings(Kind::Liveness) };
    assert_eq!(Prober::new(settings, ms(0)).tick(ms(0), &running(1, 0, true)).step, Step::Probe);
}

#[test]
fn startup_probes_come_first_and_the_others_after() {
    for (kind, started, expected) in [
        (Kind::Startup, false, Step::Probe),
        (Kind::Startup, true, Step::Wait),
        (Kind::Liveness, false, Step::Wait),
        (Kind::Liveness, true, Step::Probe),
        (Kind::Readiness, false, Step::Wait),
        (Kind::Readiness, true, Step::Probe),
    ] {
        let step = Prober::new(settings(kind), ms(0)).tick(ms(0), &running(1, 0, started)).step;
        assert_eq!(step, expected, "{kind} {started}");
    }
}

#[test]
fn failed_containers_are_left_alone_until_they_are_replaced() {
    for kind in [Kind::Startup, Kind::Liveness] {
        let mut prober = Prober::new(Settings { failure_threshold: 1, ..settings(kind) }, ms(0));
        let first = running(1, 0, turn(kind));
        assert_eq!(probe(&mut prober, &first, Failed), Some(Failure));
        for _ in 0..5 {
            let now = prober.next_tick().expect("not at the end");
            assert_eq!(prober.tick(now, &first), Tick { published: None, step: Step::Wait });
        }
        // Not even its end is news.
        let now = prober.next_tick().expect("not at the end");
        assert_eq!(prober.tick(now, &stopped(1, true)), Tick { published: None, step: Step::Wait });
        let now = prober.next_tick().expect("not at the end");
        let tick = prober.tick(now, &running(2, 0, turn(kind)));
        assert_eq!(tick.step, Step::Probe);
        assert_eq!(tick.published, Some(if kind == Kind::Liveness { Success } else { Unknown }));
    }
}

#[test]
fn readiness_goes_on_after_a_failure() {
    let mut prober = Prober::new(Settings { failure_threshold: 2, ..settings(Kind::Readiness) }, ms(0));
    let container = running(1, 0, true);
    let results = [Succeeded, Failed, Failed, Failed, Succeeded, Failed];
    let published = results.map(|attempt| probe(&mut prober, &container, attempt));
    assert_eq!(published, [Some(Success), None, Some(Failure), None, Some(Success), None]);
}

#[test]
fn the_count_survives_a_restart_that_the_probe_did_not_cause() {
    let mut prober = Prober::new(Settings { failure_threshold: 3, ..settings(Kind::Liveness) }, ms(0));
    assert_eq!(probe(&mut prober, &running(1, 0, true), Failed), None);
    assert_eq!(probe(&mut prober, &running(1, 0, true), Failed), None);
    assert_eq!(probe(&mut prober, &running(2, 0, true), Failed), Some(Failure));
    // It begins anew after a restart that the probe did cause.
    assert_eq!(probe(&mut prober, &running(3, 0, true), Failed), None);
    assert_eq!(probe(&mut prober, &running(3, 0, true), Failed), None);
    assert_eq!(probe(&mut prober, &running(3, 0, true), Failed), Some(Failure));
}

#[test]
fn results_that_come_after_a_restart_say_nothing_about_the_new_container() {
    let mut prober = Prober::new(Settings { failure_threshold: 1, ..settings(Kind::Liveness) }, ms(0));
    assert_eq!(prober.tick(ms(0), &running(1, 0, true)).step, Step::Probe);
    assert_eq!(prober.observe(&running(2, 0, true)), Some(Success));
    assert_eq!(prober.finish(Failed), None);
    assert_eq!((prober.verdict(), prober.is_on_hold()), (Some(Success), false));
    assert_eq!(probe(&mut prober, &running(2, 0, true), Failed), Some(Failure));
}

#[test]
fn a_stopped_container_has_failed_and_ends_the_prober_if_it_stays_stopped() {
    for kind in KINDS {
        for comes_back in [true, false] {
            let mut prober = Prober::new(settings(kind), ms(0));
            assert_eq!(probe(&mut prober, &running(1, 0, turn(kind)), Errored), None);
            let tick = prober.tick(ms(1000), &stopped(1, comes_back));
            let published = (kind != Kind::Readiness).then_some(Failure);
            let step = if comes_back { Step::Wait } else { Step::End };
            assert_eq!(tick, Tick { published, step }, "{kind}");
        }
    }
}

#[test]
fn deletion_ends_liveness_and_startup_quietly_and_readiness_goes_on() {
    for kind in KINDS {
        let mut prober = Prober::new(Settings { failure_threshold: 1, ..settings(kind) }, ms(0));
        let alive = running(1, 0, turn(kind));
        assert_eq!(probe(&mut prober, &alive, Succeeded), (kind != Kind::Liveness).then_some(Success));
        let deleting = Observation { pod: Pod::Deleting, ..alive };
        if kind == Kind::Readiness {
            assert_eq!(probe(&mut prober, &deleting, Failed), Some(Failure));
        } else {
            assert_eq!(prober.tick(ms(1000), &deleting), Tick { published: None, step: Step::End });
            assert_eq!(prober.verdict(), Some(Success));
        }
    }
}

#[test]
fn ticks_keep_to_their_grid() {
    let mut prober = Prober::new(settings(Kind::Liveness), ms(250));
    let container = running(1, 0, true);
    let mut begun = Vec::new();
    // A quick one, one of 0.4 s, one of 1.3 s, one of exactly two periods.
    for duration in [0, 400, 1300, 2000, 0] {
        let now = prober.next_tick().expect("not at the end").max(begun.last().copied().unwrap_or_default());
        assert_eq!(prober.tick(now, &container).step, Step::Probe);
        assert_eq!(prober.next_tick(), None, "one at a time");
        assert_eq!(prober.finish(Succeeded), None);
        begun.push(now + ms(duration));
    }
    assert_eq!(begun, [250, 1650, 3550, 5550, 5550].map(ms));
    // The missed ticks are not made up for.
    assert_eq!(prober.next_tick(), Some(ms(6250)));
    assert_eq!(prober.tick(ms(6249), &container).step, Step::Wait);
}

#[test]
fn a_kick_probes_at_once_and_moves_the_grid() {
    let mut prober = Prober::new(settings(Kind::Readiness), ms(0));
    assert_eq!(prober.tick(ms(0), &running(1, 0, false)).step, Step::Wait);
    prober.kick(ms(300));
    prober.kick(ms(310));
    assert_eq!(prober.next_tick(), Some(ms(300)));
    assert_eq!(prober.tick(ms(320), &running(1, 0, true)).step, Step::Probe);
    prober.kick(ms(330));
    assert_eq!(prober.next_tick(), None, "one at a time");
    assert_eq!(prober.finish(Failed), None);
    assert_eq!(prober.next_tick(), Some(ms(330)));
    assert_eq!(prober.tick(ms(400), &running(1, 0, true)).step, Step::Probe);
    assert_eq!(prober.finish(Succeeded), Some(Success));
    assert_eq!(prober.next_tick(), Some(ms(1400)));
}

#[test]
fn a_result_that_nobody_waits_for_is_ignored() {
    let mut prober: Prober<u32> = Prober::new(settings(Kind::Liveness), ms(0));
    assert_eq!(prober.finish(Failed), None);
    assert_eq!(prober.verdict(), None);
}

#[test]
fn periods_below_a_second_work_and_have_a_floor() {
    for (period, expected) in [(ms(250), ms(250)), (ms(10), ms(10)), (ms(1), MIN_PERIOD), (ms(0), MIN_PERIOD)]
    {
        let mut prober = Prober::new(Settings { period, ..settings(Kind::Liveness) }, ms(0));
        assert_eq!(probe(&mut prober, &running(1, 0, true), Succeeded), None);
        assert_eq!(prober.next_tick(), Some(expected));
    }
}

#[test]
fn extreme_times_do_not_overflow() {
    let settings =
        Settings { period: Duration::MAX, initial_delay: Duration::MAX, ..settings(Kind::Liveness) };
    let mut prober = Prober::new(settings, Duration::ZERO);
    assert_eq!(prober.tick(Duration::MAX, &running(1, 0, true)).step, Step::Probe);
    let mut prober = Prober::new(Settings { period: ms(0), ..settings }, Duration::ZERO);
    assert_eq!(prober.tick(Duration::MAX, &running(1, 0, true)).step, Step::Probe);
}

#[test]
fn a_program_that_follows_another_goes_on_from_its_verdict() {
    let settings = Settings { failure_threshold: 2, ..settings(Kind::Readiness) };
    let mut prober = Prober::new(settings, ms(0));
    prober.resume(1, Success);
    let observation = running(1, 0, true);
    assert_eq!(prober.observe(&observation), None, "it is no new run");
    assert_eq!(probe(&mut prober, &observation, Failed), None);
    assert_eq!(prober.verdict(), Some(Success));
    assert_eq!(probe(&mut prober, &observation, Failed), Some(Failure), "the change is told");
    assert_eq!(prober.observe(&running(2, 0, true)), Some(Failure), "the next run is new");
}
