//! What a probe costs in CPU time beside fork and exec, what many Pods with probes cost, and how punctual probes are.
//!
//! Everything that works for a probe is counted: the supervisor, the Pod's init, and the command itself, which init reaps.
//!
//! The same work costs more when it is done seldom, because caches and TLBs have been used for other things meanwhile: a
//! fork and exec every 50 ms takes 1.7 times the CPU of one in a row of many. So the floor is measured both ways, and
//! probes are compared with what is done at their own rhythm.

#[path = "common/kernel.rs"]
mod kernel;
#[path = "common/report.rs"]
mod report;
#[path = "common/scene.rs"]
mod scene;
#[path = "common/signals.rs"]
mod signals;

use std::fs;
use std::io;
use std::net::TcpListener;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::resource::{UsageWho, getrusage};
use podrun_testkit::require;

use report::{Options, Report, Samples};
use scene::Scene;

/// Between two probes whose cost is measured.
const PERIOD: Duration = Duration::from_millis(50);
/// How long costs are measured.
const WHILE: Duration = Duration::from_secs(10);
/// Between two probes whose punctuality is measured, and how many of them.
const BEAT: Duration = Duration::from_millis(20);
const BEATS: u32 = 1000;
/// Milliseconds between the probes of many Pods.
const SECOND: u32 = 1000;

fn main() -> io::Result<()> {
    require!(root, cgroup2, overlay, netns, program("busybox"));
    let options = Options::parse(100);
    let mut report = Report::new("probe cost", options);
    let mut scene = Scene::new()?;

    let in_a_row = fork_and_exec(400, Duration::ZERO)?;
    report.row("fork + exec of busybox true, in a row", "us", &micros(in_a_row));
    let floor = fork_and_exec(200, PERIOD)?;
    report.row(format!("fork + exec of busybox true, every {} ms", PERIOD.as_millis()), "us", &micros(floor));
    fs::write(scene.volume().join("page"), "fine\n")?;
    let serve = "httpd -p 0.0.0.0:8080 -h /v";
    for (name, probe) in [
        ("exec", "exec: {command: ['true']}"),
        ("http", "httpGet: {port: 8080, path: /page}"),
        ("tcp", "tcpSocket: {port: 8080}"),
    ] {
        let period = u32::try_from(PERIOD.as_millis()).expect("milliseconds");
        start(&mut scene, name, period, probe, &format!("{serve}; "), "")?;
        let spent = cpu_of(&[name], &scene, WHILE)?;
        let probes = WHILE.as_secs_f64() / PERIOD.as_secs_f64();
        let each = spent.div_f64(probes);
        report.row(format!("one {name} probe"), "us", &micros(each));
        if name == "exec" {
            for (name, floor) in [("in a row", in_a_row), ("at the same rhythm", floor)] {
                let ratio = each.as_secs_f64() / floor.as_secs_f64();
                report.row(
                    format!("one exec probe / fork + exec {name}"),
                    "x",
                    &[ratio].into_iter().collect(),
                );
            }
        }
        scene.podrun(["delete", "pod", name, "--force"])?;
    }

    let late = lateness(&mut scene)?;
    report.row(format!("lateness of {BEATS} probes every {} ms", BEAT.as_millis()), "ms", &late);

    let count = u32::try_from(options.count).expect("few");
    let floor = fork_and_exec(200, Duration::from_secs(1) / count)? * count;
    let names: Vec<String> = (0..count).map(|number| format!("p{number}")).collect();
    for name in &names {
        start(&mut scene, name, SECOND, "exec: {command: ['true']}", "", "")?;
    }
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let spent = cpu_of(&names, &scene, WHILE)? / u32::try_from(WHILE.as_secs()).expect("seconds");
    let share = |a_second: Duration| [100.0 * a_second.as_secs_f64()].into_iter().collect::<Samples>();
    report.row(format!("{count} Pods with one exec probe a second"), "% of a core", &share(spent));
    report.row("as many times fork + exec a second", "% of a core", &share(floor));
    report.note(
        "CPU time of supervisor, init and command; goals: 2 x fork + exec, and 5 % of a core for 100 Pods",
    );
    report.note("fork + exec: posix_spawn and wait by a small process; `runc exec` is not measured here");
    report.print();
    scene.close()
}

fn micros(time: Duration) -> Samples {
    [time.as_secs_f64() * 1e6].into_iter().collect()
}

