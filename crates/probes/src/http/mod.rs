//! `httpGet`: one GET, with the kubelet's rules about headers, redirects and statuses.

mod exchange;
mod headers;
mod tls;
mod url;

use std::fmt;
use std::time::Duration;

use tokio::time::Instant;

use exchange::{Answer, exchange, timed_out};
pub(crate) use exchange::{beside, describe};
use headers::Headers;
use tls::Refused;
use url::Url;

use crate::network::{Unconnected, within};
use crate::text::harmless;
use crate::{Error, Network, Outcome, Result};

/// How many requests one probe makes at most: that to the manifest's URL and nine redirects, as Go's client.
pub const MAX_REQUESTS: usize = 10;

/// How a server is spoken to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// In the clear.
    #[default]
    Http,
    /// With TLS. The server's certificate is not checked.
    Https,
}

impl fmt::Display for Scheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Http => "http",
            Self::Https => "https",
        })
    }
}

/// An HTTP request, as `httpGet` of a probe or hook describes it.
///
/// Compared and hashed by what is written, so that an identical handler in two probes can be recognised.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct HttpGet {
    /// The scheme.
    pub scheme: Scheme,
    /// The host to connect to; `None` is the Pod itself.
    pub host: Option<String>,
    /// The port; see [`resolve_port`](crate::resolve_port) for names.
    pub port: u16,
    /// The path, and a query if it has one.
    pub path: String,
    /// Names and values, in order. Values may be secret.
    pub headers: Vec<(String, String)>,
}

impl HttpGet {
    /// Returns a request for `/` in the clear.
    pub const fn new(port: u16) -> Self {
        Self { scheme: Scheme::Http, host: None, port, path: String::new(), headers: Vec::new() }
    }

    fn url(&self, pod: &str) -> Url {
        let host = self.host.as_deref().filter(|host| !host.is_empty()).unwrap_or(pod);
        Url::of_action(&self.scheme.to_string(), host, self.port, &self.path)
    }
}

impl fmt::Debug for HttpGet {
    /// Shows names of headers alone: their values may be passwords.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.headers.iter().map(|(name, _)| name.as_str()).collect();
        f.debug_struct("HttpGet")
            .field("scheme", &self.scheme)
            .field("host", &self.host)
            .field("port", &self.port)
            .field("path", &self.path)
            .field("headers", &names)
            .finish()
    }
}

/// Asks the server, as a probe.
///
/// - A status from 200 to 299 is a success; its output is the beginning of the body.
/// - Redirects to the same host are followed, [`MAX_REQUESTS`] requests in all. A redirect to another host is not
///   followed: that, and any other status from 300 to 399, is a [`Outcome::Warning`].
/// - Everything else is a failure: any other status, no connection, no answer in time, an answer that is not HTTP, a body
///   that breaks off within what is read of it.
///
/// `pod` is the host where the request names none, `version` is `1.36` for the user agent `kube-probe/1.36`. The timeout
/// covers everything, redirects and body included.
///
/// The one deviation from a kubelet: there a body that breaks off, or does not come in time, is thrown away as no
/// verdict at all, so that a server that drips its body forever is never restarted. Here it is a failure.
///
/// # Errors
///
/// [`Error::Enter`], [`Error::Socket`] and [`Error::Thread`] if the request could not be attempted.
pub async fn probe(
    network: &Network,
    request: &HttpGet,
    pod: &str,
    version: &str,
    timeout: Duration,
) -> Result<Outcome> {
    let deadline = Some(Instant::now() + timeout);
    let url = request.url(pod);
    let answer = match Headers::new(&request.headers, &format!("kube-probe/{version}")) {
        Ok(headers) => get(network, url, headers, deadline).await,
        Err(text) => Err(Failed::Exchange { url: url.to_string(), text, gave_http: false }),
    };
    let answer = match answer {
        Ok(answer) => answer,
        Err(Failed::Setup(error)) => return Err(error),
        Err(failed) => return Ok(Outcome::failure(failed.to_string())),
    };
    Ok(match answer {
        Answer { status: 200..=399, body: Err(text), .. } => Outcome::failure(harmless(text.as_bytes())),
        Answer { status: 200..=299, body: Ok(body), .. } => Outcome::Success { output: harmless(&body) },
        Answer { status: 300..=399, body: Ok(mut body), .. } => {
            body.splice(0..0, *b"Probe terminated redirects, Response body: ");
            Outcome::Warning { output: harmless(&body) }
        }
        // The body is not told: a probe can be aimed at servers whose answers are nobody's business.
        Answer { status, .. } => Outcome::failure(format!("HTTP probe failed with statuscode: {status}")),
    })
}

