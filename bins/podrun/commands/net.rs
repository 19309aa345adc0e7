//! `podrun net verify` and `repair`: the network of Pods as the kernel has it, compared with what it should be.

use std::time::Duration;

use podrun_engine::{Difference, Engine, PodView, Throughput};
use podrun_spec::status::Phase;
use serde_json::{Value, json};

use crate::cli::{Global, NetArgs, NetCommand};
use crate::context;
use crate::exit_code::Code;
use crate::output::bits;
use crate::print::println;
use crate::report::{CommandError, CommandResult};
use crate::selection::pod_names;

/// How far what goes through may be from its limit. A machine that is busy is slower; nothing makes it faster.
const TOLERANCE: f64 = 0.05;

/// What was found about one object.
struct Report {
    what: String,
    differences: Vec<Difference>,
    /// What was different before it was repaired.
    repaired: Vec<Difference>,
    rates: Vec<String>,
}

pub(crate) fn run(global: &Global, args: &NetArgs) -> CommandResult {
    let engine = context::engine(global)?;
    context::revive(&engine);
    let (reports, output) = match &args.command {
        NetCommand::Verify { pod, probe, output } => {
            let views = views(global, &engine, pod.as_deref())?;
            (verify_all(&engine, &views, probe.map(Duration::from_secs))?, output)
        }
        NetCommand::Repair { pod, output } => {
            let views = views(global, &engine, pod.as_deref())?;
            (repair(&engine, &views)?, output)
        }
    };
    if output.is_some() {
        println!("{:#}", Value::Array(reports.iter().map(as_json).collect()));
    } else {
        reports.iter().for_each(print);
    }
    let all_is_well = reports.iter().all(|report| report.differences.is_empty());
    Ok(if all_is_well { Code::Ok } else { Code::Failure })
}

/// Returns one Pod, or all of the namespace.
fn views(global: &Global, engine: &Engine, pod: Option<&str>) -> Result<Vec<PodView>, CommandError> {
    let Some(name) = pod else {
        let all = context::pods(engine)?.into_iter();
        return Ok(all.filter(|view| view.pod.meta.namespace == global.namespace()).collect());
    };
    let names = pod_names(&[name.to_owned()])?;
    Ok(names.iter().map(|name| engine.pod(global.namespace(), name)).collect::<Result<_, _>>()?)
}

fn verify_all(
    engine: &Engine,
    views: &[PodView],
    probe: Option<Duration>,
) -> podrun_engine::Result<Vec<Report>> {
    let (what, differences) = ("node".to_owned(), engine.verify_network()?);
    let mut reports = vec![Report { what, differences, repaired: Vec::new(), rates: Vec::new() }];
    for view in views {
        reports.extend(verify(engine, view, probe)?);
    }
    Ok(reports)
}

/// Repairs what is different, and looks again.
fn repair(engine: &Engine, views: &[PodView]) -> podrun_engine::Result<Vec<Report>> {
    let before = verify_all(engine, views, None)?;
    if before.iter().any(|report| !report.differences.is_empty()) {
        // Others than those that are named may have lost what is in the tables, and that is put back with them.
        engine.repair_network()?;
        for view in views {
            engine.repair_pod_network(view)?;
        }
    }
    let mut after = verify_all(engine, views, None)?;
    for report in &mut after {
        let earlier = before.iter().find(|earlier| earlier.what == report.what);
        report.repaired = mended(earlier.map_or(&[], |earlier| &earlier.differences), &report.differences);
    }
    Ok(after)
}

/// Returns what was different and is not any more.
fn mended(before: &[Difference], after: &[Difference]) -> Vec<Difference> {
    before.iter().filter(|difference| after.iter().all(|now| now.what != difference.what)).cloned().collect()
}

