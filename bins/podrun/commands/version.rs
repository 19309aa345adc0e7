//! `podrun version`.

use crate::cli::{PlanFormat, VersionArgs};
use crate::exit_code::Code;
use crate::print::{print, println};

/// The version of the Pod API whose fields podrun knows.
const POD_API: &str = "v1 of Kubernetes 1.37";

pub(crate) fn run(args: &VersionArgs) -> Code {
    let version = env!("CARGO_PKG_VERSION");
    let document = || serde_json::json!({ "podrun": version, "podApi": POD_API });
    match args.output {
        Some(PlanFormat::Json) => println!("{}", document()),
        Some(PlanFormat::Yaml) => print!("{}", podrun_spec::to_yaml(&document())),
        None => println!("podrun {version} (Pod API: {POD_API})"),
    }
    Code::Ok
}