/// What a hook's request came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Hooked {
    /// There was an answer; its status is nobody's business.
    Answered,
    /// There was one in the clear, where TLS was asked for.
    AnsweredInTheClear {
        /// Host and port.
        authority: String,
    },
    /// There was none.
    Failed(String),
}

/// Asks the server, as a hook. Without a timeout of its own.
pub(crate) async fn hook(network: &Network, request: &HttpGet, pod: &str, version: &str) -> Result<Hooked> {
    let mut url = request.url(pod);
    let headers = match Headers::new(&request.headers, &format!("kube-lifecycle/{version}")) {
        Ok(headers) => headers,
        Err(text) => {
            let failed = Failed::Exchange { url: url.to_string(), text, gave_http: false };
            return Ok(Hooked::Failed(failed.to_string()));
        }
    };
    match get(network, url.clone(), headers.clone(), None).await {
        Ok(_) => Ok(Hooked::Answered),
        Err(Failed::Setup(error)) => Err(error),
        // Before hooks knew schemes, all were made in the clear; such servers are still out there.
        Err(first @ Failed::Exchange { gave_http: true, .. }) => {
            "http".clone_into(&mut url.scheme);
            let authority = url.authority();
            match get(network, url, headers.without_credentials(), None).await {
                Ok(_) => Ok(Hooked::AnsweredInTheClear { authority }),
                Err(Failed::Setup(error)) => Err(error),
                Err(Failed::Exchange { .. }) => Ok(Hooked::Failed(first.to_string())),
            }
        }
        Err(failed) => Ok(Hooked::Failed(failed.to_string())),
    }
}

/// Why there is no answer.
#[derive(Debug)]
enum Failed {
    /// It could not be attempted.
    Setup(Error),
    /// It was, and failed.
    Exchange { url: String, text: String, gave_http: bool },
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Setup(error) => write!(f, "{error}"),
            Self::Exchange { url, text, .. } => {
                f.write_str(&harmless(format!("Get {url:?}: {text}").as_bytes()))
            }
        }
    }
}

/// Follows redirects until there is an answer that counts.
async fn get(
    network: &Network,
    mut url: Url,
    mut headers: Headers,
    deadline: Option<Instant>,
) -> Result<Answer, Failed> {
    let first_host = url.host.clone();
    for _ in 0..MAX_REQUESTS {
        let leaves = |reference: &str| url.join(reference).is_ok_and(|next| next.host != first_host);
        let answer = once(network, &url, &headers, deadline, |reference| !leaves(reference)).await?;
        let Some(reference) = answer.location.as_deref().filter(|reference| !leaves(reference)) else {
            return Ok(answer);
        };
        let next = url.join(reference).map_err(|_| {
            let text = format!("failed to parse Location header {reference:?}");
            Failed::Exchange { url: url.to_string(), text, gave_http: false }
        })?;
        headers.redirected(&url, &next, reference);
        url = next;
    }
    let text = format!("stopped after {MAX_REQUESTS} redirects");
    Err(Failed::Exchange { url: url.to_string(), text, gave_http: false })
}

/// Makes one request on a connection of its own.
async fn once(
    network: &Network,
    url: &Url,
    headers: &Headers,
    deadline: Option<Instant>,
    follows: impl Fn(&str) -> bool,
) -> Result<Answer, Failed> {
    let failed = |text| Failed::Exchange { url: url.to_string(), text, gave_http: false };
    let is_secure = match url.scheme.as_str() {
        "http" => false,
        "https" => true,
        other => return Err(failed(format!("unsupported protocol scheme {other:?}"))),
    };
    let stream = network.connect(&url.host, url.port_or_default(), deadline).await;
    let stream = stream.map_err(|error| match error {
        Unconnected::Error(error) => Failed::Setup(error),
        Unconnected::Failed(text) => failed(text),
        Unconnected::TimedOut { .. } => failed(timed_out()),
    })?;
    let sent = headers.for_request(url);
    if !is_secure {
        return exchange(stream, url, sent, deadline, follows).await.map_err(failed);
    }
    let secured = within(deadline, tls::connect(stream, &url.host)).await;
    let stream = secured.ok_or_else(|| failed(timed_out()))?.map_err(|refused| match refused {
        Refused::GaveHttp => {
            let text = "http: server gave HTTP response to HTTPS client".to_owned();
            Failed::Exchange { url: url.to_string(), text, gave_http: true }
        }
        Refused::Other(text) => failed(text),
    })?;
    exchange(stream, url, sent, deadline, follows).await.map_err(failed)
}
