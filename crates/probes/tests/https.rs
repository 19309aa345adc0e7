//! TLS: nobody's certificate is checked, and hooks fall back to plain HTTP.

mod common;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::{LONG, Server, answer};
use podrun_probes::exec::NoExec;
use podrun_probes::{Executor, Hook, HookError, HttpGet, Network, Outcome, Scheme, http};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio_rustls::rustls::{ServerConfig, SupportedProtocolVersion, crypto, version};

/// Speaks one version of TLS with a certificate for somebody else.
async fn tls_server(version: &'static SupportedProtocolVersion, reply: &'static str) -> Server {
    let certificate = CertificateDer::from(&include_bytes!("data/certificate.der")[..]);
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(&include_bytes!("data/key.der")[..]));
    let config = ServerConfig::builder_with_provider(Arc::new(crypto::ring::default_provider()))
        .with_protocol_versions(&[version])
        .expect("known to the provider")
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .expect("they belong together");
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let names = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&names);
    let mut server = Server::start(move |stream| {
        let (acceptor, log) = (acceptor.clone(), Arc::clone(&log));
        async move {
            let Ok(mut stream) = acceptor.accept(stream).await else { return };
            log.lock().expect("no panic").push(stream.get_ref().1.server_name().unwrap_or("none").to_owned());
            let mut buffer = [0; 4096];
            drop(stream.read(&mut buffer).await);
            drop(stream.write_all(reply.as_bytes()).await);
            drop(stream.shutdown().await);
        }
    })
    .await;
    server.requests = names;
    server
}

fn get(port: u16) -> HttpGet {
    HttpGet { scheme: Scheme::Https, ..HttpGet::new(port) }
}

async fn probe(get: &HttpGet) -> Outcome {
    http::probe(&Network::of_caller(), get, "127.0.0.1", "1.36", LONG).await.expect("it can be attempted")
}

fn executor() -> Executor<NoExec> {
    Executor::new(NoExec, Network::of_caller(), "127.0.0.1", "1.36")
}

#[tokio::test]
async fn any_certificate_is_good_enough() {
    const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfine";
    for version in [&version::TLS12, &version::TLS13] {
        let server = tls_server(version, OK).await;
        let port = server.port();
        assert_eq!(probe(&get(port)).await, Outcome::Success { output: "fine".to_owned() }, "{version:?}");
        let named = HttpGet { host: Some("localhost".to_owned()), ..get(port) };
        assert!(probe(&named).await.is_success());
        // Addresses are not told as names.
        assert_eq!(server.seen(), ["none", "localhost"]);
    }
}

#[tokio::test]
async fn a_close_without_farewell_ends_a_body_of_known_length() {
    let server = tls_server(&version::TLS13, "HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n").await;
    assert_eq!(probe(&get(server.port())).await.output(), "HTTP probe failed with statuscode: 503");
}

#[tokio::test]
async fn a_redirect_to_tls_on_the_same_host_is_followed() {
    let secure = tls_server(&version::TLS13, "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfine").await;
    let location = format!("Location: https://127.0.0.1:{}/\r\n", secure.port());
    let plain = Server::http(move |_| answer(301, &location, "")).await;
    assert_eq!(probe(&HttpGet::new(plain.port())).await, Outcome::Success { output: "fine".to_owned() });
}

#[tokio::test]
async fn a_probe_does_not_fall_back_to_plain_http() {
    let server = Server::start(|mut stream| async move {
        drop(stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await);
        drop(stream.shutdown().await);
    })
    .await;
    let url = format!("https://127.0.0.1:{}/", server.port());
    let output = format!("Get \"{url}\": http: server gave HTTP response to HTTPS client");
    assert_eq!(probe(&get(server.port())).await, Outcome::Failure { output });
}

/// Answers TLS as a web server does, and plain requests with `status`.
async fn plain_server(status: u16) -> Server {
    let requests = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&requests);
    let mut server = Server::start(move |mut stream| {
        let log = Arc::clone(&log);
        async move {
            let mut buffer = vec![0; 4096];
            let read = stream.read(&mut buffer).await.unwrap_or(0);
            let is_tls = buffer[0] == 0x16;
            if !is_tls {
                log.lock().expect("no panic").push(String::from_utf8_lossy(&buffer[..read]).into_owned());
            }
            let status = if is_tls { 400 } else { status };
            drop(stream.write_all(&answer(status, "Connection: close\r\n", "")).await);
            drop(stream.shutdown().await);
        }
    })
    .await;
    server.requests = requests;
    server
}

#[tokio::test]
async fn a_hook_falls_back_once_and_without_credentials() {
    let server = plain_server(500).await;
    let headers = [("Authorization", "Bearer secret"), ("X-A", "1")];
    let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
    let hook = Hook::HttpGet(HttpGet { headers, path: "/bye".to_owned(), ..get(server.port()) });
    let event = executor().hook(&hook).await.expect("an answer").event.expect("it fell back");
    assert_eq!(event.reason, "LifecycleHTTPFallback");
    let authority = format!("127.0.0.1:{}", server.port());
    let message =
        format!("request to HTTPS lifecycle hook {authority} got HTTP response, retry with HTTP succeeded");
    assert_eq!(event.message, message);
    let seen = server.seen();
    assert_eq!(seen.len(), 1);
    assert!(seen[0].starts_with("GET /bye HTTP/1.1\r\n") && seen[0].contains("X-A: 1"), "{}", seen[0]);
    assert!(!seen[0].contains("secret"), "{}", seen[0]);
    assert!(seen[0].contains("User-Agent: kube-lifecycle/1.36"), "{}", seen[0]);
}

#[tokio::test]
async fn any_answer_satisfies_a_hook_and_none_does_not() {
    for status in [200, 302, 404, 500] {
        let server = Server::http(move |_| answer(status, "", "")).await;
        let hook = Hook::HttpGet(HttpGet::new(server.port()));
        assert_eq!(executor().hook(&hook).await.expect("an answer").event, None, "{status}");
    }
    let port = Server::http(|_| Vec::new()).await.port();
    tokio::task::yield_now().await;
    let error = executor().hook(&Hook::HttpGet(HttpGet::new(port))).await.expect_err("nobody is there");
    assert!(
        matches!(&error, HookError::Request { message } if message.ends_with("connection refused")),
        "{error}"
    );
}

#[tokio::test]
async fn hooks_sleep_and_cannot_open_sockets() {
    let begun = std::time::Instant::now();
    let pause = Duration::from_millis(50);
    executor().hook(&Hook::Sleep(pause)).await.expect("it is over");
    assert!(begun.elapsed() >= pause);
    executor().hook(&Hook::Sleep(Duration::ZERO)).await.expect("it is over at once");
    let socket = podrun_probes::TcpSocket { host: None, port: 1 };
    let error = executor().hook(&Hook::TcpSocket(socket)).await.expect_err("as in a kubelet");
    assert_eq!(error.to_string(), "invalid handler: tcpSocket");
}
