//! Who listens on the machine's own ports, and what is said about a port that is taken.

use std::io::ErrorKind;
use std::path::Path;

use podrun_plan::admission::{Listener, PortHolder, TakenPort};
use podrun_spec::model::Protocol;
use procfs::net::{TcpState, UdpState};
use procfs::process::{FDTarget, Process, all_processes};
use procfs::{ProcError, ProcResult};

use crate::error::{Error, Result};
use crate::facts::CGROUP_PARENT;

/// A process that holds a socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Owner {
    pid: i32,
    /// As `ps` shows it.
    name: String,
    /// UID of the Pod in whose cgroup it is.
    pod: Option<String>,
}

/// Returns the sockets of TCP and UDP that wait for callers in the network namespace of this process.
///
/// # Errors
/// Any errno of reading the tables of the kernel.
pub(crate) fn listeners() -> Result<Vec<Listener>> {
    const TABLES: &str = "/proc/net";
    let failed = |source| Error::corrupt(Path::new(TABLES), source);
    let mut all = Vec::new();
    for read in [procfs::net::tcp, procfs::net::tcp6] {
        let entries = there(read()).map_err(failed)?.into_iter();
        let waiting = entries.filter(|entry| entry.state == TcpState::Listen);
        all.extend(waiting.map(|entry| (Protocol::Tcp, entry.local_address, entry.inode)));
    }
    for read in [procfs::net::udp, procfs::net::udp6] {
        let entries = there(read()).map_err(failed)?.into_iter();
        // One that is connected hears its partner alone, whose answers keep coming.
        let waiting = entries.filter(|entry| entry.state == UdpState::Close);
        all.extend(waiting.map(|entry| (Protocol::Udp, entry.local_address, entry.inode)));
    }
    let listener = |(protocol, at, inode): (Protocol, std::net::SocketAddr, u64)| {
        // IPv4 in the shape of IPv6 is IPv4.
        Listener { address: at.ip().to_canonical(), protocol, port: at.port(), inode }
    };
    Ok(all.into_iter().map(listener).collect())
}

/// A kernel without IPv6 has no table of it.
fn there<T>(read: ProcResult<Vec<T>>) -> ProcResult<Vec<T>> {
    match read {
        Err(ProcError::NotFound(_)) => Ok(Vec::new()),
        Err(ProcError::Io(error, _)) if error.kind() == ErrorKind::NotFound => Ok(Vec::new()),
        read => read,
    }
}

/// Finds the process that holds a socket; of many the oldest. None where `/proc` does not show it.
pub(crate) fn owner(inode: u64) -> Option<Owner> {
    let holds = |process: &Process| {
        let mut fds = process.fd().into_iter().flatten().filter_map(ProcResult::ok);
        fds.any(|fd| matches!(fd.target, FDTarget::Socket(socket) if socket == inode))
    };
    // Processes come and go while they are looked at.
    let holders = all_processes().ok()?.filter_map(ProcResult::ok).filter(holds);
    let stats = holders.filter_map(|process| Some((process.stat().ok()?, process)));
    let (stat, process) = stats.min_by_key(|(stat, _)| (stat.starttime, stat.pid))?;
    let cgroups = process.cgroups().ok();
    let pod = cgroups.and_then(|found| found.0.iter().find_map(|cgroup| pod_of(&cgroup.pathname)));
    Some(Owner { pid: stat.pid, name: stat.comm, pod })
}

/// Returns the UID of the Pod to which a cgroup belongs: `…/podrun/pod<uid>/…`.
fn pod_of(cgroup: &str) -> Option<String> {
    let mut parts = cgroup.split('/').skip_while(|part| *part != CGROUP_PARENT).skip(1);
    Some(parts.next()?.strip_prefix("pod")?.to_owned())
}

