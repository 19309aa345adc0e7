//! `registries.toml`: what an administrator says about registries.
//!
//! ```toml
//! # Where credentials are kept, in the formats of `podman login` and `docker login`.
//! auth-files = ["/etc/podrun/auth.json"]
//! # Whether programs named `docker-credential-…` may be executed to get credentials. No by default.
//! run-credential-helpers = false
//!
//! [registry."docker.io"]
//! # Asked first, in this order; each may have settings of its own below its name.
//! mirrors = ["mirror.example.com/hub"]
//!
//! [registry."registry.example.com:5000"]
//! # Certificates (PEM) that sign this registry's, in place of those this machine trusts.
//! ca = "/etc/podrun/registry-ca.pem"
//! # Other hosts that may be sent this registry's credentials when it asks for a token from there.
//! auth-hosts = ["login.example.com"]
//!
//! [registry."127.0.0.1:5000"]
//! # Without TLS. Never assumed, not for this machine either.
//! plain-http = true
//! ```
//!
//! A registry is named as in an image: `host` or `host:port`. Unknown keys are errors.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use toml::Spanned;

use super::url::Origin;
use super::{HUB, HUB_HOST};
use crate::reference::{is_domain, is_path_component};

/// Longest file that is read, in bytes.
const MAX_FILE: u64 = 1 << 20;

/// What `registries.toml` says; by default nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Registries {
    auth_files: Vec<PathBuf>,
    run_helpers: bool,
    by_name: BTreeMap<String, Registry>,
}

/// What is said about one registry.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Registry {
    /// Where to ask first: `host[:port][/prefix]`.
    pub mirrors: Vec<String>,
    /// Speak HTTP without TLS.
    pub plain_http: bool,
    /// A file with the only certificates to trust.
    pub ca: Option<PathBuf>,
    /// Hosts that may be sent this registry's credentials for a token.
    pub auth_hosts: Vec<String>,
}

