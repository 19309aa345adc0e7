//! Whether this machine can give Pods addresses, found out by doing it.

use std::os::fd::AsFd as _;
use std::path::Path;
use std::{fs::File, thread};

use nix::sched::{CloneFlags, unshare};
use podrun_netlink::{Action, Connection, LinkChange, NewLink, Peer, Protocol, Rtnetlink};
use podrun_plan::names::NodeNames;

use crate::error::{Error, Result};
use crate::nft::wire::{Fields, NFTABLES, message};
use crate::nft::{Firewall, identity, ports};
use crate::{Subnets, mac};

/// Makes a bridge, the tables and the link of a Pod in network namespaces that go at once. The machine's own network is not
/// touched. It takes some tens of milliseconds.
///
/// # Errors
///
/// What the kernel refused: `EOPNOTSUPP` and `ENOENT` say that it lacks something, `EPERM` that the caller may not.
pub fn try_out() -> Result<()> {
    let inside = || {
        let other = new_namespace()?;
        enter_new_namespace()?;
        let subnets = Subnets::choose(&[])?;
        let names = NodeNames::of(Path::new("/run/podrun"));
        let mut firewall = Firewall::open(&names, &subnets.list())?;
        firewall.install()?;
        let mut route = Rtnetlink::open()?;
        let bridge = route.create_link(&NewLink::bridge(&names.bridge).up())?;
        let address = std::net::Ipv4Addr::from(u32::from(subnets.ipv4.network()) + 2);
        let (mac, addresses) = (mac::of_address(address), subnets.addresses(address));
        firewall.add("trial", &identity("trial", mac, &addresses))?;
        firewall.add("trial", &ports(&[], &addresses))?;
        let link =
            route.create_link(&NewLink::veth("trial", Peer::new("eth0").in_netns(other.as_fd()).mac(mac)))?;
        route.change_link(link, &LinkChange::new().master(bridge).up())?;
        Ok(())
    };
    thread::scope(|scope| {
        let thread = scope.spawn(inside);
        thread.join().unwrap_or_else(|payload| std::panic::resume_unwind(payload))
    })
}

fn enter_new_namespace() -> Result<()> {
    unshare(CloneFlags::CLONE_NEWNET).map_err(|errno| Error::Unshare(errno.into()))
}

fn new_namespace() -> Result<File> {
    const OWN: &str = "/proc/thread-self/ns/net";
    thread::scope(|scope| {
        let made = scope.spawn(|| {
            enter_new_namespace()?;
            File::open(OWN).map_err(Error::file("open", OWN))
        });
        made.join().unwrap_or_else(|payload| std::panic::resume_unwind(payload))
    })
}

/// Returns the chains of nftables, by table and name, that drop what is forwarded unless a rule of theirs says otherwise: Docker
/// and firewalld have such. No rule of podrun's can say otherwise for them.
///
/// # Errors
///
/// What could not be read.
pub fn forward_policies() -> Result<Vec<String>> {
    const GET_CHAIN: u8 = 4;
    const DROP: u32 = 0;
    const FORWARD: u32 = 2;
    let action = Action::new("list chains", "");
    let mut connection = Connection::open(Protocol::Netfilter)?;
    let found = connection.dump(&action, &message(NFTABLES, GET_CHAIN, 0, 0), |reply| {
        let fields = Fields::of_message(reply.payload());
        let drops = fields.nested(4).u32(1) == Some(FORWARD) && fields.u32(5) == Some(DROP);
        let name = |kind| fields.text(kind).unwrap_or_default();
        Ok(drops.then(|| format!("{} {}", name(1), name(3))))
    })?;
    Ok(found)
}
