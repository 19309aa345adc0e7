//! Makes one probe of a server and prints what a kubelet would say.
//!
//! `cargo run --example probe -- http://127.0.0.1:8080/healthz`, also with `https:`, `tcp:` and `grpc:`; after it, if need
//! be, a network namespace such as `/run/netns/blue`.

#![expect(clippy::print_stdout, reason = "an example may print")]

use std::time::{Duration, Instant};

use podrun_namespaces::Namespace;
use podrun_probes::exec::NoExec;
use podrun_probes::{
    Executor, Grpc, Handler, HttpGet, Kind, Network, Scheme, TcpSocket, probe_event, resolve_port,
};

const USAGE: &str = "usage: probe http|https|tcp|grpc://HOST:PORT/PATH [NAMESPACE]";

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let url = arguments.next().ok_or(USAGE)?;
    let network = match arguments.next() {
        Some(path) => Network::of_namespace(Namespace::open(path)?),
        None => Network::of_caller(),
    };
    let (scheme, rest) = url.split_once("://").ok_or(USAGE)?;
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let (host, port) = authority.rsplit_once(':').ok_or(USAGE)?;
    let port = resolve_port(port, [])?;
    let http = |scheme| Handler::HttpGet(HttpGet { scheme, path: format!("/{path}"), ..HttpGet::new(port) });
    let handler = match scheme {
        "http" => http(Scheme::Http),
        "https" => http(Scheme::Https),
        "tcp" => Handler::TcpSocket(TcpSocket { host: None, port }),
        "grpc" => Handler::Grpc(Grpc { port, service: path.to_owned() }),
        _ => return Err(USAGE.into()),
    };
    let executor = Executor::new(NoExec, network, host, "1.36");
    let begun = Instant::now();
    let result = executor.probe(&handler, Duration::from_secs(1)).await;
    match probe_event(Kind::Liveness, result.as_ref()) {
        Some(event) => println!("{}: {}", event.reason, event.message),
        None => println!("well, after {:?}", begun.elapsed()),
    }
    Ok(())
}
