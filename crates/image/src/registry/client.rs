//! What is asked of a registry: manifests by tag or digest, blobs by digest and from any byte on.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hyper::header::{
    ACCEPT, ACCEPT_ENCODING, CONTENT_RANGE, CONTENT_TYPE, HeaderMap, HeaderValue, RANGE, WWW_AUTHENTICATE,
};
use hyper::{Method, StatusCode};

use super::credentials::{Credential, Keyring};
use super::error::{RegistryError, shortened};
use super::http::{Answer, Ask, Body, Http};
use super::settings::Registries;
use super::token::{Applicant, Authorization};
use super::url::{Origin, Url};
use super::{HUB, HUB_HOST, challenge};
use crate::digest::Digest;
use crate::limits;
use crate::manifest::{DOCKER_LIST, DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST};
use crate::reference::Reference;

/// How long a server may be silent before its connection is given up.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Speaks to registries, keeps connections and tokens.
///
/// It needs a tokio runtime with time and network enabled, wherever it is used. Cloned, it shares everything.
#[derive(Clone)]
pub struct Client {
    http: Arc<Http>,
    tokens: Arc<Mutex<HashMap<Applied, Authorization>>>,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("http", &self.http).finish_non_exhaustive()
    }
}

/// What an authorization was given for.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Applied {
    origin: Origin,
    scope: String,
    credential: Option<Credential>,
}

/// One repository on one registry or mirror, as one user.
#[derive(Debug, Clone)]
pub(crate) struct Repository {
    pub(crate) origin: Origin,
    path: String,
    credential: Option<Credential>,
    auth_hosts: Vec<String>,
}

/// A manifest or index as it came.
#[derive(Debug)]
pub(crate) struct Fetched {
    pub(crate) bytes: Vec<u8>,
    pub(crate) digest: Digest,
    /// Empty if the server says nothing of use.
    pub(crate) media_type: String,
}

impl Client {
    /// Makes a client that does what `registries` says.
    pub fn new(registries: Registries) -> Self {
        Self::with_patience(registries, PATIENCE)
    }

    /// The same with another patience: how long a server may send nothing, or next to nothing.
    pub fn with_patience(registries: Registries, patience: Duration) -> Self {
        Self { http: Http::new(registries, patience), tokens: Arc::default() }
    }

    /// Returns what `registries.toml` says.
    pub fn registries(&self) -> &Registries {
        &self.http.registries
    }

    /// Returns where an image may be had, in the order in which it is to be tried: mirrors first, each with every
    /// credential that matches, or none. Blocks if a credential helper has to be asked.
    pub(crate) fn repositories(
        &self,
        reference: &Reference,
        keyring: &Keyring,
    ) -> Result<Vec<Repository>, RegistryError> {
        let registries = self.registries();
        let mut places = Vec::new();
        let mirrors = registries.registry(reference.domain()).mirrors;
        for mirror in &mirrors {
            let (domain, prefix) = mirror.split_once('/').unwrap_or((mirror, ""));
            let slash = if prefix.is_empty() { "" } else { "/" };
            places.push((domain, format!("{prefix}{slash}{}", reference.path())));
        }
        places.push((reference.domain(), reference.path().to_owned()));
        let mut repositories = Vec::new();
        for (domain, path) in places {
            let settings = registries.registry(domain);
            let host = if domain == HUB { HUB_HOST } else { domain };
            let repository = Repository {
                origin: Origin::of_registry(host, !settings.plain_http)?,
                credential: None,
                auth_hosts: settings.auth_hosts,
                path: path.clone(),
            };
            let credentials = keyring.for_repository(domain, &path, registries.run_credential_helpers())?;
            if credentials.is_empty() {
                repositories.push(repository);
            } else {
                let with = |credential| Repository { credential: Some(credential), ..repository.clone() };
                repositories.extend(credentials.into_iter().map(with));
            }
        }
        Ok(repositories)
    }

    /// Asks which manifest a tag or digest means, without transferring it; `None` if the registry does not say.
    pub(crate) async fn head_manifest(
        &self,
        repository: &Repository,
        reference: &str,
    ) -> Result<Option<Digest>, RegistryError> {
        let mut ask = Ask::get(repository.manifest(reference));
        ask.method = Method::HEAD;
        ask.headers = accept_manifests();
        let answer = self.ask(repository, ask, &repository.named(reference)).await?;
        content_digest(&answer.headers)
    }

