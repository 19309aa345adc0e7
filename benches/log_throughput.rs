//! How fast a container can write lines to its standard output, beside `cat` into a file.

#[path = "common/report.rs"]
mod report;
#[path = "common/scene.rs"]
mod scene;
#[path = "common/signals.rs"]
mod signals;

use std::fs;
use std::io;
use std::process::{Command, Stdio};
use std::time::Duration;

use podrun_testkit::require;

use report::{Options, Report, Samples};
use scene::Scene;

const LINE: &str =
    "2026-01-01 12:00:00 INFO request served: method=GET path=/index.html status=200 bytes=5120 ms=3\n";
/// The file is this long and is written so often: enough to outlast the start of a program.
const FILE: usize = 16 << 20;
const TIMES: usize = 4;

fn main() -> io::Result<()> {
    require!(root, cgroup2, overlay, netns, program("busybox"));
    let options = Options::parse(5);
    let mut report = Report::new("log throughput", options);
    let mut scene = Scene::new()?;
    let volume = scene.volume();
    let lines = LINE.repeat(FILE / LINE.len());
    fs::write(volume.join("lines"), &lines)?;
    let bytes = lines.len() * TIMES;

    let (mut floor, mut podrun) = (Samples::default(), Samples::default());
    for round in 0..options.count {
        let out = volume.join("out");
        let host = volume.to_string_lossy();
        floor.extend([speed(bytes, through_file(&script(&host, &format!(">{host}/out")), &mut scene)?)]);
        fs::remove_file(out)?;
        let pod = format!("p{round}");
        let manifest = scene.manifest(&pod, &[("a", script("/v", ""))])?;
        let [_, begin, _] = scene.run(&manifest, 1)?;
        podrun.extend([speed(bytes, scene.signals.wait(1)?.duration_since(begin))]);
        scene.podrun(["delete", "pod", &pod, "--force"])?;
    }
    report.row("floor: cat into a file", "MB/s", &floor);
    report.row("podrun: cat to standard output", "MB/s", &podrun);
    report.note(format!("{} MB in lines of {} bytes", bytes / 1_000_000, LINE.len()));
    report.print();
    scene.close()
}

/// Says when it begins and when it has written everything.
fn script(volume: &str, to: &str) -> String {
    let files = format!(" {volume}/lines").repeat(TIMES);
    signals::script("begin", volume, &format!("cat{files} {to}; echo end >{volume}/up;"))
}

#[expect(clippy::disallowed_methods, reason = "the same shell and cat as in the container, without one")]
fn through_file(script: &str, scene: &mut Scene) -> io::Result<Duration> {
    let mut shell = Command::new("busybox").args(["sh", "-c", script]).stdin(Stdio::null()).spawn()?;
    let begin = scene.signals.wait(1)?;
    let end = scene.signals.wait(1)?;
    shell.kill()?;
    shell.wait()?;
    Ok(end.duration_since(begin))
}

#[expect(clippy::cast_precision_loss, reason = "far below 2^52 bytes")]
fn speed(bytes: usize, took: Duration) -> f64 {
    bytes as f64 / 1e6 / took.as_secs_f64()
}
