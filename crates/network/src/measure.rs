//! The rate that really goes through a Pod's link, by traffic of our own.

use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::{IpAddr, TcpListener, TcpStream};
use std::os::fd::BorrowedFd;
use std::thread;
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, setns};
use podrun_netlink::Rtnetlink;

use crate::error::{Error, Result};
use crate::node::Network;

/// A burst that may pass at once, and TCP that has to find the rate, are over by then.
const WARM_UP: Duration = Duration::from_millis(500);
const CHUNK: usize = 64 << 10;

/// What went through a Pod's link while it was measured, seen from the Pod.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Measured {
    /// Towards the Pod.
    pub ingress: Throughput,
    /// From the Pod.
    pub egress: Throughput,
}

/// Bytes in a time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Throughput {
    /// Whole Ethernet frames, as a limit counts them.
    pub bytes: u64,
    /// How long.
    pub elapsed: Duration,
}

impl Throughput {
    /// Returns bits per second.
    ///
    /// ```
    /// use podrun_network::Throughput;
    /// use std::time::Duration;
    /// let through = Throughput { bytes: 2_500_000, elapsed: Duration::from_secs(2) };
    /// assert_eq!(through.bits_per_second(), 10_000_000.0);
    /// ```
    #[expect(clippy::cast_precision_loss, reason = "a rate is told in three digits")]
    pub fn bits_per_second(&self) -> f64 {
        self.bytes as f64 * 8.0 / self.elapsed.as_secs_f64()
    }
}

impl Network {
    /// Sends as much as goes through to a Pod, and then from it, for a while each, between the bridge and the Pod's network
    /// namespace. Half a second at the beginning of each is not counted.
    ///
    /// # Errors
    ///
    /// [`Error::Measure`] with any errno of the sockets; what could not be read.
    pub fn measure(&self, uid: &str, netns: BorrowedFd<'_>, duration: Duration) -> Result<Measured> {
        let (Some(subnets), Some(address)) = (self.subnets()?, self.leases.address_of(uid)?) else {
            return Err(Error::Measure(ErrorKind::AddrNotAvailable.into()));
        };
        let gateway = subnets.gateways()[0].addr();
        let host = &self.link_names(uid).host;
        let failed = Error::Measure;

        let inside = in_namespace(netns, || TcpListener::bind((IpAddr::V4(address), 0))).map_err(failed)?;
        let to = inside.local_addr().map_err(failed)?;
        let ingress =
            flow(inside, || TcpStream::connect(to), duration, || counters(host).map(|link| link.1))?;

        let here = TcpListener::bind((gateway, 0)).map_err(failed)?;
        let to = here.local_addr().map_err(failed)?;
        let connect = || in_namespace(netns, || TcpStream::connect(to));
        let egress = flow(here, connect, duration, || shaped_egress(self, uid, host))?;
        Ok(Measured { ingress, egress })
    }
}

/// Returns what passed from the Pod: behind its shaper if it has one, since its link takes in more than goes through.
fn shaped_egress(network: &Network, uid: &str, host: &str) -> Result<u64> {
    let shaper = network.link_names(uid).shaper;
    match Rtnetlink::open()?.find_link(shaper.as_str())? {
        Some(ifb) => Ok(ifb.statistics.tx_bytes),
        None => counters(host).map(|link| link.0),
    }
}

/// Returns the bytes that the host's end has received and sent.
fn counters(host: &str) -> Result<(u64, u64)> {
    let link = Rtnetlink::open()?.link(host)?;
    Ok((link.statistics.rx_bytes, link.statistics.tx_bytes))
}

/// Fills a connection and counts what passes.
fn flow(
    listener: TcpListener,
    connect: impl FnOnce() -> io::Result<TcpStream>,
    duration: Duration,
    count: impl Fn() -> Result<u64>,
) -> Result<Throughput> {
    let sink = thread::spawn(move || {
        let mut buffer = vec![0; CHUNK];
        if let Ok((mut stream, _)) = listener.accept() {
            while stream.read(&mut buffer).is_ok_and(|length| length > 0) {}
        }
    });
    let through = fill(connect, duration, count);
    // The sender has hung up, or never called: then the sink waits for nobody, and goes with this process.
    if through.is_ok() {
        drop(sink.join());
    }
    through
}

fn fill(
    connect: impl FnOnce() -> io::Result<TcpStream>,
    duration: Duration,
    count: impl Fn() -> Result<u64>,
) -> Result<Throughput> {
    let failed = Error::Measure;
    let mut stream = connect().map_err(failed)?;
    let chunk = vec![0; CHUNK];
    // A write may wait for as long as a slow link takes for the buffers.
    stream.set_write_timeout(Some(Duration::from_millis(50))).map_err(failed)?;
    let mut send_until = |end: Instant| loop {
        match stream.write(&chunk) {
            Err(error) if !matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                return Err(failed(error));
            }
            _ if Instant::now() >= end => return Ok(()),
            _ => {}
        }
    };
    send_until(Instant::now() + WARM_UP)?;
    let (begin, before) = (Instant::now(), count()?);
    send_until(begin + duration)?;
    let (bytes, elapsed) = (count()?.saturating_sub(before), begin.elapsed());
    Ok(Throughput { bytes, elapsed })
}

/// Makes a socket in a network namespace; it may be used from anywhere.
fn in_namespace<T: Send>(
    netns: BorrowedFd<'_>,
    make: impl FnOnce() -> io::Result<T> + Send,
) -> io::Result<T> {
    thread::scope(|scope| {
        let inside = scope.spawn(move || {
            setns(netns, CloneFlags::CLONE_NEWNET)?;
            make()
        });
        inside.join().unwrap_or_else(|payload| std::panic::resume_unwind(payload))
    })
}
