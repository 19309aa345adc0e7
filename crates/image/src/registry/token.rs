//! Answers to challenges: basic credentials, and tokens from a registry's token server.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hyper::body::Bytes;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::{Method, StatusCode};
use serde::Deserialize;
use tokio::time::Instant;

use super::challenge::Challenge;
use super::connection::ChosenBy;
use super::credentials::Credential;
use super::error::RegistryError;
use super::http::{Answer, Ask, Http};
use super::reach::Reach;
use super::url::{Origin, Url, encoded, with_query};

/// Longest answer of a token server, in bytes.
const MAX_TOKEN: u64 = 256 << 10;
/// How long a token holds of which nothing is said.
const DEFAULT_LIFE: Duration = Duration::from_secs(60);
/// A token is renewed so long before it ends.
const MARGIN: Duration = Duration::from_secs(10);

/// What to send with requests, and until when.
#[derive(Clone)]
pub(super) struct Authorization {
    pub(super) header: HeaderValue,
    pub(super) until: Option<Instant>,
}

impl Authorization {
    /// Makes a header that is left out of all debug output.
    fn new(text: &str, until: Option<Instant>) -> Result<Self, RegistryError> {
        let mut header = HeaderValue::from_str(text).map_err(|_| RegistryError::Answer {
            what: "credentials",
            reason: "they have characters that cannot be sent".to_owned(),
        })?;
        header.set_sensitive(true);
        Ok(Self { header, until })
    }

    pub(super) fn basic(username: &str, password: &str) -> Result<Self, RegistryError> {
        Self::new(&format!("Basic {}", STANDARD.encode(format!("{username}:{password}"))), None)
    }

    pub(super) fn bearer(token: &str, until: Option<Instant>) -> Result<Self, RegistryError> {
        Self::new(&format!("Bearer {token}"), until)
    }

    pub(super) fn holds(&self) -> bool {
        self.until.is_none_or(|until| Instant::now() < until)
    }
}

/// Who asks for what.
pub(super) struct Applicant<'a> {
    pub(super) http: &'a Arc<Http>,
    pub(super) registry: &'a Origin,
    /// `repository:NAME:pull`
    pub(super) scope: &'a str,
    pub(super) credential: Option<&'a Credential>,
    /// Hosts that may be sent the credentials too.
    pub(super) auth_hosts: &'a [String],
    /// How far the registry's address reaches.
    pub(super) reach: Reach,
}

impl Applicant<'_> {
    /// Answers a challenge; `None` if there is nothing to answer it with.
    pub(super) async fn answer(&self, challenge: Challenge) -> Result<Option<Authorization>, RegistryError> {
        match (challenge, self.credential) {
            (_, Some(Credential::RegistryToken(token))) => Authorization::bearer(token, None).map(Some),
            (Challenge::Basic, Some(Credential::Password { username, password })) => {
                Authorization::basic(username, password).map(Some)
            }
            (Challenge::Basic, _) => Ok(None),
            (Challenge::Bearer { realm, service }, credential) => {
                let url = Url::parse(&realm)?;
                let realm = url.origin.to_string();
                let failed = |source| RegistryError::Token { realm, source: Box::new(source) };
                self.token(url, service.as_deref(), credential).await.map(Some).map_err(failed)
            }
        }
    }

    async fn token(
        &self,
        realm: Url,
        service: Option<&str>,
        credential: Option<&Credential>,
    ) -> Result<Authorization, RegistryError> {
        if self.registry.https && !realm.origin.https {
            let (from, to) = (self.registry.to_string(), realm.origin.to_string());
            return Err(RegistryError::Downgrade { from, to });
        }
        if credential.is_some() && !may_send_to(self.registry, &realm.origin, self.auth_hosts) {
            return Err(RegistryError::Realm {
                registry: self.registry.authority(),
                realm: realm.origin.authority(),
            });
        }
        let same_host = realm.origin.host == self.registry.host;
        let listed = self.auth_hosts.contains(&realm.origin.authority());
        let chosen_by = if same_host || listed { ChosenBy::User } else { ChosenBy::Server(self.reach) };
        let mut query = vec![("scope", self.scope)];
        query.extend(service.map(|service| ("service", service)));
        let basic = match credential {
            Some(Credential::Password { username, password }) => {
                Some(Authorization::basic(username, password)?.header)
            }
            _ => None,
        };
        let mut ask = Ask::get(realm.clone()).authorized(basic.as_ref());
        ask.chosen_by = chosen_by;
        if let Some(Credential::IdentityToken(token)) = credential {
            let form = query.iter().fold(
                format!("grant_type=refresh_token&client_id=podrun&refresh_token={}", encoded(token)),
                |form, (key, value)| format!("{form}&{key}={}", encoded(value)),
            );
            ask.method = Method::POST;
            ask.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
            ask.body = Bytes::from(form);
        } else {
            ask.url.target = with_query(&realm.target, &query);
        }
        let (method, url) = (ask.method.clone(), ask.url.clone());
        let answer = self.http.send(ask).await?;
        if answer.status != StatusCode::OK {
            return Err(answer.into_error(&method, &url, "token").await);
        }
        read(answer).await
    }
}

