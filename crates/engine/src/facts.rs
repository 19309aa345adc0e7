//! Finding out about this host.

use std::collections::BTreeMap;
use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use caps::{CapSet, Capability};
use nix::sys::resource::{Resource, getrlimit};
use podrun_cgroups::{Availability, Controller, Facts, Hierarchy, HugePageSize, availability};
use podrun_plan::facts::{CgroupFacts, ControllerFact, HostFacts, NetworkFacts, UnenforcedLimits};

use procfs::Current as _;

use crate::error::{Error, Result};
use crate::options::PodOptions;
use crate::paths::Paths;

/// Cgroup below which each Pod gets its own.
pub(crate) const CGROUP_PARENT: &str = "podrun";

/// What is the same for all Pods of this host while a process lives: looked up once.
#[derive(Clone, Debug)]
pub(crate) struct Host {
    facts: HostFacts,
    has_pids: bool,
    addresses: Vec<IpAddr>,
}

impl Host {
    /// Asks the kernel for everything that a plan depends on.
    pub(crate) fn look(paths: &Paths) -> Result<Self> {
        let (_, nofile_hard) = getrlimit(Resource::RLIMIT_NOFILE)
            .map_err(|errno| Error::io("read limits of", Path::new("/proc/self/limits"), errno.into()))?;
        let cgroup = cgroup_facts()?;
        let has_pids = cgroup.controllers.get(Controller::Pids.name()) == Some(&ControllerFact::Available);
        let facts = HostFacts {
            run_dir: paths.run.clone(),
            data_dir: paths.data.clone(),
            node_name: String::new(),
            cgroup,
            memory_bytes: memory_bytes()?,
            huge_page_sizes: huge_page_sizes(),
            last_capability: read_number("/proc/sys/kernel/cap_last_cap")?,
            pod_pids_limit: None,
            unenforced_limits: UnenforcedLimits::Refuse,
            memory_qos: false,
            sys_resource: may_raise_limits()?,
            nofile_hard,
            network: NetworkFacts { hosts: hosts()?, ..NetworkFacts::default() },
        };
        Ok(Self { facts, has_pids, addresses: podrun_network::host_addresses()? })
    }

    /// Returns where cgroup v2 is mounted.
    pub(crate) fn cgroup_mount(&self) -> &Path {
        &self.facts.cgroup.mount
    }

    /// Returns the addresses by which this machine is known.
    pub(crate) fn addresses(&self) -> &[IpAddr] {
        &self.addresses
    }

    /// Returns the facts for a Pod that is run in this way.
    ///
    /// # Errors
    /// Any errno of reading the resolver's settings.
    pub(crate) fn facts(&self, options: &PodOptions) -> Result<HostFacts> {
        let network = &options.network;
        let has_file = !network.resolv_conf.as_os_str().is_empty();
        let resolv_conf = has_file.then(|| read(&network.resolv_conf)).transpose()?;
        Ok(HostFacts {
            node_name: options.node_name.clone(),
            pod_pids_limit: options.pod_pids_limit.on_host(self.has_pids),
            unenforced_limits: options.unenforced_limits,
            memory_qos: options.memory_qos,
            network: NetworkFacts {
                pod_network: network.pod_network,
                pod_cidr: network.pod_cidr.clone(),
                resolv_conf,
                cluster_dns: network.cluster_dns.clone(),
                cluster_domain: network.cluster_domain.clone(),
                hosts: self.facts.network.hosts.clone(),
            },
            ..self.facts.clone()
        })
    }
}

/// Returns the file with the machine's resolvers as others than the machine itself can use them.
///
/// systemd-resolved lists itself in /etc/resolv.conf, at an address of loopback, and the real ones in another file.
pub(crate) fn resolv_conf() -> PathBuf {
    const FILE: &str = "/etc/resolv.conf";
    const BEHIND_RESOLVED: &str = "/run/systemd/resolve/resolv.conf";
    let text = fs::read_to_string(FILE).unwrap_or_default();
    if is_resolved(&text) && Path::new(BEHIND_RESOLVED).exists() {
        return BEHIND_RESOLVED.into();
    }
    // A machine without resolvers has none for its Pods.
    if Path::new(FILE).exists() { FILE.into() } else { PathBuf::new() }
}

