//! One request on one connection.

use std::error::Error as _;
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};

use http_body_util::{BodyExt as _, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::header::LOCATION;
use hyper::{HeaderMap, Request, Response};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use super::url::Url;
use crate::MAX_OUTPUT;
use crate::network::within;
use crate::text::errno_text;

/// How many bytes of headers are taken.
const MAX_HEADER_BYTES: usize = 64 * 1024;
/// How many headers are taken.
const MAX_HEADERS: usize = 256;

/// How many bytes are taken in all: interim answers and the wrappings of chunks count here alone.
const MAX_BYTES: usize = 2 * MAX_HEADER_BYTES;

const HEADERS_TIMED_OUT: &str = "context deadline exceeded (Client.Timeout exceeded while awaiting headers)";
const BODY_TIMED_OUT: &str =
    "context deadline exceeded (Client.Timeout or context cancellation while reading body)";

/// What came back.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    /// Where a redirect leads to, if this is one.
    pub(super) location: Option<String>,
    /// The beginning of the body; or why it broke off. Empty for a redirect that is followed.
    pub(super) body: Result<Vec<u8>, String>,
}

/// Returns what to say when the time is over before there is an answer.
pub(super) fn timed_out() -> String {
    HEADERS_TIMED_OUT.to_owned()
}

/// Sends a request and reads the answer; its body unless `follows` says that its `Location` will be followed.
pub(super) async fn exchange<I>(
    io: I,
    url: &Url,
    headers: HeaderMap,
    deadline: Option<Instant>,
    follows: impl Fn(&str) -> bool,
) -> Result<Answer, String>
where
    I: AsyncRead + AsyncWrite + Unpin + Send,
{
    let mut request = Request::new(Empty::<Bytes>::new());
    *request.uri_mut() = url.target.parse().map_err(|error| format!("net/url: invalid path: {error}"))?;
    *request.headers_mut() = headers;

    let mut client = http1::Builder::new();
    client.title_case_headers(true).max_headers(MAX_HEADERS).max_buf_size(MAX_HEADER_BYTES);
    let (mut sender, connection) = client
        .handshake(TokioIo::new(Bounded { io, left: MAX_BYTES }))
        .await
        .map_err(|error| describe(&error))?;
    let talk = async {
        let response = within(deadline, sender.send_request(request)).await.ok_or_else(timed_out)?;
        let response = response.map_err(|error| describe(&error))?;
        let (status, location) = (response.status().as_u16(), location(&response));
        let body = match &location {
            Some(location) if follows(location) => Ok(Vec::new()),
            _ => within(deadline, read_body(response.into_body()))
                .await
                .unwrap_or_else(|| Err(BODY_TIMED_OUT.to_owned())),
        };
        Ok(Answer { status, location, body })
    };
    beside(talk, connection).await
}

/// Returns where to go next, for the statuses that Go follows.
fn location(response: &Response<Incoming>) -> Option<String> {
    let follows = matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308);
    let location = response.headers().get(LOCATION).filter(|_| follows)?;
    Some(String::from_utf8_lossy(location.as_bytes()).into_owned()).filter(|location| !location.is_empty())
}

async fn read_body(mut body: Incoming) -> Result<Vec<u8>, String> {
    let mut kept = Vec::new();
    while kept.len() < MAX_OUTPUT {
        let Some(frame) = body.frame().await else { break };
        let frame = frame.map_err(|error| describe(&error))?;
        if let Some(data) = frame.data_ref() {
            kept.extend_from_slice(&data[..data.len().min(MAX_OUTPUT - kept.len())]);
        }
    }
    Ok(kept)
}

/// Runs `work` to its end and `connection`, on which it depends, beside it: both in the caller's task, so that nothing
/// goes on when the caller is dropped.
pub(crate) async fn beside<T>(work: impl Future<Output = T>, connection: impl Future) -> T {
    let (mut work, mut connection) = (pin!(work), pin!(connection));
    let mut is_connected = true;
    std::future::poll_fn(move |context: &mut Context<'_>| {
        loop {
            if let Poll::Ready(done) = work.as_mut().poll(context) {
                return Poll::Ready(done);
            }
            if !is_connected || connection.as_mut().poll(context).is_pending() {
                return Poll::Pending;
            }
            // What the connection had still to say has been handed over: look at it.
            is_connected = false;
        }
    })
    .await
}

/// A connection of which no more is read than any answer needs.
#[derive(Debug)]
struct Bounded<I> {
    io: I,
    left: usize,
}

impl<I: AsyncRead + Unpin> AsyncRead for Bounded<I> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.left == 0 {
            let error = io::Error::other("net/http: server response headers exceeded limits; aborted");
            return Poll::Ready(Err(error));
        }
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.io).poll_read(context, buffer);
        self.left = self.left.saturating_sub(buffer.filled().len() - before);
        polled
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for Bounded<I> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(context)
    }
}

/// Says what went wrong in the words of Go.
pub(crate) fn describe(error: &hyper::Error) -> String {
    let mut cause = error.source();
    while let Some(inner) = cause {
        if let Some(error) = inner.downcast_ref::<io::Error>() {
            return match error.raw_os_error() {
                Some(_) => format!("read: {}", errno_text(error)),
                None if error.kind() == io::ErrorKind::UnexpectedEof => "unexpected EOF".to_owned(),
                None => error.to_string(),
            };
        }
        cause = inner.source();
    }
    if error.is_incomplete_message() {
        "EOF".to_owned()
    } else if error.is_parse() {
        format!("net/http: HTTP/1.x transport connection broken: malformed HTTP response: {error}")
    } else {
        error.to_string()
    }
}
