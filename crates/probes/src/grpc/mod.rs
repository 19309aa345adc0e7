//! `grpc`: the gRPC health checking protocol, in the clear.

mod wire;

use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http2;
use hyper::header::{CONTENT_TYPE, HeaderName, HeaderValue, TE, USER_AGENT};
use hyper::{HeaderMap, Method, Request, Response, StatusCode, Version};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::http::{beside, describe};
use crate::network::{Unconnected, within};
use crate::text::{go_duration, harmless, join_host_port};
use crate::{Network, Outcome, Result};
use wire::{DEADLINE_EXCEEDED, MAX_MESSAGE, PREFIX, ServingStatus, UNIMPLEMENTED, code_name, code_of_http};

/// After how long a refused connection is tried again: the first back-off of gRPC.
const RETRY: Duration = Duration::from_secs(1);
/// How many bytes of headers are taken.
const MAX_HEADER_BYTES: u32 = 16 * 1024;

/// A service to ask for its health, as `grpc` of a probe describes it. The host is always the Pod.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Grpc {
    /// The port.
    pub port: u16,
    /// The service; empty for the server as a whole.
    pub service: String,
}

/// Asks the server for its health: that it says `SERVING` is the success.
///
/// A connection that is refused is tried again until the time is over, as gRPC clients do. `version` is `1.36` for the
/// user agent `kube-probe/1.36`.
///
/// # Errors
///
/// [`Error::Enter`](crate::Error::Enter), [`Error::Socket`](crate::Error::Socket) and
/// [`Error::Thread`](crate::Error::Thread) if the connection could not be attempted.
pub async fn probe(
    network: &Network,
    handler: &Grpc,
    pod: &str,
    version: &str,
    timeout: Duration,
) -> Result<Outcome> {
    let deadline = Instant::now() + timeout;
    let address = join_host_port(pod, handler.port);
    let stream = match connect(network, pod, handler.port, deadline).await? {
        Ok(stream) => stream,
        Err(NotConnected::TimedOut) => {
            return Ok(Outcome::failure(format!(
                "timeout: failed to connect service {address:?} within {}: context deadline exceeded",
                go_duration(timeout)
            )));
        }
        Err(NotConnected::NoSuchHost(text)) => {
            return Ok(Outcome::failure(format!("error: failed to connect service at {address:?}: {text}")));
        }
    };
    let asked = within(Some(deadline), check(stream, handler, &address, version, timeout)).await;
    Ok(match asked {
        Some(Ok(ServingStatus::SERVING)) => Outcome::Success { output: "service healthy".to_owned() },
        Some(Ok(status)) => {
            Outcome::failure(format!("service unhealthy (responded with \"{status}\")"))
        }
        None | Some(Err(Status { code: DEADLINE_EXCEEDED, .. })) => Outcome::failure(format!(
            "timeout: health rpc did not complete within {}",
            go_duration(timeout)
        )),
        Some(Err(Status { code: UNIMPLEMENTED, message })) => Outcome::failure(harmless(
            format!(
                "error: this server does not implement the grpc health protocol (grpc.health.v1.Health): {message}"
            )
            .as_bytes(),
        )),
        Some(Err(Status { code, message })) => Outcome::failure(harmless(
            format!(
                "error: health rpc probe failed: rpc error: code = {} desc = {message}",
                code_name(code)
            )
            .as_bytes(),
        )),
    })
}

enum NotConnected {
    TimedOut,
    NoSuchHost(String),
}

async fn connect(
    network: &Network,
    host: &str,
    port: u16,
    deadline: Instant,
) -> Result<Result<TcpStream, NotConnected>> {
    loop {
        match network.connect(host, port, Some(deadline)).await {
            Ok(stream) => return Ok(Ok(stream)),
            Err(Unconnected::Error(error)) => return Err(error),
            Err(Unconnected::TimedOut { .. }) => return Ok(Err(NotConnected::TimedOut)),
            Err(Unconnected::Failed(text)) if text.contains(": lookup ") => {
                return Ok(Err(NotConnected::NoSuchHost(text)));
            }
            Err(Unconnected::Failed(_)) => {
                if within(Some(deadline), sleep(RETRY)).await.is_none() {
                    return Ok(Err(NotConnected::TimedOut));
                }
            }
        }
    }
}

/// Why a call failed.
struct Status {
    code: u32,
    message: String,
}

impl Status {
    fn unavailable(error: &hyper::Error) -> Self {
        Self { code: 14, message: format!("connection error: {}", describe(error)) }
    }

    fn internal(message: &str) -> Self {
        Self { code: 13, message: message.to_owned() }
    }
}

