//! What an HTTP probe makes of well-behaved servers.

mod common;

use std::time::Duration;

use common::{LONG, SHORT, SLACK, Server, answer, path_of};
use podrun_probes::{HttpGet, Network, Outcome, http};

async fn probe(get: &HttpGet, timeout: Duration) -> Outcome {
    let network = Network::of_caller();
    http::probe(&network, get, "127.0.0.1", "1.36", timeout).await.expect("it can be attempted")
}

fn get(port: u16, path: &str) -> HttpGet {
    HttpGet { path: path.to_owned(), ..HttpGet::new(port) }
}

fn headers(list: &[(&str, &str)]) -> Vec<(String, String)> {
    list.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

#[tokio::test]
async fn the_status_decides() {
    let server = Server::http(|head| {
        let status = path_of(head).trim_start_matches('/').parse().expect("the test's own path");
        answer(status, "", "the body")
    })
    .await;
    for status in 200..600 {
        let outcome = probe(&get(server.port(), &format!("/{status}")), LONG).await;
        // These two have no body, whatever is sent.
        let body = if matches!(status, 204 | 304) { "" } else { "the body" };
        let expected = match status {
            200..300 => Outcome::Success { output: body.to_owned() },
            300..400 => {
                Outcome::Warning { output: format!("Probe terminated redirects, Response body: {body}") }
            }
            _ => Outcome::Failure { output: format!("HTTP probe failed with statuscode: {status}") },
        };
        assert_eq!(outcome, expected, "{status}");
    }
}

#[tokio::test]
async fn a_request_looks_as_that_of_a_kubelet() {
    let server = Server::http(|_| answer(200, "", "")).await;
    let port = server.port();
    let plain = get(port, "/healthz?full=1");
    let custom = HttpGet {
        headers: headers(&[("Host", "web.example"), ("X-A", "1"), ("X-A", "2"), ("Accept", "")]),
        ..plain.clone()
    };
    for request in [&plain, &custom] {
        assert!(probe(request, LONG).await.is_success());
    }
    let seen = server.seen();
    let lines = |head: &str| {
        let mut lines: Vec<String> = head.trim_end().lines().map(str::to_owned).collect();
        lines[1..].sort();
        lines
    };
    let host = format!("Host: 127.0.0.1:{port}");
    let first = [
        "GET /healthz?full=1 HTTP/1.1",
        "Accept: */*",
        "Connection: close",
        &host,
        "User-Agent: kube-probe/1.36",
    ];
    assert_eq!(lines(&seen[0]), first);
    let second = [
        "GET /healthz?full=1 HTTP/1.1",
        "Connection: close",
        "Host: web.example",
        "User-Agent: kube-probe/1.36",
        "X-A: 1",
        "X-A: 2",
    ];
    assert_eq!(lines(&seen[1]), second);
}

#[tokio::test]
async fn a_header_that_cannot_be_sent_fails_the_probe() {
    let server = Server::http(|_| answer(200, "", "")).await;
    let request = HttpGet { headers: headers(&[("X-A", "secret\r\nX-B: 1")]), ..get(server.port(), "/") };
    let outcome = probe(&request, LONG).await;
    let url = format!("http://127.0.0.1:{}/", server.port());
    let output = format!("Get \"{url}\": net/http: invalid header field value for \"X-A\"");
    assert_eq!(outcome, Outcome::Failure { output });
    assert_eq!(server.seen(), Vec::<String>::new());
}

#[tokio::test]
async fn debug_output_tells_no_values_of_headers() {
    let request = HttpGet { headers: headers(&[("Authorization", "Bearer secret")]), ..get(80, "/") };
    let text = format!("{request:?}");
    assert!(text.contains("Authorization") && !text.contains("secret"), "{text}");
}

#[tokio::test]
async fn redirects_within_the_host_are_followed_and_others_are_not() {
    let elsewhere = Server::http(|_| answer(200, "", "elsewhere")).await;
    let other_port = elsewhere.port();
    for status in [301, 302, 303, 307, 308] {
        let server = Server::http(move |head| {
            let location = match path_of(head) {
                "/relative" => "fine".to_owned(),
                "/absolute-path" => "/fine".to_owned(),
                "/other-port" => format!("http://127.0.0.1:{other_port}/x"),
                "/other-host" => format!("http://localhost:{other_port}/x"),
                "/metadata" => "http://169.254.169.254/latest/meta-data".to_owned(),
                "/other-scheme-and-host" => "https://example.org/".to_owned(),
                "/schemeless" => format!("//127.0.0.1:{other_port}/x"),
                "/to-bad" => "/bad".to_owned(),
                "/bad" => return answer(503, "", ""),
                "/fine" => return answer(200, "", "fine"),
                "/loop" => "/loop".to_owned(),
                "/ftp" => "ftp://127.0.0.1/x".to_owned(),
                "/broken" => "http://127.0.0.1:port/".to_owned(),
                "/none" => return answer(status, "", "no location"),
                other => other.strip_prefix("/count/").and_then(|n| n.parse().ok()).map_or_else(
                    || panic!("{other}"),
                    |n: u32| if n == 0 { "/fine".to_owned() } else { format!("/count/{}", n - 1) },
                ),
            };
            answer(status, &format!("Location: {location}\r\n"), "<a>moved</a>")
        })
        .await;
        let url = format!("http://127.0.0.1:{}", server.port());
        let success = |output: &str| Outcome::Success { output: output.to_owned() };
        let warning = |body: &str| Outcome::Warning {
            output: format!("Probe terminated redirects, Response body: {body}"),
        };
        let failure = |output: String| Outcome::Failure { output };
        for (path, expected) in [
            ("/relative", success("fine")),
            ("/absolute-path", success("fine")),
            ("/other-port", success("elsewhere")),
            ("/schemeless", success("elsewhere")),
            ("/other-host", warning("<a>moved</a>")),
            ("/metadata", warning("<a>moved</a>")),
            ("/other-scheme-and-host", warning("<a>moved</a>")),
            ("/none", warning("no location")),
            ("/to-bad", failure("HTTP probe failed with statuscode: 503".to_owned())),
            ("/loop", failure(format!("Get \"{url}/loop\": stopped after 10 redirects"))),
            ("/ftp", failure("Get \"ftp://127.0.0.1/x\": unsupported protocol scheme \"ftp\"".to_owned())),
            (
                "/broken",
                failure(format!(
                    "Get \"{url}/broken\": failed to parse Location header \"http://127.0.0.1:port/\""
                )),
            ),
            ("/count/8", success("fine")),
            ("/count/9", failure(format!("Get \"{url}/fine\": stopped after 10 redirects"))),
        ] {
            assert_eq!(probe(&get(server.port(), path), LONG).await, expected, "{status} {path}");
        }
    }
    let hosts: Vec<_> = elsewhere.seen().iter().filter(|head| head.contains("localhost")).cloned().collect();
    assert_eq!(hosts, Vec::<String>::new(), "another host was asked");
}

#[tokio::test]
async fn an_unreachable_server_fails_the_probe() {
    let port = Server::http(|_| Vec::new()).await.port();
    // The server is gone with the statement that made it, perhaps not yet its socket.
    tokio::task::yield_now().await;
    let output =
        format!("Get \"http://127.0.0.1:{port}/\": dial tcp 127.0.0.1:{port}: connect: connection refused");
    assert_eq!(probe(&get(port, "/"), LONG).await, Outcome::Failure { output });
    let named = HttpGet { host: Some("no-such-host.invalid".to_owned()), ..get(port, "/") };
    let outcome = probe(&named, LONG).await;
    let expected = format!(
        "Get \"http://no-such-host.invalid:{port}/\": dial tcp: lookup no-such-host.invalid: no such host"
    );
    assert_eq!(outcome, Outcome::Failure { output: expected });
}

#[tokio::test]
async fn names_are_hosts_too_and_an_empty_one_is_the_pod() {
    let server = Server::http(|_| answer(200, "", "")).await;
    for host in [Some("localhost"), Some("127.0.0.1"), Some(""), None] {
        let request = HttpGet { host: host.map(str::to_owned), ..get(server.port(), "/") };
        assert!(probe(&request, LONG).await.is_success(), "{host:?}");
    }
}

#[tokio::test]
async fn the_timeout_covers_connection_headers_body_and_redirects() {
    use tokio::io::AsyncWriteExt as _;
    let silent = Server::start(|stream| async move {
        std::future::pending::<()>().await;
        drop(stream);
    })
    .await;
    let dripping = Server::start(|mut stream| async move {
        common::read_head(&mut stream).await;
        drop(stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n").await);
        while stream.write_all(b".").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    let slow_loop = Server::start(|mut stream| async move {
        common::read_head(&mut stream).await;
        tokio::time::sleep(Duration::from_millis(60)).await;
        drop(stream.write_all(b"HTTP/1.1 302 Found\r\nLocation: /\r\nContent-Length: 0\r\n\r\n").await);
    })
    .await;
    let awaiting = "context deadline exceeded (Client.Timeout exceeded while awaiting headers)";
    let reading = "context deadline exceeded (Client.Timeout or context cancellation while reading body)";
    let in_headers = |port| format!("Get \"http://127.0.0.1:{port}/\": {awaiting}");
    for (server, expected) in [
        (&silent, in_headers(silent.port())),
        (&dripping, reading.to_owned()),
        (&slow_loop, in_headers(slow_loop.port())),
    ] {
        let begun = std::time::Instant::now();
        let outcome = probe(&get(server.port(), "/"), SHORT).await;
        let took = begun.elapsed();
        assert_eq!(outcome, Outcome::Failure { output: expected });
        assert!(took >= SHORT && took < SHORT + SLACK, "{took:?}");
    }
}
