//! The Pod's place in the network.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::{self, Read as _};
use std::net::IpAddr;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::Path;

use podrun_namespaces::{Kind, Namespace};
use podrun_network::{Network, Wanted};
use podrun_plan::model::{Attachment, BridgePlan, NetworkPlan, PortMapping, SandboxPlan};
use podrun_spec::env::Addresses;

use super::Supervisor;
use crate::error::chain;
use crate::planning::{make_plan, without_rejected};

impl Supervisor {
    /// Gives a sandbox its addresses and ports, and writes its hosts file. Returns the addresses.
    pub(super) fn attach(&self, init: BorrowedFd<'_>) -> Result<Vec<IpAddr>, String> {
        let plan = &self.plan.sandbox;
        let addresses = match &plan.network.attachment {
            Attachment::Loopback => Vec::new(),
            Attachment::Host => {
                self.reserve(&plan.network.ports).map_err(|error| self.in_words(&error))?;
                self.host_addresses.clone()
            }
            Attachment::Bridge(bridge) => self.join_bridge(init, bridge, &plan.network.ports)?,
        };
        write_hosts(plan, &addresses).map_err(|error| format!("write /etc/hosts: {error}"))?;
        Ok(addresses)
    }

    fn reserve(&self, ports: &[PortMapping]) -> podrun_network::Result<()> {
        if ports.is_empty() {
            return Ok(());
        }
        Network::open(&self.paths.run)?.reserve(&self.pod.meta.uid, ports)
    }

    fn join_bridge(
        &self,
        init: BorrowedFd<'_>,
        plan: &BridgePlan,
        ports: &[PortMapping],
    ) -> Result<Vec<IpAddr>, String> {
        let uid = self.pod.meta.uid.as_str();
        let netns = Namespace::of_process(init, Kind::Net)
            .map_err(|error| format!("open the network namespace of the sandbox: {}", chain(&error)))?;
        let setup = || {
            let network = Network::open(&self.paths.run)?;
            if !self.first {
                // An earlier sandbox, or an earlier supervisor that came half way.
                network.remove_link(uid)?;
                network.teardown(uid).map_err(|mut errors| errors.remove(0))?;
            }
            network.setup(Wanted { uid, plan, ports }, netns.as_fd())
        };
        setup().map_err(|error| self.in_words(&error))
    }

    /// Returns an error in words, with the name of the Pod that is in the way.
    fn in_words(&self, error: &podrun_network::Error) -> String {
        let text = match error {
            podrun_network::Error::PortTaken { port, uid } => match self.records.name_of(uid) {
                Some((namespace, name)) => format!("host port {port} is in use by pod {namespace}/{name}"),
                None => chain(error),
            },
            error => chain(error),
        };
        format!("set up the network: {text}")
    }

    /// Changes annotations, and with them the bandwidth. Nothing has changed if that fails.
    pub(super) fn annotate(&mut self, changes: &BTreeMap<String, Option<String>>) -> Result<(), String> {
        let record = self.record.annotated(changes).map_err(|faults| faults.join("; "))?;
        let path = self.paths.pod_data(&self.pod.meta.uid).join("record.json");
        let pod = record.to_pod(&path).map_err(|error| chain(&error))?;
        let plan = make_plan(&without_rejected(&pod), &self.host).map_err(|error| chain(&error))?;
        // What is written down is done again by a supervisor that takes over.
        self.records.replace(&record).map_err(|error| chain(&error))?;
        if let Err(error) = self.shape(&plan.sandbox.network) {
            let undone = self.records.replace(&self.record).map_err(|error| chain(&error));
            let again = self.shape(&self.plan.sandbox.network);
            let undo: Vec<String> = [undone, again].into_iter().filter_map(Result::err).collect();
            let undo = if undo.is_empty() {
                String::new()
            } else {
                format!(" (and taking it back: {})", undo.join("; "))
            };
            return Err(format!("{error}{undo}"));
        }
        self.plan.sandbox.network = plan.sandbox.network;
        self.pod.spec.bandwidth = pod.spec.bandwidth;
        self.pod.meta.annotations = pod.meta.annotations;
        self.record = record;
        self.dirty = true;
        Ok(())
    }

    /// Limits what a Pod that runs sends and receives.
    pub(super) fn shape(&self, plan: &NetworkPlan) -> Result<(), String> {
        let Attachment::Bridge(bridge) = &plan.attachment else { return Ok(()) };
        if self.sandbox.is_none() {
            return Ok(());
        }
        Network::open(&self.paths.run)
            .and_then(|network| network.shape(&self.pod.meta.uid, bridge.bandwidth.as_ref()))
            .map_err(|error| chain(&error))
    }

    /// Returns the addresses that the environment of a container may name.
    pub(super) fn addresses(&self) -> Addresses {
        let text = |address: &IpAddr| address.to_string();
        Addresses { pod: self.machine.status().pod_ips, host: self.host_addresses.iter().map(text).collect() }
    }

    /// Writes /etc/hosts as it has to be when a container starts.
    pub(super) fn renew_hosts(&self) -> io::Result<()> {
        let addresses: Vec<IpAddr> =
            self.machine.status().pod_ips.iter().filter_map(|address| address.parse().ok()).collect();
        write_hosts(&self.plan.sandbox, &addresses)
    }
}

/// Takes a Pod out of the network. May be repeated; all that stands in the way is returned.
pub(super) fn leave(run: &Path, uid: &str, plan: &NetworkPlan) -> Result<(), Vec<String>> {
    let takes_part = matches!(plan.attachment, Attachment::Bridge(_)) || !plan.ports.is_empty();
    if !takes_part {
        return Ok(());
    }
    let network = Network::open(run).map_err(|error| vec![chain(&error)])?;
    network.teardown(uid).map_err(|errors| errors.iter().map(|error| chain(error)).collect())
}

/// Waits for what the kernel removes in its own time, and removes the bridge after the last Pod.
pub(super) fn settle(run: &Path, uid: &str, plan: &NetworkPlan) -> podrun_network::Result<()> {
    if !matches!(plan.attachment, Attachment::Bridge(_)) {
        return Ok(());
    }
    let network = Network::open(run)?;
    network.remove_link(uid)?;
    network.remove_if_unused().map(drop)
}

/// Writes /etc/hosts into the file that the containers have mounted.
///
/// It is written in place, since they see this file and no other, and only where it says something else: a container
/// may be reading it.
fn write_hosts(plan: &SandboxPlan, addresses: &[IpAddr]) -> io::Result<()> {
    let Some(file) = plan.files.iter().find(|file| file.target == "/etc/hosts") else { return Ok(()) };
    let text = match plan.network.attachment {
        Attachment::Bridge(_) | Attachment::Host => plan.network.hosts.text(addresses),
        Attachment::Loopback => file.content.clone(),
    };
    let mut open =
        OpenOptions::new().read(true).write(true).custom_flags(libc::O_NOFOLLOW).open(&file.path)?;
    let mut there = Vec::new();
    // One byte more, so that a longer file is not taken for the same. A container may have made it very long.
    (&mut open).take(text.len() as u64 + 1).read_to_end(&mut there)?;
    if there == text.as_bytes() {
        return Ok(());
    }
    open.write_all_at(text.as_bytes(), 0)?;
    open.set_len(text.len() as u64)
}
