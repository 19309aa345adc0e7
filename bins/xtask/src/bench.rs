//! Runs the figures in benches/.

use std::process::ExitCode;

use crate::process::{self, Failure, Result, cargo};
use crate::workspace::Workspace;

/// Builds the programs as users get them, then runs the bench targets: those that are named, or all. What follows
/// `--` goes to each of them.
pub(crate) fn run(arguments: &[String]) -> Result<ExitCode> {
    let mut parts = arguments.splitn(2, |argument| argument == "--");
    let names = parts.next().unwrap_or_default();
    let rest = parts.next().unwrap_or_default();
    let workspace = Workspace::load()?;
    let benches: Vec<_> = workspace
        .packages
        .iter()
        .flat_map(|package| package.benches.iter().map(|bench| (&package.name, bench)))
        .collect();
    if let Some(name) = names.iter().find(|name| !benches.iter().any(|(_, bench)| bench == name)) {
        let known: Vec<_> = benches.iter().map(|(_, bench)| bench.as_str()).collect();
        return Err(Failure::usage(format!("there is no bench {name}; there are {}", known.join(", "))));
    }
    process::run(cargo().args(["build", "--release", "--package", "podrun", "--bins"]))?;
    let mut count = 0;
    for (package, bench) in benches {
        if names.is_empty() || names.contains(bench) {
            process::run(cargo().args(["bench", "--package", package, "--bench", bench, "--"]).args(rest))?;
            count += 1;
        }
    }
    eprintln!("bench: {count} ran");
    Ok(ExitCode::SUCCESS)
}
