//! `podrun simulate`: what would become of a Pod, running nothing.

use podrun_lifecycle::simulate::{End, Options, Script, simulate};

use crate::cli::{Global, SimulateArgs};
use crate::exit_code::Code;
use crate::manifests;
use crate::output::harmless;
use crate::print::println;
use crate::report::{CommandError, CommandResult, chain};

pub(crate) fn run(global: &Global, args: &SimulateArgs) -> CommandResult {
    let manifest = manifests::read(global, args.manifests.names())?;
    let script = Script::new(args.at.clone());
    let options = Options { after: args.after, ..Options::default() };
    let several = manifest.pods.len() > 1;
    for parsed in manifest.pods {
        let timeline = simulate(&parsed.pod, &script, &options)
            .map_err(|error| CommandError::new(Code::Usage, format!("--at: {}", chain(&error))))?;
        if several {
            println!("pod/{}", parsed.pod.meta.name);
        }
        for line in timeline.lines() {
            println!("{}", harmless(&line.to_string()));
        }
        let end = match timeline.end {
            End::Finished => "nothing of it is left",
            End::Quiet => "nothing more would happen",
            End::TimeUp => "and so on",
        };
        println!("{}: {end}", timeline.status().phase.as_str());
    }
    Ok(Code::Ok)
}
