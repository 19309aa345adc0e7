//! `podrun image check`.

use std::io::IsTerminal as _;

use podrun_engine::Engine;
use podrun_image::{CheckOptions, CheckReport, Finding, Outcome};
use serde_json::{Value, json};

use crate::cli::CheckArgs;
use crate::exit_code::Code;
use crate::output::bytes;
use crate::print::{eprint, println};
use crate::report::CommandResult;

pub(super) fn run(engine: &Engine, args: &CheckArgs) -> CommandResult {
    let mut options = CheckOptions::default();
    options.dry_run = args.dry_run;
    options.quick = args.quick;
    let terminal = std::io::stderr().is_terminal();
    let report = engine.images()?.check(&options, |what| {
        if terminal {
            eprint!("\r\x1b[Kchecking {}", what.chars().take(70).collect::<String>());
        }
    });
    if terminal {
        eprint!("\r\x1b[K");
    }
    let report = report?;
    if args.output.is_some() {
        println!("{:#}", document(&report));
    } else {
        tell(&report, args.quick);
    }
    Ok(if report.is_sound() { Code::Ok } else { Code::Failure })
}

fn tell(report: &CheckReport, quick: bool) {
    for Finding { subject, problem, outcome, .. } in &report.findings {
        println!("{subject}: {problem}: {}", in_words(outcome));
    }
    let layers = if quick { String::new() } else { format!(", {} layers", report.layers) };
    println!(
        "Checked {} images: {} blobs ({}){layers}; {} findings",
        report.images,
        report.blobs,
        bytes(report.bytes),
        report.findings.len()
    );
}

fn in_words(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Repaired => "repaired".to_owned(),
        Outcome::Dropped(images) if images.is_empty() => "removed".to_owned(),
        Outcome::Dropped(images) => format!("removed {}: load or pull again", images.join("; ")),
        Outcome::Left(reason) => format!("not repaired: {reason}"),
        _ => "unknown".to_owned(),
    }
}

fn document(report: &CheckReport) -> Value {
    let finding = |one: &Finding| {
        let (outcome, images, reason) = match &one.outcome {
            Outcome::Repaired => ("repaired", Vec::new(), None),
            Outcome::Dropped(images) => ("dropped", images.clone(), None),
            Outcome::Left(reason) => ("left", Vec::new(), Some(reason.as_str())),
            _ => ("unknown", Vec::new(), None),
        };
        json!({
            "subject": one.subject,
            "problem": one.problem,
            "outcome": outcome,
            "dropped": images,
            "reason": reason,
        })
    };
    json!({
        "sound": report.is_sound(),
        "images": report.images,
        "blobs": report.blobs,
        "bytes": report.bytes,
        "layers": report.layers,
        "findings": report.findings.iter().map(finding).collect::<Vec<_>>(),
    })
}
