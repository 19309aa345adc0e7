//! Requests and answers: redirects, credentials that stay with their origin, bodies that are bounded in time and size.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http_body_util::{BodyExt as _, Full};
use hyper::body::{Body as _, Bytes, Incoming};
use hyper::header::{
    AUTHORIZATION, CONTENT_LENGTH, HOST, HeaderMap, HeaderValue, LOCATION, RETRY_AFTER, USER_AGENT,
};
use hyper::{Method, Request, StatusCode};
use tokio::time::{Instant, timeout};

use super::connection::{ChosenBy, Connection, Trust, connect};
use super::error::{RegistryError, shortened};
use super::reach::Reach;
use super::settings::Registries;
use super::url::{Origin, Url};

/// How many redirects are followed.
const MAX_REDIRECTS: usize = 5;
/// Idle connections that are kept to one origin.
const MAX_IDLE: usize = 4;
/// Bytes of an error's text that are read.
const MAX_ERROR: u64 = 64 << 10;
/// Bytes of a redirect's or challenge's text that are read to keep the connection.
const MAX_IGNORED: u64 = 8 << 10;
/// A server that sends less than this in one period of patience has stalled.
const MIN_BYTES: u64 = 4 << 10;
/// Longest time that a server may ask to be left alone.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(60);

const AGENT: &str = concat!("podrun/", env!("CARGO_PKG_VERSION"));

/// Sends requests and keeps connections.
pub(super) struct Http {
    pub(super) registries: Registries,
    trust: Trust,
    idle: Mutex<HashMap<Origin, Vec<Connection>>>,
    /// How long a server may be silent.
    pub(super) patience: Duration,
}

impl fmt::Debug for Http {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Http").field("registries", &self.registries).finish_non_exhaustive()
    }
}

/// One request.
#[derive(Debug, Clone)]
pub(super) struct Ask<'a> {
    pub(super) method: Method,
    pub(super) url: Url,
    pub(super) headers: HeaderMap,
    /// Sent to the URL's own origin only, however redirects lead.
    pub(super) authorization: Option<&'a HeaderValue>,
    pub(super) body: Bytes,
    pub(super) chosen_by: ChosenBy,
}

impl<'a> Ask<'a> {
    pub(super) fn get(url: Url) -> Self {
        Self {
            method: Method::GET,
            url,
            headers: HeaderMap::new(),
            authorization: None,
            body: Bytes::new(),
            chosen_by: ChosenBy::User,
        }
    }

    pub(super) fn authorized(self, authorization: Option<&'a HeaderValue>) -> Self {
        Self { authorization, ..self }
    }
}

/// The answer, its body yet to be read.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Body,
    /// How far the server's address reaches.
    pub(super) reach: Reach,
    /// Who has answered: the last of the redirects.
    pub(super) origin: Origin,
}

impl Http {
    pub(super) fn new(registries: Registries, patience: Duration) -> Arc<Self> {
        Arc::new(Self { registries, trust: Trust::default(), idle: Mutex::default(), patience })
    }

    /// Sends a request and follows redirects.
    pub(super) async fn send(self: &Arc<Self>, ask: Ask<'_>) -> Result<Answer, RegistryError> {
        let home = ask.url.origin.clone();
        let (mut url, mut chosen_by) = (ask.url.clone(), ask.chosen_by);
        for _ in 0..=MAX_REDIRECTS {
            let authorization = ask.authorization.filter(|_| url.origin == home);
            let answer = self.exchange(&ask, &url, authorization, chosen_by).await?;
            let Some(next) = redirect(&ask.method, &url, &answer)? else { return Ok(answer) };
            if url.origin.https && !next.origin.https {
                return Err(RegistryError::Downgrade {
                    from: url.origin.to_string(),
                    to: next.origin.to_string(),
                });
            }
            // To the same origin the user's choice goes on.
            chosen_by = if next.origin == home { ask.chosen_by } else { ChosenBy::Server(answer.reach) };
            answer.pass_over().await;
            url = next;
        }
        Err(RegistryError::Redirects { url: without_query(&ask.url), max: MAX_REDIRECTS })
    }

    /// Sends one request on one connection.
    async fn exchange(
        self: &Arc<Self>,
        ask: &Ask<'_>,
        url: &Url,
        authorization: Option<&HeaderValue>,
        chosen_by: ChosenBy,
    ) -> Result<Answer, RegistryError> {
        let asked = |source| RegistryError::Request {
            method: title(&ask.method),
            url: without_query(url),
            source: Box::new(source),
        };
        // A connection that has been idle may be closed by the other side just when it is used: then a new one.
        while let Some(connection) = self.take_idle(&url.origin, chosen_by) {
            match self.exchange_on(connection, ask, url, authorization).await {
                Err(RegistryError::Http { source, .. })
                    if source.is_canceled() || source.is_closed() || source.is_incomplete_message() => {}
                done => return done.map_err(asked),
            }
        }
        let ca = self.registries.of_origin(&url.origin).ca;
        let connection = connect(&url.origin, chosen_by, &self.trust, ca.as_deref()).await.map_err(asked)?;
        self.exchange_on(connection, ask, url, authorization).await.map_err(asked)
    }

