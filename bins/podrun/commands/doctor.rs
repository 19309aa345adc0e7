//! `podrun doctor`: what this host can do and cannot.

use std::fs;
use std::path::Path;

use caps::{CapSet, Capability};
use nix::errno::Errno;
use nix::sys::statvfs::statvfs;
use nix::unistd::{AccessFlags, access};
use podrun_cgroups::{Availability, Controller, Facts, Hierarchy, availability};
use podrun_engine::Engine;
use serde_json::json;

use crate::cli::{DoctorArgs, Global};
use crate::context;
use crate::exit_code::Code;
use crate::print::println;
use crate::report::{CommandResult, chain};

/// How much a finding matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// It is there.
    Ok,
    /// Some Pods will be refused or get less.
    Limited,
    /// No Pod can run.
    Broken,
}

impl Verdict {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Limited => "limited",
            Self::Broken => "broken",
        }
    }
}

/// One thing that was looked at.
struct Finding {
    what: String,
    verdict: Verdict,
    detail: String,
}

impl Finding {
    fn new(what: impl Into<String>, verdict: Verdict, detail: impl Into<String>) -> Self {
        Self { what: what.into(), verdict, detail: detail.into() }
    }
}

pub(crate) fn run(global: &Global, args: &DoctorArgs) -> CommandResult {
    let engine = context::engine(global)?;
    let mut findings =
        vec![kernel(), rights(), oom_score(), init(), file_system("overlay", "root file systems")];
    findings.extend(["net", "ipc", "uts", "pid", "mnt", "cgroup"].map(namespace));
    findings.extend(cgroups());
    findings.push(seccomp());
    findings.extend(network());
    findings.push(state(&engine));
    if args.output.is_some() {
        let list: Vec<_> = findings
            .iter()
            .map(|f| json!({ "what": f.what, "verdict": f.verdict.as_str(), "detail": f.detail }))
            .collect();
        println!("{:#}", json!(list));
    } else {
        findings.iter().for_each(print);
    }
    let broken = findings.iter().any(|f| f.verdict == Verdict::Broken);
    Ok(if broken { Code::Failure } else { Code::Ok })
}

fn print(finding: &Finding) {
    let colour = match finding.verdict {
        Verdict::Ok => anstyle::AnsiColor::Green,
        Verdict::Limited => anstyle::AnsiColor::Yellow,
        Verdict::Broken => anstyle::AnsiColor::Red,
    };
    let style = colour.on_default();
    println!("{style}{:<8}{style:#} {:<28} {}", finding.verdict.as_str(), finding.what, finding.detail);
}

fn kernel() -> Finding {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let release = release.trim();
    // The oldest kernel that the test suite runs on.
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|n| n.parse::<u32>().unwrap_or(0));
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    let verdict = if version >= (6, 1) { Verdict::Ok } else { Verdict::Broken };
    Finding::new("kernel", verdict, format!("{release} (6.1 or newer is needed)"))
}

fn rights() -> Finding {
    if nix::unistd::geteuid().is_root() {
        Finding::new("user", Verdict::Ok, "root")
    } else {
        Finding::new("user", Verdict::Broken, "not root: only `plan`, `version` and `completion` work")
    }
}

fn oom_score() -> Finding {
    // It cannot be asked for only where /proc is missing, and then other findings say so.
    let held = caps::has_cap(None, CapSet::Effective, Capability::CAP_SYS_RESOURCE).unwrap_or(false);
    if held {
        Finding::new("CAP_SYS_RESOURCE", Verdict::Ok, "oom_score_adj can be lowered")
    } else {
        Finding::new(
            "CAP_SYS_RESOURCE",
            Verdict::Limited,
            "missing: oom_score_adj of Guaranteed Pods stays as it is",
        )
    }
}

fn init() -> Finding {
    match std::env::current_exe().map(|own| own.with_file_name("podrun-init")) {
        Ok(path) if path.is_file() => Finding::new("podrun-init", Verdict::Ok, path.display().to_string()),
        Ok(path) => Finding::new("podrun-init", Verdict::Broken, format!("{} is missing", path.display())),
        Err(error) => Finding::new("podrun-init", Verdict::Broken, error.to_string()),
    }
}

fn file_system(name: &str, purpose: &str) -> Finding {
    let known = fs::read_to_string("/proc/filesystems").unwrap_or_default();
    if known.split_whitespace().any(|word| word == name) {
        Finding::new(name, Verdict::Ok, format!("for {purpose}"))
    } else {
        Finding::new(
            name,
            Verdict::Broken,
            format!("the kernel does not know it yet (modprobe {name}?); for {purpose}"),
        )
    }
}

