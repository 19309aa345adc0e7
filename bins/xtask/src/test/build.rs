//! Builds the programs and the tests, and lists what came out.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::process::{self, Context as _, Result, capture, cargo};
use crate::workspace::Workspace;

/// A test program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Program {
    pub(crate) path: PathBuf,
    /// `package` for unit tests, `package/file` for those in tests/.
    pub(crate) label: String,
    /// What the paths of its tests start with.
    pub(crate) crate_name: String,
    /// Where cargo runs it.
    pub(crate) dir: PathBuf,
    /// Tests in tests/ may use the kernel; unit tests are pure.
    pub(crate) needs_kernel: bool,
}

impl Program {
    /// Returns the variables that cargo would set and tests may rely on.
    pub(crate) fn environment(&self, workspace: &Workspace) -> Vec<(String, String)> {
        let program = |name: &str| workspace.target.join("debug").join(name).display().to_string();
        [
            ("CARGO_MANIFEST_DIR", self.dir.display().to_string()),
            ("CARGO_BIN_EXE_podrun", program("podrun")),
            ("CARGO_BIN_EXE_podrun-init", program("podrun-init")),
            // Without these insta would ask cargo, and write next to the sources.
            ("INSTA_WORKSPACE_ROOT", workspace.root.display().to_string()),
            ("INSTA_UPDATE", "no".to_owned()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into()
    }
}

/// Builds everything, or only these packages; podrun's programs belong to the package of that name.
pub(crate) fn run(workspace: &Workspace, packages: &[String]) -> Result<Vec<Program>> {
    if packages.is_empty() || packages.iter().any(|name| name == "podrun") {
        process::run(cargo().args(["build", "--package", "podrun", "--bins"]))?;
    }
    let mut build = cargo();
    build.args(["test", "--no-run", "--message-format=json-render-diagnostics"]);
    build.args(selection(packages));
    programs(&capture(&mut build)?, workspace)
}

/// Returns cargo's flags that choose these packages, all if there are none.
pub(crate) fn selection(packages: &[String]) -> Vec<String> {
    if packages.is_empty() {
        return vec!["--workspace".to_owned()];
    }
    packages.iter().map(|name| format!("--package={name}")).collect()
}

fn programs(messages: &str, workspace: &Workspace) -> Result<Vec<Program>> {
    let mut programs = Vec::new();
    for line in messages.lines() {
        let message: Value = serde_json::from_str(line).context("a message of cargo")?;
        programs.extend(program(&message, workspace));
    }
    programs.sort_by(|a, b| a.label.cmp(&b.label));
    Ok(programs)
}

/// Returns the test program of a message, if the message tells of one.
fn program(message: &Value, workspace: &Workspace) -> Option<Program> {
    if message["reason"] != "compiler-artifact" || message["profile"]["test"] != true {
        return None;
    }
    let path = PathBuf::from(message["executable"].as_str()?);
    let dir = Path::new(message["manifest_path"].as_str()?).parent()?.to_owned();
    let target = message["target"]["name"].as_str()?;
    let package = workspace.packages.iter().find(|package| package.dir == dir)?;
    let needs_kernel = message["target"]["kind"][0] == "test";
    let is_only = package.name.replace('-', "_") == target.replace('-', "_");
    let label = if is_only { package.name.clone() } else { format!("{}/{target}", package.name) };
    Some(Program { path, label, crate_name: target.replace('-', "_"), dir, needs_kernel })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workspace::Package;

    fn workspace() -> Workspace {
        let package =
            Package { name: "podrun-image".into(), dir: "/w/crates/image".into(), ..Package::default() };
        Workspace { root: "/w".into(), target: "/w/target".into(), packages: vec![package] }
    }

    #[test]
    fn only_test_programs_are_taken_from_the_messages() {
        let unit = r#"{"reason":"compiler-artifact","manifest_path":"/w/crates/image/Cargo.toml","target":{"kind":["lib"],"name":"podrun_image"},"profile":{"test":true},"executable":"/w/target/debug/deps/podrun_image-1"}"#;
        let kernel = r#"{"reason":"compiler-artifact","manifest_path":"/w/crates/image/Cargo.toml","target":{"kind":["test"],"name":"layers-unpack"},"profile":{"test":true},"executable":"/w/target/debug/deps/layers-2"}"#;
        let library = r#"{"reason":"compiler-artifact","manifest_path":"/w/crates/image/Cargo.toml","target":{"kind":["lib"],"name":"podrun_image"},"profile":{"test":false},"executable":null}"#;
        let end = r#"{"reason":"build-finished","success":true}"#;
        let found = programs(&[unit, kernel, library, end].join("\n"), &workspace()).expect("json");
        let told: Vec<_> =
            found.iter().map(|p| (p.label.as_str(), p.crate_name.as_str(), p.needs_kernel)).collect();
        assert_eq!(
            told,
            [("podrun-image", "podrun_image", false), ("podrun-image/layers-unpack", "layers_unpack", true)]
        );
    }

    #[test]
    fn no_package_means_all() {
        assert_eq!(selection(&[]), ["--workspace"]);
        assert_eq!(selection(&["a".into(), "b".into()]), ["--package=a", "--package=b"]);
    }
}
