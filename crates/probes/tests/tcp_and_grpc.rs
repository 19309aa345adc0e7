//! TCP and gRPC probes of servers that speak as they should, or do not speak gRPC.

mod common;

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use common::{LONG, SHORT, SLACK, Server, answer};
use http_body_util::BodyExt as _;
use hyper::body::{Body, Bytes, Frame, Incoming};
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper::{HeaderMap, Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use podrun_probes::{Grpc, Network, Outcome, TcpSocket, grpc, tcp};

/// How a call is answered: headers, a message, trailers.
#[derive(Clone, Default)]
struct Reply {
    status: u16,
    headers: &'static [(&'static str, &'static str)],
    message: Vec<u8>,
    trailers: &'static [(&'static str, &'static str)],
}

fn map(list: &[(&'static str, &'static str)]) -> HeaderMap {
    list.iter()
        .map(|(name, value)| (name.parse().expect("a name"), value.parse().expect("a value")))
        .collect()
}

async fn grpc_server(reply: Reply) -> Server {
    let log = Arc::new(Mutex::new(Vec::new()));
    let requests = Arc::clone(&log);
    let mut server = Server::start(move |stream| {
        let (reply, log) = (reply.clone(), Arc::clone(&log));
        async move {
            let service = service_fn(move |request: Request<Incoming>| {
                let (reply, log) = (reply.clone(), Arc::clone(&log));
                async move {
                    let (head, body) = request.into_parts();
                    let body = body.collect().await.expect("a body").to_bytes();
                    let header = |name: &str| {
                        head.headers.get(name).map_or("none", |value| value.to_str().expect("ASCII"))
                    };
                    log.lock().expect("no panic").push(format!(
                        "{} {} {} {} {} {} {body:?}",
                        head.method,
                        head.uri,
                        header("content-type"),
                        header("te"),
                        header("grpc-timeout"),
                        header("user-agent").split(' ').next().unwrap_or_default(),
                    ));
                    let mut frames = vec![Frame::data(Bytes::from(reply.message))];
                    if !reply.trailers.is_empty() {
                        frames.push(Frame::trailers(map(reply.trailers)));
                    }
                    let mut response = Response::new(Frames(frames.into_iter()));
                    *response.status_mut() = reply.status.max(200).try_into().expect("a status");
                    *response.headers_mut() = map(reply.headers);
                    Ok::<_, Infallible>(response)
                }
            });
            // The client closes as soon as it knows.
            drop(
                http2::Builder::new(TokioExecutor::new())
                    .serve_connection(TokioIo::new(stream), service)
                    .await,
            );
        }
    })
    .await;
    server.requests = requests;
    server
}

/// Frames as a body.
struct Frames(std::vec::IntoIter<Frame<Bytes>>);

impl Body for Frames {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.0.next().map(Ok))
    }
}

/// A framed HealthCheckResponse.
fn health(status: u8) -> Vec<u8> {
    vec![0, 0, 0, 0, 2, 8, status]
}

const OK: &[(&str, &str)] = &[("grpc-status", "0")];

async fn ask(port: u16, service: &str, timeout: Duration) -> Outcome {
    let handler = Grpc { port, service: service.to_owned() };
    grpc::probe(&Network::of_caller(), &handler, "127.0.0.1", "1.36", timeout)
        .await
        .expect("it can be attempted")
}

#[tokio::test]
async fn a_health_check_looks_as_that_of_a_kubelet() {
    let server = grpc_server(Reply { message: health(1), trailers: OK, ..Reply::default() }).await;
    let port = server.port();
    for service in ["", "web"] {
        let outcome = ask(port, service, Duration::from_secs(20)).await;
        assert_eq!(outcome, Outcome::Success { output: "service healthy".to_owned() });
    }
    let call = format!(
        "POST http://127.0.0.1:{port}/grpc.health.v1.Health/Check application/grpc trailers 20000m kube-probe/1.36"
    );
    let seen = server.seen();
    assert_eq!(seen[0], format!("{call} b\"\\0\\0\\0\\0\\0\""));
    assert_eq!(seen[1], format!("{call} b\"\\0\\0\\0\\0\\x05\\n\\x03web\""));
}

