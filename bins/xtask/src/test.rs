//! Runs all tests here, then those that need the kernel in a virtual machine that has everything.
//!
//! A test that lacks something here says so and is counted as skipped, unless it ran in the machine.
//! There nothing may be missing: a skip is a failure, and so is a lane in which nothing ran.

mod build;
mod guest;
mod native;
mod summary;

use std::process::ExitCode;

use crate::debian;
use crate::process::{Failure, Result};
use crate::workspace::Workspace;
use summary::{Lane, Row};

/// What the task is told.
struct Options {
    native: bool,
    vm: bool,
    packages: Vec<String>,
}

impl Options {
    fn parse(arguments: &[String]) -> Result<Self> {
        let mut options = Self { native: true, vm: true, packages: Vec::new() };
        let mut rest = arguments.iter();
        while let Some(argument) = rest.next() {
            match argument.as_str() {
                "--no-vm" => options.vm = false,
                "--vm-only" => options.native = false,
                "--package" | "-p" => match rest.next() {
                    Some(name) => options.packages.push(name.clone()),
                    None => return Err(Failure::usage("--package takes the name of a package")),
                },
                other => return Err(Failure::usage(format!("test: unexpected argument {other}"))),
            }
        }
        if !options.native && !options.vm {
            return Err(Failure::usage("test: --no-vm and --vm-only together leave nothing"));
        }
        Ok(options)
    }
}

/// Runs the task. The last line is `N passed, N failed, N skipped` whatever happens.
pub(crate) fn run(arguments: &[String]) -> Result<ExitCode> {
    let options = Options::parse(arguments)?;
    let mut rows = Vec::new();
    if let Err(failure) = run_lanes(&options, &mut rows) {
        eprintln!("xtask: {}", failure.message);
        rows.push(Row::broken(Lane::Build, "could not go on"));
    }
    let totals = summary::print(&rows);
    Ok(if totals.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Other people's programs that tests compare with or make images with, and the Debian packages that hold them.
const PEERS: [(&str, &str); 6] = [
    ("mmdebstrap", "mmdebstrap"),
    ("docker-registry", "docker-registry"),
    ("skopeo", "skopeo"),
    ("umoci", "umoci"),
    ("buildah", "buildah"),
    ("podman", "podman"),
];

/// Programs of `tests/` that the machine adds nothing to: pure ones, those whose subject has no part in cgroup
/// controllers or the kernel's version, and those that start thousands of processes, which an emulated processor takes
/// too long for. Where one of them lacks something here it runs in the machine all the same.
const HERE_ONLY: [&str; 12] = [
    "podrun-spec/",
    "podrun-plan/",
    "podrun-lifecycle/",
    "podrun-image/",
    "podrun-probes/",
    "podrun/a_pull_may_die",
    "podrun/a_pull_needs_little_memory",
    "podrun/broken_manifests_are_refused",
    "podrun/commands_may_race",
    "podrun/damaged_state_is_contained",
    "podrun/images_come_from_registries",
    "podrun/whatever_dies_nothing_leaks",
];

fn gains_nothing(label: &str) -> bool {
    HERE_ONLY.iter().any(|here| label.starts_with(here))
}

/// Fills in the rows as far as it gets.
fn run_lanes(options: &Options, rows: &mut Vec<Row>) -> Result<()> {
    let workspace = Workspace::load()?;
    let programs = build::run(&workspace, &options.packages)?;
    let mut skipped_here = Vec::new();
    if options.native {
        // Without it the tests that need an image are skipped, visibly; that is no reason to stop.
        if let Err(failure) = debian::busybox() {
            eprintln!("xtask: no static busybox: {}", failure.message);
        }
        // The same goes for those that need somebody else's program.
        if let Err(failure) = debian::ensure(&PEERS) {
            eprintln!("xtask: not all peers are here: {}", failure.message);
        }
        let log = native::SkipLog::new(&workspace.target);
        for program in &programs {
            let row = native::run(program, &workspace, &log)?;
            if !row.skips.is_empty() {
                skipped_here.push(program.path.clone());
            }
            rows.push(row);
        }
        rows.extend(native::doctests(&workspace, &options.packages, &log)?);
    }
    if options.vm {
        let chosen = |program: &&build::Program| {
            (program.needs_kernel && !gains_nothing(&program.label)) || skipped_here.contains(&program.path)
        };
        let chosen: Vec<&build::Program> = programs.iter().filter(chosen).collect();
        rows.extend(guest::run(&chosen, &workspace));
    }
    Ok(())
}
