//! What a command in a container costs: from the wish to its end, beside fork and exec of the same program.

#[path = "common/peers.rs"]
mod peers;
#[path = "common/program.rs"]
mod program;
#[path = "common/report.rs"]
mod report;
#[path = "common/scene.rs"]
mod scene;
#[path = "common/signals.rs"]
mod signals;

use std::ffi::OsStr;
use std::fs;
use std::io::{self, Read as _};
use std::os::fd::{AsFd as _, BorrowedFd};
use std::os::unix::fs::symlink;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use podrun_sandbox::protocol::{ExecTarget, ExitStatus};
use podrun_sandbox::{Exec, ExecEvent, Execs, Stdio};
use podrun_testkit::require;

use report::{Options, Report, Samples};
use scene::Scene;

const WARM_UP: usize = 10;
/// Other runtimes take so much longer that fewer rounds tell the same.
const ROUNDS_PER_PEER_ROUND: usize = 10;

fn main() -> io::Result<()> {
    require!(root, cgroup2, overlay, netns, program("busybox"));
    let options = Options::parse(300);
    let mut report = Report::new("exec latency", options);
    let mut scene = Scene::new()?;
    let manifest = scene.manifest("p", &[("a", signals::script("a", "/v", ""))])?;
    scene.run(&manifest, 1)?;
    let uid = scene.podrun(["get", "pods", "p", "-o", "jsonpath={.metadata.uid}"])?;
    let run_dir = scene.dir().join("state/run/pods").join(uid.trim());
    let execs = Execs::in_directory(&run_dir, uid.trim()).map_err(io::Error::other)?;

    let (mut floor, mut ended, mut gone) = (Samples::default(), Samples::default(), Samples::default());
    let (mut ratio, mut command) = (Samples::default(), Samples::default());
    for round in 0..options.count + WARM_UP {
        let least = program::fork_and_execute(c"/bin/busybox", &[c"true"])?;
        let [until_end, until_gone] = exec(&execs)?;
        if round < WARM_UP {
            continue;
        }
        floor.extend([least]);
        ended.extend([until_end]);
        gone.extend([until_gone]);
        ratio.extend([until_end.as_secs_f64() / least.as_secs_f64()]);
        if round % ROUNDS_PER_PEER_ROUND == 0 {
            let begin = Instant::now();
            scene.podrun(["exec", "p", "--", "true"])?;
            command.extend([begin.elapsed()]);
        }
    }
    // Its directory is one of those that must be gone.
    drop(execs);
    report.row("floor: fork, exec and wait", "ms", &floor);
    report.row("exec in a container: its end", "ms", &ended);
    report.row("exec in a container: all gone", "ms", &gone);
    report.row("exec / floor, pair by pair", "x", &ratio);
    report.row("exec / floor, of medians", "x", &[ended.median() / floor.median()].into_iter().collect());
    report.row("podrun exec", "ms", &command);
    let rounds = (options.count / ROUNDS_PER_PEER_ROUND).max(1);
    for runtime in peers::RUNTIMES {
        match peer(runtime, rounds, &mut scene) {
            Ok(took) => report.row(format!("{runtime} exec"), "ms", &took),
            Err(error) => report.note(format!("{runtime}: skipped: {error}")),
        }
    }
    report.note("goal: exec / floor at most 2");
    report.print();
    scene.close()
}

/// Measures another runtime: from the start of its `exec` to its end.
fn peer(runtime: &str, count: usize, scene: &mut Scene) -> io::Result<Samples> {
    let dir = scene.dir().join(runtime);
    let name = scene::marker(scene.dir());
    let layer = dir.join("layer");
    for name in ["bin", "dev", "proc", "sys", "v"] {
        fs::create_dir_all(layer.join(name))?;
    }
    fs::copy("/bin/busybox", layer.join("bin/busybox"))?;
    symlink("busybox", layer.join("bin/sh"))?;
    peers::bundle(&dir, &layer, &scene.volume(), &format!("{name}-{runtime}"))?;
    peers::apart(|| {
        let exec = |run: peers::Run<'_>| {
            let one = |_| {
                let begin = Instant::now();
                run(&["exec", &name, "/bin/busybox", "true"].map(OsStr::new)).map(|()| begin.elapsed())
            };
            // The first one warms up.
            (0..=count).map(one).skip(1).collect::<io::Result<Vec<_>>>()
        };
        peers::start(runtime, &dir, &name, &mut scene.signals, exec).map(|(_, times)| times)
    })
}

/// Runs a command as a probe does: with one pipe for all output. Returns how long it took to its end with its output
/// closed, and until nothing was left.
fn exec(execs: &Execs) -> io::Result<[Duration; 2]> {
    let begin = Instant::now();
    let (mut reader, writer) = io::pipe()?;
    let stdio = Stdio::Pipes { stdin: None, stdout: writer.as_fd(), stderr: writer.as_fd() };
    let container = ExecTarget::Name("a".to_owned());
    let mut exec = execs.start(container, &["true".to_owned()], &stdio).map_err(io::Error::other)?;
    drop(writer);
    loop {
        match next(&mut exec)? {
            ExecEvent::Started => {}
            ExecEvent::Exited(ExitStatus::Code(0)) => break,
            other => return Err(io::Error::other(format!("{other:?}"))),
        }
    }
    reader.read_to_end(&mut Vec::new())?;
    let ended = begin.elapsed();
    wait(exec.connection())?;
    Ok([ended, begin.elapsed()])
}

fn next(exec: &mut Exec) -> io::Result<ExecEvent> {
    loop {
        if let Some(event) = exec.recv().map_err(io::Error::other)? {
            return Ok(event);
        }
        wait(exec.events())?;
    }
}

fn wait(fd: BorrowedFd<'_>) -> io::Result<()> {
    match poll(&mut [PollFd::new(fd, PollFlags::POLLIN)], PollTimeout::from(10_000_u16))? {
        0 => Err(io::ErrorKind::TimedOut.into()),
        _ => Ok(()),
    }
}
