//! What podrun itself keeps in memory for each Pod: the supervisor and the init, at many Pods of two containers.
//!
//! PSS counts a page that several processes share once, divided among them. What the kernel keeps for a process (page
//! tables, task, sockets) is not in it.

#[path = "common/kernel.rs"]
mod kernel;
#[path = "common/report.rs"]
mod report;
#[path = "common/scene.rs"]
mod scene;
#[path = "common/signals.rs"]
mod signals;

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::Path;
use std::time::Duration;

use podrun_testkit::require;

use report::{Options, Report, Samples};
use scene::Scene;

/// Lines of smaps_rollup, and what they are called here.
const PARTS: [(&str, &str); 4] =
    [("Pss:", "all"), ("Pss_Anon:", "anonymous"), ("Pss_File:", "file"), ("Pss_Shmem:", "shared memory")];

fn main() -> io::Result<()> {
    require!(root, cgroup2, overlay, netns, program("busybox"));
    let options = Options::parse(20);
    let mut report = Report::new("memory per pod", options);
    let mut scene = Scene::new()?;
    let mut inits = BTreeSet::new();
    for number in 0..options.count {
        let pod = format!("p{number}");
        let manifest =
            scene.manifest(&pod, &["a", "b"].map(|name| (name, signals::script(name, "/v", ""))))?;
        scene.run(&manifest, 2)?;
        inits.insert(kernel::init_of(&kernel::cgroup_of(&scene, &pod)?)?);
    }
    let supervisors = supervisors(scene.dir(), &inits)?;
    settle(&supervisors)?;
    for (part, name) in PARTS {
        let supervisor = pss(&supervisors, part)?;
        let init = pss(&inits, part)?;
        report.row(format!("supervisor, {name}"), "KiB", &supervisor);
        report.row(format!("podrun-init, {name}"), "KiB", &init);
        report.row(
            format!("together, {name}"),
            "KiB",
            &[supervisor.median() + init.median()].into_iter().collect(),
        );
    }
    report.note(format!(
        "{} supervisors and {} inits of {} Pods with two containers each; goal: 1024 KiB together",
        supervisors.len(),
        inits.len(),
        options.count
    ));
    report.note("recorded elsewhere: containerd's shim 3.5 to 5.5 MiB per Pod, podman's conmons 1.1 MiB");
    report.print();
    scene.close()
}

/// Returns the processes that were started as `podrun` on this state, without the inits.
fn supervisors(root: &Path, inits: &BTreeSet<libc::pid_t>) -> io::Result<BTreeSet<libc::pid_t>> {
    let root = root.to_string_lossy();
    let mut found = BTreeSet::new();
    for entry in fs::read_dir("/proc")? {
        let entry = entry?;
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        // A process may end while it is looked at.
        let read = |name: &str| fs::read(entry.path().join(name)).unwrap_or_default();
        let is_podrun = read("comm").starts_with(b"podrun");
        if is_podrun && !inits.contains(&pid) && String::from_utf8_lossy(&read("cmdline")).contains(&*root) {
            found.insert(pid);
        }
    }
    Ok(found)
}

/// Waits until no supervisor gives back memory any more, which each does a while after its Pod's start.
#[expect(clippy::disallowed_methods, reason = "no event tells of it")]
fn settle(supervisors: &BTreeSet<libc::pid_t>) -> io::Result<()> {
    const PAUSE: Duration = Duration::from_secs(3);
    let mut before = f64::INFINITY;
    loop {
        std::thread::sleep(PAUSE);
        let now = pss(supervisors, "Pss:")?.median();
        if now >= before {
            return Ok(());
        }
        before = now;
    }
}

/// Returns one line of the memory of each process, in KiB.
fn pss(processes: &BTreeSet<libc::pid_t>, part: &str) -> io::Result<Samples> {
    let figure = |pid: &libc::pid_t| {
        let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
        let line = text.lines().find_map(|line| line.strip_prefix(part));
        let number = line.and_then(|rest| rest.split_whitespace().next()).and_then(|text| text.parse().ok());
        number.ok_or_else(|| io::Error::other(format!("no {part} in smaps_rollup of {pid}")))
    };
    processes.iter().map(figure).collect()
}
