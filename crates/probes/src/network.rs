//! From where a probe reaches out: sockets of a network namespace.

use std::net::{IpAddr, SocketAddr, TcpStream as StdStream, ToSocketAddrs};
use std::sync::Arc;
use std::time::Duration;

use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
use podrun_namespaces::{Kind, Namespace};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};

use crate::text::{errno_text, join_host_port};
use crate::thread::{enter, on_thread, visit};
use crate::{Error, Result};

/// When one of several addresses does not answer, the next gets no less than this of the time that is left.
const LEAST_TIME_PER_ADDRESS: Duration = Duration::from_secs(2);

/// A network namespace to make sockets in. Clones mean the same one.
///
/// A socket stays in the namespace in which it was made, whoever uses it. So nothing of a probe runs inside the Pod: the
/// calling thread enters the namespace, makes the socket and comes back, and the rest is done from outside. The container
/// sees a connection from its own network, and the connection tracking and the ports of the host are not touched.
///
/// `SO_LINGER` is not set, although a kubelet sets it to one second: on Linux it does not shorten `TIME_WAIT`, but makes
/// close(2) block until the peer has acknowledged the end, for up to that second.
#[derive(Clone, Debug)]
pub struct Network {
    namespaces: Arc<[Namespace]>,
    /// Names are looked up one at a time: a resolver that hangs must not pile up threads.
    lookup: Arc<Semaphore>,
}

/// Why there is no connection.
#[derive(Debug)]
pub(crate) enum Unconnected {
    /// The attempt itself was not possible.
    Error(Error),
    /// The server cannot be reached.
    Failed(String),
    /// The time is over.
    TimedOut {
        /// What was attempted, as `dial tcp 10.0.0.1:80`.
        what: String,
    },
}

impl From<Error> for Unconnected {
    fn from(error: Error) -> Self {
        Self::Error(error)
    }
}

impl Network {
    /// The network namespace of the calling process.
    pub fn of_caller() -> Self {
        Self::of(Vec::new())
    }

    /// A given network namespace. A namespace of another kind makes no difference to sockets.
    pub fn of_namespace(namespace: Namespace) -> Self {
        debug_assert_eq!(namespace.kind(), Kind::Net, "sockets are in network namespaces");
        Self::of(vec![namespace])
    }

    fn of(namespaces: Vec<Namespace>) -> Self {
        Self { namespaces: namespaces.into(), lookup: Arc::new(Semaphore::new(1)) }
    }

    /// Makes a socket for addresses like `address`.
    async fn socket(&self, address: SocketAddr) -> Result<TcpSocket> {
        if self.namespaces.is_empty() {
            let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() };
            return socket.map_err(|source| Error::Socket { source });
        }
        let family = if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let make = move || socket(family, SockType::Stream, flags, None);
        let made = match visit(&self.namespaces, make)? {
            Some(made) => made,
            None => {
                let namespaces = Arc::clone(&self.namespaces);
                on_thread(move || enter(&namespaces, None).map(|()| make())).await??
            }
        };
        let socket = made.map_err(|errno| Error::Socket { source: errno.into() })?;
        Ok(TcpSocket::from_std_stream(StdStream::from(socket)))
    }

    /// Returns the addresses of a host; a name is looked up inside the namespace, with the resolver's files of the caller.
    async fn addresses(&self, host: &str, port: u16) -> Result<Result<Vec<SocketAddr>, String>> {
        if let Ok(address) = host.parse::<IpAddr>() {
            return Ok(Ok(vec![SocketAddr::new(address, port)]));
        }
        let permit = Arc::clone(&self.lookup).acquire_owned().await;
        let namespaces = Arc::clone(&self.namespaces);
        let name = host.to_owned();
        let found = on_thread(move || {
            // Given back when the look-up is over, even if nobody waits for it any more.
            let _permit = permit;
            enter(&namespaces, None)?;
            Ok((name.as_str(), port).to_socket_addrs().map(Vec::from_iter))
        });
        Ok(match found.await?? {
            Ok(addresses) if !addresses.is_empty() => Ok(addresses),
            _ => Err(format!("dial tcp: lookup {host}: no such host")),
        })
    }

    /// Connects to a host, which is an address or a name.
    pub(crate) async fn connect(
        &self,
        host: &str,
        port: u16,
        deadline: Option<Instant>,
    ) -> Result<TcpStream, Unconnected> {
        let looked_up = within(deadline, self.addresses(host, port)).await;
        let timed_out = || Unconnected::TimedOut { what: format!("dial tcp: lookup {host}") };
        let addresses = looked_up.ok_or_else(timed_out)??.map_err(Unconnected::Failed)?;
        let mut first = None;
        for (index, address) in addresses.iter().enumerate() {
            let share = deadline.map(|deadline| share_of(deadline, addresses.len() - index));
            let what = || format!("dial tcp {}", join_host_port(&address.ip().to_string(), address.port()));
            let attempt = async { Ok::<_, Error>(self.socket(*address).await?.connect(*address).await) };
            let failure = match within(share, attempt).await {
                Some(Ok(Ok(stream))) => return Ok(stream),
                Some(Ok(Err(error))) => {
                    Unconnected::Failed(format!("{}: connect: {}", what(), errno_text(&error)))
                }
                Some(Err(error)) => return Err(error.into()),
                None => Unconnected::TimedOut { what: what() },
            };
            first.get_or_insert(failure);
        }
        Err(first.expect("there is at least one address, and none was connected to"))
    }
}

