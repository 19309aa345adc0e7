//! The network of Pods as callers of the engine see it: read back, compared, measured, cleaned.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::os::fd::AsFd as _;
use std::time::Duration;

use podrun_cgroups::Cgroup;
use podrun_namespaces::{Kind, Namespace, PidFd};
use podrun_network::{Collected, Difference, Measured, Network, PodState, Wanted};
use podrun_plan::facts::HostFacts;
use podrun_plan::model::{Attachment, BridgePlan, Plan, PortMapping};

use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::planning;
use crate::record::PodView;
use crate::supervisor::SupervisorLock;

/// A Pod at the bridge, and its network namespace while it has one.
struct Attached {
    plan: BridgePlan,
    ports: Vec<PortMapping>,
    netns: Namespace,
}

/// How a Pod stands in the network.
#[derive(Clone, Debug, Default)]
pub struct NetworkView {
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
    /// Ports of the machine that are its own.
    pub ports: Vec<PortMapping>,
    /// What its link and its shapers have counted; none where it has no link.
    pub state: Option<PodState>,
    /// The limits that it is to have.
    pub bandwidth: Option<podrun_plan::model::BandwidthPlan>,
}

impl Engine {
    /// Sets annotations of a Pod, or removes them, and does what follows from them: bandwidth changes at once.
    ///
    /// # Errors
    /// [`Error::Refused`] for what cannot be meant or done; [`Error::Busy`] where somebody else ends the Pod.
    pub fn annotate(&self, view: &PodView, changes: &BTreeMap<String, Option<String>>) -> Result<()> {
        let meta = &view.pod.meta;
        if view.supervised {
            return self.connect(&view.pod)?.annotate(changes);
        }
        // Of a Pod that has ended nothing follows.
        let Some(_lock) = SupervisorLock::acquire(&self.paths().supervisor(&meta.uid))? else {
            return Err(Error::Busy { name: meta.name.clone() });
        };
        let refused =
            |faults: Vec<String>| Error::Refused { name: meta.name.clone(), answer: faults.join("; ") };
        let record = self.records().load(&meta.uid)?.annotated(changes).map_err(refused)?;
        self.records().replace(&record)
    }

    /// Compares what all Pods share of the network with what it should be.
    ///
    /// # Errors
    /// What could not be read.
    pub fn verify_network(&self) -> Result<Vec<Difference>> {
        Ok(self.network()?.map_or(Ok(Vec::new()), |network| network.verify_node())?)
    }

    /// Compares what is a Pod's of the network with what it should be; none for a Pod that is not at the bridge.
    ///
    /// # Errors
    /// What could not be read.
    pub fn verify_pod_network(&self, view: &PodView) -> Result<Option<Vec<Difference>>> {
        let (Some(network), Some(attached)) = (self.network()?, self.attached(view)?) else {
            return Ok(None);
        };
        let Attached { plan, ports, netns } = &attached;
        let wanted = Wanted { uid: &view.pod.meta.uid, plan, ports };
        Ok(Some(network.verify_pod(wanted, netns.as_fd())?))
    }

    /// Makes what all Pods share of the network as it should be, and in the tables what is theirs.
    ///
    /// # Errors
    /// What the kernel refused.
    pub fn repair_network(&self) -> Result<()> {
        Ok(self.network()?.map_or(Ok(()), |network| network.repair_node())?)
    }

    /// Makes what is a Pod's of the network as it should be. Nothing is done for a Pod that is not at the bridge.
    ///
    /// # Errors
    /// What the kernel refused.
    pub fn repair_pod_network(&self, view: &PodView) -> Result<()> {
        let (Some(network), Some(attached)) = (self.network()?, self.attached(view)?) else {
            return Ok(());
        };
        let Attached { plan, ports, netns } = &attached;
        Ok(network.repair_pod(Wanted { uid: &view.pod.meta.uid, plan, ports }, netns.as_fd())?)
    }