    /// Fetches a manifest or index. Its digest is verified if the reference is one, or the server states one.
    pub(crate) async fn manifest(
        &self,
        repository: &Repository,
        reference: &str,
    ) -> Result<Fetched, RegistryError> {
        let mut ask = Ask::get(repository.manifest(reference));
        ask.headers = accept_manifests();
        let answer = self.ask(repository, ask, &repository.named(reference)).await?;
        let stated = content_digest(&answer.headers)?;
        let media_type = media_type(&answer.headers);
        let bytes = answer.body.document("manifest", limits::MAX_DOCUMENT_BYTES).await?;
        let digest = Digest::of(&bytes);
        for expected in stated.into_iter().chain(reference.parse()) {
            if expected != digest {
                let reason = format!("it has digest {digest} instead of {expected}");
                return Err(RegistryError::Answer { what: "manifest", reason });
            }
        }
        Ok(Fetched { bytes, digest, media_type })
    }

    /// Begins to fetch a blob of `size` bytes from `offset` on. Returns the data and where it begins, which is 0 if the
    /// registry has no partial answers. Nothing is verified.
    pub(crate) async fn blob(
        &self,
        repository: &Repository,
        digest: &Digest,
        size: u64,
        offset: u64,
    ) -> Result<(Body, u64), RegistryError> {
        let mut ask = Ask::get(repository.blob(digest));
        // Compressed for the way, its digest could not be verified.
        ask.headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        if offset > 0 {
            let range =
                HeaderValue::try_from(format!("bytes={offset}-")).expect("digits are fit for a header");
            ask.headers.insert(RANGE, range);
        }
        let answer = self.ask(repository, ask, &digest.to_string()).await?;
        let bad = |reason: String| RegistryError::Answer { what: "blob", reason };
        let begins = match answer.status {
            StatusCode::PARTIAL_CONTENT if offset > 0 => {
                let range = answer.headers.get(CONTENT_RANGE).and_then(|value| value.to_str().ok());
                let fits = range.and_then(content_range).is_some_and(|(first, last, total)| {
                    first == offset && last < size && total.is_none_or(|total| total == size)
                });
                if !fits {
                    let range = shortened(range.unwrap_or_default());
                    return Err(bad(format!("bytes {offset} to {size} were asked for and {range:?} came")));
                }
                offset
            }
            StatusCode::OK => 0,
            status => return Err(bad(format!("unexpected status {status}"))),
        };
        if let Some(length) = answer.content_length().or(answer.body.announced())
            && length > size - begins
        {
            return Err(bad(format!(
                "{digest} has {} bytes instead of {size}",
                begins.saturating_add(length)
            )));
        }
        Ok((answer.body, begins))
    }

    /// Fetches a small blob whole and verifies it.
    pub(crate) async fn small_blob(
        &self,
        repository: &Repository,
        digest: &Digest,
        size: u64,
    ) -> Result<Vec<u8>, RegistryError> {
        if size > limits::MAX_DOCUMENT_BYTES {
            return Err(RegistryError::TooLarge {
                what: "image configuration",
                max: limits::MAX_DOCUMENT_BYTES,
            });
        }
        let (body, _) = self.blob(repository, digest, size, 0).await?;
        let bytes = body.document("image configuration", size).await?;
        if bytes.len() as u64 != size {
            return Err(RegistryError::Cut { actual: bytes.len() as u64, expected: size });
        }
        let actual = Digest::of(&bytes);
        if actual != *digest {
            let reason = format!("it has digest {actual} instead of {digest}");
            return Err(RegistryError::Answer { what: "blob", reason });
        }
        Ok(bytes)
    }

    /// Sends a request, and once more with what the registry then asks for. Returns answers that are successes.
    async fn ask(&self, repository: &Repository, ask: Ask<'_>, what: &str) -> Result<Answer, RegistryError> {
        let applied = Applied {
            origin: repository.origin.clone(),
            scope: format!("repository:{}:pull", repository.path),
            credential: repository.credential.clone(),
        };
        let held = self.tokens().get(&applied).filter(|token| token.holds()).cloned();
        let answer = self.http.send(ask.clone().authorized(held.as_ref().map(|held| &held.header))).await?;
        if answer.status.is_success() {
            return Ok(answer);
        }
        // Only the registry itself may ask for its users' credentials, not a blob store behind it.
        let challenge = (answer.status == StatusCode::UNAUTHORIZED && answer.origin == repository.origin)
            .then(|| {
                challenge::choose(answer.headers.get_all(WWW_AUTHENTICATE).iter().map(HeaderValue::as_bytes))
            })
            .flatten();
        let Some(challenge) = challenge else {
            return Err(answer.into_error(&ask.method, &ask.url, what).await);
        };
        let applicant = Applicant {
            http: &self.http,
            registry: &repository.origin,
            scope: &applied.scope,
            credential: repository.credential.as_ref(),
            auth_hosts: &repository.auth_hosts,
            reach: answer.reach,
        };
        let Some(granted) = applicant.answer(challenge).await? else {
            return Err(answer.into_error(&ask.method, &ask.url, what).await);
        };
        answer.pass_over().await;
        let answer = self.http.send(ask.clone().authorized(Some(&granted.header))).await?;
        if answer.status.is_success() {
            self.tokens().insert(applied, granted);
            return Ok(answer);
        }
        Err(answer.into_error(&ask.method, &ask.url, what).await)
    }