    async fn exchange_on(
        self: &Arc<Self>,
        mut connection: Connection,
        ask: &Ask<'_>,
        url: &Url,
        authorization: Option<&HeaderValue>,
    ) -> Result<Answer, RegistryError> {
        let host = url.origin.authority();
        let mut request = Request::new(Full::new(ask.body.clone()));
        *request.method_mut() = ask.method.clone();
        *request.uri_mut() = url
            .target
            .parse()
            .map_err(|_| RegistryError::Url { url: shortened(&url.to_string()), reason: "is malformed" })?;
        let headers = request.headers_mut();
        headers.clone_from(&ask.headers);
        let bad_host =
            |_| RegistryError::Url { url: shortened(&host), reason: "has a host that cannot be sent" };
        headers.insert(HOST, HeaderValue::from_str(&host).map_err(bad_host)?);
        headers.insert(USER_AGENT, HeaderValue::from_static(AGENT));
        if let Some(authorization) = authorization {
            headers.insert(AUTHORIZATION, authorization.clone());
        }
        let stalled = |what| RegistryError::Stalled { host: host.clone(), what, after: self.patience };
        let response = timeout(self.patience, connection.sender.send_request(request))
            .await
            .map_err(|_| stalled("has not answered"))?
            .map_err(|source| RegistryError::Http { host: host.clone(), source })?;
        let (parts, incoming) = response.into_parts();
        let reach = connection.reach();
        let body = Body {
            incoming,
            http: Arc::clone(self),
            connection: Some(connection),
            origin: url.origin.clone(),
            window: Window::new(self.patience),
        };
        Ok(Answer { status: parts.status, headers: parts.headers, body, reach, origin: url.origin.clone() })
    }

    fn take_idle(&self, origin: &Origin, chosen_by: ChosenBy) -> Option<Connection> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let connections = idle.get_mut(origin)?;
        connections.retain(|one| !one.sender.is_closed());
        let usable =
            connections.iter().rposition(|one| one.sender.is_ready() && chosen_by.permits(one.address))?;
        Some(connections.swap_remove(usable))
    }

    fn keep(&self, origin: &Origin, connection: Connection) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let connections = idle.entry(origin.clone()).or_default();
        if connections.len() < MAX_IDLE && !connection.sender.is_closed() {
            connections.push(connection);
        }
    }
}

/// Returns where an answer leads to, if it is a redirect of a request that may be repeated elsewhere.
fn redirect(method: &Method, url: &Url, answer: &Answer) -> Result<Option<Url>, RegistryError> {
    if !matches!(answer.status.as_u16(), 301 | 302 | 303 | 307 | 308)
        || !matches!(*method, Method::GET | Method::HEAD)
    {
        return Ok(None);
    }
    let malformed =
        || RegistryError::Answer { what: "redirect", reason: "its Location cannot be read".to_owned() };
    let location = answer.headers.get(LOCATION).ok_or_else(malformed)?;
    url.join(location.to_str().map_err(|_| malformed())?).map(Some)
}

/// How much has come in the current period of patience.
#[derive(Debug)]
struct Window {
    patience: Duration,
    /// Time spent waiting for the network; not that in which nobody wanted the data.
    waited: Duration,
    bytes: u64,
}

impl Window {
    fn new(patience: Duration) -> Self {
        Self { patience, waited: Duration::ZERO, bytes: 0 }
    }

    fn left(&self) -> Duration {
        self.patience.saturating_sub(self.waited)
    }

    fn count(&mut self, waited: Duration, bytes: u64) {
        self.waited += waited;
        self.bytes += bytes;
        if self.bytes >= MIN_BYTES {
            *self = Self::new(self.patience);
        }
    }
}

/// The data of an answer. Read to its end, its connection is used again.
pub(crate) struct Body {
    incoming: Incoming,
    http: Arc<Http>,
    connection: Option<Connection>,
    origin: Origin,
    window: Window,
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Body").field("origin", &self.origin).finish_non_exhaustive()
    }
}

impl Body {
    /// Returns the next piece; `None` at the end.
    pub(crate) async fn chunk(&mut self) -> Result<Option<Bytes>, RegistryError> {
        loop {
            let begun = Instant::now();
            let frame = timeout(self.window.left(), self.incoming.frame()).await.map_err(|_| {
                let (what, after) = ("has sent next to nothing", self.window.patience);
                RegistryError::Stalled { host: self.origin.authority(), what, after }
            })?;
            let Some(frame) = frame else {
                self.give_back();
                return Ok(None);
            };
            let frame =
                frame.map_err(|source| RegistryError::Http { host: self.origin.authority(), source })?;
            // Trailers say nothing that is of use here.
            let data = frame.into_data().unwrap_or_default();
            self.window.count(begun.elapsed(), data.len() as u64);
            if !data.is_empty() {
                return Ok(Some(data));
            }
        }
    }