    /// Sends traffic to a Pod and from it for a while each, and returns what went through; none for a Pod that is not at
    /// the bridge.
    ///
    /// # Errors
    /// What could not be sent or read.
    pub fn probe_pod_network(&self, view: &PodView, duration: Duration) -> Result<Option<Measured>> {
        let (Some(network), Some(attached)) = (self.network()?, self.attached(view)?) else {
            return Ok(None);
        };
        Ok(Some(network.measure(&view.pod.meta.uid, attached.netns.as_fd(), duration)?))
    }

    /// Returns how a Pod stands in the network.
    pub fn network_view(&self, view: &PodView) -> NetworkView {
        let status = &view.published.status;
        let planned = self.host().and_then(|host| planning::plan_leniently(host, view));
        let Ok((plan, _)) = planned else { return NetworkView::default() };
        let network = plan.sandbox.network;
        let bandwidth = match network.attachment {
            Attachment::Bridge(bridge) => bridge.bandwidth,
            Attachment::Host | Attachment::Loopback => None,
        };
        let state = self.network().ok().flatten();
        let state =
            state.and_then(|network| network.state(&view.pod.meta.uid, bandwidth.as_ref()).ok().flatten());
        let addresses = status.pod_ips.iter().filter_map(|address| address.parse().ok()).collect();
        NetworkView { addresses, ports: network.ports, state, bandwidth }
    }

    /// Removes what of the network belongs to no Pod.
    ///
    /// # Errors
    /// All that could not be removed.
    pub fn collect_network(&self) -> std::result::Result<Collected, Vec<Error>> {
        match self.network().map_err(|error| vec![error])? {
            None => Ok(Collected::default()),
            Some(network) => network
                .collect(|uid| self.records().exists(uid))
                .map_err(|errors| errors.into_iter().map(Error::from).collect()),
        }
    }

    /// Returns the network, if any Pod has ever been in it.
    fn network(&self) -> Result<Option<Network>> {
        if !self.paths().run.join("network").exists() {
            return Ok(None);
        }
        Ok(Some(Network::open(&self.paths().run)?))
    }

    /// Returns the network namespace of a Pod, and its init, with which it ends; nothing if the Pod has none.
    ///
    /// # Errors
    /// As [`Engine::plan`]; any errno of finding its init.
    pub fn network_namespace(&self, view: &PodView) -> Result<Option<(Namespace, PidFd)>> {
        let (plan, host) = planning::plan_leniently(self.host()?, view)?;
        namespace_of(&plan, &host)
    }

    fn attached(&self, view: &PodView) -> Result<Option<Attached>> {
        let (plan, host) = planning::plan_leniently(self.host()?, view)?;
        let Some((netns, _)) = namespace_of(&plan, &host)? else { return Ok(None) };
        let Attachment::Bridge(bridge) = plan.sandbox.network.attachment else { return Ok(None) };
        Ok(Some(Attached { plan: *bridge, ports: plan.sandbox.network.ports, netns }))
    }
}

/// Finds the network namespace of a Pod by its init, which its cgroup names.
fn namespace_of(plan: &Plan, host: &HostFacts) -> Result<Option<(Namespace, PidFd)>> {
    let cgroup = host.cgroup.mount.join(&plan.sandbox.cgroup.path).join("init");
    let pids = match Cgroup::open(&cgroup).and_then(|cgroup| cgroup.procs()) {
        Err(error) if error.is_gone() => return Ok(None),
        pids => pids.map_err(Error::Cgroup)?,
    };
    // 0 stands for a process that this namespace does not see.
    let pid = pids.first().and_then(|pid| libc::pid_t::try_from(*pid).ok()).filter(|pid| *pid > 0);
    let Some(pid) = pid else { return Ok(None) };
    let namespace = PidFd::open(pid)
        .and_then(|init| Namespace::of_process(init.as_fd(), Kind::Net).map(|netns| (netns, init)));
    namespace.map(Some).map_err(|source| Error::Namespace { source })
}
