//! Runs a pod of an init container and two containers, shows it, deletes it, counts what is left.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use podrun_testkit::{LeakCheck, Requirement, busybox_image_named, cgroup2_mount, own_network};

use crate::debian;
use crate::process::{self, Context as _, Failure, Result, Watched, cargo, command};
use crate::vm::{Machine, Options};
use crate::workspace::Workspace;

const IMAGE: &str = "localhost/busybox:demo";
const POD: &str = "demo";
/// What the client container prints when it reaches the other one in both ways.
const PROOFS: &[&str] = &["localhost says: hello from the init container, tick", "ipc says: shared memory"];
/// Ample even for an emulated machine.
const PATIENCE: Duration = Duration::from_secs(120);
const READY: &str = "jsonpath=Ready: {.status.conditions[?(@.type==\"Ready\")].status}{\"\\n\"}";
/// Where the guest keeps podrun's state: its root is an overlay, on which image layers cannot stand.
const GUEST_ROOT: &str = "/var/lib/podrun/demo";

/// Runs the task.
pub(crate) fn run(arguments: &[String]) -> Result<ExitCode> {
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => {
            let demo = Demo::prepare()?;
            demo.play()
        }
        ["--vm"] => {
            let demo = Demo::prepare()?;
            let machine = Machine::prepare(&Workspace::load()?, &Options::default())?;
            let program = std::env::current_exe().context("our own path")?;
            let places = [&demo.programs, &demo.archive, &demo.pod].map(|path| path.display().to_string());
            let mut words = vec![program.display().to_string(), "demo".into(), "--inside".into()];
            words.extend(places);
            Ok(ExitCode::from(machine.run(&words)?.code))
        }
        // The guest has no cargo to ask where things are.
        ["--inside", programs, archive, pod] => {
            let demo = Demo {
                programs: programs.into(),
                archive: archive.into(),
                pod: pod.into(),
                root: GUEST_ROOT.into(),
            };
            demo.play()
        }
        _ => Err(Failure::usage("usage: cargo xtask demo [--vm]")),
    }
}

/// Where everything is.
struct Demo {
    programs: PathBuf,
    archive: PathBuf,
    pod: PathBuf,
    root: PathBuf,
}

impl Demo {
    fn prepare() -> Result<Self> {
        let workspace = Workspace::load()?;
        process::run(cargo().args(["build", "--package", "podrun", "--bins"]))?;
        debian::busybox()?;
        let dir = workspace.target.join("demo");
        fs::create_dir_all(&dir).context(dir.display())?;
        Ok(Self {
            programs: workspace.target.join("debug"),
            archive: busybox_image_named(&dir, IMAGE),
            pod: workspace.root.join("tests/pods/demo.yaml"),
            root: dir.join("root"),
        })
    }

    fn play(&self) -> Result<ExitCode> {
        if let Err(why) = Requirement::root().check() {
            return Err(Failure::usage(format!("the demo needs root: {why}; try --vm")));
        }
        fs::create_dir_all(&self.root).context(self.root.display())?;
        // A demonstration leaves the machine's network alone.
        own_network();
        let leaks = LeakCheck::start();
        let played = self.load_run_and_delete();
        title("left behind")?;
        let left = leaks.leftovers(Duration::from_secs(10));
        // What was told here need not be told again by a panic.
        std::mem::forget(leaks);
        played?;
        if left.is_empty() {
            println!("nothing");
            return Ok(ExitCode::SUCCESS);
        }
        println!("{left}");
        Err(Failure::new("the pod left something behind"))
    }

