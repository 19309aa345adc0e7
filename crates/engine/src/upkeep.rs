//! What commands do for Pods besides what they were asked for: supervisors that have died, and what is about no Pod any more.

use podrun_network::Network;

use crate::engine::{Engine, LEASE, release_images};
use crate::error::{Error, Result};
use crate::record::{self, PodView};
use crate::supervisor::{self, SupervisorLock};

impl Engine {
    /// Starts a supervisor for each Pod that should have one and has none, and removes what killed processes have left.
    ///
    /// A supervisor may be killed at any instruction; the Pod goes on without it, and the next one takes over. Where it
    /// was about to remove the Pod, that is done here.
    ///
    /// # Errors
    /// [`Error::Revive`] for each Pod for which that fails, after all others; any errno of listing them.
    pub fn revive(&self) -> std::result::Result<(), Vec<Error>> {
        let mut errors = Vec::new();
        match self.pods() {
            Ok(pods) => {
                let failed = |view: &PodView, source| Error::Revive {
                    namespace: view.pod.meta.namespace.clone(),
                    name: view.pod.meta.name.clone(),
                    source: Box::new(source),
                };
                for view in pods.views.iter().filter(|view| !view.supervised) {
                    let done = if !view.published.finished {
                        self.launch(&view.pod.meta.uid)
                    } else if view.published.deletion.is_some() || view.options.remove_when_finished {
                        self.remove(view)
                    } else {
                        Ok(())
                    };
                    match done {
                        // Somebody else is at it.
                        Ok(()) | Err(Error::Gone { .. } | Error::Busy { .. }) => {}
                        Err(error) => errors.push(failed(view, error)),
                    }
                }
            }
            Err(error) => errors.push(error),
        }
        errors.extend(self.sweep().err());
        if errors.is_empty() { Ok(()) } else { Err(errors) }
    }

    /// Removes what is about no Pod any more, left by processes that were killed while they made or removed one.
    ///
    /// # Errors
    /// Any errno of listing or removing.
    pub fn sweep(&self) -> Result<()> {
        self.records().sweep()?;
        self.sweep_images()?;
        self.sweep_network()
    }

    fn sweep_images(&self) -> Result<()> {
        if !self.paths().images().exists() {
            return Ok(());
        }
        let store = self.images()?;
        for lease in store.leases().map_err(Error::Image)? {
            // A Pod has its record before it has an image.
            if let Some(uid) = lease.user.strip_prefix(LEASE)
                && !self.records().exists(uid)
            {
                store.release(&lease.user).map_err(Error::Image)?;
            }
        }
        Ok(())
    }

    /// Removes what of the network is no Pod's any more, if anything tells that there is something.
    fn sweep_network(&self) -> Result<()> {
        if !self.paths().run.join("network").exists() {
            return Ok(());
        }
        let network = Network::open(&self.paths().run)?;
        let leases = network.leases().all()?;
        if leases.iter().any(|lease| !lease.current || !self.records().exists(&lease.uid)) {
            let collected = network.collect(|uid| self.records().exists(uid));
            collected.map(drop).map_err(|mut errors| errors.remove(0).into())
        } else if leases.is_empty() {
            // A supervisor that is at it need not be waited for.
            network.try_remove_if_unused().map(drop).map_err(Error::from)
        } else {
            Ok(())
        }
    }

    /// Removes a Pod that has ended: what may be left of it in the kernel, then its records. May be repeated.
    ///
    /// # Errors
    /// [`Error::Busy`] while it has a supervisor, or somebody else removes it; the first thing that could not be removed,
    /// the rest was tried all the same.
    pub fn remove(&self, view: &PodView) -> Result<()> {
        let run_dir = self.paths().supervisor(&view.pod.meta.uid);
        // Held to the end, so that no supervisor takes over a Pod that is being removed.
        let Some(_lock) = SupervisorLock::acquire(&run_dir)? else {
            return Err(Error::Busy { name: view.pod.meta.name.clone() });
        };
        if self.records().exists(&view.pod.meta.uid) {
            supervisor::remove_kernel_objects(self.host()?, view)?;
            release_images(self.paths(), &view.pod.meta.uid)?;
            self.records().remove(&view.pod)
        } else {
            // Somebody was faster; only the lock that was just made is left.
            record::remove_tree(&run_dir)
        }
    }
}
