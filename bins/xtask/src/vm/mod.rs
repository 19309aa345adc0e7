//! Runs a command as root in a throw-away virtual machine that sees this file system.
//!
//! The machine boots Debian's own kernel with a pure cgroup v2 hierarchy. Its root is an overlay of
//! the host's root, read-only over 9p, and a tmpfs, so that programs built here run there unchanged
//! and nothing they do reaches the host. Three serial ports keep things apart: the command's output,
//! the kernel's messages (`console.log`) and the exit code.

mod cpio;
mod initramfs;
mod kernel;
mod options;

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use crate::debian;
use crate::process::{Context as _, Failure, Result, Watched, command};
use crate::workspace::Workspace;

pub(crate) use options::Options;

/// What `timeout(1)` exits with.
const TIMED_OUT: u8 = 124;
/// What podman exits with when the engine, not the command, failed.
const MACHINE_FAILED: u8 = 125;
/// Where KVM works the guest is up in a second; where it only seems to, never.
const KVM_PATIENCE: Duration = Duration::from_secs(10);
const PROCESSORS: &str = "2";
const MEBIBYTES: &str = "4096";

/// Runs the task and exits as the command did.
pub(crate) fn run(arguments: &[String]) -> Result<ExitCode> {
    let options = Options::parse(arguments)?;
    let machine = Machine::prepare(&Workspace::load()?, &options)?;
    let outcome = machine.run(&options.command)?;
    Ok(ExitCode::from(outcome.code))
}

/// How a command ended in the machine.
#[derive(Debug)]
pub(crate) struct GuestOutcome {
    pub(crate) code: u8,
    pub(crate) output: String,
    /// The machine died while the command ran. That was told, with the kernel's last words.
    pub(crate) died: bool,
}

/// Everything a boot needs, found or fetched.
pub(crate) struct Machine {
    qemu: PathBuf,
    busybox: PathBuf,
    kernel: kernel::Kernel,
    dir: PathBuf,
    visible: Vec<PathBuf>,
    try_kvm: bool,
    limit: Duration,
}

/// How one boot ended.
enum Boot {
    Finished(GuestOutcome),
    NeverUp,
}

impl Machine {
    /// Installs what is missing and unpacks the kernel on first use.
    pub(crate) fn prepare(workspace: &Workspace, options: &Options) -> Result<Self> {
        if std::env::consts::ARCH != "x86_64" {
            return Err(Failure::usage("the virtual machine is x86-64 only so far"));
        }
        let qemu = || debian::find_program("qemu-system-x86_64");
        if qemu().is_none() {
            debian::install(&["qemu-system-x86"])?;
        }
        let missing = || Failure::usage("qemu-system-x86 is installed but not in PATH");
        let vm = workspace.target.join("vm");
        let cwd = std::env::current_dir().context("current directory")?;
        let (root, target) = (workspace.root.clone(), workspace.target.clone());
        Ok(Self {
            qemu: qemu().ok_or_else(missing)?,
            busybox: debian::busybox()?,
            kernel: kernel::Kernel::prepare(options.suite, &vm.join(options.suite.name()))?,
            // Two machines may run at the same time.
            dir: vm.join(format!("run-{}", std::process::id())),
            visible: vec![cwd, root, target],
            try_kvm: options.kvm,
            limit: options.limit,
        })
    }

    /// Boots, runs the command in the current directory, powers off.
    pub(crate) fn run(&self, words: &[String]) -> Result<GuestOutcome> {
        fs::create_dir_all(&self.dir).context(self.dir.display())?;
        let initrd = self.dir.join("initramfs");
        let guest = initramfs::Guest {
            busybox: &self.busybox,
            kernel: &self.kernel,
            visible: &self.visible,
            environment: &environment(),
            words,
        };
        fs::write(&initrd, initramfs::build(&guest)?).context(initrd.display())?;
        let result = self.boot_best(&initrd);
        // What is worth keeping after a run is the kernel's log, at a name that stays the same.
        let log = self.dir.with_file_name("console.log");
        fs::rename(self.dir.join("console.log"), &log)
            .and_then(|()| fs::remove_dir_all(&self.dir))
            .context(self.dir.display())?;
        let last_words =
            |what: &str| format!("{what}; the kernel's last words, from {}:\n{}", log.display(), tail(&log));
        if result.as_ref().is_ok_and(|outcome| outcome.died) {
            eprintln!("xtask: {}", last_words("the machine died while the command ran"));
        }
        result.map_err(|failure| Failure { message: last_words(&failure.message), ..failure })
    }

    fn boot_best(&self, initrd: &Path) -> Result<GuestOutcome> {
        if self.try_kvm {
            match self.boot(initrd, true)? {
                Boot::Finished(outcome) => return Ok(outcome),
                Boot::NeverUp => {
                    eprintln!("xtask: the machine does not boot with KVM: emulating instead");
                }
            }
        }
        match self.boot(initrd, false)? {
            Boot::Finished(outcome) => Ok(outcome),
            Boot::NeverUp => {
                Err(Failure { message: "the machine did not boot".into(), code: MACHINE_FAILED })
            }
        }
    }

