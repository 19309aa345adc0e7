//! Removing what belongs to no Pod any more.

use std::collections::BTreeSet;

use podrun_netlink::{LinkFilter, Rtnetlink};
use podrun_plan::names::LinkNames;

use crate::error::{Error, Result};
use crate::nft::Firewall;
use crate::node::Network;

/// What was removed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Collected {
    /// Names of links.
    pub links: Vec<String>,
    /// How many addresses and ports were given back.
    pub leases: usize,
    /// How many entries of sets and maps.
    pub elements: usize,
    /// The bridge and the tables, if no Pod uses them any more.
    pub bridge: Option<String>,
}

impl Collected {
    /// Whether there was nothing to remove.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl Network {
    /// Removes what belongs to Pods that `keep` does not know: links, addresses, ports, entries of the tables; and with
    /// the last Pod the bridge. May run at any time, also while Pods are made, if `keep` knows those.
    ///
    /// # Errors
    ///
    /// All that could not be removed.
    pub fn collect(&self, keep: impl Fn(&str) -> bool) -> Result<Collected, Vec<Error>> {
        let (mut collected, mut errors) = (Collected::default(), Vec::new());
        let mut note = |result: Result<()>| errors.extend(result.err());
        note(self.collect_links(&keep, &mut collected.links));
        note(self.collect_elements(&keep).map(|count| collected.elements = count));
        // Last, since the leases say which links there may be.
        let released = self.leases.lock().and_then(|lock| self.leases.retain(&lock, &keep));
        note(released.map(|leases| collected.leases = leases.len()));
        note(self.remove_if_unused().map(|removed| {
            collected.bridge = removed.then(|| self.names.bridge.clone());
        }));
        if errors.is_empty() { Ok(collected) } else { Err(errors) }
    }

    fn collect_links(&self, keep: &impl Fn(&str) -> bool, removed: &mut Vec<String>) -> Result<()> {
        // A link that was cut off before it got its alias goes by the lease of its Pod.
        let holders = self.leases.all()?.into_iter().map(|lease| lease.uid);
        let gone: BTreeSet<String> = holders.filter(|uid| !keep(uid)).collect();
        let names = gone.iter().map(|uid| self.link_names(uid));
        let nameless: BTreeSet<String> = names.flat_map(|names| [names.host, names.shaper]).collect();
        let mut route = Rtnetlink::open()?;
        for link in route.links(LinkFilter::new())? {
            let orphaned = match link.alias.as_deref() {
                Some(alias) => LinkNames::owner(alias, &self.names.bridge).is_some_and(|uid| !keep(uid)),
                None => nameless.contains(&link.name),
            };
            if orphaned && route.delete_link(link.index)? {
                removed.push(link.name);
            }
        }
        Ok(())
    }

    fn collect_elements(&self, keep: &impl Fn(&str) -> bool) -> Result<usize> {
        let Some(subnets) = self.subnets()? else { return Ok(0) };
        Firewall::open(&self.names, &subnets.list())?.retain(keep)
    }
}