/// Returns none for a Pod that is not at the bridge, or has ended.
fn verify(engine: &Engine, view: &PodView, probe: Option<Duration>) -> podrun_engine::Result<Option<Report>> {
    if matches!(view.published.status.phase, Phase::Succeeded | Phase::Failed) {
        return Ok(None);
    }
    let Some(mut differences) = engine.verify_pod_network(view)? else { return Ok(None) };
    let mut rates = Vec::new();
    if let Some(duration) = probe
        && let Some(measured) = engine.probe_pod_network(view, duration)?
    {
        let bandwidth = engine.network_view(view).bandwidth;
        let limit = |of: fn(&podrun_plan::model::BandwidthPlan) -> Option<podrun_plan::model::RatePlan>| {
            bandwidth.as_ref().and_then(of).map(|rate| rate.bits_per_second)
        };
        for (name, through, limit) in [
            ("ingress", measured.ingress, limit(|plan| plan.ingress)),
            ("egress", measured.egress, limit(|plan| plan.egress)),
        ] {
            rates.push(format!("{name} {}", measured_text(through, limit)));
            differences.extend(too_fast(name, through, limit));
        }
    }
    let what = format!("pod/{}", view.pod.meta.name);
    Ok(Some(Report { what, differences, repaired: Vec::new(), rates }))
}

fn measured_text(through: Throughput, limit: Option<u64>) -> String {
    let measured = bits(through.bits_per_second());
    match limit {
        #[expect(clippy::cast_precision_loss, reason = "a rate is told in three digits")]
        Some(limit) => format!("{measured} of {}", bits(limit as f64)),
        None => format!("{measured}, no limit"),
    }
}

/// A rate that is not kept to is a difference; one that the machine does not reach is told and no more.
#[expect(clippy::cast_precision_loss, reason = "a rate is told in three digits")]
fn too_fast(name: &str, through: Throughput, limit: Option<u64>) -> Option<Difference> {
    let limit = limit? as f64;
    let measured = through.bits_per_second();
    (measured > limit * (1.0 + TOLERANCE)).then(|| Difference {
        what: format!("measured {name}"),
        wanted: bits(limit),
        found: bits(measured),
    })
}

fn print(report: &Report) {
    let (colour, word) = match (report.differences.is_empty(), report.repaired.is_empty()) {
        (true, true) => (anstyle::AnsiColor::Green, "ok"),
        (true, false) => (anstyle::AnsiColor::Green, "repaired"),
        (false, _) => (anstyle::AnsiColor::Red, "differs"),
    };
    let style = colour.on_default();
    println!("{style}{word:<8}{style:#} {}", report.what);
    report.rates.iter().for_each(|rate| println!("         {rate}"));
    report.repaired.iter().for_each(|difference| println!("         was {difference}"));
    report.differences.iter().for_each(|difference| println!("         {difference}"));
}

fn as_json(report: &Report) -> Value {
    let differences = |list: &[Difference]| -> Vec<Value> {
        list.iter().map(|d| json!({ "what": d.what, "wanted": d.wanted, "found": d.found })).collect()
    };
    json!({
        "object": report.what,
        "ok": report.differences.is_empty(),
        "measured": report.rates,
        "repaired": differences(&report.repaired),
        "differences": differences(&report.differences),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_different_still_was_not_repaired() {
        let difference = |what: &str, found: &str| Difference {
            what: what.to_owned(),
            wanted: "1".to_owned(),
            found: found.to_owned(),
        };
        let before = [difference("a", "0"), difference("b", "0")];
        assert_eq!(mended(&before, &[difference("b", "2")]), [difference("a", "0")]);
        assert_eq!(mended(&before, &[]), before);
    }

    #[test]
    fn only_what_is_faster_than_its_limit_is_wrong() {
        let through = |bytes| Throughput { bytes, elapsed: Duration::from_secs(1) };
        assert!(too_fast("ingress", through(2_000_000), None).is_none());
        assert!(too_fast("ingress", through(1_250_000), Some(10_000_000)).is_none());
        assert!(too_fast("ingress", through(100), Some(10_000_000)).is_none(), "the machine is the limit");
        let difference = too_fast("ingress", through(2_000_000), Some(10_000_000)).unwrap();
        assert_eq!(difference.to_string(), "measured ingress: 10.0 Mbit/s expected, found 16.0 Mbit/s");
    }
}
