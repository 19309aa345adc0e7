//! Whether a rate is kept. Short, and by UDP, which arrives as evenly as it is let through; TCP and long figures are in
//! `benches/shaping_accuracy.rs`.

use std::net::{Ipv4Addr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use ipnet::IpNet;
use nix::sys::socket::{setsockopt, sockopt};
use podrun_tc::{Limit, Queue, Rate, Shaper};
use podrun_testkit::require;
use serial_test::{file_serial, serial};

use crate::namespace::{HOST, PEER, Pair, inside, with_pair};

/// With the headers of UDP, IP and Ethernet a frame of 1514 bytes.
const PAYLOAD: usize = 1472;
const FRAME_BITS: f64 = 1514.0 * 8.0;
/// What an emulated machine sends at most, in bits per second; a real one sends ten times as much.
const EMULATED: f64 = 300e6;
const WINDOW: Duration = Duration::from_secs(1);

/// Sends as fast as can be and returns the bits per second that came.
fn measure(pair: &Pair, to_peer: bool, rate: Rate) -> f64 {
    let (server, client) = if to_peer { (PEER, HOST) } else { (HOST, PEER) };
    let receiver = in_place(pair, server, || UdpSocket::bind((server, 0)).unwrap());
    receiver.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
    let sender = in_place(pair, client, || UdpSocket::bind((client, 0)).unwrap());
    // Less than the queue holds, so that the sender waits instead of making packets that are dropped; more than a busy
    // machine lets it sleep.
    let tenth = usize::try_from(rate.bytes_in(Duration::from_millis(100)).get()).unwrap();
    setsockopt(&sender, sockopt::SndBufForce, &tenth.max(16 << 10)).unwrap();
    sender.connect(receiver.local_addr().unwrap()).unwrap();
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                sender.send(&[0; PAYLOAD]).unwrap();
            }
        });
        let mut buffer = [0; PAYLOAD];
        let mut receive = || receiver.recv(&mut buffer).unwrap();
        // The bucket is full at first.
        let warm = Instant::now() + Duration::from_millis(300);
        while Instant::now() < warm {
            receive();
        }
        let (start, mut frames) = (Instant::now(), 0);
        while start.elapsed() < WINDOW {
            receive();
            frames += 1;
        }
        let seconds = start.elapsed().as_secs_f64();
        stop.store(true, Ordering::Relaxed);
        f64::from(frames) * FRAME_BITS / seconds
    })
}

fn in_place<T: Send>(pair: &Pair, ip: Ipv4Addr, body: impl FnOnce() -> T + Send) -> T {
    if ip == PEER { inside(&pair.netns, body) } else { body() }
}

/// A queue of two seconds, all in one.
fn limit(megabits: u64) -> Limit {
    Limit::new(Rate::from_bits_per_second(megabits * 1_000_000)).latency(Duration::from_secs(2))
}

#[expect(clippy::print_stderr, reason = "what is not measured must be seen")]
fn check(pair: &mut Pair, limit: Limit, unshaped: &[IpNet]) {
    let bits = f64::from(u32::try_from(limit.rate().bits_per_second()).unwrap());
    let most = measure(pair, true, limit.rate());
    if most < bits * 3.0 {
        eprintln!("this machine sends {most} bit/s at most, too few to keep to {bits}");
        return;
    }
    let shaper = Shaper::new("veth").to_peer(limit).from_peer(limit, "ifb").queue(Queue::Fifo);
    let shaper = shaper.unshaped(unshaped.iter().copied());
    // An emulated processor stands still for longer at times than the bucket is full.
    let least = if most > EMULATED { bits * 0.98 } else { bits * 0.9 };
    shaper.apply(&mut pair.here).unwrap();
    for to_peer in [true, false] {
        // A busy machine may keep the rate down, but nothing may ever exceed it.
        let mut best = 0.0;
        for _ in 0..3 {
            let found = measure(pair, to_peer, limit.rate());
            assert!(found < bits * 1.02, "{found} bit/s instead of {bits}, to the peer: {to_peer}");
            best = f64::max(best, found);
            if best > least {
                break;
            }
        }
        assert!(best > least, "{best} bit/s instead of {bits}, to the peer: {to_peer}");
    }
    let statistics = shaper.statistics(&mut pair.here).unwrap();
    for direction in [statistics.to_peer.unwrap(), statistics.from_peer.unwrap()] {
        assert!(direction.shaped.overlimits > 0, "{direction:?}");
    }
    shaper.remove(&mut pair.here).unwrap();
}

#[test]
#[file_serial(kernel)]
#[serial]
fn a_rate_is_kept_within_two_percent_in_both_directions() {
    require!(root, netns);
    with_pair(|pair| {
        check(pair, limit(1), &[]);
        check(pair, limit(10), &[]);
        check(pair, limit(100), &[]);
        check(pair, limit(50), &["10.9.0.0/16".parse().unwrap()]);
    });
}