/// Makes the call.
async fn check(
    stream: TcpStream,
    handler: &Grpc,
    address: &str,
    version: &str,
    timeout: Duration,
) -> Result<ServingStatus, Status> {
    let request = request(handler, address, version, timeout)?;
    // The tasks of the connection end with this scope, whatever the server does.
    let tasks = Arc::new(Mutex::new(JoinSet::new()));
    let client = http2::Builder::new(Tasks(Arc::downgrade(&tasks)))
        .max_header_list_size(MAX_HEADER_BYTES)
        .handshake(TokioIo::new(stream))
        .await;
    let (mut sender, connection) = client.map_err(|error| Status::unavailable(&error))?;
    let talk = async {
        let response = sender.send_request(request).await.map_err(|error| Status::unavailable(&error))?;
        read(response).await
    };
    beside(talk, connection).await
}

fn request(
    handler: &Grpc,
    address: &str,
    version: &str,
    timeout: Duration,
) -> Result<Request<Full<Bytes>>, Status> {
    let mut request = Request::new(Full::new(Bytes::from(wire::request(&handler.service))));
    *request.method_mut() = Method::POST;
    *request.version_mut() = Version::HTTP_2;
    let uri = format!("http://{address}/grpc.health.v1.Health/Check");
    *request.uri_mut() = uri.parse().map_err(|_| Status::internal("the host is no part of a URL"))?;
    let headers = request.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert(TE, HeaderValue::from_static("trailers"));
    // At most eight digits, says the protocol: more than a day of milliseconds.
    let millis = timeout.as_millis().clamp(1, 99_999_999);
    let values = [
        (USER_AGENT, format!("kube-probe/{version} podrun-probes/{}", env!("CARGO_PKG_VERSION"))),
        (HeaderName::from_static("grpc-timeout"), format!("{millis}m")),
    ];
    for (name, value) in values {
        let value = HeaderValue::try_from(value).map_err(|_| Status::internal("the version is no header"))?;
        headers.insert(name, value);
    }
    Ok(request)
}

async fn read(response: Response<Incoming>) -> Result<ServingStatus, Status> {
    let (head, mut body) = response.into_parts();
    // A call that failed at once has its status here and no body.
    if let Some(status) = status(&head.headers) {
        status?;
    }
    if head.status != StatusCode::OK {
        let reason = head.status.canonical_reason().unwrap_or_default();
        let code = head.status.as_u16();
        let message = format!("unexpected HTTP status code received from server: {code} ({reason})");
        return Err(Status { code: code_of_http(code), message });
    }
    let mut message = Vec::new();
    let mut ended = None;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| Status::unavailable(&error))?;
        match frame.into_data() {
            Ok(data) => {
                message.extend_from_slice(&data);
                if message.len() > PREFIX + MAX_MESSAGE {
                    let message = format!("received message larger than max ({MAX_MESSAGE} bytes)");
                    return Err(Status { code: 8, message });
                }
            }
            Err(frame) => ended = frame.into_trailers().ok().and_then(|trailers| status(&trailers)),
        }
    }
    match ended {
        Some(Err(status)) => Err(status),
        Some(Ok(())) => {
            wire::response(&message).ok_or_else(|| Status::internal("the response is no HealthCheckResponse"))
        }
        None => Err(Status::internal("server closed the stream without sending trailers")),
    }
}

/// Returns how the call ended, if these headers or trailers say so.
fn status(headers: &HeaderMap) -> Option<Result<(), Status>> {
    let code = headers.get("grpc-status")?.to_str().ok().and_then(|code| code.parse().ok());
    let message = headers.get("grpc-message").map(HeaderValue::as_bytes).unwrap_or_default();
    let message = String::from_utf8_lossy(&wire::decode_message(message)).into_owned();
    Some(match code {
        Some(0) => Ok(()),
        Some(code) => Err(Status { code, message }),
        None => Err(Status::internal("malformed grpc-status")),
    })
}

/// Runs the tasks that hyper starts for a connection, for as long as somebody owns the set.
#[derive(Clone)]
struct Tasks(Weak<Mutex<JoinSet<()>>>);

impl<F> hyper::rt::Executor<F> for Tasks
where
    F: Future<Output: Send + 'static> + Send + 'static,
{
    fn execute(&self, task: F) {
        // Without an owner the connection is at its end, and so is the task.
        if let Some(tasks) = self.0.upgrade() {
            let mut tasks = tasks.lock().unwrap_or_else(PoisonError::into_inner);
            tasks.spawn(async move { drop(task.await) });
        }
    }
}
