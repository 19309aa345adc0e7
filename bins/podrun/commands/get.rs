//! `podrun get pods`.

use std::cmp::Ordering;
use std::os::fd::AsFd as _;

use podrun_engine::{Engine, PodView};
use podrun_spec::to_yaml;
use serde_json::{Value, json};

use crate::cli::{GetArgs, Global, OutputFormat};
use crate::exit_code::Code;
use crate::print::{self, print, println};
use crate::report::{CommandError, CommandResult};
use crate::selection::Selection;
use crate::watch::{Change, Next, Watches};
use crate::{context, jsonpath, report};

mod columns;
mod rows;
mod summary;

pub(crate) use self::columns::CustomColumns;
use self::rows::Rows;
pub(crate) use self::summary::summary;

pub(crate) fn run(global: &Global, args: &GetArgs) -> CommandResult {
    let engine = context::engine(global)?;
    let selection = Selection::read(&args.what, false, args.filter.filter())?;
    context::revive(&engine);
    if args.watch || args.watch_only {
        return watch(&engine, global, args, &selection);
    }
    let (mut views, missing) = context::select(&engine, global, &selection, args.all_namespaces)?;
    if let Some(path) = &args.sort_by {
        sort(&mut views, path)?;
    }
    let is_list = args.output.as_ref().is_none_or(OutputFormat::is_table);
    if views.is_empty() && missing.is_empty() && is_list {
        context::tell_nothing_found(global, args.all_namespaces);
        return Ok(Code::Ok);
    }
    if missing.is_empty() || !views.is_empty() {
        print_views(&mut Rows::new(args), args, &views, is_single(&selection), !args.no_headers)?;
    }
    report::all(missing, global.json_errors())
}

/// Returns whether one Pod is named, which is printed as itself and not as a list of one.
fn is_single(selection: &Selection) -> bool {
    matches!(selection, Selection::Named(names) if names.len() == 1)
}

/// Sorts Pods by what a path finds first; those that have nothing there come first.
fn sort(views: &mut Vec<PodView>, path: &str) -> Result<(), CommandError> {
    let path = path.strip_prefix('{').and_then(|path| path.strip_suffix('}')).unwrap_or(path);
    let path = if path.starts_with(['.', '[', '$']) { path.to_owned() } else { format!(".{path}") };
    let wrong = |message: String| CommandError::new(Code::Usage, format!("--sort-by: {message}"));
    let mut keyed = Vec::new();
    for view in views.drain(..) {
        let found = jsonpath::find(&path, &pod_document(&view)).map_err(wrong)?;
        keyed.push((found.into_iter().next(), view));
    }
    keyed.sort_by(|(a, _), (b, _)| {
        key(a.as_deref()).partial_cmp(&key(b.as_deref())).unwrap_or(Ordering::Equal)
    });
    views.extend(keyed.into_iter().map(|(_, view)| view));
    Ok(())
}

/// Returns what to sort by: nothing, then numbers as numbers, then all else, times too, as text.
fn key(text: Option<&str>) -> (u8, f64, &str) {
    match text {
        None => (0, 0.0, ""),
        Some(text) => match text.parse::<f64>().ok().filter(|number| number.is_finite()) {
            Some(number) => (1, number, ""),
            None => (2, 0.0, text),
        },
    }
}

fn print_views(
    rows: &mut Rows<'_>,
    args: &GetArgs,
    views: &[PodView],
    single: bool,
    header: bool,
) -> Result<(), CommandError> {
    match &args.output {
        None | Some(OutputFormat::Wide | OutputFormat::Custom(_)) => print!("{}", rows.format(views, header)),
        Some(OutputFormat::Name) => views.iter().for_each(|view| println!("pod/{}", view.pod.meta.name)),
        Some(OutputFormat::Json) => println!("{:#}", document(views, single)),
        Some(OutputFormat::Yaml) => print!("{}", to_yaml(&document(views, single))),
        Some(OutputFormat::JsonPath(template)) => {
            let text = jsonpath::render(template, &document(views, single))
                .map_err(|message| CommandError::new(Code::Usage, format!("jsonpath: {message}")))?;
            print!("{text}");
        }
    }
    Ok(())
}

/// Returns the `v1 Pod` as it stands: what was asked for, and its status.
pub(crate) fn pod_document(view: &PodView) -> Value {
    let meta = &view.pod.meta;
    let deletion =
        view.published.deletion.map(|d| (d.at, i64::try_from(d.grace_seconds).unwrap_or(i64::MAX)));
    let status = &view.published.status;
    let wire =
        view.wire.with_metadata(&meta.uid, view.created, meta.generation, deletion).with_status(status);
    // As on a cluster, a Pod names its node once it has a place there.
    let placed =
        status.conditions.iter().any(|condition| condition.kind == "PodScheduled" && condition.status);
    if placed { wire.with_node_name(&view.options.node_name).to_json() } else { wire.to_json() }
}

fn document(views: &[PodView], single: bool) -> Value {
    match views {
        [view] if single => pod_document(view),
        views => json!({
            "apiVersion": "v1",
            "kind": "List",
            "items": views.iter().map(pod_document).collect::<Vec<_>>(),
            "metadata": { "resourceVersion": "" },
        }),
    }
}

/// Prints the Pods, then each again when it changes: named ones until all have ended, and of all others new ones too,
/// until the command is interrupted.
fn watch(engine: &Engine, global: &Global, args: &GetArgs, selection: &Selection) -> CommandResult {
    // Taken before the Pods are looked at: what is created in between is not missed.
    let created = engine.changes()?;
    let (views, missing) = context::select(engine, global, selection, args.all_namespaces)?;
    if !missing.is_empty() {
        return report::all(missing, global.json_errors());
    }
    let is_open = !matches!(selection, Selection::Named(names) if !names.is_empty());
    let mut rows = Rows::new(args);
    let mut header = !args.no_headers;
    // Many documents in a row are Pods, not lists.
    let mut print_pods = |views: &[PodView]| {
        let header = std::mem::take(&mut header) && !views.is_empty();
        print_views(&mut rows, args, views, true, header)
    };
    if !args.watch_only && !views.is_empty() {
        print_pods(&views)?;
    }
    let mut watches = Watches::new(engine);
    for view in views {
        watches.add(view);
    }
    while !print::is_shut() {
        match watches.next(is_open.then_some(created.as_fd()), None) {
            Next::Change(index, Change::Status) => {
                print_pods(std::slice::from_ref(watches.view(index)))?;
            }
            Next::Other => {
                created.clear();
                let (fresh, _) = context::select(engine, global, selection, args.all_namespaces)?;
                for view in fresh {
                    if !watches.knows(&view.pod.meta.uid) {
                        print_pods(std::slice::from_ref(&view))?;
                        watches.add(view);
                    }
                }
            }
            Next::Change(..) => {}
            Next::Timeout | Next::Nothing => break,
        }
    }
    Ok(Code::Ok)
}

#[cfg(test)]
mod tests {
    use super::key;

    #[test]
    fn numbers_are_sorted_as_numbers() {
        let sorted = [
            None,
            Some("2"),
            Some("10"),
            Some("1x"),
            Some("2025-11-26T10:00:00Z"),
            Some("2026-01-01T10:00:00Z"),
        ];
        for pair in sorted.windows(2) {
            assert!(key(pair[0]) < key(pair[1]), "{pair:?}");
        }
    }
}
