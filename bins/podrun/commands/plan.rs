//! `podrun plan`: what would be done, without doing it and without root.

use podrun_spec::to_yaml;
use serde_json::Value;

use crate::cli::{Global, PlanArgs, PlanFormat};
use crate::exit_code::Code;
use crate::print::{print, println};
use crate::report::{CommandError, CommandResult};
use crate::{context, manifests};

/// Stands for the UID that a Pod gets when it is created, and from which the names of its kernel objects derive.
const PLANNED_UID: &str = "00000000-0000-4000-8000-000000000000";

pub(crate) fn run(global: &Global, args: &PlanArgs) -> CommandResult {
    let engine = context::engine(global)?;
    let options = context::options(&engine, &args.node, false)?;
    let manifest = manifests::read(global, args.manifests.names())?;
    let mut plans = Vec::new();
    for parsed in manifest.pods {
        let mut pod = parsed.pod;
        PLANNED_UID.clone_into(&mut pod.meta.uid);
        let plan = engine.plan(&pod, &options)?;
        let value = serde_json::to_value(&plan)
            .map_err(|error| CommandError::new(Code::Engine, format!("print the plan: {error}")))?;
        plans.push(value);
    }
    match args.output {
        PlanFormat::Yaml => {
            for (index, plan) in plans.iter().enumerate() {
                if index > 0 {
                    println!("---");
                }
                print!("{}", to_yaml(plan));
            }
        }
        PlanFormat::Json => {
            let value = if plans.len() == 1 { plans.swap_remove(0) } else { Value::Array(plans) };
            println!("{value:#}");
        }
    }
    Ok(Code::Ok)
}
