//! Who one is to a registry: user names, passwords and tokens, and for which images they are meant.

mod file;
mod helper;

use std::fmt;

pub use self::file::AuthFileError;
use super::error::RegistryError;
#[cfg(test)]
use crate::reference::Reference;

/// What to show a registry. `Debug` hides the secrets.
#[derive(Clone, PartialEq, Eq, Hash)]
pub enum Credential {
    /// A user name and a password, or a token in its place.
    Password {
        /// The user name.
        username: String,
        /// The password.
        password: String,
    },
    /// A refresh token, to be exchanged for others at the registry's token server.
    IdentityToken(String),
    /// A token that the registry takes as it is.
    RegistryToken(String),
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Password { username, .. } => write!(f, "Password({username:?}, …)"),
            Self::IdentityToken(_) => f.write_str("IdentityToken(…)"),
            Self::RegistryToken(_) => f.write_str("RegistryToken(…)"),
        }
    }
}

/// Where a credential comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Source {
    Known(Credential),
    /// `docker-credential-NAME get`, given this key.
    Helper {
        name: String,
        key: String,
    },
}

/// For which images a credential is meant: a host, which may have `*` for one of its words, and a path prefix.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Pattern {
    /// Empty for any host.
    host: String,
    port: Option<String>,
    /// Without slashes at its ends.
    path: String,
}

/// Credentials of several sources, the more specific of each source first.
///
/// ```
/// use podrun_image::registry::Keyring;
///
/// // The format of `podman login`, `docker login` and of Secrets of the type kubernetes.io/dockerconfigjson.
/// let keyring = Keyring::from_auth_json(br#"{"auths": {"registry.example/team": {"auth": "bWU6c2VjcmV0"}}}"#)?;
/// assert!(!keyring.is_empty());
/// # Ok::<(), podrun_image::registry::AuthFileError>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Keyring {
    entries: Vec<(Pattern, Source)>,
}

impl Keyring {
    /// Returns whether there is no credential at all.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Adds one credential for all images of a registry, or those below a path of it: `host[:port][/path]`.
    #[must_use]
    pub fn with(mut self, registry: &str, credential: Credential) -> Self {
        self.entries.push((Pattern::parse(registry), Source::Known(credential)));
        self
    }

    /// Adds the credentials of another keyring, to be tried after those there are.
    pub fn extend(&mut self, other: Self) {
        self.entries.extend(other.entries);
    }

    fn sort(&mut self) {
        // The longest path first; a host that is spelt out before one with `*`. The sort is stable.
        self.entries
            .sort_by_key(|(pattern, _)| (std::cmp::Reverse(pattern.path.len()), pattern.host.contains('*')));
    }

    /// Returns the credentials for a repository of a registry, in the order in which they are to be tried.
    ///
    /// Helpers are asked only where `run_helpers` allows it, and only if no other credential matches.
    pub(crate) fn for_repository(
        &self,
        domain: &str,
        path: &str,
        run_helpers: bool,
    ) -> Result<Vec<Credential>, RegistryError> {
        let matching = || self.entries.iter().filter(|(pattern, _)| pattern.matches(domain, path));
        let mut known: Vec<Credential> = Vec::new();
        for (_, source) in matching() {
            if let Source::Known(credential) = source
                && !known.contains(credential)
            {
                known.push(credential.clone());
            }
        }
        if !known.is_empty() {
            return Ok(known);
        }
        let helper = matching().find_map(|(_, source)| match source {
            Source::Helper { name, key } => Some((name, key)),
            Source::Known(_) => None,
        });
        let Some((name, key)) = helper else { return Ok(Vec::new()) };
        if !run_helpers {
            return Err(RegistryError::HelperNotRun {
                registry: domain.to_owned(),
                program: helper::program(name),
            });
        }
        // `credsStore` names no registry: its key is that of the registry at hand.
        let key = if key.is_empty() { default_key(domain) } else { key.clone() };
        Ok(helper::get(name, &key)?.into_iter().collect())
    }

    #[cfg(test)]
    fn for_image(&self, reference: &Reference, run_helpers: bool) -> Result<Vec<Credential>, RegistryError> {
        self.for_repository(reference.domain(), reference.path(), run_helpers)
    }
}

/// The name by which docker's tools know Docker Hub.
const HUB_KEY: &str = "https://index.docker.io/v1/";

