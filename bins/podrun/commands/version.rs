//! `podrun version`.

use crate::cli::VersionArgs;
use crate::exit_code::Code;
use crate::print::println;

/// The version of the Pod API whose fields podrun knows.
const POD_API: &str = "v1 of Kubernetes 1.37";

pub(crate) fn run(args: &VersionArgs) -> Code {
    let version = env!("CARGO_PKG_VERSION");
    if args.output.is_some() {
        println!("{}", serde_json::json!({ "podrun": version, "podApi": POD_API }));
    } else {
        println!("podrun {version} (Pod API: {POD_API})");
    }
    Code::Ok
}
