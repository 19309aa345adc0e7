//! Probes more often than once a second.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use k8s_openapi::api::core::v1 as api;

use super::{Mistake, PROBE_PERIOD};
use crate::model::{PodSpec, Probe, ProbeKind};

/// Milliseconds: a probe costs about one, and periods of the API end here.
const LEAST: u64 = 10;
const MOST: u64 = i32::MAX as u64;

/// A probe of a container.
type Which = (String, ProbeKind);

const KINDS: [(&str, ProbeKind); 3] =
    [("startup", ProbeKind::Startup), ("liveness", ProbeKind::Liveness), ("readiness", ProbeKind::Readiness)];

/// Returns the probes of a Pod.
pub(super) fn of_wire(spec: &api::PodSpec) -> BTreeSet<Which> {
    let containers = spec.init_containers.iter().flatten().chain(&spec.containers);
    let probes = containers.flat_map(|container| {
        [
            (&container.startup_probe, ProbeKind::Startup),
            (&container.liveness_probe, ProbeKind::Liveness),
            (&container.readiness_probe, ProbeKind::Readiness),
        ]
        .map(|(probe, kind)| probe.as_ref().map(|_| (container.name.clone(), kind)))
    });
    probes.flatten().collect()
}

/// Sets the periods that the annotation asks for, and adds what in it cannot be meant.
pub(crate) fn set_probe_periods(
    annotations: &BTreeMap<String, String>,
    spec: &mut PodSpec,
    mistakes: &mut Vec<Mistake>,
) {
    if !annotations.contains_key(PROBE_PERIOD) {
        return;
    }
    let mut probes: BTreeMap<Which, &mut Probe> = BTreeMap::new();
    for container in spec.init_containers.iter_mut().chain(&mut spec.containers) {
        let life = &mut container.life;
        for (kind, probe) in [
            (ProbeKind::Startup, &mut life.startup),
            (ProbeKind::Liveness, &mut life.liveness),
            (ProbeKind::Readiness, &mut life.readiness),
        ] {
            if let Some(probe) = probe {
                probes.insert((container.name.clone(), kind), probe);
            }
        }
    }
    let existing = probes.keys().cloned().collect();
    for (which, period) in periods(annotations, &existing, mistakes) {
        if let Some(probe) = probes.get_mut(&which) {
            probe.period = period;
        }
    }
}

/// Returns the period of each probe that the annotation speaks of; all of them are among `existing`.
pub(super) fn periods(
    annotations: &BTreeMap<String, String>,
    existing: &BTreeSet<Which>,
    mistakes: &mut Vec<Mistake>,
) -> BTreeMap<Which, Duration> {
    let Some(value) = annotations.get(PROBE_PERIOD) else { return BTreeMap::new() };
    read(value, existing).unwrap_or_else(|why| {
        mistakes.push(Mistake::new(PROBE_PERIOD, value, why));
        BTreeMap::new()
    })
}

fn read(value: &str, existing: &BTreeSet<Which>) -> Result<BTreeMap<Which, Duration>, String> {
    if !value.contains('=') {
        let period = milliseconds(value.trim())?;
        if existing.is_empty() {
            return Err("no container has a probe".to_owned());
        }
        return Ok(existing.iter().map(|which| (which.clone(), period)).collect());
    }
    let mut periods = BTreeMap::new();
    for entry in value.split(',').map(str::trim) {
        let (name, period) = entry.split_once('=').ok_or_else(|| format!("{entry:?} {FORM}"))?;
        let (container, kind) = name.trim().split_once('/').ok_or_else(|| format!("{entry:?} {FORM}"))?;
        let Some((_, kind)) = KINDS.iter().find(|(name, _)| *name == kind) else {
            return Err(format!("{entry:?} {FORM}"));
        };
        let which = (container.to_owned(), *kind);
        if !existing.contains(&which) {
            return Err(format!("there is no probe {:?}", name.trim()));
        }
        if periods.insert(which, milliseconds(period.trim())?).is_some() {
            return Err(format!("{:?} stands there twice", name.trim()));
        }
    }
    Ok(periods)
}

const FORM: &str = "must have the form container/startup=ms, container/liveness=ms or container/readiness=ms";

fn milliseconds(text: &str) -> Result<Duration, String> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    match text.parse::<u64>() {
        Ok(number) if digits && (LEAST..=MOST).contains(&number) => Ok(Duration::from_millis(number)),
        _ => Err(format!("{text:?} must be a number of milliseconds between {LEAST} and {MOST}, inclusive")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn existing() -> BTreeSet<Which> {
        [("a", ProbeKind::Startup), ("a", ProbeKind::Liveness), ("b", ProbeKind::Readiness)]
            .map(|(name, kind)| (name.to_owned(), kind))
            .into()
    }

    fn read_all(value: &str) -> Result<Vec<u128>, String> {
        read(value, &existing()).map(|all| all.values().map(Duration::as_millis).collect())
    }

    #[test]
    fn one_number_is_for_all_probes_and_entries_for_one_each() {
        assert_eq!(read_all("100"), Ok(vec![100, 100, 100]));
        assert_eq!(read_all(" 10 "), Ok(vec![10, 10, 10]));
        assert_eq!(read_all("a/liveness=250, b/readiness=50"), Ok(vec![250, 50]));
        let one = read("a/startup=2147483647", &existing()).unwrap();
        assert_eq!(one[&("a".to_owned(), ProbeKind::Startup)].as_millis(), 2_147_483_647);
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        for value in [
            "",
            "9",
            "2147483648",
            "-10",
            "+10",
            "1.5",
            "10ms",
            "a/liveness",
            "a/liveness=",
            "a/liveness=9",
            "a/readiness=100",
            "c/liveness=100",
            "a/Liveness=100",
            "a=100",
            "a/liveness=100,",
            "a/liveness=100,a/liveness=200",
            "100,200",
            "100,a/liveness=100",
        ] {
            assert!(read_all(value).is_err(), "{value}");
        }
        assert_eq!(read("100", &BTreeSet::new()), Err("no container has a probe".to_owned()));
    }
}
