//! What cargo knows about this workspace.

use std::path::PathBuf;

use serde_json::Value;

use crate::process::{Context as _, Failure, Result, capture, cargo};

/// A package of the workspace, reduced to what the tasks ask.
#[derive(Debug, Clone, Default)]
pub(crate) struct Package {
    pub(crate) name: String,
    pub(crate) dir: PathBuf,
    pub(crate) dependencies: Vec<Dependency>,
    pub(crate) benches: Vec<String>,
    pub(crate) has_library: bool,
}

/// An arrow from a package to another.
#[derive(Debug, Clone)]
pub(crate) struct Dependency {
    pub(crate) name: String,
    pub(crate) dev: bool,
}

/// The workspace.
#[derive(Debug)]
pub(crate) struct Workspace {
    pub(crate) root: PathBuf,
    pub(crate) target: PathBuf,
    pub(crate) packages: Vec<Package>,
}

impl Workspace {
    /// Asks `cargo metadata`, without the network.
    pub(crate) fn load() -> Result<Self> {
        let text = capture(cargo().args(["metadata", "--offline", "--no-deps", "--format-version", "1"]))?;
        let data: Value = serde_json::from_str(&text).context("cargo metadata")?;
        Self::parse(&data).ok_or_else(|| Failure::new("cargo metadata has an unknown form"))
    }

    fn parse(data: &Value) -> Option<Self> {
        let packages = data["packages"].as_array()?.iter().map(package).collect::<Option<_>>()?;
        Some(Self {
            root: data["workspace_root"].as_str()?.into(),
            target: data["target_directory"].as_str()?.into(),
            packages,
        })
    }
}

fn package(data: &Value) -> Option<Package> {
    let manifest = PathBuf::from(data["manifest_path"].as_str()?);
    let dependency = |data: &Value| {
        Some(Dependency {
            name: data["name"].as_str()?.to_owned(),
            dev: data["kind"].as_str() == Some("dev"),
        })
    };
    let targets = data["targets"].as_array()?;
    let is = |target: &Value, kind: &str| {
        target["kind"].as_array().is_some_and(|kinds| kinds.iter().any(|word| word == kind))
    };
    Some(Package {
        name: data["name"].as_str()?.to_owned(),
        dir: manifest.parent()?.to_owned(),
        dependencies: data["dependencies"].as_array()?.iter().map(dependency).collect::<Option<_>>()?,
        benches: targets
            .iter()
            .filter(|target| is(target, "bench"))
            .map(|target| Some(target["name"].as_str()?.to_owned()))
            .collect::<Option<_>>()?,
        has_library: targets.iter().any(|target| is(target, "lib")),
    })
}
