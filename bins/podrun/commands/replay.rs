//! `podrun replay`: every decision about a Pod, derived anew from its journal.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read as _, Write as _};
use std::path::{Path, PathBuf};

use podrun_lifecycle::journal::{Divergence, Replay, Replayed};

use crate::cli::{Global, ReplayArgs};
use crate::context;
use crate::exit_code::Code;
use crate::output::harmless;
use crate::print::println;
use crate::report::{CommandError, CommandResult, chain};
use crate::selection::pod_names;

/// How often a replay agreed, and how often not.
#[derive(Default)]
struct Tally {
    steps: usize,
    other_decisions: usize,
    takeovers: usize,
}

pub(crate) fn run(global: &Global, args: &ReplayArgs) -> CommandResult {
    let mut tally = Tally::default();
    let mut reader = journal(global, &args.what)?;
    if args.raw {
        let copied = io::copy(&mut reader, &mut io::stdout().lock()).and_then(|_| io::stdout().flush());
        copied.map_err(|error| CommandError::io("copy", Path::new("the journal"), &error))?;
    } else {
        replay(reader, args.quiet, &mut tally)?;
    }
    if args.raw {
        return Ok(Code::Ok);
    }
    let Tally { steps, other_decisions, takeovers } = tally;
    println!("{steps} facts, {takeovers} supervisors that took over, {other_decisions} other decisions");
    Ok(if other_decisions == 0 { Code::Ok } else { Code::Failure })
}

/// Opens the journal of a Pod, or of a file: a Pod goes before a file of its name.
fn journal(global: &Global, what: &str) -> Result<Box<dyn BufRead>, CommandError> {
    if what == "-" {
        return Ok(Box::new(BufReader::new(io::stdin())));
    }
    let engine = context::engine(global)?;
    let names = pod_names(&[what.to_owned()])?;
    let files = match engine.pod(global.namespace(), names.first().map_or("", String::as_str)) {
        Ok(view) => engine.journal(&view.pod),
        Err(_) if Path::new(what).is_file() => vec![PathBuf::from(what)],
        Err(error) => return Err(error.into()),
    };
    let mut whole: Box<dyn BufRead> = Box::new(io::empty());
    for (index, path) in files.iter().enumerate() {
        let mut file =
            BufReader::new(File::open(path).map_err(|error| CommandError::io("open", path, &error))?);
        if index > 0 {
            // Each file begins with the Pod, a journal only once.
            file.skip_until(b'\n').map_err(|error| CommandError::io("read", path, &error))?;
        }
        whole = Box::new(whole.chain(file));
    }
    Ok(whole)
}

fn replay(reader: impl BufRead, quiet: bool, tally: &mut Tally) -> Result<(), CommandError> {
    let wrong = |error| CommandError::new(Code::Invalid, chain(&error));
    for step in Replay::new(reader).map_err(wrong)? {
        let Replayed { line, input, actions, lines, divergence, .. } = step.map_err(wrong)?;
        if input.is_some() {
            tally.steps += 1;
        // A journal that has grown long begins with a state.
        } else if line > 2 {
            tally.takeovers += 1;
        }
        if !quiet {
            lines.iter().for_each(|line| println!("{}", harmless(&line.to_string())));
        }
        match divergence {
            None => {}
            Some(Divergence::State) if line == 2 => {}
            Some(Divergence::State) => {
                println!("line {line}: the next supervisor went on from an earlier state");
            }
            Some(Divergence::Actions { journal }) => {
                tally.other_decisions += 1;
                println!("line {line}: another decision");
                println!("  then: {}", harmless(&format!("{journal:?}")));
                println!("  now:  {}", harmless(&format!("{actions:?}")));
            }
        }
    }
    Ok(())
}
