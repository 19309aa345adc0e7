//! `podrun`: Kubernetes Pods on one Linux machine, from the command line.
//!
//! This is the only place that prints. [`commands`] has one file for each verb; what they have in common is how they
//! find the engine ([`context`]), how they report errors ([`report`]) and which exit codes they use ([`exit_code`]).

mod cli;
mod commands;
mod context;
mod exit_code;
mod fields;
mod follow;
mod jsonpath;
mod manifests;
mod output;
mod print;
mod report;
mod selection;
mod selector;
mod terminal;
mod usage;
mod watch;

use std::process::ExitCode;

use clap::Parser as _;

use crate::cli::{Cli, Command};
use crate::exit_code::Code;
use crate::report::CommandError;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return report::usage(error),
    };
    let global = cli.global;
    let result = match cli.command {
        Command::Run(args) => commands::run::run(&global, &args),
        Command::Get(args) => commands::get::run(&global, &args),
        Command::Describe(args) => commands::describe::run(&global, &args),
        Command::Events(args) => commands::events::run(&global, &args),
        Command::Wait(args) => commands::wait::run(&global, &args),
        Command::Replay(args) => commands::replay::run(&global, &args),
        Command::Simulate(args) => commands::simulate::run(&global, &args),
        Command::Condition(args) => commands::condition::run(&global, &args),
        Command::Logs(args) => commands::logs::run(&global, &args),
        Command::Top(args) => commands::top::run(&global, &args),
        Command::Exec(args) => commands::exec::run(&global, &args),
        Command::Cp(args) => commands::cp::run(&global, &args),
        Command::PortForward(args) => commands::port_forward::run(&global, &args),
        Command::Delete(args) => commands::delete::run(&global, &args),
        Command::Plan(args) => commands::plan::run(&global, &args),
        Command::Image(args) => commands::image::run(&global, &args),
        Command::Annotate(args) => commands::annotate::run(&global, &args),
        Command::Net(args) => commands::net::run(&global, &args),
        Command::Gc => commands::gc::run(&global),
        Command::Doctor(args) => commands::doctor::run(&global, &args),
        Command::Version(args) => Ok(commands::version::run(&args)),
        Command::Completion(args) => Ok(commands::completion::run(&args)),
    };
    match (result, print::failure()) {
        (Ok(Code::Ok | Code::Container(0)), Some(error)) => {
            report::error(&unprinted(error), global.json_errors())
        }
        (Ok(code), _) => code.into(),
        (Err(error), _) => report::error(&context::seen_elsewhere(&global, error), global.json_errors()),
    }
}

/// All was done but for telling it.
fn unprinted(error: &std::io::Error) -> CommandError {
    CommandError::new(Code::Engine, format!("write standard output: {error}"))
}
