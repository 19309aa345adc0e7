//! Connections are made from inside the given network namespace, and only there.

mod common;

use std::net::TcpListener as StdListener;
use std::sync::Arc;
use std::time::Duration;

use common::{LONG, Server, answer};
use podrun_namespaces::{Kind, Kinds, Namespace, on_thread_in};
use podrun_probes::{Grpc, HttpGet, Network, Outcome, TcpSocket, grpc, http, tcp};
use podrun_testkit::require;

/// Makes a network namespace whose loopback is up, with a server on it.
fn with_server() -> (Namespace, StdListener) {
    let current = Namespace::of_current(Kind::Net).expect("proc");
    let made = on_thread_in(&current, || {
        podrun_namespaces::unshare(Kinds::NET).expect("root may");
        bring_up_loopback();
        let listener = StdListener::bind("127.0.0.1:0").expect("a port");
        (Namespace::of_current(Kind::Net).expect("proc"), listener)
    });
    made.expect("a thread")
}

fn bring_up_loopback() {
    let socket = nix::sys::socket::socket(
        nix::sys::socket::AddressFamily::Inet,
        nix::sys::socket::SockType::Datagram,
        nix::sys::socket::SockFlag::SOCK_CLOEXEC,
        None,
    )
    .expect("a socket");
    // SAFETY: a plain struct for which zeroes are a value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (place, byte) in request.ifr_name.iter_mut().zip(b"lo") {
        *place = byte.cast_signed();
    }
    request.ifr_ifru.ifru_flags = i16::try_from(libc::IFF_UP).expect("a small flag");
    let fd = std::os::fd::AsRawFd::as_raw_fd(&socket);
    // SAFETY: the descriptor is open and the request a live ifreq.
    let done = unsafe { libc::ioctl(fd, libc::SIOCSIFFLAGS, &raw const request) };
    assert_eq!(done, 0, "{}", std::io::Error::last_os_error());
}

#[tokio::test]
async fn probes_reach_what_the_pod_reaches_and_nothing_else() {
    require!(root, netns);
    let (namespace, listener) = with_server();
    let inner = listener.local_addr().expect("an address").port();
    let accepted = std::thread::spawn(move || {
        use std::io::{Read as _, Write as _};
        for _ in 0..2 {
            let (mut stream, peer) = listener.accept().expect("a probe");
            assert!(peer.ip().is_loopback());
            let mut buffer = [0; 1024];
            if stream.read(&mut buffer).expect("a request") > 0 {
                stream.write_all(&answer(200, "", "inside")).expect("the client reads");
            }
        }
    });
    let before = Namespace::of_current(Kind::Net).expect("proc").id();
    let network = Network::of_namespace(namespace);
    let socket = |port| TcpSocket { host: None, port };
    let pod = "127.0.0.1";
    assert!(tcp::probe(&network, &socket(inner), pod, LONG).await.expect("attempted").is_success());
    let outcome = http::probe(&network, &HttpGet::new(inner), pod, "1.36", LONG).await.expect("attempted");
    assert_eq!(outcome, Outcome::Success { output: "inside".to_owned() });
    accepted.join().expect("it saw two connections");

    // A server of the host, which a Pod's manifest must not be able to probe.
    let outside = Server::http(|_| answer(200, "", "outside")).await;
    for host in [pod, "localhost"] {
        let get = HttpGet { host: Some(host.to_owned()), ..HttpGet::new(outside.port()) };
        let outcome = http::probe(&network, &get, pod, "1.36", LONG).await.expect("attempted");
        assert!(outcome.output().ends_with("connect: connection refused"), "{host}: {outcome:?}");
    }
    assert!(!tcp::probe(&network, &socket(outside.port()), pod, LONG).await.expect("attempted").is_success());
    let service = Grpc { port: outside.port(), service: String::new() };
    let short = Duration::from_millis(50);
    assert!(!grpc::probe(&network, &service, pod, "1.36", short).await.expect("attempted").is_success());
    let away = tcp::probe(&network, &socket(1), "192.0.2.1", LONG).await.expect("attempted");
    assert_eq!(away.output(), "dial tcp 192.0.2.1:1: connect: network is unreachable");
    assert_eq!(outside.seen(), Vec::<String>::new());

    // The runtime's thread has stayed where it was.
    assert_eq!(Namespace::of_current(Kind::Net).expect("proc").id(), before);
    let mine = Network::of_caller();
    assert!(tcp::probe(&mine, &socket(outside.port()), pod, LONG).await.expect("attempted").is_success());
}

#[tokio::test]
async fn clones_of_a_network_work_side_by_side() {
    require!(root, netns);
    let (namespace, listener) = with_server();
    let port = listener.local_addr().expect("an address").port();
    let network = Arc::new(Network::of_namespace(namespace));
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..50 {
        let network = network.as_ref().clone();
        tasks.spawn(
            async move { tcp::probe(&network, &TcpSocket { host: None, port }, "127.0.0.1", LONG).await },
        );
    }
    while let Some(outcome) = tasks.join_next().await {
        assert!(outcome.expect("no panic").expect("attempted").is_success());
    }
}
