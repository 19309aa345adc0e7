//! `podrun gc`: removes what belongs to no Pod any more.

use crate::cli::Global;
use crate::context;
use crate::exit_code::Code;
use crate::print::println;
use crate::report::{self, CommandError, CommandResult};

pub(crate) fn run(global: &Global) -> CommandResult {
    let engine = context::engine(global)?;
    let mut errors: Vec<String> = Vec::new();
    // Of Pods whose supervisor was killed while it removed them, the rest goes first.
    errors.extend(engine.revive().err().into_iter().flatten().map(|error| report::chain(&error)));
    match engine.collect_network() {
        Ok(collected) => {
            collected.links.iter().for_each(|link| println!("link {link} removed"));
            for (count, what) in [(collected.leases, "leases"), (collected.elements, "nftables entries")] {
                if count > 0 {
                    println!("{count} {what} removed");
                }
            }
            if let Some(bridge) = collected.bridge {
                println!("bridge {bridge} removed");
            }
        }
        Err(found) => errors.extend(found.iter().map(|error| report::chain(error))),
    }
    match engine.collect_sandboxes() {
        Ok(uids) => uids.iter().for_each(|uid| println!("sandbox {uid} removed")),
        Err(error) => errors.push(report::chain(&error)),
    }
    match engine.collect_cgroups() {
        Ok(paths) => paths.iter().for_each(|path| println!("cgroup {path} removed")),
        Err(error) => errors.push(report::chain(&error)),
    }
    match errors.pop() {
        None => Ok(Code::Ok),
        Some(last) => {
            errors.iter().for_each(|error| report::warning(error));
            Err(CommandError::new(Code::Engine, last))
        }
    }
}