/// Runs a Pod whose container says that it runs and is probed.
fn start(
    scene: &mut Scene,
    name: &str,
    period: u32,
    probe: &str,
    before: &str,
    spec: &str,
) -> io::Result<()> {
    let path = scene.manifest(name, &[("c", signals::script("c", "/v", before))])?;
    let annotations = format!("  annotations: {{podrun.io/probe-period-ms: '{period}'}}\nspec:\n{spec}");
    let probe = format!("    readinessProbe: {{{probe}}}\n    volumeMounts:\n");
    let text = fs::read_to_string(&path)?;
    let text = text.replacen("spec:\n", &annotations, 1).replacen("    volumeMounts:\n", &probe, 1);
    fs::write(&path, text)?;
    scene.run(&path, 1).map(drop)
}

/// Returns the CPU time of one fork and exec, with a pause after each.
fn fork_and_exec(count: u32, pause: Duration) -> io::Result<Duration> {
    let used = || -> io::Result<Duration> {
        let mut sum = Duration::ZERO;
        for who in [UsageWho::RUSAGE_SELF, UsageWho::RUSAGE_CHILDREN] {
            let usage = getrusage(who)?;
            for time in [usage.user_time(), usage.system_time()] {
                let micros = time.tv_sec() * 1_000_000 + time.tv_usec();
                sum += Duration::from_micros(u64::try_from(micros).unwrap_or(0));
            }
        }
        Ok(sum)
    };
    let before = used()?;
    for _ in 0..count {
        #[expect(clippy::disallowed_methods, reason = "the floor: what starting any program costs")]
        let status = Command::new("busybox").arg("true").stdin(Stdio::null()).status()?;
        assert!(status.success());
        #[expect(clippy::disallowed_methods, reason = "the rhythm is what is measured")]
        std::thread::sleep(pause);
    }
    Ok(used()?.saturating_sub(before) / count)
}

/// Returns the CPU time that everything about these Pods takes in a while.
#[expect(clippy::disallowed_methods, reason = "what is measured is what happens meanwhile")]
fn cpu_of(pods: &[&str], scene: &Scene, time: Duration) -> io::Result<Duration> {
    let mut processes = Vec::new();
    for pod in pods {
        processes.push(kernel::init_of(&kernel::cgroup_of(scene, pod)?)?);
    }
    processes.extend(supervisors(scene)?);
    // The start is over when supervisors have settled.
    std::thread::sleep(Duration::from_secs(2));
    let used = || processes.iter().map(|pid| cpu_time(*pid)).sum::<io::Result<Duration>>();
    let before = used()?;
    std::thread::sleep(time);
    Ok(used()?.saturating_sub(before))
}

/// Returns the processes that were started as `podrun` on this state and are no inits.
fn supervisors(scene: &Scene) -> io::Result<Vec<libc::pid_t>> {
    let root = scene.dir().to_string_lossy().into_owned();
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let entry = entry?;
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        // A process may end while it is looked at.
        let read = |name: &str| fs::read(entry.path().join(name)).unwrap_or_default();
        if read("comm") == b"podrun\n" && String::from_utf8_lossy(&read("cmdline")).contains(&root) {
            found.push(pid);
        }
    }
    Ok(found)
}

/// Returns the CPU time of a process and of the children that it has reaped: see proc_pid_stat(5).
fn cpu_time(pid: libc::pid_t) -> io::Result<Duration> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let fields = text.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace();
    let ticks: u64 = fields.skip(11).take(4).filter_map(|field| field.parse::<u64>().ok()).sum();
    // USER_HZ is 100 on every architecture that podrun runs on.
    Ok(Duration::from_millis(ticks * 10))
}

/// Returns how late probes come that have a time of their own each: the bench itself is the server.
fn lateness(scene: &mut Scene) -> io::Result<Samples> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let port = listener.local_addr()?.port();
    let beat = u32::try_from(BEAT.as_millis()).expect("milliseconds");
    let probe = format!("tcpSocket: {{port: {port}, host: 127.0.0.1}}");
    start(scene, "punctual", beat, &probe, "", "  hostNetwork: true\n")?;
    // The first probes come while the Pod starts.
    for _ in 0..10 {
        listener.accept()?;
    }
    let mut times = Vec::new();
    for _ in 0..BEATS {
        listener.accept()?;
        times.push(Instant::now());
    }
    scene.podrun(["delete", "pod", "punctual", "--force"])?;
    // On a grid that fits the earliest of them: each is as late as it is behind its own time.
    let offset = |(index, time): (usize, &Instant)| {
        let due = BEAT * u32::try_from(index).expect("few");
        time.duration_since(times[0]).as_secs_f64() - due.as_secs_f64()
    };
    let offsets: Vec<f64> = times.iter().enumerate().map(offset).collect();
    let earliest = offsets.iter().copied().fold(f64::INFINITY, f64::min);
    Ok(offsets.iter().map(|offset| (offset - earliest) * 1e3).collect())
}
