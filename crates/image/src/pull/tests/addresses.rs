//! A registry on the Internet cannot lead into this machine or its private network: in a network namespace that has
//! addresses of each kind.

#![expect(unsafe_code, reason = "addresses are given with ioctl(2), which has no safe wrapper")]

use std::net::Ipv4Addr;
use std::os::fd::AsRawFd as _;

use nix::sched::{CloneFlags, unshare};
use podrun_testkit::require;

use super::*;

/// Runs a test in a network namespace of its own, whose loopback interface has these addresses too.
fn in_namespace(addresses: &[Ipv4Addr], test: impl FnOnce() + Send) {
    std::thread::scope(|scope| {
        // Threads that this one starts are in the namespace as well.
        let thread = scope.spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace");
            configure("lo", None);
            for (number, address) in addresses.iter().enumerate() {
                configure(&format!("lo:{number}"), Some(*address));
            }
            test();
        });
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
}

/// Gives an interface an address, if any, and sets it up: see netdevice(7).
fn configure(name: &str, address: Option<Ipv4Addr>) {
    let socket = std::net::UdpSocket::bind("0.0.0.0:0").expect("a socket");
    // SAFETY: all bytes of an ifreq may be zero.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = libc::c_char::from_ne_bytes([from]);
    }
    if let Some(address) = address {
        let mut bytes = [0; 14];
        bytes[2..6].copy_from_slice(&address.octets());
        request.ifr_ifru.ifru_addr = libc::sockaddr {
            sa_family: libc::AF_INET.try_into().expect("small"),
            sa_data: bytes.map(|byte: u8| libc::c_char::from_ne_bytes([byte])),
        };
        // SAFETY: the request is an ifreq with a name and an address, which is what SIOCSIFADDR reads.
        let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFADDR, &raw const request) };
        nix::errno::Errno::result(result).expect("an address");
    }
    let up = libc::IFF_UP | libc::IFF_RUNNING;
    request.ifr_ifru.ifru_flags = up.try_into().expect("small");
    // SAFETY: the request is an ifreq with a name and flags, which is what SIOCSIFFLAGS reads.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request) };
    nix::errno::Errno::result(result).expect("an interface that is up");
}

#[test]
fn servers_lead_only_as_far_in_as_they_are_themselves() {
    require!(root, netns);
    let (public, other) = (Ipv4Addr::new(203, 0, 113, 7), Ipv4Addr::new(198, 51, 100, 7));
    let (private, loopback) = (Ipv4Addr::new(10, 9, 8, 7), Ipv4Addr::LOCALHOST);
    in_namespace(&[public, other, private], || {
        let image = image();
        for (from, to, followed) in [
            (public, other, true),
            (public, private, false),
            (public, loopback, false),
            (private, public, true),
            (private, loopback, false),
            (loopback, private, true),
            (loopback, public, true),
        ] {
            let target = Server::at(to.into(), None, registry(&image));
            let (base, right) = (format!("http://{}", target.name()), registry(&image));
            let leading = Server::at(from.into(), None, move |seen| {
                if seen.target.contains("/blobs/") {
                    Answer::new(307, "").header("location", format!("{base}{}", seen.target))
                } else {
                    right(seen)
                }
            });
            let pulled = Bench::new().pull(&leading);
            assert_eq!(pulled.is_ok(), followed, "{from} -> {to}: {pulled:?}");
            assert_eq!(!target.seen().is_empty(), followed, "{from} -> {to}");

            // The same for the realm, for who has no credentials that would keep him from it anyway.
            let tokens = Server::at(to.into(), None, |_| Answer::new(200, r#"{"token":"t1"}"#));
            let (realm, right) = (format!("Bearer realm=\"http://{}/\"", tokens.name()), registry(&image));
            let asking = Server::at(from.into(), None, move |seen| match seen.header("authorization") {
                Some("Bearer t1") => right(seen),
                _ => Answer::new(401, "").header("www-authenticate", realm.clone()),
            });
            let pulled = Bench::new().pull(&asking);
            assert_eq!(pulled.is_ok(), followed, "{from} -> {to}: {pulled:?}");
            assert_eq!(!tokens.seen().is_empty(), followed, "{from} -> {to}");
        }
    });
}