fn namespace(kind: &str) -> Finding {
    let what = format!("{kind} namespace");
    match Path::new("/proc/self/ns").join(kind).try_exists() {
        Ok(true) => Finding::new(what, Verdict::Ok, ""),
        _ => Finding::new(what, Verdict::Broken, "the kernel has none"),
    }
}

fn cgroups() -> Vec<Finding> {
    let hierarchy = match Hierarchy::find() {
        Ok(hierarchy) => hierarchy,
        Err(error) => return vec![Finding::new("cgroup v2", Verdict::Broken, chain(&error))],
    };
    let place = hierarchy.mount.display().to_string();
    if hierarchy.read_only {
        return vec![Finding::new("cgroup v2", Verdict::Broken, format!("{place} is read-only"))];
    }
    let mut findings = vec![Finding::new("cgroup v2", Verdict::Ok, place)];
    let facts = match hierarchy.open_root().and_then(|root| Facts::read(&root)) {
        Ok(facts) => facts,
        Err(error) => return vec![Finding::new("cgroup v2", Verdict::Broken, chain(&error))],
    };
    for (controller, purpose) in [
        (Controller::Cpu, "CPU requests and limits"),
        (Controller::Memory, "memory limits, OOMKilled"),
        (Controller::Pids, "the limit on processes"),
        (Controller::Hugetlb, "huge pages"),
    ] {
        let what = format!("{controller} controller");
        findings.push(match availability(controller, &facts) {
            Availability::Available => Finding::new(what, Verdict::Ok, format!("for {purpose}")),
            missing => Finding::new(what, Verdict::Limited, format!("{missing}; it is for {purpose}")),
        });
    }
    findings
}

fn seccomp() -> Finding {
    match Path::new("/proc/sys/kernel/seccomp/actions_avail").try_exists() {
        Ok(true) => Finding::new("seccomp", Verdict::Ok, "RuntimeDefault is on unless a Pod says Unconfined"),
        _ => Finding::new("seccomp", Verdict::Broken, "the kernel has no seccomp filters"),
    }
}

/// Tries the bridge out, and looks for what would keep Pods from the world.
fn network() -> Vec<Finding> {
    let mut findings = vec![match podrun_engine::try_out_network() {
        Ok(()) => Finding::new("pod network", Verdict::Ok, "bridge, veth and nftables work"),
        Err(error) => {
            let detail = format!("{}; Pods need --network=none or hostNetwork", chain(&error));
            Finding::new("pod network", Verdict::Limited, detail)
        }
    }];
    match podrun_engine::forward_policies() {
        Ok(chains) if chains.is_empty() => {}
        Ok(chains) => findings.push(Finding::new(
            "forwarding",
            Verdict::Limited,
            format!("dropped by nftables chain {}: Pods reach nothing but the machine", chains.join(", ")),
        )),
        // Said above, in other words.
        Err(_) => {}
    }
    findings
}

/// Returns why nothing can be kept in a directory, which may have to be made first.
fn not_writable(path: &Path) -> Option<String> {
    let there = path.ancestors().find(|path| path.exists())?;
    match access(there, AccessFlags::W_OK | AccessFlags::X_OK) {
        Err(errno) => Some(format!("{}: {}", there.display(), errno.desc())),
        Ok(()) => match statvfs(there) {
            Ok(space) if space.blocks() > 0 && space.blocks_available() == 0 => {
                Some(format!("{}: {}", there.display(), Errno::ENOSPC.desc()))
            }
            _ => None,
        },
    }
}

fn state(engine: &Engine) -> Finding {
    let paths = engine.paths();
    let place = format!("{} and {}", paths.run.display(), paths.data.display());
    if let Some(why) = [&paths.run, &paths.data].into_iter().find_map(|path| not_writable(path)) {
        return Finding::new("state", Verdict::Broken, why);
    }
    match engine.pods() {
        Ok(pods) => match pods.faults.first() {
            None => Finding::new("state", Verdict::Ok, format!("{place}, {} Pods", pods.views.len())),
            Some(fault) => Finding::new("state", Verdict::Broken, chain(&fault.error)),
        },
        Err(error) => Finding::new("state", Verdict::Broken, chain(&error)),
    }
}
