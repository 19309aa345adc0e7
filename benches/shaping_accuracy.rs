//! How well a rate is kept in both directions of a veth pair, by TCP over several seconds, and how long a small packet
//! takes meanwhile. The bucket is full at the beginning: the first second shows what that is worth.

#[path = "common/report.rs"]
mod report;

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Shutdown, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsFd as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, setns, unshare};
use podrun_netlink::{NewAddress, NewLink, Peer, Rtnetlink};
use podrun_tc::{Limit, Rate, Shaper};
use podrun_testkit::require;

use report::{Options, Report, Samples};

const HOST: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
const PEER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
/// Of each full frame of 1514 bytes TCP with time stamps carries so many.
const PAYLOAD: f64 = 1448.0 / 1514.0;
const MEGABITS: [u32; 5] = [1, 10, 100, 1_000, 5_000];
/// How often a small packet is sent, unless the one before has not come back.
const PING: Duration = Duration::from_millis(50);
/// One that takes longer counts as this long.
const LOST: Duration = Duration::from_secs(1);
/// Faster than anything goes here: a packet passes the shaper and never waits in it.
const NEVER_REACHED: u64 = 400_000_000_000;
/// A machine that does less than so many times a rate may be what holds it up.
const ENOUGH: f64 = 1.2;
const DIRECTIONS: [(bool, &str); 2] = [(true, "to the peer"), (false, "from the peer")];

fn main() -> io::Result<()> {
    require!(root, netns);
    let options = Options::parse(10);
    let time = Duration::from_secs(options.count as u64);
    let mut report = Report::new("shaping accuracy", options);
    thread::scope(|scope| scope.spawn(|| measure_all(&mut report, time)).join().expect("no panic"))?;
    report.note(format!("a round trip of {} ms is one that was lost", LOST.as_millis()));
    report.note("percent of what TCP can carry in frames of 1514 bytes at the rate; --count sets the seconds of each run");
    report.print();
    Ok(())
}

/// Measures in two namespaces that end with this thread.
fn measure_all(report: &mut Report, time: Duration) -> io::Result<()> {
    let (there, mut netlink) = namespaces()?;
    let idle: Samples = idle_round_trips(&there, time.min(Duration::from_secs(2)))?;
    report.row("nothing else on the link: round trip", "ms", &idle);
    // What this machine can do at all, and what it can do through a shaper that holds nothing up.
    let unlimited = both_ways(&there, time.min(Duration::from_secs(2)))?;
    let most = Limit::new(Rate::from_bits_per_second(NEVER_REACHED));
    let shaper = Shaper::new("veth").to_peer(most).from_peer(most, "ifb");
    shaper.apply(&mut netlink).map_err(io::Error::other)?;
    let through = both_ways(&there, time.min(Duration::from_secs(2)))?;
    shaper.remove(&mut netlink).map_err(io::Error::other)?;
    for (index, (_, direction)) in DIRECTIONS.into_iter().enumerate() {
        let megabits = |bits: f64| [bits / 1e6].into_iter().collect::<Samples>();
        report.row(format!("no shaper, {direction}"), "Mb/s", &megabits(unlimited[index]));
        report.row(format!("no limit, {direction}"), "Mb/s", &megabits(through[index]));
    }
    for megabits in MEGABITS {
        let rate = Rate::from_bits_per_second(u64::from(megabits) * 1_000_000);
        let expected = f64::from(megabits) * 1e6 * PAYLOAD;
        let shaper = Shaper::new("veth").to_peer(Limit::new(rate)).from_peer(Limit::new(rate), "ifb");
        shaper.apply(&mut netlink).map_err(io::Error::other)?;
        for ((to_peer, direction), most) in DIRECTIONS.into_iter().zip(through) {
            let run = run(&there, to_peer, time)?;
            let percent = |bits: f64| [bits * 100.0 / expected].into_iter().collect::<Samples>();
            report.row(format!("{rate} {direction}: mean"), "%", &percent(run.mean));
            report.row(format!("{rate} {direction}: first second"), "%", &percent(run.first));
            report.row(format!("{rate} {direction}: round trip"), "ms", &run.round_trips);
            if most < expected * ENOUGH {
                let most = most / 1e6;
                report.note(format!(
                    "{rate} {direction}: the machine is the limit, it does {most:.0} Mb/s through a shaper"
                ));
            }
        }
        let differences = shaper.verify(&mut netlink).map_err(io::Error::other)?;
        assert!(differences.is_empty(), "{differences:?}");
        shaper.remove(&mut netlink).map_err(io::Error::other)?;
    }
    Ok(())
}

/// Returns the bits per second to the peer and from it.
fn both_ways(there: &File, time: Duration) -> io::Result<[f64; 2]> {
    Ok([run(there, true, time)?.mean, run(there, false, time)?.mean])
}