/// Says who has a port that a Pod wants. Names are found by the functions.
pub(crate) fn words(
    taken: &TakenPort,
    name_of: impl Fn(&str) -> Option<(String, String)>,
    owner_of: impl Fn(u64) -> Option<Owner>,
) -> String {
    let pod = |uid: &str| match name_of(uid) {
        Some((namespace, name)) => format!("pod {namespace}/{name}"),
        None => format!("the pod with UID {uid}"),
    };
    let holder = match &taken.holder {
        PortHolder::Pod { uid, container } if container.is_empty() => pod(uid),
        PortHolder::Pod { uid, container } => format!("container {container:?} of {}", pod(uid)),
        PortHolder::Socket(Listener { address, port, inode, .. }) => {
            let at = std::net::SocketAddr::new(*address, *port);
            match owner_of(*inode) {
                Some(Owner { pid, name, pod: None }) => {
                    format!("process {name:?} (PID {pid}), which listens on {at}")
                }
                Some(Owner { pid, name, pod: Some(uid) }) => {
                    format!("process {name:?} (PID {pid}) of {}, which listens on {at}", pod(&uid))
                }
                None => format!("a socket on {at}, whose process is not shown to podrun"),
            }
        }
    };
    let wanted = &taken.wanted;
    format!("host port {wanted} of container {:?} is held by {holder}", wanted.container)
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream, UdpSocket};

    use podrun_plan::admission::HostPort;

    use super::*;

    #[test]
    fn who_listens_is_found_with_its_process() {
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let tcp6 = TcpListener::bind("[::1]:0").ok();
        let udp = UdpSocket::bind("127.0.0.3:0").unwrap();
        let connected = UdpSocket::bind("127.0.0.1:0").unwrap();
        connected.connect("127.0.0.1:9").unwrap();
        let client = TcpStream::connect(tcp.local_addr().unwrap()).unwrap();
        let found = listeners().unwrap();
        let at = |address: std::net::SocketAddr, protocol| {
            let is_it =
                |l: &&Listener| (l.address, l.port, l.protocol) == (address.ip(), address.port(), protocol);
            found.iter().find(is_it).copied()
        };
        let there = at(tcp.local_addr().unwrap(), Protocol::Tcp).expect("it listens");
        assert!(tcp6.is_none_or(|tcp| at(tcp.local_addr().unwrap(), Protocol::Tcp).is_some()));
        assert!(at(udp.local_addr().unwrap(), Protocol::Udp).is_some());
        assert_eq!(at(connected.local_addr().unwrap(), Protocol::Udp), None, "it hears one alone");
        assert_eq!(at(client.local_addr().unwrap(), Protocol::Tcp), None, "it calls");
        let owner = owner(there.inode).expect("this process");
        assert_eq!(owner.pid, i32::try_from(std::process::id()).unwrap());
        assert!(!owner.name.is_empty());
    }

    #[test]
    fn a_cgroup_names_its_pod() {
        assert_eq!(pod_of("/podrun/podu-1/web.0").as_deref(), Some("u-1"));
        assert_eq!(pod_of("/a/podrun/podu-1").as_deref(), Some("u-1"));
        for other in ["/", "/podrun", "/podrun/x", "/kubepods/podu-1"] {
            assert_eq!(pod_of(other), None, "{other}");
        }
    }

    #[test]
    fn every_holder_has_its_words() {
        let wanted =
            HostPort { ip: "127.0.0.1".into(), protocol: Protocol::Tcp, port: 80, container: "web".into() };
        let socket = PortHolder::Socket(Listener {
            address: "::".parse().unwrap(),
            protocol: Protocol::Tcp,
            port: 80,
            inode: 7,
        });
        let pod =
            |uid: &str, container: &str| PortHolder::Pod { uid: uid.into(), container: container.into() };
        let name_of = |uid: &str| (uid == "u-1").then(|| ("default".to_owned(), "first".to_owned()));
        let owner = |pod: Option<&str>| {
            let pod = pod.map(str::to_owned);
            move |inode| (inode == 7).then(|| Owner { pid: 812, name: "nginx".into(), pod: pod.clone() })
        };
        let begin = "host port 127.0.0.1:80/TCP of container \"web\" is held by ";
        for (holder, owned_by, expected) in [
            (pod("u-1", "c"), None, "container \"c\" of pod default/first"),
            (pod("u-1", ""), None, "pod default/first"),
            (pod("u-2", "c"), None, "container \"c\" of the pod with UID u-2"),
            (socket.clone(), None, "process \"nginx\" (PID 812), which listens on [::]:80"),
            (
                socket.clone(),
                Some("u-1"),
                "process \"nginx\" (PID 812) of pod default/first, which listens on [::]:80",
            ),
        ] {
            let taken = TakenPort { wanted: wanted.clone(), holder };
            assert_eq!(words(&taken, name_of, owner(owned_by)), format!("{begin}{expected}"));
        }
        let taken = TakenPort { wanted, holder: socket };
        let unseen = words(&taken, name_of, |_| None);
        assert_eq!(unseen, format!("{begin}a socket on [::]:80, whose process is not shown to podrun"));
    }
}