    fn boot(&self, initrd: &Path, kvm: bool) -> Result<Boot> {
        let report = self.dir.join("report");
        fs::write(&report, "").context(report.display())?;
        let read = || fs::read_to_string(&report).context(report.display());
        let begin = Instant::now();
        let mut watched = Watched::start(&mut self.qemu(initrd, &report, kvm), self.limit)?;
        let mut up = false;
        while kvm && !up {
            up = read()?.starts_with("up");
            if watched.tick()?.is_some() {
                // qemu itself gave up, or the command was quicker than our look.
                if !read()?.starts_with("up") {
                    return Ok(Boot::NeverUp);
                }
                break;
            }
            if !up && begin.elapsed() > KVM_PATIENCE {
                watched.stop()?;
                return Ok(Boot::NeverUp);
            }
        }
        let outcome = watched.finish()?;
        if outcome.status.is_none() {
            let message = format!("the command took longer than {:?}", self.limit);
            return Err(Failure { message, code: TIMED_OUT });
        }
        match parse_report(&read()?) {
            Report::Silent => Ok(Boot::NeverUp),
            Report::Up => {
                let output = outcome.output;
                Ok(Boot::Finished(GuestOutcome { code: MACHINE_FAILED, output, died: true }))
            }
            Report::Code(code) => {
                Ok(Boot::Finished(GuestOutcome { code, output: outcome.output, died: false }))
            }
        }
    }

    fn qemu(&self, initrd: &Path, report: &Path, kvm: bool) -> Command {
        let mut qemu = command(&self.qemu);
        qemu.args(["-nodefaults", "-no-user-config", "-display", "none", "-nic", "none", "-no-reboot"]);
        qemu.args(["-machine", "q35", "-smp", PROCESSORS, "-m", MEBIBYTES]);
        let accelerator = if kvm { ["-accel", "kvm"] } else { ["-accel", "tcg,thread=multi"] };
        qemu.args(accelerator).args(["-cpu", "max"]);
        qemu.arg("-kernel").arg(&self.kernel.image).arg("-initrd").arg(initrd);
        // psi=1: Debian builds pressure information in but leaves it off.
        // panic=-1 with -no-reboot ends a crash; cgroup v1 stays out of the way.
        qemu.args([
            "-append",
            "console=ttyS1 quiet loglevel=6 panic=-1 psi=1 cgroup_no_v1=all mitigations=off nokaslr",
        ]);
        qemu.args([
            "-virtfs",
            "local,path=/,mount_tag=hostroot,security_model=none,readonly=on,multidevs=remap",
        ]);
        serial(&mut qemu, "output", "stdio,signal=off");
        serial(&mut qemu, "console", &file(&self.dir.join("console.log")));
        serial(&mut qemu, "report", &file(report));
        qemu
    }
}

fn serial(qemu: &mut Command, id: &str, backend: &str) {
    let (kind, rest) = backend.split_once(',').unwrap_or((backend, ""));
    qemu.args(["-chardev", &format!("{kind},id={id},{rest}")]);
    qemu.args(["-device", &format!("isa-serial,chardev={id}")]);
}

fn file(path: &Path) -> String {
    // A comma separates options and is doubled to mean itself.
    format!("file,path={}", path.display().to_string().replace(',', ",,"))
}

/// Returns what of our environment the command sees.
fn environment() -> Vec<(OsString, OsString)> {
    let is_passed = |name: &str| {
        matches!(name, "PATH" | "HOME" | "LANG" | "INSTA_WORKSPACE_ROOT" | "INSTA_UPDATE")
            || ["PODRUN_", "RUST_", "CARGO_"].iter().any(|prefix| name.starts_with(prefix))
    };
    std::env::vars_os().filter(|(name, _)| name.to_str().is_some_and(is_passed)).collect()
}

#[derive(Debug, PartialEq, Eq)]
enum Report {
    Silent,
    Up,
    Code(u8),
}

fn parse_report(text: &str) -> Report {
    let mut lines = text.lines().map(str::trim);
    if lines.next() != Some("up") {
        return Report::Silent;
    }
    match lines.next().and_then(|line| line.strip_prefix("exit ")?.parse().ok()) {
        Some(code) => Report::Code(code),
        None => Report::Up,
    }
}

fn tail(log: &Path) -> String {
    let text = fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(20)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_report_tells_a_boot_from_an_end() {
        for (text, expected) in [
            ("", Report::Silent),
            ("up\r\n", Report::Up),
            ("up\n", Report::Up),
            ("up\nexit 3\n", Report::Code(3)),
            ("up\r\nexit 137\r\n", Report::Code(137)),
            ("up\nexit many\n", Report::Up),
        ] {
            assert_eq!(parse_report(text), expected, "{text:?}");
        }
    }
}