async fn read(answer: Answer) -> Result<Authorization, RegistryError> {
    #[derive(Deserialize)]
    struct Document {
        #[serde(default)]
        token: String,
        #[serde(default)]
        access_token: String,
        #[serde(default)]
        expires_in: Option<u64>,
    }
    let bytes = answer.body.document("token", MAX_TOKEN).await?;
    let bad = |reason: &str| RegistryError::Answer { what: "token", reason: reason.to_owned() };
    // The text of a JSON error may quote the token.
    let document: Document =
        serde_json::from_slice(&bytes).map_err(|_| bad("it is not the JSON that it should be"))?;
    let token = if document.token.is_empty() { document.access_token } else { document.token };
    if token.is_empty() {
        return Err(bad("it is empty"));
    }
    let life = document.expires_in.map_or(DEFAULT_LIFE, Duration::from_secs);
    let until = Instant::now().checked_add(life.saturating_sub(MARGIN).max(MARGIN));
    Authorization::bearer(&token, until).map_err(|_| bad("it has characters that cannot be sent"))
}

/// Returns whether a registry's credentials may go to the token server that it names.
///
/// A registry sees its users' credentials anyway, so this is not about a registry that lies. It keeps them from leaving the
/// house by a mistake, or through someone who can only put words into its mouth: the server has to be the same host, one
/// above or below it in the tree of names, a sibling in a domain of its own, or one that the administrator allows.
fn may_send_to(registry: &Origin, realm: &Origin, allowed: &[String]) -> bool {
    let (registry, host) = (registry.host.as_str(), realm.host.as_str());
    if registry == host || allowed.contains(&realm.authority()) || allowed.iter().any(|one| one == host) {
        return true;
    }
    if [registry, host].iter().any(|host| host.parse::<std::net::IpAddr>().is_ok()) {
        return false;
    }
    let below = |name: &str, above: &str| {
        is_own_domain(above) && name.strip_suffix(above).is_some_and(|rest| rest.ends_with('.'))
    };
    let sibling = registry.split_once('.').is_some_and(|(_, parent)| below(host, parent));
    below(registry, host) || below(host, registry) || sibling
}

/// Returns whether a domain belongs to one owner, and is not one below which anybody can have a name.
///
/// There is no rule for it, only a list of ten thousand entries. This knows the shape of most of them (`co.uk`, `com.au`)
/// and the hosters by name; what it does not know is no more than was said above.
fn is_own_domain(domain: &str) -> bool {
    const HOSTERS: &[&str] = &[
        "amazonaws.com",
        "appspot.com",
        "azurecontainer.io",
        "azurecr.io",
        "azurewebsites.net",
        "blob.core.windows.net",
        "cloudapp.net",
        "cloudfront.net",
        "digitaloceanspaces.com",
        "duckdns.org",
        "firebaseapp.com",
        "fly.dev",
        "github.io",
        "githubusercontent.com",
        "gitlab.io",
        "herokuapp.com",
        "jfrog.io",
        "netlify.app",
        "ngrok-free.app",
        "ngrok.app",
        "ngrok.io",
        "nip.io",
        "onrender.com",
        "pages.dev",
        "pkg.dev",
        "run.app",
        "sslip.io",
        "vercel.app",
        "web.app",
        "workers.dev",
    ];
    const SECOND: &[&str] = &[
        "ac", "co", "com", "edu", "gob", "gov", "go", "gouv", "ltd", "mil", "ne", "net", "nom", "or", "org",
        "plc", "sch",
    ];
    let labels: Vec<&str> = domain.split('.').collect();
    match labels.as_slice() {
        [second, top] if top.len() == 2 && SECOND.contains(second) => false,
        [_, _, ..] => !HOSTERS.contains(&domain),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin(host: &str) -> Origin {
        Origin::of_registry(host, true).expect(host)
    }

    #[test]
    fn credentials_go_to_token_servers_of_the_same_house() {
        for (registry, realm, allowed) in [
            ("registry-1.docker.io", "auth.docker.io", true),
            ("quay.io", "quay.io", true),
            ("registry.gitlab.com", "gitlab.com", true),
            ("registry.example.com", "login.example.com", true),
            ("r.example:5000", "r.example", true),
            ("registry.example.co.uk", "auth.example.co.uk", true),
            ("r.example", "auth.r.example", true),
            ("example.com", "auth.example.com", true),
            ("r.example.com", "evil.test", false),
            ("r.example.com", "r.example.com.evil.test", false),
            ("r.example.com", "evilexample.com", false),
            ("r.co.uk", "evil.co.uk", false),
            ("r.azurecr.io", "evil.azurecr.io", false),
            ("r.example", "evil.example", false),
            ("r.example", "example", false),
            ("registry.com", "com", false),
            ("10.0.0.1", "10.0.0.2", false),
            ("10.0.0.1:5000", "10.0.0.1", true),
            ("r.example.com", "127.0.0.1", false),
            ("localhost:5000", "localhost:5001", true),
        ] {
            assert_eq!(may_send_to(&origin(registry), &origin(realm), &[]), allowed, "{registry} -> {realm}");
        }
        assert!(may_send_to(&origin("r.example"), &origin("login.test"), &["login.test".to_owned()]));
    }
}
