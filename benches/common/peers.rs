//! How long other runtimes take for one container, where they are installed.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use podrun_testkit::child;
use serde_json::json;

use crate::report::Samples;
use crate::signals::{Signals, script};

/// The OCI runtimes that are tried.
pub(crate) const RUNTIMES: [&str; 2] = ["crun", "runc"];

/// Writes a bundle for one container with the floor's layer, volume and namespaces.
pub(crate) fn bundle(dir: &Path, layer: &Path, volume: &Path, cgroup: &str) -> io::Result<()> {
    fs::create_dir_all(dir)?;
    let namespaces = ["pid", "mount", "ipc", "uts", "network", "cgroup"].map(|kind| json!({ "type": kind }));
    let config = json!({
        "ociVersion": "1.0.2",
        "process": {
            "user": { "uid": 0, "gid": 0 },
            "args": ["/bin/sh", "-c", script("a", "/v", "")],
            "env": ["PATH=/bin"],
            "cwd": "/",
        },
        "root": { "path": layer },
        "mounts": [
            { "destination": "/proc", "type": "proc", "source": "proc" },
            { "destination": "/v", "type": "bind", "source": volume, "options": ["bind"] },
        ],
        "linux": { "cgroupsPath": format!("/{cgroup}"), "namespaces": namespaces },
    });
    fs::write(dir.join("config.json"), config.to_string())
}

/// Runs one subcommand of a runtime.
pub(crate) type Run<'a> = &'a dyn Fn(&[&OsStr]) -> io::Result<()>;

/// Measures in a process that sees only cgroup2.
pub(crate) fn apart(measure: impl FnOnce() -> io::Result<Vec<Duration>>) -> io::Result<Samples> {
    let (mut reader, mut writer) = io::pipe()?;
    child::run(|| {
        let text = match see_cgroup2_only().and_then(|()| measure()) {
            Ok(times) => times.iter().map(|time| format!("{}\n", time.as_nanos())).collect(),
            Err(error) => error.to_string(),
        };
        writer.write_all(text.as_bytes()).expect("a pipe takes a few lines");
    });
    drop(writer);
    let mut text = String::new();
    reader.read_to_string(&mut text)?;
    let mut took = Samples::default();
    for line in text.lines() {
        let nanos = line.parse().map_err(|_| io::Error::other(text.clone()))?;
        took.extend([Duration::from_nanos(nanos)]);
    }
    Ok(took)
}

/// Replaces what is at /sys/fs/cgroup by the cgroup2 hierarchy, for this process and its children alone: some runtimes
/// refuse hosts that have both versions.
fn see_cgroup2_only() -> io::Result<()> {
    const NONE: Option<&str> = None;
    unshare(CloneFlags::CLONE_NEWNS)?;
    mount(NONE, "/", NONE, MsFlags::MS_REC | MsFlags::MS_PRIVATE, NONE)?;
    umount2("/sys/fs/cgroup", MntFlags::MNT_DETACH)?;
    mount(Some("cgroup2"), "/sys/fs/cgroup", Some("cgroup2"), MsFlags::empty(), NONE)?;
    Ok(())
}

/// Creates and starts one container, waits until it has spoken, does something with it, and deletes it. Returns how long
/// it took to speak, and what was done.
pub(crate) fn start<T>(
    runtime: &str,
    dir: &Path,
    id: &str,
    signals: &mut Signals,
    then: impl FnOnce(Run<'_>) -> io::Result<T>,
) -> io::Result<(Duration, T)> {
    let state = dir.join("state");
    let bundle = dir.as_os_str();
    let run = |arguments: &[&OsStr]| run(runtime, &state, &dir.join("stderr"), arguments);
    let begin = Instant::now();
    let started = run(&["create".as_ref(), "--bundle".as_ref(), bundle, id.as_ref()])
        .and_then(|()| run(&["start".as_ref(), id.as_ref()]))
        .and_then(|()| signals.wait(1))
        .and_then(|spoke| Ok((spoke.duration_since(begin), then(&run)?)));
    let deleted = run(&["delete".as_ref(), "--force".as_ref(), id.as_ref()]);
    let done = started?;
    deleted.map(|()| done)
}

#[expect(clippy::disallowed_methods, reason = "the other runtime is what is measured")]
fn run(runtime: &str, state: &Path, stderr: &Path, arguments: &[&OsStr]) -> io::Result<()> {
    let mut command = Command::new(runtime);
    command.arg("--root").arg(state).args(arguments).stdin(Stdio::null()).stdout(Stdio::null());
    let status = command.stderr(File::create(stderr)?).status()?;
    if status.success() {
        return Ok(());
    }
    let said = fs::read_to_string(stderr)?;
    Err(io::Error::other(said.lines().next().unwrap_or("it said nothing").to_owned()))
}