#[tokio::test]
async fn only_serving_is_a_success() {
    let rpc = "error: health rpc probe failed: rpc error: code = ";
    let unimplemented =
        "error: this server does not implement the grpc health protocol (grpc.health.v1.Health): ";
    let ok = |message| Reply { message, trailers: OK, ..Reply::default() };
    let table = [
        (ok(health(0)), "service unhealthy (responded with \"UNKNOWN\")".to_owned()),
        (ok(health(2)), "service unhealthy (responded with \"NOT_SERVING\")".to_owned()),
        (ok(health(3)), "service unhealthy (responded with \"SERVICE_UNKNOWN\")".to_owned()),
        (ok(vec![0; 5]), "service unhealthy (responded with \"UNKNOWN\")".to_owned()),
        (ok(Vec::new()), format!("{rpc}Internal desc = the response is no HealthCheckResponse")),
        (ok(vec![0xff; 40]), format!("{rpc}Internal desc = the response is no HealthCheckResponse")),
        (
            ok(vec![0; 100_000]),
            format!("{rpc}ResourceExhausted desc = received message larger than max (4096 bytes)"),
        ),
        (
            Reply { message: health(1), ..Reply::default() },
            format!("{rpc}Internal desc = server closed the stream without sending trailers"),
        ),
        (
            Reply { message: health(1), trailers: &[("grpc-status", "five")], ..Reply::default() },
            format!("{rpc}Internal desc = malformed grpc-status"),
        ),
        (
            Reply {
                trailers: &[("grpc-status", "5"), ("grpc-message", "unknown%20service%0A")],
                ..Reply::default()
            },
            format!("{rpc}NotFound desc = unknown service\n"),
        ),
        (
            Reply { headers: &[("grpc-status", "12"), ("grpc-message", "no%1b[2J")], ..Reply::default() },
            format!("{unimplemented}no\\u{{1b}}[2J"),
        ),
        (
            Reply { status: 404, ..Reply::default() },
            format!("{unimplemented}unexpected HTTP status code received from server: 404 (Not Found)"),
        ),
        (
            Reply { status: 503, ..Reply::default() },
            format!(
                "{rpc}Unavailable desc = unexpected HTTP status code received from server: 503 (Service Unavailable)"
            ),
        ),
        (
            Reply { trailers: &[("grpc-status", "4")], ..Reply::default() },
            "timeout: health rpc did not complete within 20s".to_owned(),
        ),
    ];
    for (reply, expected) in table {
        let server = grpc_server(reply).await;
        assert_eq!(ask(server.port(), "", LONG).await, Outcome::Failure { output: expected });
    }
}

#[tokio::test]
async fn silence_times_out_with_the_words_of_the_kubelet() {
    let silent = Server::start(|stream| async move {
        std::future::pending::<()>().await;
        drop(stream);
    })
    .await;
    let outcome = ask(silent.port(), "", SHORT).await;
    assert_eq!(outcome.output(), "timeout: health rpc did not complete within 200ms");
    let port = silent.port();
    drop(silent);
    tokio::task::yield_now().await;
    let begun = Instant::now();
    let outcome = ask(port, "", SHORT).await;
    let expected = format!(
        "timeout: failed to connect service \"127.0.0.1:{port}\" within 200ms: context deadline exceeded"
    );
    assert_eq!(outcome, Outcome::Failure { output: expected });
    assert!(begun.elapsed() >= SHORT, "a refused connection is tried again until then");
}

#[tokio::test]
async fn a_server_that_speaks_http_1_fails_the_check() {
    let server = Server::http(|_| answer(200, "", "")).await;
    let outcome = ask(server.port(), "", LONG).await;
    assert!(
        outcome.output().starts_with("error: health rpc probe failed: rpc error: code = Unavailable"),
        "{outcome:?}"
    );
}

async fn connect(host: Option<&str>, port: u16, timeout: Duration) -> Outcome {
    let handler = TcpSocket { host: host.map(str::to_owned), port };
    tcp::probe(&Network::of_caller(), &handler, "127.0.0.1", timeout).await.expect("it can be attempted")
}

#[tokio::test]
async fn a_connection_is_a_success_and_its_refusal_a_failure() {
    let server = Server::start(|_| async {}).await;
    let port = server.port();
    for host in [None, Some(""), Some("127.0.0.1"), Some("localhost")] {
        assert_eq!(connect(host, port, LONG).await, Outcome::Success { output: String::new() }, "{host:?}");
    }
    drop(server);
    tokio::task::yield_now().await;
    let output = format!("dial tcp 127.0.0.1:{port}: connect: connection refused");
    assert_eq!(connect(None, port, LONG).await, Outcome::Failure { output });
    let output = "dial tcp: lookup no-such-host.invalid: no such host".to_owned();
    assert_eq!(connect(Some("no-such-host.invalid"), port, LONG).await, Outcome::Failure { output });
    let output = format!("dial tcp [::1]:{port}: connect: connection refused");
    let refused = connect(Some("::1"), port, LONG).await;
    // A host without IPv6 says so in other words.
    assert!(
        refused.output() == output || refused.output().contains("assign requested address"),
        "{refused:?}"
    );
}

#[tokio::test]
async fn a_full_backlog_times_out() {
    // Connections that nobody accepts: the kernel takes one more than the backlog, and then drops what comes.
    let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
    socket.bind("127.0.0.1:0".parse().expect("an address")).expect("a port");
    let listener = socket.listen(1).expect("a listener");
    let port = listener.local_addr().expect("an address").port();
    let mut waiting = Vec::new();
    for _ in 0..2 {
        waiting.push(tokio::net::TcpStream::connect(("127.0.0.1", port)).await.expect("there is room"));
    }
    let begun = Instant::now();
    let outcome = connect(None, port, SHORT).await;
    assert_eq!(outcome, Outcome::Failure { output: format!("dial tcp 127.0.0.1:{port}: i/o timeout") });
    assert!(begun.elapsed() < SHORT + SLACK);
}
