//! Development tasks of podrun: `cargo xtask TASK`, one file per task.

#![forbid(unsafe_code)]
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program for people")]

mod bench;
mod check;
mod debian;
mod demo;
mod layers;
mod libtest;
mod process;
mod sources;
mod test;
mod vm;
mod workspace;

use std::process::ExitCode;

use process::{Failure, Result};

const USAGE: &str = "\
usage: cargo xtask TASK

  check                 formatting, layers, lints, docs, licences and bans
  layers                which crate may depend on which, and what pure crates may not mention
  test [--no-vm|--vm-only] [-p PACKAGE]...
                        all tests here, then those that need the kernel in a virtual machine too
  vm [--kvm] [--kernel backports|stable] [--timeout SECONDS] -- COMMAND...
                        runs a command as root in a throw-away machine that sees this file system
  demo [--vm]           runs a pod of two containers, shows it, deletes it
  bench [NAME]... [-- [--count N] [--json]]
                        builds for release and runs the figures in benches/
";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match dispatch(&arguments) {
        Ok(code) => code,
        Err(failure) => {
            eprintln!("xtask: {}", failure.message);
            ExitCode::from(failure.code)
        }
    }
}

fn dispatch(arguments: &[String]) -> Result<ExitCode> {
    let Some((task, rest)) = arguments.split_first() else {
        return Err(Failure::usage(USAGE));
    };
    match task.as_str() {
        "check" => no_arguments(rest).and_then(|()| check::run()),
        "layers" => no_arguments(rest).and_then(|()| layers::run()),
        "bench" => bench::run(rest),
        "test" => test::run(rest),
        "vm" => vm::run(rest),
        "demo" => demo::run(rest),
        "help" | "--help" | "-h" => {
            print!("{USAGE}");
            Ok(ExitCode::SUCCESS)
        }
        other => Err(Failure::usage(format!("there is no task {other}\n{USAGE}"))),
    }
}

fn no_arguments(rest: &[String]) -> Result<()> {
    match rest.first() {
        None => Ok(()),
        Some(argument) => Err(Failure::usage(format!("unexpected argument {argument}\n{USAGE}"))),
    }
}
