//! From `podrun delete --force` until processes, mounts and cgroups of a Pod of two containers are gone, beside the
//! least that the kernel needs for it.

mod floor;
#[path = "common/kernel.rs"]
mod kernel;
#[path = "common/report.rs"]
mod report;
#[path = "common/scene.rs"]
mod scene;
#[path = "common/signals.rs"]
mod signals;

use std::io;
use std::os::fd::AsFd as _;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use podrun_namespaces::PidFd;
use podrun_testkit::{cgroup2_mount, require};

use floor::Floor;
use report::{Options, Report, Samples};
use scene::Scene;

const WARM_UP: usize = 3;
const LIMIT: Duration = Duration::from_secs(10);

fn main() -> io::Result<()> {
    require!(root, cgroup2, overlay, netns, program("busybox"));
    let options = Options::parse(20);
    let mut report = Report::new("teardown", options);
    let mut scene = Scene::new()?;
    let cgroup = cgroup2_mount().expect("it is required above").join(scene::marker(scene.dir()));
    let floor = Floor::new(scene.dir(), &scene.volume(), &cgroup)?;

    let (mut least, mut gone) = (Samples::default(), Samples::default());
    let (mut returned, mut ratio, mut late) = (Samples::default(), Samples::default(), 0);
    for round in 0..options.count + WARM_UP {
        let [_, _, floor_gone] = floor.run_apart(&mut scene.signals)?;
        let pod = format!("p{round}");
        let manifest =
            scene.manifest(&pod, &["a", "b"].map(|name| (name, signals::script(name, "/v", ""))))?;
        scene.run(&manifest, 2)?;
        let cgroup = kernel::cgroup_of(&scene, &pod)?;
        let init = PidFd::open(kernel::init_of(&cgroup)?).map_err(io::Error::other)?;
        let start = Instant::now();
        scene.podrun(["delete", "pod", &pod, "--force"])?;
        let took = start.elapsed();
        let was_late = cgroup.exists();
        wait_until_gone(&init, &cgroup, start + LIMIT)?;
        let all = if was_late { start.elapsed() } else { took };
        if round < WARM_UP {
            continue;
        }
        late += usize::from(was_late);
        least.extend([floor_gone]);
        gone.extend([all]);
        returned.extend([took]);
        ratio.extend([all.as_secs_f64() / floor_gone.as_secs_f64()]);
    }
    report.row("floor: all gone", "ms", &least);
    report.row("podrun delete --force: all gone", "ms", &gone);
    report.row("podrun delete --force: returned", "ms", &returned);
    report.row("podrun / floor, pair by pair", "x", &ratio);
    report.row("podrun / floor, of medians", "x", &[gone.median() / least.median()].into_iter().collect());
    report.note(format!(
        "the command returned before the cgroup was gone in {late} of {} rounds",
        options.count
    ));
    report.print();
    scene.close()
}

fn wait_until_gone(init: &PidFd, cgroup: &Path, deadline: Instant) -> io::Result<()> {
    let left = deadline.saturating_duration_since(Instant::now());
    let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
    let mut ended = poll(&mut [PollFd::new(init.as_fd(), PollFlags::POLLIN)], timeout)? == 1;
    // The last steps are microseconds apart, and to look at once costs least.
    while ended && cgroup.exists() {
        ended = Instant::now() < deadline;
    }
    if ended { Ok(()) } else { Err(io::Error::new(io::ErrorKind::TimedOut, "the Pod is still there")) }
}
