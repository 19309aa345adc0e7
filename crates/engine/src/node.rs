//! This machine as a node: its labels, and what its Pods may request.

use std::fs;
use std::path::Path;

use nix::sys::statvfs::statvfs;
use podrun_plan::admission::Node;
use podrun_spec::model::ResourceList;
use podrun_spec::quantity::Quantity;

use crate::config::NodeConfig;
use crate::facts::memory_bytes;
use crate::options::PodOptions;
use crate::paths::Paths;

const HUGE_PAGES: &str = "/sys/kernel/mm/hugepages";

/// Returns the node as it is now, for a Pod that is run in this way; without its sockets, which few ask for.
pub(crate) fn node(paths: &Paths, options: &PodOptions, config: &NodeConfig) -> Node {
    let mut allocatable = capacity(paths);
    for (name, amount) in &mut allocatable {
        let reserved = config.reserved.get(name).copied().unwrap_or(Quantity::ZERO);
        let rest = amount.signed_millis().saturating_sub(reserved.signed_millis()).max(0);
        *amount = Quantity::from_millis(rest);
    }
    allocatable.insert("pods".to_owned(), Quantity::from_units(config.max_pods.into()));
    let name = options.node_name.clone();
    let mut labels = config.labels.clone();
    labels.extend(options.node_labels.clone());
    // What is known of the machine cannot be said otherwise.
    for (key, value) in [("hostname", name.as_str()), ("os", "linux"), ("arch", architecture())] {
        labels.insert(format!("kubernetes.io/{key}"), value.to_owned());
    }
    Node { name, labels, allocatable, listeners: Vec::new() }
}

/// Returns what the machine has.
fn capacity(paths: &Paths) -> ResourceList {
    let cpus = std::thread::available_parallelism().map_or(1, |cpus| cpus.get() as u64);
    let mut capacity = huge_pages(Path::new(HUGE_PAGES));
    // Huge pages are taken out of the memory that everybody else has.
    let huge: u64 = capacity.values().map(Quantity::units).sum();
    let memory = memory_bytes().unwrap_or(0).saturating_sub(huge);
    let amounts = [("cpu", cpus), ("memory", memory), ("ephemeral-storage", disk_bytes(&paths.data))];
    capacity.extend(amounts.map(|(name, amount)| (name.to_owned(), Quantity::from_units(amount))));
    capacity
}

/// Returns the huge pages that were set aside, by the name of their resource: `hugepages-2Mi`.
fn huge_pages(dir: &Path) -> ResourceList {
    // Without the directory the kernel has none.
    let entries = fs::read_dir(dir).into_iter().flatten().filter_map(Result::ok);
    let pages = entries.filter_map(|entry| {
        let name = entry.file_name().into_string().ok()?;
        let kib: u64 = name.strip_prefix("hugepages-")?.strip_suffix("kB")?.parse().ok()?;
        let count: u64 = fs::read_to_string(entry.path().join("nr_hugepages")).ok()?.trim().parse().ok()?;
        let bytes = kib.checked_mul(1024)?.checked_mul(count)?;
        Some((format!("hugepages-{}", size_name(kib)), Quantity::from_units(bytes)))
    });
    pages.collect()
}

/// Returns a size as resource names spell it: `2Mi`.
fn size_name(kib: u64) -> String {
    match kib {
        _ if kib.is_multiple_of(1 << 20) => format!("{}Gi", kib >> 20),
        _ if kib.is_multiple_of(1 << 10) => format!("{}Mi", kib >> 10),
        _ => format!("{kib}Ki"),
    }
}

/// Returns the size of the file system that holds a directory, which may yet have to be made.
fn disk_bytes(dir: &Path) -> u64 {
    let existing = dir.ancestors().find_map(|dir| statvfs(dir).ok());
    existing.map_or(0, |fs| fs.blocks().saturating_mul(fs.fragment_size()))
}

/// Returns the architecture as Go names it.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "x86" => "386",
        "powerpc64" if cfg!(target_endian = "little") => "ppc64le",
        "loongarch64" => "loong64",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn huge_pages_are_resources_by_size() {
        let dir = tempfile::tempdir().unwrap();
        for (name, count) in [("hugepages-2048kB", "3\n"), ("hugepages-1048576kB", "0\n"), ("other", "9\n")] {
            fs::create_dir(dir.path().join(name)).unwrap();
            fs::write(dir.path().join(name).join("nr_hugepages"), count).unwrap();
        }
        let found: Vec<_> =
            huge_pages(dir.path()).iter().map(|(name, amount)| (name.clone(), amount.units())).collect();
        assert_eq!(found, [("hugepages-1Gi".to_owned(), 0), ("hugepages-2Mi".to_owned(), 6 << 20)]);
        assert_eq!(size_name(64), "64Ki");
    }

    #[test]
    fn the_node_is_this_machine_less_what_is_reserved() {
        let dir = tempfile::tempdir().unwrap();
        let paths = Paths::below(&dir.path().join("not/there"));
        let mut options = PodOptions::new("here".to_owned());
        options.node_labels.insert("zone".to_owned(), "flag".to_owned());
        options.node_labels.insert("kubernetes.io/os".to_owned(), "plan9".to_owned());
        let mut config = NodeConfig { max_pods: 7, ..NodeConfig::default() };
        config.labels.insert("zone".to_owned(), "file".to_owned());
        let whole = node(&paths, &options, &config);
        config.reserved.insert("memory".to_owned(), Quantity::from_units(1 << 20));
        config.reserved.insert("cpu".to_owned(), Quantity::from_units(1 << 30));
        let rest = node(&paths, &options, &config);
        assert_eq!(whole.labels["zone"], "flag", "the command line wins");
        assert_eq!(whole.labels["kubernetes.io/os"], "linux");
        assert_eq!(whole.labels["kubernetes.io/hostname"], "here");
        assert_eq!(whole.allocatable["pods"], Quantity::from_units(7));
        assert_eq!(whole.allocatable["memory"].units() - rest.allocatable["memory"].units(), 1 << 20);
        assert!(rest.allocatable["cpu"].is_zero(), "never less than nothing");
        assert!(!whole.allocatable["ephemeral-storage"].is_zero());
    }
}
