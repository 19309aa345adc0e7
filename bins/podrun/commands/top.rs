//! `podrun top`: what Pods and containers use.

use std::cmp::Reverse;
use std::time::Duration;

use podrun_cgroups::{MemoryUsage, Pressure, Stats};
use podrun_engine::{Engine, PodUsage, PodView};
use podrun_spec::time::Timestamp;
use podrun_spec::to_yaml;
use serde_json::{Map, Value, json};

use crate::cli::{Global, SortBy, TopArgs, TopFormat};
use crate::context;
use crate::exit_code::Code;
use crate::output::{now, table};
use crate::print::{print, println};
use crate::report::{self, CommandError, CommandResult};
use crate::selection::Selection;

pub(crate) fn run(global: &Global, args: &TopArgs) -> CommandResult {
    let engine = context::engine(global)?;
    context::revive(&engine);
    let selection = Selection::read(&args.what, false, args.filter.filter())?;
    let (views, mut failed) = context::select(&engine, global, &selection, args.all_namespaces)?;
    let before = look(&engine, &views)?;
    let is_named = matches!(&selection, Selection::Named(names) if !names.is_empty());
    if is_named {
        let idle = views.iter().filter(|view| !before.iter().any(|(seen, _)| std::ptr::eq(*seen, *view)));
        failed.extend(idle.map(idle_pod));
    }
    if before.is_empty() {
        if failed.is_empty() {
            context::tell_nothing_found(global, args.all_namespaces);
        }
        return report::all(failed, global.json_errors());
    }
    wait(args.window);
    let mut pods: Vec<PodRow<'_>> = Vec::new();
    for (view, before) in before {
        // One that ended meanwhile uses nothing any more.
        if let Some(after) = engine.usage(view)? {
            pods.push(PodRow::new(view, &before, &after));
        }
    }
    sort(&mut pods, args.sort_by);
    match args.output {
        Some(TopFormat::Json) => println!("{:#}", document(&pods, args.window, now())),
        Some(TopFormat::Yaml) => print!("{}", to_yaml(&document(&pods, args.window, now()))),
        Some(TopFormat::Wide) | None => print!("{}", rows(args, &pods)),
    }
    report::all(failed, global.json_errors())
}

/// Looks at the Pods of which containers run.
fn look<'v>(engine: &Engine, views: &'v [PodView]) -> Result<Vec<(&'v PodView, PodUsage)>, CommandError> {
    let mut seen = Vec::new();
    for view in views {
        if let Some(usage) = engine.usage(view)?.filter(|usage| !usage.containers.is_empty()) {
            seen.push((view, usage));
        }
    }
    Ok(seen)
}

fn idle_pod(view: &PodView) -> CommandError {
    let (name, phase) = (&view.pod.meta.name, view.published.status.phase.as_str());
    CommandError::new(Code::Failure, format!("pod \"{name}\" runs no container ({phase})"))
}

#[expect(clippy::disallowed_methods, reason = "a rate is one of a time")]
fn wait(window: Duration) {
    std::thread::sleep(window);
}

/// What was used in a window of time, and is used at its end.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Figures {
    nanocores: u64,
    /// Bytes that cannot be taken back at once.
    memory: Option<u64>,
    processes: Option<u64>,
    /// Periods of the CPU limit, and those of them in which it was reached.
    periods: (u64, u64),
    oom_kills: Option<u64>,
    /// How much of the time something waited, in percent: for CPU, memory, disk.
    waited: [Option<f64>; 3],
}

impl Figures {
    fn new(before: &Stats, after: &Stats, window: Duration) -> Self {
        let used = after.cpu.usage.0.saturating_sub(before.cpu.usage.0);
        let nanocores = u128::from(used) * 1_000_000_000 * 1_000 / window.as_nanos().max(1);
        let periods = after.cpu.periods.saturating_sub(before.cpu.periods);
        let throttled = after.cpu.throttled_periods.saturating_sub(before.cpu.throttled_periods);
        let waited = |pressure: &Option<Pressure>| pressure.map(|p| p.some.avg10.percent());
        Self {
            nanocores: u64::try_from(nanocores).unwrap_or(u64::MAX),
            memory: after.memory.as_ref().map(MemoryUsage::working_set),
            processes: after.pids.as_ref().map(|pids| pids.current),
            periods: (periods, throttled),
            oom_kills: after.memory.as_ref().map(|memory| memory.events.oom_kill),
            waited: [&after.cpu_pressure, &after.memory_pressure, &after.io_pressure].map(waited),
        }
    }