/// Returns whether systemd-resolved is the only name server.
fn is_resolved(text: &str) -> bool {
    let servers = text.lines().filter_map(|line| line.trim().strip_prefix("nameserver"));
    let servers: Vec<_> = servers.map(str::trim).collect();
    !servers.is_empty() && servers.iter().all(|server| matches!(*server, "127.0.0.53" | "127.0.0.54"))
}

/// Returns the text of /etc/hosts; a machine may have none.
fn hosts() -> Result<String> {
    let path = Path::new("/etc/hosts");
    if path.exists() { read(path) } else { Ok(String::new()) }
}

fn cgroup_facts() -> Result<CgroupFacts> {
    let hierarchy = Hierarchy::find().map_err(Error::Cgroup)?;
    let root = hierarchy.open_root().map_err(Error::Cgroup)?;
    let facts = Facts::read(&root).map_err(Error::Cgroup)?;
    let controllers = Controller::ALL
        .iter()
        .map(|&controller| {
            let fact = match availability(controller, &facts) {
                Availability::Available => ControllerFact::Available,
                missing => ControllerFact::Missing(missing.to_string()),
            };
            (controller.name().to_owned(), fact)
        })
        .collect::<BTreeMap<_, _>>();
    Ok(CgroupFacts { mount: hierarchy.mount, parent: CGROUP_PARENT.to_owned(), controllers })
}

pub(crate) fn memory_bytes() -> Result<u64> {
    let path = Path::new("/proc/meminfo");
    let info = procfs::Meminfo::current().map_err(|source| Error::corrupt(path, source))?;
    Ok(info.mem_total)
}

/// Returns the sizes as the files of the hugetlb controller spell them: `2MB`, `1GB`.
fn huge_page_sizes() -> Vec<String> {
    // Without the directory the kernel has no huge pages.
    let Ok(entries) = fs::read_dir("/sys/kernel/mm/hugepages") else { return Vec::new() };
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    huge_page_names(names)
}

/// Turns names as in sysfs, `hugepages-2048kB`, into those of the controller, from small to large.
fn huge_page_names(names: impl Iterator<Item = String>) -> Vec<String> {
    let mut sizes: Vec<HugePageSize> = names
        .filter_map(|name| {
            let kib: u64 = name.strip_prefix("hugepages-")?.strip_suffix("kB")?.parse().ok()?;
            HugePageSize::new(kib << 10)
        })
        .collect();
    sizes.sort_unstable();
    sizes.iter().map(ToString::to_string).collect()
}

fn may_raise_limits() -> Result<bool> {
    caps::has_cap(None, CapSet::Effective, Capability::CAP_SYS_RESOURCE)
        .map_err(|source| Error::corrupt(Path::new("/proc/self/status"), source))
}

fn read_number(path: &str) -> Result<u8> {
    let path = Path::new(path);
    read(path)?.trim().parse().map_err(|source: std::num::ParseIntError| Error::corrupt(path, source))
}

fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).map_err(|source| Error::io("read", path, source))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn systemd_resolved_is_told_from_a_name_server() {
        assert!(is_resolved("nameserver 127.0.0.53\noptions edns0\n"));
        for text in ["", "nameserver 192.0.2.1\n", "nameserver 127.0.0.53\nnameserver 192.0.2.1\n"] {
            assert!(!is_resolved(text), "{text}");
        }
    }

    #[test]
    fn huge_pages_are_named_as_their_cgroup_files() {
        let names = ["hugepages-1048576kB", "hugepages-64kB", "hugepages-2048kB", "other"].map(str::to_owned);
        assert_eq!(huge_page_names(names.into_iter()), ["64KB", "2MB", "1GB"]);
    }
}