/// Returns until when one of `left` addresses may be tried.
fn share_of(deadline: Instant, left: usize) -> Instant {
    let now = Instant::now();
    let remaining = deadline.saturating_duration_since(now);
    let share = remaining / u32::try_from(left).unwrap_or(u32::MAX).max(1);
    now + share.max(LEAST_TIME_PER_ADDRESS).min(remaining)
}

/// Awaits a future until the deadline, if there is one; `None` if it came first.
pub(crate) async fn within<T>(deadline: Option<Instant>, future: impl Future<Output = T>) -> Option<T> {
    match deadline {
        Some(deadline) => timeout_at(deadline, future).await.ok(),
        None => Some(future.await),
    }
}

/// Returns the port that a manifest means: a number, the number of the container's port of that name, or a number
/// written as text.
///
/// # Errors
///
/// [`Error::PortName`] if it is none of these, [`Error::Port`] if it is not from 1 to 65535.
///
/// ```
/// use podrun_probes::resolve_port;
///
/// let ports = [("web", 8080)];
/// assert_eq!(resolve_port("web", ports)?, 8080);
/// assert_eq!(resolve_port("9090", ports)?, 9090);
/// let unknown = resolve_port("http", ports).unwrap_err();
/// assert_eq!(unknown.to_string(), r#"strconv.Atoi: parsing "http": invalid syntax"#);
/// # Ok::<(), podrun_probes::Error>(())
/// ```
pub fn resolve_port<'a>(reference: &str, ports: impl IntoIterator<Item = (&'a str, u16)>) -> Result<u16> {
    let named = ports.into_iter().find(|(name, _)| *name == reference).map(|(_, port)| i64::from(port));
    let number = || reference.parse::<i64>().ok();
    let port = named.or_else(number).ok_or_else(|| Error::PortName { name: reference.to_owned() })?;
    u16::try_from(port).ok().filter(|port| *port > 0).ok_or(Error::Port { port })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_names_or_numbers() {
        let ports = [("web", 8080), ("zero", 0), ("81", 1081)];
        for (reference, expected) in [
            ("web", Ok(8080)),
            ("80", Ok(80)),
            ("81", Ok(1081)),
            ("65535", Ok(65535)),
            ("zero", Err("invalid port number: 0")),
            ("0", Err("invalid port number: 0")),
            ("-1", Err("invalid port number: -1")),
            ("65536", Err("invalid port number: 65536")),
            ("WEB", Err("strconv.Atoi: parsing \"WEB\": invalid syntax")),
            ("", Err("strconv.Atoi: parsing \"\": invalid syntax")),
        ] {
            let port = resolve_port(reference, ports).map_err(|error| error.to_string());
            assert_eq!(port, expected.map_err(str::to_owned), "{reference:?}");
        }
    }

    #[test]
    fn addresses_share_the_time() {
        let now = Instant::now();
        let far = now + Duration::from_secs(30);
        assert!(share_of(far, 3) <= now + Duration::from_secs(11));
        assert!(share_of(far, 1) + Duration::from_millis(1) >= far);
        let near = Instant::now() + Duration::from_secs(1);
        assert!(share_of(near, 4) <= near);
    }
}
