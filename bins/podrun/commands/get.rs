//! `podrun get pods`.

use podrun_engine::{Engine, PodView};
use podrun_spec::to_yaml;
use serde_json::{Value, json};

use crate::cli::{GetArgs, Global, OutputFormat};
use crate::exit_code::Code;
use crate::output::{age, now, since, table};
use crate::print::{self, print, println};
use crate::report::{CommandError, CommandResult};
use crate::selection::Selection;
use crate::watch::{Change, Next, Watches};
use crate::{context, jsonpath, report};

mod summary;

pub(crate) use self::summary::summary;

pub(crate) fn run(global: &Global, args: &GetArgs) -> CommandResult {
    let engine = context::engine(global)?;
    let selection = Selection::read(&args.what, false, args.selector.as_ref())?;
    context::revive(&engine);
    let single = matches!(&selection, Selection::Named(names) if names.len() == 1);
    let (views, missing) = context::select(&engine, global, &selection, args.all_namespaces)?;
    if args.watch && missing.is_empty() {
        return watch(&engine, args, views);
    }
    if !missing.is_empty() {
        if !views.is_empty() {
            print_views(args, &views, single, !args.no_headers)?;
        }
        return report::all(missing, global.json_errors());
    }
    if views.is_empty() && args.output.as_ref().is_none_or(|o| *o == OutputFormat::Wide) {
        let place =
            if args.all_namespaces { String::new() } else { format!(" in {} namespace", global.namespace()) };
        crate::print::eprintln!("No resources found{place}.");
        return Ok(Code::Ok);
    }
    print_views(args, &views, single, !args.no_headers)?;
    Ok(Code::Ok)
}

fn print_views(args: &GetArgs, views: &[PodView], single: bool, header: bool) -> Result<(), CommandError> {
    match &args.output {
        None => print!("{}", rows(args, views, header)),
        Some(OutputFormat::Wide) => print!("{}", rows(args, views, header)),
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

fn rows(args: &GetArgs, views: &[PodView], header: bool) -> String {
    let wide = args.output == Some(OutputFormat::Wide);
    let mut head = vec!["NAME", "READY", "STATUS", "RESTARTS", "AGE"];
    if args.all_namespaces {
        head.insert(0, "NAMESPACE");
    }
    if wide {
        head.extend(["IP", "NODE", "QOS", "UID"]);
    }
    let lines: Vec<Vec<String>> = views
        .iter()
        .map(|view| {
            let summary = summary(view, now());
            let mut line = vec![
                view.pod.meta.name.clone(),
                format!("{}/{}", summary.ready, summary.total),
                summary.status,
                summary.restarts,
                age(since(view.created, now())),
            ];
            if args.all_namespaces {
                line.insert(0, view.pod.meta.namespace.clone());
            }
            if wide {
                let status = &view.published.status;
                line.extend([
                    status.pod_ips.first().cloned().unwrap_or_else(|| "<none>".to_owned()),
                    view.options.node_name.clone(),
                    format!("{:?}", status.qos_class),
                    view.pod.meta.uid.clone(),
                ]);
            }
            line
        })
        .collect();
    table(header.then_some(head.as_slice()), &lines)
}

/// Prints the Pods, then each again when it changes, until all have ended or the command is interrupted.
fn watch(engine: &Engine, args: &GetArgs, views: Vec<PodView>) -> CommandResult {
    print_views(args, &views, true, !args.no_headers)?;
    let mut watches = Watches::new(engine);
    for view in views {
        watches.add(view);
    }
    while !print::is_shut() {
        match watches.next(None, None) {
            Next::Change(index, Change::Status) => {
                print_views(args, std::slice::from_ref(watches.view(index)), true, false)?;
            }
            Next::Change(..) | Next::Other => {}
            Next::Timeout | Next::Nothing => break,
        }
    }
    Ok(Code::Ok)
}
