//! All that can be said about the code without running it.

use std::process::{Command, ExitCode};

use crate::layers;
use crate::process::{self, Failure, Result, cargo};

const DENY_VERSION: &str = "0.20.2";

/// Runs every check, also after one has failed, so that one run shows all there is to mend.
fn run_all() -> Vec<String> {
    let mut failed = Vec::new();
    let mut note = |result: Result<()>| {
        if let Err(failure) = result {
            eprintln!("xtask: {}", failure.message);
            failed.push(failure.message);
        }
    };
    note(process::run(cargo().args(["fmt", "--all", "--check"])));
    // Everything below works offline from here on.
    note(process::run(cargo().args(["fetch", "--locked"])));
    note(layers::run().map(drop));
    note(deny());
    note(process::run(cargo().args(["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"])));
    let mut docs = cargo();
    docs.args(["doc", "--workspace", "--no-deps"]).env("RUSTDOCFLAGS", "-D warnings");
    note(process::run(&mut docs));
    failed
}

/// Runs the task.
pub(crate) fn run() -> Result<ExitCode> {
    let failed = run_all();
    if failed.is_empty() {
        println!("check: all good");
        return Ok(ExitCode::SUCCESS);
    }
    Err(Failure::new(format!("check: {} failed:\n  {}", failed.len(), failed.join("\n  "))))
}

/// Advisories are left out: their database is not in the registry and this must work offline.
fn deny() -> Result<()> {
    let installed = cargo().args(["deny", "--version"]).output().is_ok_and(|output| output.status.success());
    if !installed {
        let mut install = cargo();
        install.args(["install", "cargo-deny", "--locked", "--version", DENY_VERSION]);
        process::run(&mut install)?;
    }
    let mut deny: Command = cargo();
    process::run(deny.args(["deny", "--offline", "check", "bans", "licenses", "sources"]))
}