    /// Puts the use of several containers together; how long something waited cannot be added up.
    fn add(&mut self, other: &Self) {
        let sum = |a: Option<u64>, b: Option<u64>| Some(a?.saturating_add(b?));
        self.nanocores = self.nanocores.saturating_add(other.nanocores);
        self.memory = sum(self.memory, other.memory);
        self.processes = sum(self.processes, other.processes);
        self.periods = (self.periods.0 + other.periods.0, self.periods.1 + other.periods.1);
        self.oom_kills = sum(self.oom_kills, other.oom_kills);
    }

    fn sum<'f>(all: impl Iterator<Item = &'f Self>) -> Self {
        let zero = Self { memory: Some(0), processes: Some(0), oom_kills: Some(0), ..Self::default() };
        all.fold(zero, |mut sum, one| {
            sum.add(one);
            sum
        })
    }

    fn by(&self, what: SortBy) -> u64 {
        match what {
            SortBy::Cpu => self.nanocores,
            SortBy::Memory => self.memory.unwrap_or(0),
        }
    }

    fn cells(&self, wide: bool) -> Vec<String> {
        let unknown = || "<unknown>".to_owned();
        let known = |value: Option<u64>| value.map_or_else(unknown, |value| value.to_string());
        let mut cells = vec![
            format!("{}m", self.nanocores.div_ceil(1_000_000)),
            self.memory.map_or_else(unknown, |bytes| format!("{}Mi", bytes >> 20)),
        ];
        if wide {
            let (periods, throttled) = self.periods;
            cells.push(known(self.processes));
            // Without a limit there are no periods.
            cells.push(
                (throttled * 100)
                    .checked_div(periods)
                    .map_or_else(|| "-".to_owned(), |share| format!("{share}%")),
            );
            cells.push(known(self.oom_kills));
            cells.extend(self.waited.map(|share| share.map_or_else(unknown, |share| format!("{share:.1}%"))));
        }
        cells
    }
}

struct PodRow<'v> {
    view: &'v PodView,
    figures: Figures,
    containers: Vec<(String, Figures)>,
}

impl<'v> PodRow<'v> {
    fn new(view: &'v PodView, before: &PodUsage, after: &PodUsage) -> Self {
        let window = after.at.duration_since(before.at);
        let containers: Vec<_> = after
            .containers
            .iter()
            .map(|container| {
                // One that was started meanwhile began with nothing.
                let nothing = Stats::default();
                let earlier = before.containers.iter().find(|one| one.id == container.id);
                let earlier = earlier.map_or(&nothing, |one| &one.stats);
                (container.name.clone(), Figures::new(earlier, &container.stats, window))
            })
            .collect();
        let waited = Figures::new(&before.pod, &after.pod, window).waited;
        let figures = Figures { waited, ..Figures::sum(containers.iter().map(|(_, figures)| figures)) };
        Self { view, figures, containers }
    }
}

