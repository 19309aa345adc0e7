//! `podrun events`: what has happened to Pods.

use std::os::fd::AsFd as _;

use podrun_engine::{EventKind, EventRecord, PodView};
use podrun_spec::time::Timestamp;
use podrun_spec::{EventFields, WireEvent, to_yaml};

use crate::cli::{EventsArgs, EventsFormat, Global};
use crate::context;
use crate::exit_code::Code;
use crate::output::{Columns, age, harmless, now, since};
use crate::print::{self, print, println};
use crate::report::{CommandError, CommandResult};
use crate::selection::pod_names;
use crate::watch::{Change, Next, Watches};

/// An event with its Pod.
type PodEvent<'a> = (&'a PodView, &'a EventRecord);

pub(crate) fn run(global: &Global, args: &EventsArgs) -> CommandResult {
    let engine = context::engine(global)?;
    context::revive(&engine);
    let names = names(args)?;
    // Taken before the Pods are looked at: what is created in between is not missed.
    let created = engine.changes()?;
    let wanted = |view: &PodView| {
        let meta = &view.pod.meta;
        let here = args.all_namespaces || meta.namespace == global.namespace();
        here && (names.is_empty() || names.contains(&meta.name))
    };
    let mut views = context::pods(&engine)?;
    views.retain(&wanted);
    if !args.watch
        && let Some(missing) = names.iter().find(|name| !views.iter().any(|v| v.pod.meta.name == **name))
    {
        engine.pod(global.namespace(), missing)?;
    }
    let mut events: Vec<PodEvent<'_>> =
        views.iter().flat_map(|view| view.published.events.iter().map(move |event| (view, event))).collect();
    events.retain(|(_, event)| args.shows(event.kind));
    events.sort_by_key(|(_, event)| event.last);
    if events.is_empty() && !args.watch && args.output.is_none_or(|output| output == EventsFormat::Wide) {
        crate::print::eprintln!("No events found.");
        return Ok(Code::Ok);
    }
    let header = !args.no_headers && (!args.watch || !events.is_empty());
    let mut columns = Columns::default();
    print_events(&mut columns, args, &events, header);
    if !args.watch {
        return Ok(Code::Ok);
    }
    let mut header = !args.no_headers && !header;
    let mut watches = Watches::new(&engine);
    for view in &views {
        watches.add(view.clone());
    }
    while !print::is_shut() {
        match watches.next(Some(created.as_fd()), None) {
            Next::Change(index, Change::Event(event)) if args.shows(event.kind) => {
                let event = [(watches.view(index), &event)];
                print_events(&mut columns, args, &event, std::mem::take(&mut header));
            }
            Next::Other => {
                created.clear();
                let fresh = engine.pods()?.views.into_iter();
                for mut view in fresh.filter(&wanted) {
                    if !watches.knows(&view.pod.meta.uid) {
                        // Everything that has happened to a new Pod is news.
                        view.published.events.clear();
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

/// Returns the Pods that are asked about; none is all.
fn names(args: &EventsArgs) -> Result<Vec<String>, CommandError> {
    let mut names = pod_names(&args.what)?;
    if let Some(object) = &args.object {
        let name = pod_names(std::slice::from_ref(object))?;
        if name.iter().any(|name| name.contains('/')) {
            return Err(CommandError::new(
                Code::Usage,
                format!("--for: events are about Pods, not {object}"),
            ));
        }
        names.extend(name);
    }
    Ok(names)
}

fn print_events(columns: &mut Columns, args: &EventsArgs, events: &[PodEvent<'_>], header: bool) {
    let documents = || events.iter().map(|event| document(event).to_json());
    let list = || WireEvent::list(&events.iter().map(document).collect::<Vec<_>>());
    match args.output {
        None => print!("{}", rows(columns, args, events, header, now())),
        Some(EventsFormat::Wide) => print!("{}", wide_rows(columns, args, events, header, now())),
        Some(EventsFormat::Json) if args.watch => documents().for_each(|event| println!("{event:#}")),
        Some(EventsFormat::Json) => println!("{:#}", list()),
        Some(EventsFormat::Yaml) if args.watch => {
            documents().for_each(|event| print!("---\n{}", to_yaml(&event)));
        }
        Some(EventsFormat::Yaml) => print!("{}", to_yaml(&list())),
    }
}

fn document((view, event): &PodEvent<'_>) -> WireEvent {
    let fields = EventFields {
        warning: event.kind == EventKind::Warning,
        reason: &event.reason,
        message: &event.message,
        field_path: event.field_path.as_deref(),
        count: event.count,
        first: event.first,
        last: event.last,
    };
    WireEvent::new(&view.pod.meta, &view.options.node_name, &fields)
}

/// When an event was seen, and how often: `3m (x5 over 10m)`.
pub(crate) fn seen(event: &EventRecord, now: Timestamp) -> String {
    let last = age(since(event.last, now));
    match event.count {
        0 | 1 => last,
        count => format!("{last} (x{count} over {})", age(since(event.first, now))),
    }
}

/// The words of an event on one line.
pub(crate) fn one_line(event: &EventRecord) -> String {
    harmless(event.message.trim()).replace('\n', "\\n")
}

fn rows(
    columns: &mut Columns,
    args: &EventsArgs,
    events: &[PodEvent<'_>],
    header: bool,
    now: Timestamp,
) -> String {
    let head = vec!["LAST SEEN", "TYPE", "REASON", "OBJECT", "MESSAGE"];
    let line = |(view, event): &PodEvent<'_>| {
        vec![
            seen(event, now),
            format!("{:?}", event.kind),
            event.reason.clone(),
            format!("Pod/{}", view.pod.meta.name),
            one_line(event),
        ]
    };
    listing(columns, args, events, header, head, line)
}

fn wide_rows(
    columns: &mut Columns,
    args: &EventsArgs,
    events: &[PodEvent<'_>],
    header: bool,
    now: Timestamp,
) -> String {
    let head = vec![
        "LAST SEEN",
        "TYPE",
        "REASON",
        "OBJECT",
        "SUBOBJECT",
        "SOURCE",
        "MESSAGE",
        "FIRST SEEN",
        "COUNT",
        "NAME",
    ];
    let line = |event: &PodEvent<'_>| {
        let name = document(event).to_json()["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        let (view, event) = event;
        vec![
            age(since(event.last, now)),
            format!("{:?}", event.kind),
            event.reason.clone(),
            format!("Pod/{}", view.pod.meta.name),
            event.field_path.clone().unwrap_or_default(),
            format!("podrun, {}", view.options.node_name),
            one_line(event),
            age(since(event.first, now)),
            event.count.to_string(),
            name,
        ]
    };
    listing(columns, args, events, header, head, line)
}

/// Returns a table with a line for each event, with the namespace in front where there are several.
fn listing<'a>(
    columns: &mut Columns,
    args: &EventsArgs,
    events: &[PodEvent<'a>],
    header: bool,
    mut head: Vec<&str>,
    line: impl Fn(&PodEvent<'a>) -> Vec<String>,
) -> String {
    let mut lines: Vec<_> = events.iter().map(line).collect();
    if args.all_namespaces {
        head.insert(0, "NAMESPACE");
        lines
            .iter_mut()
            .zip(events)
            .for_each(|(line, (view, _))| line.insert(0, view.pod.meta.namespace.clone()));
    }
    columns.format(header.then_some(head.as_slice()), &lines)
}

impl EventsArgs {
    fn shows(&self, kind: EventKind) -> bool {
        self.types.is_empty()
            || self.types.iter().any(|wanted| wanted.eq_ignore_ascii_case(&format!("{kind:?}")))
    }
}
