//! A server of the gRPC health protocol with as much of HTTP/2 as one client at a time needs (RFC 9113, RFC 7541).

use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use podrun_namespaces::{Kind, Namespace};

use super::processes;

/// The types of frames that it knows.
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const PING: u8 = 6;

/// Flags of frames. The first one answers SETTINGS and PING.
const ACK: u8 = 1;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// What a client says first.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// What the server answers.
#[derive(Clone, Copy)]
#[repr(u8)]
pub(crate) enum Health {
    Serving = 1,
    NotServing = 2,
}

/// A server in the network namespace of a Pod. It ends with the program.
pub(crate) struct HealthServer(Arc<AtomicU8>);

impl HealthServer {
    /// Serves `service` on a port of a Pod. Any other service is unknown.
    pub(crate) fn start(uid: &str, port: u16, service: &'static str, health: Health) -> Self {
        let init = processes::init(uid).expect("the Pod has an init");
        let answer = Arc::new(AtomicU8::new(health as u8));
        let shown = Arc::clone(&answer);
        let (bound, is_bound) = std::sync::mpsc::channel();
        // A thread of its own: the sockets of a thread are those of the namespace that it is in.
        std::thread::spawn(move || {
            let network = Namespace::of_process(init.as_fd(), Kind::Net).expect("it lives");
            network.enter().expect("root may");
            let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, port));
            bound.send(listener.as_ref().map(drop).map_err(io::Error::kind)).expect("somebody waits");
            for stream in listener.expect("told above").incoming() {
                // A client that goes away is the usual end of a connection.
                drop(stream.and_then(|stream| converse(stream, service, &shown)));
            }
        });
        assert_eq!(is_bound.recv().expect("it tells"), Ok(()), "port {port} of the Pod");
        Self(answer)
    }

    /// Answers something else from now on.
    pub(crate) fn change(&self, health: Health) {
        self.0.store(health as u8, Ordering::Relaxed);
    }
}

fn converse(mut stream: TcpStream, service: &str, health: &AtomicU8) -> io::Result<()> {
    let mut preface = [0; PREFACE.len()];
    stream.read_exact(&mut preface)?;
    assert_eq!(preface, PREFACE, "the probe speaks HTTP/2 at once");
    send(&mut stream, SETTINGS, 0, 0, &[])?;
    let mut message = Vec::new();
    loop {
        let (kind, flags, id, payload) = receive(&mut stream)?;
        match kind {
            SETTINGS if flags & ACK == 0 => send(&mut stream, SETTINGS, ACK, 0, &[])?,
            PING if flags & ACK == 0 => send(&mut stream, PING, ACK, 0, &payload)?,
            DATA => message.extend(payload),
            _ => {}
        }
        if matches!(kind, DATA | HEADERS) && flags & END_STREAM != 0 {
            reply(&mut stream, id, &std::mem::take(&mut message), service, health)?;
        }
    }
}

/// Answers a HealthCheckRequest: a framed message with the service's name as field 1.
fn reply(
    stream: &mut TcpStream,
    id: u32,
    message: &[u8],
    service: &str,
    health: &AtomicU8,
) -> io::Result<()> {
    // Status 200 is in HPACK's table of usual headers.
    let head = [&[0x88][..], &literal("content-type", "application/grpc")].concat();
    let name_len = u8::try_from(service.len()).expect("a short name");
    let is_known =
        message.get(5..).is_some_and(|field| field == [&[0x0a, name_len][..], service.as_bytes()].concat());
    send(stream, HEADERS, END_HEADERS, id, &head)?;
    if is_known {
        send(stream, DATA, 0, id, &[0, 0, 0, 0, 2, 8, health.load(Ordering::Relaxed)])?;
    }
    // 5 is NOT_FOUND.
    let trailers = literal("grpc-status", if is_known { "0" } else { "5" });
    send(stream, HEADERS, END_HEADERS | END_STREAM, id, &trailers)
}

/// A header field that is in no table, not compressed.
fn literal(name: &str, value: &str) -> Vec<u8> {
    let length = |text: &str| u8::try_from(text.len()).expect("a short text");
    [&[0, length(name)][..], name.as_bytes(), &[length(value)], value.as_bytes()].concat()
}

fn send(stream: &mut TcpStream, kind: u8, flags: u8, id: u32, payload: &[u8]) -> io::Result<()> {
    let length = u32::try_from(payload.len()).expect("a short frame").to_be_bytes();
    stream.write_all(&[&length[1..], &[kind, flags], &id.to_be_bytes(), payload].concat())
}

fn receive(stream: &mut TcpStream) -> io::Result<(u8, u8, u32, Vec<u8>)> {
    let mut head = [0; 9];
    stream.read_exact(&mut head)?;
    let [a, b, c, kind, flags, id @ ..] = head;
    let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
    stream.read_exact(&mut payload)?;
    Ok((kind, flags, u32::from_be_bytes(id), payload))
}
