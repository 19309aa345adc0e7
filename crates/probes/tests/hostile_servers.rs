//! What network probes make of servers that mean ill: a verdict in time, in little memory, with a text that harms nobody.

mod common;

use std::time::{Duration, Instant};

use common::{SHORT, SLACK, Server, answer, read_head};
use podrun_probes::{Grpc, HttpGet, MAX_OUTPUT, Network, Outcome, Scheme, grpc, http};
use tokio::io::AsyncWriteExt as _;

async fn http_probe(port: u16, scheme: Scheme) -> (Outcome, Duration) {
    let begun = Instant::now();
    let get = HttpGet { scheme, ..HttpGet::new(port) };
    let outcome = http::probe(&Network::of_caller(), &get, "127.0.0.1", "1.36", SHORT).await;
    (outcome.expect("it can be attempted"), begun.elapsed())
}

async fn grpc_probe(port: u16) -> (Outcome, Duration) {
    let begun = Instant::now();
    let service = Grpc { port, service: String::new() };
    let outcome = grpc::probe(&Network::of_caller(), &service, "127.0.0.1", "1.36", SHORT).await;
    (outcome.expect("it can be attempted"), begun.elapsed())
}

/// A server that sends `first`, then `again` for as long as anybody reads.
async fn endless(first: &'static [u8], again: &'static [u8]) -> Server {
    Server::start(move |mut stream| async move {
        if stream.write_all(first).await.is_ok() {
            let block = again.repeat(8192_usize.div_ceil(again.len().max(1)));
            while !again.is_empty() && stream.write_all(&block).await.is_ok() {}
        }
        if again.is_empty() {
            drop(stream.shutdown().await);
        }
    })
    .await
}

#[tokio::test]
async fn broken_answers_are_failures_in_time() {
    let table: [(&str, &'static [u8], &'static [u8]); 12] = [
        ("nothing", b"", b""),
        ("no http", b"220 mail.example ESMTP\r\n", b""),
        ("random bytes", b"\x16\x03\x01\x00\x01\xff\x00", b""),
        ("half a status line", b"HTTP/1.1 20", b""),
        ("half of the headers", b"HTTP/1.1 200 OK\r\nA: b\r\n", b""),
        ("half a body", b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf", b""),
        ("a bad chunk", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", b""),
        ("two lengths", b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx", b""),
        ("an endless status line", b"HTTP/1.1 200 ", b"x"),
        (
            "endless headers",
            b"HTTP/1.1 200 OK\r\n",
            b"X-Filler: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\n",
        ),
        ("an endless header", b"HTTP/1.1 200 OK\r\nX: ", b"x"),
        ("a flood of interim answers", b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 100 Continue\r\n\r\n"),
    ];
    for (name, first, again) in table {
        let server = endless(first, again).await;
        for scheme in [Scheme::Http, Scheme::Https] {
            let (outcome, took) = http_probe(server.port(), scheme).await;
            assert!(matches!(outcome, Outcome::Failure { .. }), "{name} {scheme}: {outcome:?}");
            assert!(took < SHORT + SLACK, "{name} {scheme}: {took:?}");
            assert!(outcome.output().len() <= MAX_OUTPUT, "{name} {scheme}");
        }
        let (outcome, took) = grpc_probe(server.port()).await;
        assert!(matches!(outcome, Outcome::Failure { .. }), "{name} grpc: {outcome:?}");
        assert!(took < SHORT + SLACK, "{name} grpc: {took:?}");
    }
}

#[tokio::test]
async fn an_endless_body_is_read_as_far_as_it_is_kept() {
    for first in ["HTTP/1.1 200 OK\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n"] {
        let server = endless(first.as_bytes(), b"x").await;
        let (outcome, _) = http_probe(server.port(), Scheme::Http).await;
        assert_eq!(outcome, Outcome::Success { output: "x".repeat(MAX_OUTPUT) });
    }
}

#[tokio::test]
async fn what_a_server_says_cannot_speak_to_a_terminal() {
    let server = Server::http(|_| answer(200, "", "\x1b]0;owned\x07\r\n")).await;
    let (outcome, _) = http_probe(server.port(), Scheme::Http).await;
    assert_eq!(outcome.output(), "\\u{1b}]0;owned\\u{7}\\r\n");
    let server = Server::http(|_| answer(302, "Location: http://elsewhere/\r\n", "\x1b[2J")).await;
    let (outcome, _) = http_probe(server.port(), Scheme::Http).await;
    assert_eq!(outcome.output(), "Probe terminated redirects, Response body: \\u{1b}[2J");
}

#[tokio::test]
async fn a_reset_connection_is_a_failure() {
    let server = Server::start(|mut stream| async move {
        read_head(&mut stream).await;
        // Unread data makes a reset of the close.
        drop(stream);
    })
    .await;
    let (outcome, took) = http_probe(server.port(), Scheme::Http).await;
    assert!(matches!(outcome, Outcome::Failure { .. }), "{outcome:?}");
    assert!(took < SHORT, "{took:?}");
}

#[tokio::test]
async fn http2_resets_and_pings_without_end_are_failures_in_time() {
    // SETTINGS, then RST_STREAM of stream 1 or PING, over and over.
    const SETTINGS: &[u8] = b"\0\0\0\x04\0\0\0\0\0";
    const RESET: &[u8] = b"\0\0\x04\x03\0\0\0\0\x01\0\0\0\x08";
    const PING: &[u8] = b"\0\0\x08\x06\0\0\0\0\0abcdefgh";
    for (name, again) in [("resets", RESET), ("pings", PING), ("settings", SETTINGS)] {
        let server = endless(SETTINGS, again).await;
        let (outcome, took) = grpc_probe(server.port()).await;
        assert!(matches!(outcome, Outcome::Failure { .. }), "{name}: {outcome:?}");
        assert!(took < SHORT + SLACK, "{name}: {took:?}");
    }
}
