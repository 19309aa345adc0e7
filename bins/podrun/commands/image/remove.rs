//! `podrun image rm` and `prune`.

use podrun_engine::Engine;
use podrun_image::{DiskThresholds, Error, Image, PruneOptions, Pruned, Reference};

use super::users;
use crate::cli::{Global, PruneArgs, RemoveArgs};
use crate::exit_code::Code;
use crate::output::bytes;
use crate::print::println;
use crate::report::{self, CommandError, CommandResult, warning};

pub(super) fn remove(global: &Global, engine: &Engine, args: &RemoveArgs) -> CommandResult {
    engine.sweep()?;
    let store = engine.images()?;
    let mut failed: Option<CommandError> = None;
    for what in &args.images {
        match store.remove(what, args.force) {
            Ok(removed) => {
                removed.references.iter().for_each(|name| println!("Untagged: {}", name.familiar()));
                if let Some(id) = removed.image {
                    println!("Deleted: {id}");
                }
            }
            Err(error) if args.ignore_not_found && error.is_not_found() => {}
            Err(error) => {
                if let Some(earlier) = failed.replace(in_words(engine, error)?) {
                    report::error(&earlier, global.json_errors());
                }
            }
        }
    }
    failed.map_or(Ok(Code::Ok), Err)
}

/// Says which Pods use an image.
fn in_words(engine: &Engine, error: Error) -> Result<CommandError, CommandError> {
    let Error::InUse { id, users: leases } = &error else { return Ok(error.into()) };
    let pods = users(engine)?;
    let names: Vec<&str> =
        leases.iter().map(|lease| pods.get(lease).map_or(lease.as_str(), String::as_str)).collect();
    let message = format!("image {id} is in use by {}", names.join(", "));
    let hint = "--force removes its names now, and its files when no pod uses them any more";
    Ok(CommandError::new(Code::Conflict, message).with_hint(hint))
}

pub(super) fn prune(engine: &Engine, args: &PruneArgs) -> CommandResult {
    engine.sweep()?;
    let store = engine.images()?;
    let pruned = if let Some(high) = args.disk_high {
        if args.disk_low > high {
            let message = format!("--disk-low {} is above --disk-high {high}", args.disk_low);
            return Err(CommandError::new(Code::Usage, message));
        }
        let thresholds =
            DiskThresholds::default().with_percent(high, args.disk_low).with_min_age(args.min_age);
        let (choice, pruned) = store.free_disk(thresholds)?;
        if choice.found < choice.wanted {
            let (wanted, found) = (bytes(choice.wanted), bytes(choice.found));
            tell(&pruned);
            return Err(CommandError::new(
                Code::Failure,
                format!("{wanted} should be freed, but images that no pod uses have {found} only"),
            ));
        }
        pruned
    } else {
        let mut options = PruneOptions::default();
        options.all = args.all;
        options.unused_for = args.unused_for.unwrap_or_default();
        store.prune(&options)?
    };
    tell(&pruned);
    Ok(Code::Ok)
}

fn tell(pruned: &Pruned) {
    for image in &pruned.images {
        println!("Deleted: {}{}", image.id, names(image));
    }
    if pruned.deferred {
        warning("files stay for now, since something is pulled, loaded or started: prune again");
    }
    println!("Total reclaimed space: {}", bytes(pruned.freed));
}

fn names(image: &Image) -> String {
    let names: Vec<String> = image.references.iter().map(Reference::familiar).collect();
    if names.is_empty() { String::new() } else { format!(" ({})", names.join(", ")) }
}