    fn tokens(&self) -> std::sync::MutexGuard<'_, HashMap<Applied, Authorization>> {
        self.tokens.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Repository {
    fn manifest(&self, reference: &str) -> Url {
        Url::new(&self.origin, format!("/v2/{}/manifests/{reference}", self.path))
    }

    fn blob(&self, digest: &Digest) -> Url {
        Url::new(&self.origin, format!("/v2/{}/blobs/{digest}", self.path))
    }

    /// Returns the image as errors name it.
    fn named(&self, reference: &str) -> String {
        let mark = if reference.contains(':') { '@' } else { ':' };
        format!("{}/{}{mark}{reference}", self.origin.authority(), self.path)
    }
}

fn accept_manifests() -> HeaderMap {
    let mut headers = HeaderMap::new();
    for media_type in [OCI_INDEX, OCI_MANIFEST, DOCKER_LIST, DOCKER_MANIFEST] {
        headers.append(ACCEPT, HeaderValue::from_static(media_type));
    }
    headers
}

/// Returns the digest that a registry states; another algorithm than SHA-256 is as good as none.
fn content_digest(headers: &HeaderMap) -> Result<Option<Digest>, RegistryError> {
    let Some(value) = headers.get("docker-content-digest") else { return Ok(None) };
    let text = String::from_utf8_lossy(value.as_bytes());
    let bad = |source| RegistryError::Digest { digest: shortened(&text), source };
    crate::digest::validate(&text).map_err(bad)?;
    Ok(text.parse().ok())
}

/// Returns the media type if it says more than that there are bytes or JSON.
fn media_type(headers: &HeaderMap) -> String {
    let text = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    match text.split(';').next().unwrap_or_default().trim() {
        "application/json" | "application/octet-stream" | "binary/octet-stream" | "text/plain" => {
            String::new()
        }
        other => other.to_owned(),
    }
}

/// Reads `bytes FIRST-LAST/TOTAL`.
fn content_range(text: &str) -> Option<(u64, u64, Option<u64>)> {
    let (range, total) = text.strip_prefix("bytes ")?.split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let total = if total == "*" { None } else { Some(total.parse().ok()?) };
    Some((first.parse().ok()?, last.parse().ok()?, total))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read_strictly() {
        for (text, read) in [
            ("bytes 5-9/10", Some((5, 9, Some(10)))),
            ("bytes 5-9/*", Some((5, 9, None))),
            ("bytes */10", None),
            ("5-9/10", None),
            ("bytes -9/10", None),
        ] {
            assert_eq!(content_range(text), read, "{text}");
        }
    }

    #[test]
    fn mirrors_come_first_and_credentials_stay_with_their_hosts() {
        let registries = Registries::from_toml(
            "[registry.\"docker.io\"]\nmirrors = [\"m.example:5000/hub\"]\n[registry.\"m.example:5000\"]\nplain-http = true",
        )
        .expect("valid");
        let password =
            |name: &str| Credential::Password { username: name.to_owned(), password: "p".to_owned() };
        let keyring = Keyring::default()
            .with("docker.io/library/busybox", password("one"))
            .with("docker.io", password("two"));
        let found = Client::new(registries)
            .repositories(&"busybox:1".parse().expect("valid"), &keyring)
            .expect("no helper");
        let shown: Vec<_> =
            found.iter().map(|r| (r.manifest("1").to_string(), r.credential.is_some())).collect();
        let hub = "https://registry-1.docker.io/v2/library/busybox/manifests/1".to_owned();
        assert_eq!(
            shown,
            [
                ("http://m.example:5000/v2/hub/library/busybox/manifests/1".to_owned(), false),
                (hub.clone(), true),
                (hub, true)
            ]
        );
    }
}
