//! Who has which address, and which port of the machine.
//!
//! ```text
//! <run>/network/                     locked with flock(2) by whoever changes something here
//! <run>/network/leases/10.88.0.5     -> <uid>@<boot id>
//! <run>/network/ports/TCP-8080       -> <uid>@<boot id>/80
//! <run>/network/ports/UDP-53@192.0.2.1
//! ```
//!
//! The number behind a port is where it leads in the Pod, so that entries of the tables can be made anew from here alone; it is
//! 0 where it leads nowhere, for a Pod in the host's network.
//!
//! Each entry is a symbolic link that leads nowhere: symlink(2) makes it with its holder in one step, or says that it is
//! taken. An entry of an earlier boot is void: no Pod of that time runs any more. An address is looked for from a place
//! that depends on the UID, so that one does not come back soon after it was given up, and finding it costs the same with
//! one Pod and with a thousand.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, symlink};
use std::path::{Path, PathBuf};

use ipnet::Ipv4Net;
use nix::fcntl::{Flock, FlockArg};
use podrun_plan::model::PortMapping;
use podrun_plan::names::hash;
use podrun_spec::model::Protocol;

use crate::error::{Error, Result};

/// Names the time since the machine was started.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";
/// Network, gateway and broadcast address are nobody's.
const RESERVED: u32 = 3;

/// Addresses and ports that Pods have.
#[derive(Clone, Debug)]
pub struct Leases {
    dir: PathBuf,
    boot: String,
}

/// An address and its holder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// The address.
    pub address: Ipv4Addr,
    /// UID of the Pod.
    pub uid: String,
    /// Whether it is of this boot; one of an earlier boot is void.
    pub current: bool,
}

/// A port of the machine and its holder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortLease {
    /// The port; the Pod's is 0 where it leads nowhere.
    pub port: PortMapping,
    /// UID of the Pod.
    pub uid: String,
}