/// Why a `registries.toml` is refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SettingsError {
    /// The file cannot be read.
    #[error("read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The text is not TOML, has a key that is not known, or a value that cannot be.
    #[error("{line}:{column}: {message}")]
    Invalid {
        /// From 1.
        line: usize,
        /// In characters, from 1.
        column: usize,
        /// What is wrong.
        message: String,
    },
    /// The same, in a file.
    #[error("{}:{source}", path.display())]
    InvalidFile {
        /// The file.
        path: PathBuf,
        /// Where and what; part of this error's text already.
        source: Box<SettingsError>,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct File {
    #[serde(default)]
    auth_files: Vec<PathBuf>,
    #[serde(default)]
    run_credential_helpers: bool,
    #[serde(default)]
    registry: BTreeMap<Spanned<String>, Table>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Table {
    #[serde(default)]
    mirrors: Vec<Spanned<String>>,
    #[serde(default)]
    plain_http: bool,
    #[serde(default)]
    ca: Option<Spanned<PathBuf>>,
    #[serde(default)]
    auth_hosts: Vec<Spanned<String>>,
}

impl Registries {
    /// Reads a file; one that is not there says nothing.
    ///
    /// # Errors
    /// [`SettingsError::Read`] with the errno, and [`SettingsError::InvalidFile`].
    pub fn read(path: &Path) -> Result<Self, SettingsError> {
        use std::io::Read as _;
        let read = |source| SettingsError::Read { path: path.to_owned(), source };
        let file = match std::fs::File::open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            file => file.map_err(read)?,
        };
        let mut text = String::new();
        file.take(MAX_FILE).read_to_string(&mut text).map_err(read)?;
        Self::from_toml(&text)
            .map_err(|source| SettingsError::InvalidFile { path: path.to_owned(), source: Box::new(source) })
    }

    /// Parses the text of a `registries.toml`.
    ///
    /// ```
    /// use podrun_image::registry::Registries;
    ///
    /// let registries = Registries::from_toml("[registry.\"127.0.0.1:5000\"]\nplain-http = true")?;
    /// assert!(registries.registry("127.0.0.1:5000").plain_http);
    ///
    /// let error = Registries::from_toml("[registry.\"127.0.0.1:5000\"]\nplain_http = true").unwrap_err();
    /// assert!(error.to_string().starts_with("2:1: unknown field `plain_http`"), "{error}");
    /// # Ok::<(), podrun_image::registry::SettingsError>(())
    /// ```
    ///
    /// # Errors
    /// [`SettingsError::Invalid`].
    pub fn from_toml(text: &str) -> Result<Self, SettingsError> {
        let invalid = |offset: usize, message: String| {
            let before = text.get(..offset).unwrap_or(text);
            let line = before.matches('\n').count() + 1;
            let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
            SettingsError::Invalid { line, column, message }
        };
        let file: File = toml::from_str(text).map_err(|error| {
            invalid(error.span().map_or(0, |span| span.start), error.message().to_owned())
        })?;
        let mut by_name = BTreeMap::new();
        for (name, table) in file.registry {
            let no_host = |name: &Spanned<String>, what| {
                invalid(name.span().start, format!("{what} {:?} is not host or host:port", name.get_ref()))
            };
            if !is_domain(name.get_ref()) {
                return Err(no_host(&name, "registry"));
            }
            for mirror in &table.mirrors {
                let mut parts = mirror.get_ref().split('/');
                if !parts.next().is_some_and(is_domain) || !parts.all(is_path_component) {
                    let message = format!("mirror {:?} is not host[:port][/path]", mirror.get_ref());
                    return Err(invalid(mirror.span().start, message));
                }
            }
            if let Some(host) = table.auth_hosts.iter().find(|host| !is_domain(host.get_ref())) {
                return Err(no_host(host, "auth host"));
            }
            if let Some(ca) = table.ca.as_ref().filter(|ca| !ca.get_ref().is_absolute()) {
                return Err(invalid(ca.span().start, "ca is not an absolute path".to_owned()));
            }
            let plain = |list: Vec<Spanned<String>>| list.into_iter().map(Spanned::into_inner).collect();
            let registry = Registry {
                mirrors: plain(table.mirrors),
                plain_http: table.plain_http,
                ca: table.ca.map(Spanned::into_inner),
                auth_hosts: plain(table.auth_hosts),
            };
            by_name.insert(name.into_inner(), registry);
        }
        Ok(Self { auth_files: file.auth_files, run_helpers: file.run_credential_helpers, by_name })
    }

    /// Returns the files that hold credentials.
    pub fn auth_files(&self) -> &[PathBuf] {
        &self.auth_files
    }

    /// Returns whether credential helpers may be executed.
    pub fn run_credential_helpers(&self) -> bool {
        self.run_helpers
    }

    /// Returns what is said about a registry, `host` or `host:port`; the defaults for one that is not named.
    pub fn registry(&self, domain: &str) -> Registry {
        self.by_name.get(domain).cloned().unwrap_or_default()
    }

    /// Returns what is said about the registry at an origin, however its port is written.
    pub(super) fn of_origin(&self, origin: &Origin) -> Registry {
        let domain = if origin.host == HUB_HOST { HUB.to_owned() } else { origin.authority() };
        let with_port = format!("{domain}:{}", origin.port);
        let found = self.by_name.get(&domain).or_else(|| self.by_name.get(&with_port));
        found.cloned().unwrap_or_default()
    }

    /// Says about one registry that it speaks HTTP without TLS.
    #[must_use]
    pub fn with_plain_http(mut self, domain: &str) -> Self {
        self.by_name.entry(domain.to_owned()).or_default().plain_http = true;
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_complete_file_is_understood() {
        let registries = Registries::from_toml(
            r#"
            auth-files = ["/etc/podrun/auth.json"]
            run-credential-helpers = true
            [registry."docker.io"]
            mirrors = ["mirror.example.com/hub", "[::1]:5000"]
            [registry."r.example:5000"]
            ca = "/etc/ca.pem"
            auth-hosts = ["login.example"]
            plain-http = false
            "#,
        )
        .expect("valid");
        assert!(registries.run_credential_helpers());
        assert_eq!(registries.auth_files(), [PathBuf::from("/etc/podrun/auth.json")]);
        assert_eq!(registries.registry("docker.io").mirrors, ["mirror.example.com/hub", "[::1]:5000"]);
        assert_eq!(registries.registry("r.example:5000").ca, Some(PathBuf::from("/etc/ca.pem")));
        assert_eq!(registries.registry("r.example"), Registry::default());
    }

    #[test]
    fn mistakes_are_told_with_their_place() {
        for (text, expected) in [
            ("auth-file = []", "1:1: unknown field `auth-file`"),
            ("\n[registry.\"r.example\"]\n  insecure = true", "3:3: unknown field `insecure`"),
            ("[registry.\"https://r.example\"]", "1:11: registry \"https://r.example\" is not host"),
            ("[registry.\"r.example/path\"]", "1:11: registry"),
            (
                "[registry.\"r\"]\nmirrors = [\"http://m.example\"]",
                "2:12: mirror \"http://m.example\" is not host",
            ),
            ("[registry.\"r\"]\nmirrors = [\"m.example/../x\"]", "2:12: mirror"),
            ("[registry.\"r\"]\nca = \"ca.pem\"", "2:6: ca is not an absolute path"),
            ("[registry.\"r\"]\nplain-http = \"yes\"", "2:14: invalid type"),
            ("[registry.\"r\"\n", "1:14: "),
            ("[registry.\"r\"]\nplain-http = true\nplain-http = true", "3:1: duplicate key"),
        ] {
            let error = Registries::from_toml(text).expect_err(text).to_string();
            assert!(error.starts_with(expected), "{text}: {error}");
        }
    }

    #[test]
    fn a_missing_file_says_nothing_and_a_broken_one_its_name() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let path = dir.path().join("registries.toml");
        assert_eq!(Registries::read(&path).expect("absent"), Registries::default());
        std::fs::write(&path, "x = 1").expect("write");
        let error = Registries::read(&path).expect_err("unknown key").to_string();
        assert!(error.ends_with("registries.toml:1:1: unknown field `x`, expected one of `auth-files`, `run-credential-helpers`, `registry`"), "{error}");
    }
}