fn default_key(domain: &str) -> String {
    if domain == "docker.io" { HUB_KEY.to_owned() } else { domain.to_owned() }
}

impl Pattern {
    /// Reads a key of an auth file: with or without a scheme, with or without a path.
    fn parse(key: &str) -> Self {
        let rest = key.strip_prefix("https://").or_else(|| key.strip_prefix("http://")).unwrap_or(key);
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (host, port) = split_port(authority);
        let host = match host.to_ascii_lowercase().as_str() {
            "index.docker.io" | "registry-1.docker.io" | "registry.hub.docker.com" => "docker.io".to_owned(),
            host => host.to_owned(),
        };
        // The version of the registry's protocol, which old keys end with, is no repository.
        let path = match path.trim_matches('/') {
            "v1" | "v2" => "",
            path => path,
        };
        Self { host, port: port.map(str::to_owned), path: path.to_owned() }
    }

    /// Matches every image.
    fn any() -> Self {
        Self { host: String::new(), port: None, path: String::new() }
    }

    fn matches(&self, domain: &str, path: &str) -> bool {
        if self.host.is_empty() {
            return true;
        }
        let (host, port) = split_port(domain);
        let words = |host: &str| host.split('.').map(str::to_ascii_lowercase).collect::<Vec<_>>();
        let (pattern, host) = (words(&self.host), words(host));
        let same_host = pattern.len() == host.len()
            && pattern.iter().zip(&host).all(|(pattern, word)| glob(pattern, word));
        let below = self.path.is_empty()
            || path.strip_prefix(&self.path).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        same_host && self.port.as_deref() == port && below
    }
}

fn split_port(authority: &str) -> (&str, Option<&str>) {
    match authority.rsplit_once(':') {
        Some((host, port)) if !port.is_empty() && port.bytes().all(|c| c.is_ascii_digit()) => {
            (host, Some(port))
        }
        _ => (authority, None),
    }
}

/// Matches one word of a host, in which `*` stands for any characters.
fn glob(pattern: &str, word: &str) -> bool {
    let Some((head, tail)) = pattern.split_once('*') else { return pattern == word };
    let Some(rest) = word.strip_prefix(head) else { return false };
    (0..=rest.len()).filter(|at| rest.is_char_boundary(*at)).any(|at| glob(tail, &rest[at..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn password(name: &str) -> Credential {
        Credential::Password { username: name.to_owned(), password: "secret".to_owned() }
    }

    #[test]
    fn keys_match_hosts_ports_and_path_prefixes() {
        for (key, image, matches) in [
            ("r.example", "r.example/a/b", true),
            ("https://r.example/v2/", "r.example/a/b", true),
            ("R.example", "r.example/a/b", true),
            ("r.example:5000", "r.example/a/b", false),
            ("r.example", "r.example:5000/a/b", false),
            ("r.example:5000", "r.example:5000/a/b", true),
            ("r.example/a", "r.example/a/b", true),
            ("r.example/a/b", "r.example/a/b", true),
            ("r.example/a", "r.example/ab/c", false),
            ("r.example/a/b/c", "r.example/a/b", false),
            ("*.example", "r.example/a", true),
            ("*.example", "x.r.example/a", false),
            ("r*.ex*e", "reg.example/a", true),
            ("example", "r.example/a", false),
            ("https://index.docker.io/v1/", "busybox", true),
            ("docker.io", "busybox", true),
            ("docker.io/library", "busybox", true),
            ("docker.io/team", "busybox", false),
            ("registry.evil", "r.example/a", false),
            ("[::1]:5000", "[::1]:5000/a", true),
        ] {
            let keyring = Keyring::default().with(key, password("u"));
            let found = keyring.for_image(&image.parse().expect(image), false).expect("no helper");
            assert_eq!(!found.is_empty(), matches, "{key} for {image}");
        }
    }

    #[test]
    fn secrets_do_not_show() {
        let keyring = Keyring::default()
            .with("a", password("me"))
            .with("b", Credential::IdentityToken("secret".to_owned()))
            .with("c", Credential::RegistryToken("secret".to_owned()));
        let shown = format!("{keyring:?}");
        assert!(shown.contains("me") && !shown.contains("secret"), "{shown}");
    }
}