    /// Returns how many bytes were announced.
    pub(crate) fn announced(&self) -> Option<u64> {
        self.incoming.size_hint().exact()
    }

    /// Reads all of a document that has at most `max` bytes.
    pub(super) async fn document(mut self, what: &'static str, max: u64) -> Result<Vec<u8>, RegistryError> {
        let too_large = RegistryError::TooLarge { what, max };
        if self.announced().is_some_and(|length| length > max) {
            return Err(too_large);
        }
        let mut bytes = Vec::new();
        while let Some(data) = self.chunk().await? {
            if (bytes.len() + data.len()) as u64 > max {
                return Err(too_large);
            }
            bytes.extend_from_slice(&data);
        }
        Ok(bytes)
    }

    fn give_back(&mut self) {
        if let Some(connection) = self.connection.take() {
            self.http.keep(&self.origin, connection);
        }
    }
}

impl Answer {
    /// Makes the error that an answer other than the expected one stands for.
    pub(super) async fn into_error(self, method: &Method, url: &Url, what: &str) -> RegistryError {
        let (status, headers) = (self.status, self.headers);
        let is_head = *method == Method::HEAD;
        // An error without a text is an error all the same.
        let text = if is_head { Vec::new() } else { self.body.text(MAX_ERROR).await };
        let message = message(&text);
        match status.as_u16() {
            404 => RegistryError::NotFound { what: what.to_owned() },
            401 | 403 => RegistryError::Denied { what: what.to_owned(), status: status.to_string(), message },
            _ => RegistryError::Status {
                method: match *method {
                    Method::HEAD => "HEAD",
                    Method::POST => "POST",
                    _ => "GET",
                },
                url: without_query(url),
                status,
                message,
                retry_after: headers
                    .get(RETRY_AFTER)
                    .and_then(|value| value.to_str().ok()?.trim().parse().ok())
                    .map(|seconds| Duration::from_secs(seconds).min(MAX_RETRY_AFTER)),
            },
        }
    }

    /// Reads a body that is of no interest, if it is little, so that the connection can be used again.
    pub(super) async fn pass_over(mut self) {
        let mut left = MAX_IGNORED;
        // A connection that fails here is not used again, and nothing else is lost.
        while let Ok(Some(data)) = self.body.chunk().await {
            left = left.saturating_sub(data.len() as u64);
            if left == 0 {
                break;
            }
        }
    }

    pub(super) fn content_length(&self) -> Option<u64> {
        self.headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
    }
}

impl Body {
    /// Reads the beginning of a text.
    async fn text(mut self, max: u64) -> Vec<u8> {
        let mut bytes = Vec::new();
        while let Ok(Some(data)) = self.chunk().await {
            bytes.extend_from_slice(&data);
            if bytes.len() as u64 >= max {
                break;
            }
        }
        bytes
    }
}

/// Returns what a registry says in its error document, or the beginning of a text that is none.
fn message(text: &[u8]) -> String {
    #[derive(serde::Deserialize)]
    struct Document {
        errors: Vec<One>,
    }
    #[derive(serde::Deserialize)]
    struct One {
        #[serde(default)]
        code: String,
        #[serde(default)]
        message: String,
    }
    let text = match serde_json::from_slice::<Document>(text) {
        Ok(Document { errors }) => {
            let one = |one: &One| if one.message.is_empty() { one.code.clone() } else { one.message.clone() };
            errors.iter().map(one).collect::<Vec<_>>().join(", ")
        }
        // A page for people says nothing in an error.
        Err(_) if text.trim_ascii_start().starts_with(b"<") => String::new(),
        Err(_) => String::from_utf8_lossy(text).into_owned(),
    };
    shortened(text.trim())
}

fn without_query(url: &Url) -> String {
    shortened(url.to_string().split('?').next().unwrap_or_default())
}

fn title(method: &Method) -> &'static str {
    match *method {
        Method::HEAD => "Head",
        Method::POST => "Post",
        _ => "Get",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn error_documents_are_reduced_to_what_they_say() {
        for (text, shown) in [
            (r#"{"errors":[{"code":"DENIED","message":"no"},{"code":"OTHER"}]}"#, "no, OTHER"),
            ("plain text\r\nwith lines", "plain text  with lines"),
            (" <html>...", ""),
            ("", ""),
            ("a\u{1b}[31mred", "a [31mred"),
        ] {
            assert_eq!(message(text.as_bytes()), shown);
        }
        assert!(message("x".repeat(10_000).as_bytes()).chars().count() < 400);
    }

    #[test]
    fn patience_ends_for_who_sends_a_byte_at_a_time() {
        let mut window = Window::new(Duration::from_secs(10));
        for _ in 0..9 {
            window.count(Duration::from_secs(1), 1);
        }
        assert_eq!(window.left(), Duration::from_secs(1));
        window.count(Duration::from_millis(500), MIN_BYTES);
        assert_eq!(window.left(), Duration::from_secs(10));
    }
}
