//! Which crate may depend on which; see "Layers" in ARCHITECTURE.md.

use std::process::ExitCode;

use crate::process::{Failure, Result};
use crate::sources;
use crate::workspace::{Package, Workspace};

/// Each crate with the podrun crates it may use. Everything points downwards:
///
/// ```text
/// bins > engine > {sandbox, container, network, image, probes, lifecycle} > plan > spec
/// container > sandbox   sandbox | container | probes | engine > namespaces, cgroups   plan > cgroups
/// network > netlink, tc
/// ```
const ARROWS: &[(&str, &[&str])] = &[
    ("podrun-spec", &[]),
    ("podrun-namespaces", &[]),
    ("podrun-cgroups", &[]),
    ("podrun-netlink", &[]),
    ("podrun-tc", &["podrun-netlink"]),
    ("podrun-image", &[]),
    ("podrun-probes", &["podrun-namespaces", "podrun-cgroups"]),
    ("podrun-testkit", &[]),
    ("podrun-plan", &["podrun-spec", "podrun-cgroups"]),
    ("podrun-lifecycle", &["podrun-plan", "podrun-spec"]),
    ("podrun-sandbox", &["podrun-plan", "podrun-spec", "podrun-namespaces", "podrun-cgroups"]),
    (
        "podrun-container",
        &["podrun-sandbox", "podrun-plan", "podrun-spec", "podrun-namespaces", "podrun-cgroups"],
    ),
    ("podrun-network", &["podrun-plan", "podrun-spec", "podrun-netlink", "podrun-tc"]),
    (
        "podrun-engine",
        &[
            "podrun-sandbox",
            "podrun-container",
            "podrun-network",
            "podrun-image",
            "podrun-probes",
            "podrun-lifecycle",
            "podrun-plan",
            "podrun-spec",
            "podrun-namespaces",
            "podrun-cgroups",
        ],
    ),
    (
        "podrun",
        &[
            "podrun-engine",
            "podrun-sandbox",
            "podrun-container",
            "podrun-image",
            "podrun-lifecycle",
            "podrun-plan",
            "podrun-spec",
            "podrun-namespaces",
            "podrun-cgroups",
            "podrun-netlink",
            "podrun-network",
            "podrun-tc",
        ],
    ),
    ("xtask", &["podrun-testkit"]),
];

/// Other people's crates that only some of ours may use, with the reason.
const RESTRICTED: &[(&str, &[&str], &str)] = &[
    (
        "tokio",
        &["podrun-engine", "podrun-probes", "podrun-image"],
        "a crate that is used alone must not bring a runtime",
    ),
    ("k8s-openapi", &["podrun-spec", "podrun"], "the wire types stay at the border"),
    ("serde-saphyr", &["podrun-spec", "podrun"], "one file knows the YAML crate"),
];

const TESTKIT: &str = "podrun-testkit";

/// Runs the task: prints every arrow and mention that is against the rules.
pub(crate) fn run() -> Result<ExitCode> {
    let workspace = Workspace::load()?;
    let mut found = violations(&workspace.packages);
    found.extend(sources::violations(&workspace.packages)?);
    for line in &found {
        eprintln!("{line}");
    }
    if found.is_empty() {
        println!("layers: {} crates keep the rules", workspace.packages.len());
        return Ok(ExitCode::SUCCESS);
    }
    Err(Failure::new(format!("layers: {} violations", found.len())))
}

fn violations(packages: &[Package]) -> Vec<String> {
    let names: Vec<&str> = packages.iter().map(|package| package.name.as_str()).collect();
    let mut found = Vec::new();
    for package in packages {
        let name = package.name.as_str();
        let Some((_, allowed)) = ARROWS.iter().find(|(from, _)| *from == name) else {
            found.push(format!("{name} has no place in the layers: give it one in {}", file!()));
            continue;
        };
        for dependency in &package.dependencies {
            let to = dependency.name.as_str();
            let is_test_only = dependency.dev && to == TESTKIT;
            if names.contains(&to) && !allowed.contains(&to) && !is_test_only {
                let why = if to == TESTKIT {
                    "it is for dev-dependencies only"
                } else {
                    "this arrow does not exist"
                };
                found.push(format!("{name} -> {to}: {why}"));
            }
            for (crate_name, users, why) in RESTRICTED {
                if to == *crate_name && !users.contains(&name) {
                    found.push(format!("{name} -> {to}: only {} may use it: {why}", users.join(" and ")));
                }
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workspace::Dependency;

    /// A package; a dependency that starts with `dev:` is for tests.
    fn package(name: &str, dependencies: &[&str]) -> Package {
        let dependency = |word: &&str| Dependency {
            name: word.trim_start_matches("dev:").to_owned(),
            dev: word.starts_with("dev:"),
        };
        let dependencies = dependencies.iter().map(dependency).collect();
        Package { name: name.to_owned(), dependencies, ..Package::default() }
    }

    /// Checks one arrow in a workspace that has all crates of the table.
    fn check(from: &str, to: &str) -> Vec<String> {
        let mut packages: Vec<Package> =
            ARROWS.iter().filter(|(name, _)| *name != from).map(|(name, _)| package(name, &[])).collect();
        packages.push(package(from, &[to]));
        violations(&packages)
    }

    #[test]
    fn arrows_downwards_are_free() {
        for (from, to) in [
            ("podrun", "podrun-engine"),
            ("podrun-engine", "podrun-spec"),
            ("podrun-container", "podrun-sandbox"),
            ("podrun-sandbox", "podrun-cgroups"),
            ("podrun-plan", "podrun-spec"),
            ("podrun-image", "dev:podrun-testkit"),
            ("podrun-engine", "tokio"),
            ("podrun-engine", "podrun-probes"),
            ("podrun-probes", "podrun-cgroups"),
            ("podrun-probes", "tokio"),
            ("podrun-spec", "serde-saphyr"),
            ("podrun-image", "serde"),
            ("xtask", "podrun-testkit"),
        ] {
            assert_eq!(check(from, to), [""; 0], "{from} -> {to}");
        }
    }

    #[test]
    fn other_arrows_are_reported_once_with_both_ends() {
        for (from, to) in [
            ("podrun-spec", "podrun-plan"),
            ("podrun-sandbox", "podrun-container"),
            ("podrun-plan", "podrun-namespaces"),
            ("podrun-image", "podrun-spec"),
            ("podrun-probes", "podrun-spec"),
            ("podrun-lifecycle", "podrun-probes"),
            ("podrun-cgroups", "podrun-namespaces"),
            ("podrun-cgroups", "dev:podrun-namespaces"),
            ("podrun-lifecycle", "podrun-engine"),
            ("podrun-engine", "podrun-testkit"),
            ("podrun-namespaces", "tokio"),
            ("podrun-cgroups", "dev:tokio"),
            ("podrun-engine", "k8s-openapi"),
            ("podrun-plan", "serde-saphyr"),
        ] {
            let found = check(from, to);
            let arrow = format!("{from} -> {}", to.trim_start_matches("dev:"));
            assert!(found.len() == 1 && found[0].starts_with(&arrow), "{arrow}: {found:?}");
        }
    }

    #[test]
    fn a_new_crate_must_be_given_its_place() {
        let found = violations(&[package("podrun-magic", &[])]);
        assert!(found[0].starts_with("podrun-magic has no place"), "{found:?}");
    }
}