fn sort(pods: &mut [PodRow<'_>], by: Option<SortBy>) {
    let Some(by) = by else { return };
    pods.sort_by_key(|pod| Reverse(pod.figures.by(by)));
    for pod in pods {
        pod.containers.sort_by_key(|(_, figures)| Reverse(figures.by(by)));
    }
}

fn rows(args: &TopArgs, pods: &[PodRow<'_>]) -> String {
    let wide = args.output == Some(TopFormat::Wide);
    let mut head = vec![if args.containers { "POD" } else { "NAME" }];
    if args.all_namespaces {
        head.insert(0, "NAMESPACE");
    }
    if args.containers {
        head.push("NAME");
    }
    let names = head.len();
    head.extend(["CPU(cores)", "MEMORY(bytes)"]);
    if wide {
        head.extend(["PROCESSES", "THROTTLED", "OOM-KILLS", "CPU-WAIT", "MEMORY-WAIT", "DISK-WAIT"]);
    }
    let mut lines: Vec<Vec<String>> = Vec::new();
    for pod in pods {
        let meta = &pod.view.pod.meta;
        let mut name = vec![meta.name.clone()];
        if args.all_namespaces {
            name.insert(0, meta.namespace.clone());
        }
        if args.containers {
            let of = |(container, figures): &(String, Figures)| {
                [name.clone(), vec![container.clone()], figures.cells(wide)].concat()
            };
            lines.extend(pod.containers.iter().map(of));
        } else {
            lines.push([name, pod.figures.cells(wide)].concat());
        }
    }
    if args.sum {
        let sum = Figures::sum(pods.iter().map(|pod| &pod.figures));
        let blank = vec![String::new(); names];
        let line = "________".to_owned();
        lines.push([blank.clone(), vec![line.clone(), line]].concat());
        lines.push([blank, sum.cells(false)].concat());
    }
    table((!args.no_headers).then_some(head.as_slice()), &lines)
}

/// Returns the document that a cluster's metrics API has for these Pods.
fn document(pods: &[PodRow<'_>], window: Duration, at: Timestamp) -> Value {
    let container = |(name, figures): &(String, Figures)| {
        let mut usage = Map::new();
        usage.insert("cpu".to_owned(), json!(format!("{}n", figures.nanocores)));
        if let Some(bytes) = figures.memory {
            usage.insert("memory".to_owned(), json!(format!("{}Ki", bytes >> 10)));
        }
        json!({ "name": name, "usage": usage })
    };
    let pod = |pod: &PodRow<'_>| {
        let meta = &pod.view.pod.meta;
        json!({
            "metadata": { "name": meta.name, "namespace": meta.namespace, "labels": meta.labels },
            "timestamp": at.to_string(),
            "window": format!("{}s", window.as_secs_f64()),
            "containers": pod.containers.iter().map(container).collect::<Vec<_>>(),
        })
    };
    json!({
        "apiVersion": "metrics.k8s.io/v1beta1",
        "kind": "PodMetricsList",
        "metadata": {},
        "items": pods.iter().map(pod).collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use podrun_cgroups::Micros;

    use super::*;

    fn stats(usage: u64, periods: u64, throttled: u64) -> Stats {
        let mut stats = Stats::default();
        stats.cpu.usage = Micros(usage);
        (stats.cpu.periods, stats.cpu.throttled_periods) = (periods, throttled);
        stats
    }

    #[test]
    fn what_was_used_in_a_window_becomes_a_rate() {
        let figures =
            Figures::new(&stats(1_000_000, 10, 2), &stats(1_125_001, 30, 7), Duration::from_millis(500));
        assert_eq!(figures.nanocores, 250_002_000);
        assert_eq!(figures.cells(true)[..4], ["251m", "<unknown>", "<unknown>", "25%"].map(str::to_owned));
        let idle = Figures::new(&stats(5, 0, 0), &stats(5, 0, 0), Duration::from_secs(1));
        assert_eq!(idle.cells(true)[..4], ["0m", "<unknown>", "<unknown>", "-"].map(str::to_owned));
        // Counters that begin anew are no time below zero.
        assert_eq!(Figures::new(&stats(9, 9, 9), &stats(0, 0, 0), Duration::from_secs(1)).nanocores, 0);
    }

    #[test]
    fn a_sum_of_which_a_part_is_unknown_is_unknown() {
        let known = Figures { nanocores: 1_500_000, memory: Some(3 << 20), ..Figures::default() };
        let sum = Figures::sum([known, known].iter());
        assert_eq!((sum.nanocores, sum.memory, sum.processes), (3_000_000, Some(6 << 20), None));
        assert_eq!(sum.cells(false), ["3m", "6Mi"]);
        assert_eq!(Figures::sum([known, Figures::default()].iter()).memory, None);
    }
}
