//! Runs the figures in benches/.

use std::process::ExitCode;

use crate::process::{self, Result, cargo};
use crate::workspace::Workspace;

/// Builds the programs as users get them, then runs each bench target.
pub(crate) fn run() -> Result<ExitCode> {
    let workspace = Workspace::load()?;
    process::run(cargo().args(["build", "--release", "--package", "podrun", "--bins"]))?;
    let mut count = 0;
    for package in &workspace.packages {
        for bench in &package.benches {
            process::run(cargo().args(["bench", "--package", &package.name, "--bench", bench]))?;
            count += 1;
        }
    }
    println!("bench: {count} ran");
    Ok(ExitCode::SUCCESS)
}
