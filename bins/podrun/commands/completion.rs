//! `podrun completion`: a completion script for a shell.

use clap::CommandFactory as _;

use crate::cli::{Cli, CompletionArgs};
use crate::exit_code::Code;

pub(crate) fn run(args: &CompletionArgs) -> Code {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "podrun", &mut script);
    crate::print::bytes(&script);
    Code::Ok
}
