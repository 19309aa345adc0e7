//! Who makes the probes and runs the hooks of a container.

use std::collections::HashMap;
use std::sync::Arc;

use podrun_probes::{Executor, Network};
use podrun_sandbox::Execs;

use super::Supervisor;
use super::exec::ContainerSpawner;
use crate::error::chain;

/// The version that user agents tell: that of the rules which are followed.
const VERSION: &str = "1.36";
/// Where a Pod without an address of its own is reached from inside.
const LOOPBACK: &str = "127.0.0.1";

/// Makes the probes and runs the hooks of one run of a container.
pub(super) type ContainerExecutor = Executor<ContainerSpawner>;

/// The executors of a Pod's running containers, made when they are needed.
#[derive(Default)]
pub(super) struct Executors {
    sandbox: Option<(Network, Arc<Execs>)>,
    /// By container, with the attempt.
    of: HashMap<String, (u32, ContainerExecutor)>,
}

impl Executors {
    /// Forgets everything that belongs to a sandbox.
    pub(super) fn clear(&mut self) {
        self.sandbox = None;
        self.of.clear();
    }
}

impl Supervisor {
    /// Returns the executor of a run of a container; none without a sandbox.
    ///
    /// Probes and hooks of the same run share it, and thereby probes that are under way.
    pub(super) fn executor(&mut self, container: &str, attempt: u32) -> Option<ContainerExecutor> {
        if let Some((of, executor)) = self.executors.of.get(container)
            && *of == attempt
        {
            return Some(executor.clone());
        }
        let (network, execs) = self.ways_in()?;
        let pod = self.machine.status().pod_ips.into_iter().next();
        let pod = pod.unwrap_or_else(|| LOOPBACK.to_owned());
        let spawner = ContainerSpawner::new(execs, self.id(container, attempt));
        let executor = Executor::new(spawner, network, &pod, VERSION);
        self.executors.of.insert(container.to_owned(), (attempt, executor.clone()));
        Some(executor)
    }

    /// Returns the ways into the sandbox: its network, and commands in its containers.
    fn ways_in(&mut self) -> Option<(Network, Arc<Execs>)> {
        if self.executors.sandbox.is_none() {
            let sandbox = self.sandbox.as_ref()?;
            let network = if self.pod.spec.host_network {
                Ok(Network::of_caller())
            } else {
                sandbox.net_namespace().map(Network::of_namespace)
            };
            let ways = network.and_then(|network| Ok((network, Arc::new(Execs::new(&self.plan.sandbox)?))));
            match ways {
                Ok(ways) => self.executors.sandbox = Some(ways),
                // Init has died, which its pidfd tells.
                Err(error) => Self::complain(chain(&error)),
            }
        }
        self.executors.sandbox.clone()
    }
}