    fn load_run_and_delete(&self) -> Result<()> {
        title("load the image")?;
        process::run(self.podrun().args(["image", "load"]).arg(&self.archive))?;
        title("run the pod: its timeline and its logs")?;
        let mut podrun = self.podrun();
        let mut run = Watched::start(podrun.arg("run").args(unenforced_limits()).arg(&self.pod), PATIENCE)?;
        // A failure must not leave the pod running.
        let shown = self.show(&mut run);
        let deleted = title("delete").and_then(|()| process::run(self.podrun().args(["delete", "pod", POD])));
        let ended = run.finish();
        shown?;
        deleted?;
        // Both containers end well when they are told to, and so does the command that has followed them.
        match ended?.status {
            Some(status) if status.success() => Ok(()),
            status => Err(Failure::new(format!("podrun run ended with {status:?}"))),
        }
    }

    fn show(&self, run: &mut Watched) -> Result<()> {
        wait_until("the containers reach each other", run, PROOFS)?;
        let mut get = self.podrun();
        let mut ready = Watched::start(get.args(["get", "pod", POD, "-w", "-o", READY]), PATIENCE)?;
        let is_ready = wait_until("the pod is ready", &mut ready, &["Ready: True"]);
        ready.stop()?;
        is_ready?;
        title("status")?;
        process::run(self.podrun().args(["get", "pod", POD, "-o", "yaml"]))?;
        process::run(self.podrun().args(["describe", "pod", POD]))?;
        title("logs")?;
        process::run(self.podrun().args(["logs", POD, "--all-containers", "--prefix"]))?;
        title("limits, as the kernel holds them")?;
        let limits = limits();
        if limits.is_empty() {
            println!("none: this host's cgroup2 hierarchy has no controller for them");
        }
        print!("{limits}");
        Ok(())
    }

    fn podrun(&self) -> Command {
        let mut podrun = command(self.programs.join("podrun"));
        podrun.arg("--root").arg(&self.root);
        podrun
    }
}

/// Waits until a program has printed all of this.
fn wait_until(what: &str, program: &mut Watched, texts: &[&str]) -> Result<()> {
    let begin = Instant::now();
    while !texts.iter().all(|text| program.has_printed(text)) {
        if let Some(status) = program.tick()? {
            return Err(Failure::new(format!("ended with {status} before {what}")));
        }
        if begin.elapsed() > PATIENCE {
            return Err(Failure::new(format!("waited {PATIENCE:?} until {what}")));
        }
    }
    Ok(())
}

/// Prints a heading; flushed, because programs that we start write to the same place.
fn title(text: &str) -> Result<()> {
    use std::io::Write as _;
    println!("\n== {text}");
    std::io::stdout().flush().context("standard output")
}

/// Asks podrun to run without limits where the host's cgroup2 hierarchy has none.
fn unenforced_limits() -> Option<&'static str> {
    let missing =
        ["cpu", "memory", "pids"].iter().find(|name| Requirement::controller(name).check().is_err())?;
    println!("this host's cgroup2 hierarchy lacks {missing}: limits are warned about, not enforced");
    Some("--unenforced-limits=warn")
}

/// Returns the limits of all cgroups of podrun.
fn limits() -> String {
    let mut text = String::new();
    let Some(mount) = cgroup2_mount() else { return text };
    let mut pending = vec![mount.clone()];
    while let Some(dir) = pending.pop() {
        let Ok(entries) = fs::read_dir(&dir) else { continue };
        pending.extend(entries.filter_map(|entry| Some(entry.ok()?.path())).filter(|path| path.is_dir()));
        let relative = dir.strip_prefix(&mount).unwrap_or(&dir);
        if relative.to_string_lossy().contains("podrun") {
            text.push_str(&limits_of(&dir, relative));
        }
    }
    text
}

fn limits_of(dir: &Path, shown: &Path) -> String {
    let mut text = String::new();
    for name in ["cpu.max", "cpu.weight", "memory.max", "memory.min", "pids.max"] {
        // A file is there only if its controller is.
        if let Ok(value) = fs::read_to_string(dir.join(name)) {
            writeln!(text, "{} {name} {}", shown.display(), value.trim_end()).expect("writing to a string");
        }
    }
    text
}
