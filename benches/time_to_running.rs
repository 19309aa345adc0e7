//! From `podrun run -d` to the first words of two containers, beside the least that the kernel needs for it.
//!
//! On a machine that does other work at the same time, `chrt -f 10 cargo xtask bench time_to_running` puts both sides
//! before that work.

mod floor;
#[path = "common/peers.rs"]
mod peers;
#[path = "common/report.rs"]
mod report;
#[path = "common/scene.rs"]
mod scene;
#[path = "common/signals.rs"]
mod signals;

use std::io;

use podrun_testkit::{cgroup2_mount, require};

use floor::Floor;
use report::{Options, Report, Samples};
use scene::Scene;

/// Rounds that are not counted: the first ones fill caches.
const WARM_UP: usize = 3;

fn main() -> io::Result<()> {
    require!(root, cgroup2, overlay, netns, program("busybox"));
    let options = Options::parse(20);
    let mut report = Report::new("time to running", options);
    let mut scene = Scene::new()?;
    let cgroup = cgroup2_mount().expect("it is required above").join(scene::marker(scene.dir()));
    let floor = Floor::new(scene.dir(), &scene.volume(), &cgroup)?;

    let (mut executed, mut floor_spoke) = (Samples::default(), Samples::default());
    let (mut spoke, mut returned, mut ratio) = (Samples::default(), Samples::default(), Samples::default());
    for round in 0..options.count + WARM_UP {
        let pod = format!("p{round}");
        let manifest =
            scene.manifest(&pod, &["a", "b"].map(|name| (name, signals::script(name, "/v", ""))))?;
        // Pairs, and each goes first in turn, so that what the machine does meanwhile meets both.
        let first = if round % 2 == 0 { Some(floor.run_apart(&mut scene.signals)?) } else { None };
        let [start, pod_spoke, pod_returned] = scene.run(&manifest, 2)?;
        let [least_executed, least_spoke, _] =
            first.map_or_else(|| floor.run_apart(&mut scene.signals), Ok)?;
        scene.podrun(["delete", "pod", &pod, "--force"])?;
        if round < WARM_UP {
            continue;
        }
        let took = pod_spoke.duration_since(start);
        executed.extend([least_executed]);
        floor_spoke.extend([least_spoke]);
        spoke.extend([took]);
        returned.extend([pod_returned.duration_since(start)]);
        ratio.extend([took.as_secs_f64() / least_spoke.as_secs_f64()]);
    }
    report.row("floor: both executed", "ms", &executed);
    report.row("floor: both spoke", "ms", &floor_spoke);
    report.row("podrun run -d: both spoke", "ms", &spoke);
    report.row("podrun run -d: returned", "ms", &returned);
    report.row("podrun / floor, pair by pair", "x", &ratio);
    report.row("podrun / floor, of medians", "x", &one(spoke.median() / floor_spoke.median()));
    for runtime in peers::RUNTIMES {
        match peer(runtime, options.count.min(10), &mut scene) {
            Ok(took) => {
                report.row(format!("{runtime} create + start: ONE container spoke"), "ms", &took);
                report.row(format!("podrun / {runtime}'s one"), "x", &one(spoke.median() / took.median()));
            }
            Err(error) => report.note(format!("{runtime}: skipped: {error}")),
        }
    }
    report.note("floor: bare system calls without /dev, /sys, masks, capabilities, seccomp, logs or records");
    report.note("goal: podrun / floor at most 2");
    report.print();
    scene.close()
}

fn one(figure: f64) -> Samples {
    [figure].into_iter().collect()
}

/// Measures another runtime in a process that sees only cgroup2.
fn peer(runtime: &str, count: usize, scene: &mut Scene) -> io::Result<Samples> {
    let dir = scene.dir().join(runtime);
    let name = scene::marker(scene.dir());
    peers::bundle(&dir, &scene.dir().join("layer"), &scene.volume(), &format!("{name}-{runtime}"))?;
    peers::apart(|| {
        let one = |_| peers::start(runtime, &dir, &name, &mut scene.signals, |_| Ok(()));
        // The first one warms up.
        let times: io::Result<Vec<_>> = (0..=count).map(one).collect();
        Ok(times?.into_iter().skip(1).map(|(took, ())| took).collect())
    })
}