/// Nobody else changes the machine's network while this lives.
#[derive(Debug)]
pub struct NodeLock(#[expect(dead_code, reason = "held, never read")] Flock<File>);

/// Who holds an entry.
#[derive(Debug, PartialEq, Eq)]
struct Holder {
    uid: String,
    current: bool,
    container_port: u16,
}

impl Leases {
    /// Opens the leases in `<run>/network` and makes the directory.
    ///
    /// # Errors
    ///
    /// [`Error::File`] with any errno of making it, or of reading the machine's boot id.
    pub fn open(run: &Path) -> Result<Self> {
        let boot = fs::read_to_string(BOOT_ID).map_err(Error::file("read", BOOT_ID))?;
        Self::of_boot(run, boot.trim())
    }

    /// As [`Leases::open`], for a given boot.
    ///
    /// # Errors
    ///
    /// As [`Leases::open`].
    pub fn of_boot(run: &Path, boot: &str) -> Result<Self> {
        let leases = Self { dir: run.join("network"), boot: boot.to_owned() };
        for dir in [leases.addresses(), leases.ports_dir()] {
            DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(&dir)
                .map_err(Error::file("create", &dir))?;
        }
        Ok(leases)
    }

    /// Returns the directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Returns the id of this boot.
    pub fn boot(&self) -> &str {
        &self.boot
    }

    /// Waits for everybody else who changes the machine's network.
    ///
    /// # Errors
    ///
    /// [`Error::File`] with any errno of opening the directory.
    pub fn lock(&self) -> Result<NodeLock> {
        let failed = |action| Error::file(action, &self.dir);
        let dir = OpenOptions::new().read(true).custom_flags(libc::O_DIRECTORY).open(&self.dir);
        let mut dir = dir.map_err(failed("open"))?;
        loop {
            match Flock::lock(dir, FlockArg::LockExclusive) {
                Ok(lock) => return Ok(NodeLock(lock)),
                Err((again, nix::errno::Errno::EINTR)) => dir = again,
                Err((_, errno)) => return Err(failed("lock")(errno.into())),
            }
        }
    }

    /// As [`Leases::lock`], but returns none where somebody else has the lock.
    ///
    /// # Errors
    ///
    /// As [`Leases::lock`].
    pub fn try_lock(&self) -> Result<Option<NodeLock>> {
        let failed = |action| Error::file(action, &self.dir);
        let dir = OpenOptions::new().read(true).custom_flags(libc::O_DIRECTORY).open(&self.dir);
        match Flock::lock(dir.map_err(failed("open"))?, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => Ok(Some(NodeLock(lock))),
            Err((_, nix::errno::Errno::EWOULDBLOCK)) => Ok(None),
            Err((_, errno)) => Err(failed("lock")(errno.into())),
        }
    }

    /// Gives a Pod an address of a subnet; the one that it finds it has already, if it has one.
    ///
    /// # Errors
    ///
    /// [`Error::NoFreeAddress`]; [`Error::File`].
    pub fn acquire(&self, _lock: &NodeLock, uid: &str, subnet: Ipv4Net) -> Result<Ipv4Addr> {
        for address in candidates(uid, subnet) {
            let path = self.addresses().join(address.to_string());
            if self.claim(&path, uid, None)? {
                return Ok(address);
            }
        }
        Err(Error::NoFreeAddress { subnet, addresses: usable(subnet) })
    }

    /// Gives a Pod ports of the machine, all or none of them.
    ///
    /// # Errors
    ///
    /// [`Error::PortTaken`] with its holder; [`Error::File`].
    pub fn acquire_ports(&self, _lock: &NodeLock, uid: &str, ports: &[PortMapping]) -> Result<()> {
        if ports.is_empty() {
            return Ok(());
        }
        if let Some((port, holder)) = conflict(uid, ports, &self.ports()?) {
            return Err(Error::PortTaken { port, uid: holder });
        }
        for port in ports {
            // Nobody else has it, and nobody else is here.
            self.claim(&self.ports_dir().join(port_name(port)), uid, Some(port.container_port))?;
        }
        Ok(())
    }

    /// Finds out whether another Pod has a port that this one wants.
    ///
    /// # Errors
    ///
    /// [`Error::PortTaken`] for the first one, with its holder; [`Error::File`].
    pub fn check_ports(&self, uid: &str, ports: &[PortMapping]) -> Result<()> {
        match conflict(uid, ports, &self.ports()?) {
            Some((port, uid)) => Err(Error::PortTaken { port, uid }),
            None => Ok(()),
        }
    }

    /// Takes everything back that a Pod has. May be repeated.
    ///
    /// # Errors
    ///
    /// [`Error::File`] for the first entry that stays.
    pub fn release(&self, lock: &NodeLock, uid: &str) -> Result<()> {
        self.retain(lock, |holder| holder != uid).map(drop)
    }

    /// Takes everything back that is of an earlier boot or that `keep` does not want kept; returns whose it was.
    ///
    /// # Errors
    ///
    /// [`Error::File`] for the first entry that stays.
    pub fn retain(&self, _lock: &NodeLock, keep: impl Fn(&str) -> bool) -> Result<Vec<String>> {
        let (mut removed, mut failed) = (Vec::new(), None);
        for dir in [self.addresses(), self.ports_dir()] {
            for (name, holder) in self.entries(&dir)? {
                if holder.current && keep(&holder.uid) {
                    continue;
                }
                let path = dir.join(name);
                match fs::remove_file(&path) {
                    Err(error) if error.kind() != ErrorKind::NotFound => {
                        failed = failed.or(Some(Error::file("remove", path)(error)));
                    }
                    _ => removed.push(holder.uid),
                }
            }
        }
        failed.map_or(Ok(removed), Err)
    }

    /// Returns the address of a Pod, if it has one.
    ///
    /// # Errors
    ///
    /// [`Error::File`] with any errno of reading the directory.
    pub fn address_of(&self, uid: &str) -> Result<Option<Ipv4Addr>> {
        let lease = self.all()?.into_iter().find(|lease| lease.current && lease.uid == uid);
        Ok(lease.map(|lease| lease.address))
    }

    /// Returns all addresses that are held.
    ///
    /// # Errors
    ///
    /// [`Error::File`] with any errno of reading the directory.
    pub fn all(&self) -> Result<Vec<Lease>> {
        let entries = self.entries(&self.addresses())?;
        let lease = |(name, Holder { uid, current, .. }): (String, Holder)| {
            Some(Lease { address: name.parse().ok()?, uid, current })
        };
        Ok(entries.into_iter().filter_map(lease).collect())
    }

    /// Returns all ports that are held.
    ///
    /// # Errors
    ///
    /// [`Error::File`] with any errno of reading the directory.
    pub fn ports(&self) -> Result<Vec<PortLease>> {
        let entries = self.entries(&self.ports_dir())?.into_iter().filter(|(_, holder)| holder.current);
        let lease = |(name, holder): (String, Holder)| {
            let port = PortMapping { container_port: holder.container_port, ..parse_port_name(&name)? };
            Some(PortLease { port, uid: holder.uid })
        };
        Ok(entries.filter_map(lease).collect())
    }

    /// Makes an entry, or finds it made for the same Pod. Returns false if it is taken.
    fn claim(&self, path: &Path, uid: &str, container_port: Option<u16>) -> Result<bool> {
        let target = match container_port {
            None => format!("{uid}@{}", self.boot),
            Some(port) => format!("{uid}@{}/{port}", self.boot),
        };
        loop {
            match symlink(&target, path) {
                Ok(()) => return Ok(true),
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                Err(error) => return Err(Error::file("create", path)(error)),
            }
            match self.holder(path)? {
                Some(holder) if holder.current => return Ok(holder.uid == uid),
                Some(_) => fs::remove_file(path).map_err(Error::file("remove", path))?,
                None => {}
            }
        }
    }

    fn entries(&self, dir: &Path) -> Result<Vec<(String, Holder)>> {
        let mut entries = Vec::new();
        for entry in fs::read_dir(dir).map_err(Error::file("list", dir))? {
            let entry = entry.map_err(Error::file("list", dir))?;
            // One that goes meanwhile was given up.
            if let (Ok(name), Some(holder)) = (entry.file_name().into_string(), self.holder(&entry.path())?) {
                entries.push((name, holder));
            }
        }
        Ok(entries)
    }

    /// Returns who holds an entry; none if it is gone.
    fn holder(&self, path: &Path) -> Result<Option<Holder>> {
        let target = match fs::read_link(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            target => target.map_err(Error::file("read", path))?,
        };
        let text = target.to_string_lossy();
        let (uid, rest) = text.split_once('@').unwrap_or((&text, ""));
        let (boot, port) = rest.split_once('/').unwrap_or((rest, ""));
        let container_port = port.parse().unwrap_or(0);
        Ok(Some(Holder { uid: uid.to_owned(), current: boot == self.boot, container_port }))
    }

    fn addresses(&self) -> PathBuf {
        self.dir.join("leases")
    }

    fn ports_dir(&self) -> PathBuf {
        self.dir.join("ports")
    }
}

/// Returns the addresses of a subnet in the order in which a Pod tries them.
fn candidates(uid: &str, subnet: Ipv4Net) -> impl Iterator<Item = Ipv4Addr> {
    let count = u64::from(usable(subnet));
    let start = hash(uid.as_bytes()).checked_rem(count).unwrap_or(0);
    // Behind the network's own address and the gateway's.
    let first = u64::from(u32::from(subnet.network())) + 2;
    (0..count).map(move |step| {
        let address = first + (start + step) % count;
        Ipv4Addr::from(u32::try_from(address).expect("within the subnet"))
    })
}

/// Returns how many Pods a subnet has addresses for.
fn usable(subnet: Ipv4Net) -> u32 {
    let hosts = u32::MAX.checked_shr(subnet.prefix_len().into()).unwrap_or(0);
    hosts.saturating_add(1).saturating_sub(RESERVED)
}

/// Returns the first port that another Pod has, and that Pod.
fn conflict(uid: &str, wanted: &[PortMapping], held: &[PortLease]) -> Option<(PortMapping, String)> {
    wanted.iter().find_map(|port| {
        let taken = held.iter().find(|lease| lease.uid != uid && lease.port.collides_with(port))?;
        Some((*port, taken.uid.clone()))
    })
}

fn port_name(port: &PortMapping) -> String {
    let name = format!("{}-{}", port.protocol, port.host_port);
    port.host_ip.map_or(name.clone(), |ip| format!("{name}@{ip}"))
}

fn parse_port_name(name: &str) -> Option<PortMapping> {
    let (name, host_ip) = match name.split_once('@') {
        Some((name, ip)) => (name, Some(ip.parse::<IpAddr>().ok()?)),
        None => (name, None),
    };
    let (protocol, host_port) = name.split_once('-')?;
    let protocol =
        [Protocol::Tcp, Protocol::Udp, Protocol::Sctp].into_iter().find(|p| p.to_string() == protocol)?;
    Some(PortMapping { protocol, host_ip, host_port: host_port.parse().ok()?, container_port: 0 })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::thread;

    use proptest::prelude::*;

    use super::*;

    fn subnet(text: &str) -> Ipv4Net {
        text.parse().unwrap()
    }

    fn leases() -> (tempfile::TempDir, Leases) {
        let dir = tempfile::tempdir().unwrap();
        let leases = Leases::of_boot(dir.path(), "boot").unwrap();
        (dir, leases)
    }

    fn port(host_ip: Option<&str>, host_port: u16) -> PortMapping {
        let host_ip = host_ip.map(|ip| ip.parse().unwrap());
        PortMapping { protocol: Protocol::Tcp, host_ip, host_port, container_port: 80 }
    }

    #[test]
    fn a_pod_keeps_its_address_and_gives_it_back() {
        let (_dir, leases) = leases();
        let lock = leases.lock().unwrap();
        let net = subnet("10.88.0.0/20");
        let first = leases.acquire(&lock, "a", net).unwrap();
        assert_eq!(leases.acquire(&lock, "a", net).unwrap(), first);
        assert_ne!(leases.acquire(&lock, "b", net).unwrap(), first);
        assert_eq!(leases.address_of("a").unwrap(), Some(first));
        leases.release(&lock, "a").unwrap();
        leases.release(&lock, "a").unwrap();
        assert_eq!(leases.address_of("a").unwrap(), None);
        assert_eq!(leases.all().unwrap().len(), 1);
    }

    #[test]
    fn a_full_subnet_says_so() {
        let (_dir, leases) = leases();
        let lock = leases.lock().unwrap();
        let net = subnet("10.88.0.0/29");
        let got: BTreeSet<_> =
            (0..5).map(|n| leases.acquire(&lock, &n.to_string(), net).unwrap().octets()[3]).collect();
        assert_eq!(got.into_iter().collect::<Vec<_>>(), [2, 3, 4, 5, 6]);
        let error = leases.acquire(&lock, "x", net).unwrap_err();
        assert_eq!(error.to_string(), "no free address in 10.88.0.0/29: all 5 are taken");
        for tiny in ["10.88.0.0/30", "10.88.0.0/31", "10.88.0.1/32"] {
            assert_eq!(candidates("a", subnet(tiny)).count(), usize::from(tiny.ends_with("30")), "{tiny}");
        }
    }

    #[test]
    fn what_is_of_an_earlier_boot_is_void() {
        let (dir, before) = leases();
        let net = subnet("10.88.0.0/29");
        let lock = before.lock().unwrap();
        for n in 0..5 {
            before.acquire(&lock, &format!("old{n}"), net).unwrap();
        }
        before.acquire_ports(&lock, "old0", &[port(None, 80)]).unwrap();
        drop(lock);

        let now = Leases::of_boot(dir.path(), "next").unwrap();
        let lock = now.lock().unwrap();
        assert!(now.ports().unwrap().is_empty());
        now.acquire(&lock, "new", net).unwrap();
        now.acquire_ports(&lock, "new", &[port(None, 80)]).unwrap();
        let removed = now.retain(&lock, |_| true).unwrap();
        assert_eq!(removed.len(), 4);
        assert_eq!(now.all().unwrap().len(), 1);
    }

    #[test]
    fn a_port_has_one_holder() {
        let (_dir, leases) = leases();
        let lock = leases.lock().unwrap();
        leases.acquire_ports(&lock, "a", &[port(None, 80), port(Some("127.0.0.1"), 81)]).unwrap();
        let taken = |wanted: &[PortMapping]| match leases.check_ports("b", wanted) {
            Ok(()) => None,
            Err(Error::PortTaken { port, uid }) => Some((port.host_port, uid)),
            Err(error) => panic!("{error}"),
        };
        assert_eq!(taken(&[port(Some("127.0.0.1"), 80)]), Some((80, "a".to_owned())));
        assert_eq!(taken(&[port(None, 82), port(None, 81)]), Some((81, "a".to_owned())));
        assert_eq!(taken(&[port(Some("::1"), 81), port(None, 82)]), None);
        assert!(leases.check_ports("a", &[port(None, 80)]).is_ok());
        // All or none.
        assert!(leases.acquire_ports(&lock, "b", &[port(None, 82), port(None, 80)]).is_err());
        let held: BTreeSet<_> = leases.ports().unwrap().iter().map(|lease| lease.port.to_string()).collect();
        assert_eq!(held.into_iter().collect::<Vec<_>>(), ["127.0.0.1:81/TCP", "80/TCP"]);
        assert!(leases.ports().unwrap().iter().all(|lease| lease.port.container_port == 80));
        leases.release(&lock, "a").unwrap();
        assert!(leases.ports().unwrap().is_empty());
    }

    #[test]
    fn many_at_once_get_different_addresses() {
        let (_dir, leases) = leases();
        let net = subnet("10.88.0.0/25");
        let got: Vec<Ipv4Addr> = thread::scope(|scope| {
            let one = |n: u32| {
                let leases = &leases;
                move || leases.acquire(&leases.lock().unwrap(), &format!("pod{n}"), net).unwrap()
            };
            let threads: Vec<_> = (0..64).map(|n| scope.spawn(one(n))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert_eq!(got.iter().collect::<BTreeSet<_>>().len(), 64);
    }

    #[test]
    fn names_of_port_entries_read_back() {
        for wanted in [port(None, 80), port(Some("127.0.0.1"), 65535), port(Some("fd00::1"), 1)] {
            let read = parse_port_name(&port_name(&wanted)).unwrap();
            assert_eq!(read, PortMapping { container_port: 0, ..wanted });
        }
        for text in ["", "TCP", "TCP-", "TCP-99999", "tcp-80", "TCP-80@", "TCP-80@x"] {
            assert_eq!(parse_port_name(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn candidates_are_all_addresses_once(uid in "[a-f0-9-]{0,36}", prefix in 22_u8..=32, base: u32) {
            let net = Ipv4Net::new(base.into(), prefix).unwrap().trunc();
            let all: BTreeSet<_> = candidates(&uid, net).collect();
            prop_assert_eq!(all.len(), usize::try_from(usable(net)).unwrap());
            prop_assert_eq!(candidates(&uid, net).count(), all.len());
            let gateway = Ipv4Addr::from(u32::from(net.network()).saturating_add(1));
            let (network, broadcast) = (net.network(), net.broadcast());
            prop_assert!(all.iter().all(|a| net.contains(a) && ![network, gateway, broadcast].contains(a)));
        }
    }
}