/// Moves this thread into a new network namespace that is joined with another one by a veth pair.
fn namespaces() -> io::Result<(File, Rtnetlink)> {
    let new = || -> io::Result<File> {
        unshare(CloneFlags::CLONE_NEWNET)?;
        File::open("/proc/thread-self/ns/net")
    };
    let there = thread::scope(|scope| scope.spawn(new).join().expect("no panic"))?;
    drop(new()?);
    let join = || -> podrun_netlink::Result<Rtnetlink> {
        let mut netlink = Rtnetlink::open()?;
        netlink.create_link(&NewLink::veth("veth", Peer::new("eth0").in_netns(there.as_fd())))?;
        let mut peer = Rtnetlink::open_in(&there)?;
        for (socket, name, ip) in [(&mut netlink, "veth", HOST), (&mut peer, "eth0", PEER)] {
            let link = socket.link(name)?.index;
            let network = ipnet::IpNet::new(IpAddr::V4(ip), 24).expect("24 is a prefix length");
            socket.add_address(link, &NewAddress::new(network))?;
            socket.set_up("lo")?;
            socket.set_up(link)?;
        }
        Ok(netlink)
    };
    let netlink = join().map_err(io::Error::other)?;
    Ok((there, netlink))
}

/// What came in one direction.
struct Run {
    /// Bits per second, all along.
    mean: f64,
    /// Bits per second in the first second.
    first: f64,
    round_trips: Samples,
}

/// Returns how long a small packet to the peer and back takes while nothing else is sent.
fn idle_round_trips(there: &File, time: Duration) -> io::Result<Samples> {
    let echo = in_place(there, PEER, || UdpSocket::bind((PEER, 0)))?;
    let pinger = UdpSocket::bind((HOST, 0))?;
    pinger.connect(echo.local_addr()?)?;
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| answer(&echo, &stop));
        let end = Instant::now() + time;
        let samples = ping(&pinger, || Instant::now() >= end);
        stop.store(true, Ordering::Relaxed);
        samples
    })
}

fn run(there: &File, to_peer: bool, time: Duration) -> io::Result<Run> {
    let (server, client) = if to_peer { (PEER, HOST) } else { (HOST, PEER) };
    let listener = in_place(there, server, || TcpListener::bind((server, 0)))?;
    let address = listener.local_addr()?;
    let mut sender = in_place(there, client, || TcpStream::connect(address))?;
    let (mut receiver, _) = listener.accept()?;
    let echo = in_place(there, server, || UdpSocket::bind((server, 0)))?;
    let pinger = in_place(there, client, || UdpSocket::bind((client, 0)))?;
    pinger.connect(echo.local_addr()?)?;
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            let block = vec![0; 256 << 10];
            while sender.write_all(&block).is_ok() {}
        });
        scope.spawn(|| answer(&echo, &stop));
        let pings = scope.spawn(|| ping(&pinger, || stop.load(Ordering::Relaxed)));
        let counted = count(&mut receiver, time);
        stop.store(true, Ordering::Relaxed);
        receiver.shutdown(Shutdown::Both)?;
        let (first, mean) = counted?;
        Ok(Run { first, mean, round_trips: pings.join().expect("no panic")? })
    })
}

fn in_place<T: Send>(
    there: &File,
    ip: Ipv4Addr,
    body: impl FnOnce() -> io::Result<T> + Send,
) -> io::Result<T> {
    if ip == HOST {
        return body();
    }
    thread::scope(|scope| {
        let inside = scope.spawn(|| {
            setns(there, CloneFlags::CLONE_NEWNET)?;
            body()
        });
        inside.join().expect("no panic")
    })
}

/// Returns the bits of the first second, and the bits per second of all.
fn count(receiver: &mut TcpStream, time: Duration) -> io::Result<(f64, f64)> {
    let mut buffer = vec![0; 4 << 20];
    let (start, mut bits, mut first) = (Instant::now(), 0.0, None);
    while start.elapsed() < time {
        let length = u32::try_from(receiver.read(&mut buffer)?).expect("the buffer is smaller");
        bits += f64::from(length) * 8.0;
        if first.is_none() && start.elapsed() >= Duration::from_secs(1) {
            first = Some(bits / start.elapsed().as_secs_f64());
        }
    }
    let mean = bits / start.elapsed().as_secs_f64();
    Ok((first.unwrap_or(mean), mean))
}

fn answer(echo: &UdpSocket, stop: &AtomicBool) -> io::Result<()> {
    echo.set_read_timeout(Some(PING))?;
    let mut buffer = [0; 64];
    while !stop.load(Ordering::Relaxed) {
        if let Ok((length, from)) = echo.recv_from(&mut buffer) {
            echo.send_to(&buffer[..length], from)?;
        }
    }
    Ok(())
}

/// Sends a small packet twenty times a second and returns the round trips in milliseconds.
fn ping(pinger: &UdpSocket, stop: impl Fn() -> bool) -> io::Result<Samples> {
    let mut samples = Samples::default();
    let (mut number, mut buffer) = (0u64, [0; 8]);
    while !stop() {
        number += 1;
        let start = Instant::now();
        pinger.send(&number.to_ne_bytes())?;
        let mut answered = false;
        // Until it is time for the next one, so that no clock is needed to wait.
        let until = |answered| if answered { PING } else { LOST };
        while let Some(left) = until(answered).checked_sub(start.elapsed()).filter(|left| !left.is_zero()) {
            pinger.set_read_timeout(Some(left))?;
            if pinger.recv(&mut buffer).is_ok() && !answered && buffer == number.to_ne_bytes() {
                answered = true;
                samples.extend([start.elapsed()]);
            }
        }
        // At the end nobody answers any more.
        if !answered && !stop() {
            samples.extend([LOST]);
        }
    }
    Ok(samples)
}
