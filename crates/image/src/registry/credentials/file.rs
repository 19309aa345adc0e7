//! Files with credentials: those of `podman login` and `docker login`, and the Secrets made of them.

use std::collections::BTreeMap;
use std::path::Path;

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use serde::Deserialize;

use super::{Credential, Keyring, Pattern, Source};
use crate::config::nullable;

/// Longest file that is read, in bytes; that of a Secret.
const MAX_FILE: u64 = 1 << 20;

/// docker's own user name for "the password is an identity token".
const TOKEN_USER: &str = "<token>";

/// Why credentials cannot be read. No text repeats any of the content.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AuthFileError {
    /// The file cannot be read.
    #[error("read {}", path.display())]
    Read {
        /// The file.
        path: std::path::PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// It is not JSON of the expected form.
    #[error("credentials are not valid JSON at line {line}, column {column}")]
    Json {
        /// From 1.
        line: usize,
        /// From 1.
        column: usize,
    },
    /// An `auth` is not the base64 of `user:password`.
    #[error("the auth of {registry:?} is not the base64 of user:password")]
    Auth {
        /// The key of the entry.
        registry: String,
    },
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct File {
    #[serde(default, deserialize_with = "nullable")]
    auths: BTreeMap<String, Entry>,
    #[serde(default, deserialize_with = "nullable")]
    creds_store: String,
    #[serde(default, deserialize_with = "nullable")]
    cred_helpers: BTreeMap<String, String>,
}

#[derive(Default, Deserialize)]
struct Entry {
    #[serde(default, deserialize_with = "nullable")]
    auth: String,
    #[serde(default, deserialize_with = "nullable")]
    username: String,
    #[serde(default, deserialize_with = "nullable")]
    password: String,
    #[serde(default, deserialize_with = "nullable")]
    identitytoken: String,
    #[serde(default, deserialize_with = "nullable")]
    registrytoken: String,
}

impl Keyring {
    /// Reads `auth.json`, `config.json` or the `.dockerconfigjson` of a Secret.
    ///
    /// Entries of `credHelpers` and `credsStore` are noted; see
    /// [`Registries::run_credential_helpers`](super::super::Registries::run_credential_helpers).
    ///
    /// # Errors
    /// [`AuthFileError::Json`] and [`AuthFileError::Auth`].
    pub fn from_auth_json(bytes: &[u8]) -> Result<Self, AuthFileError> {
        let file: File = parse(bytes)?;
        let mut keyring = Self::from_entries(file.auths)?;
        let helper = |(key, name): (String, String)| (Pattern::parse(&key), Source::Helper { name, key });
        keyring.entries.extend(file.cred_helpers.into_iter().map(helper));
        keyring.sort();
        if !file.creds_store.is_empty() {
            // Whatever no other entry is about.
            let source = Source::Helper { name: file.creds_store, key: String::new() };
            keyring.entries.push((Pattern::any(), source));
        }
        Ok(keyring)
    }

    /// Reads a `.dockercfg`, the older form: the entries alone.
    ///
    /// # Errors
    /// As [`Keyring::from_auth_json`].
    pub fn from_dockercfg(bytes: &[u8]) -> Result<Self, AuthFileError> {
        let mut keyring = Self::from_entries(parse(bytes)?)?;
        keyring.sort();
        Ok(keyring)
    }

    /// Reads a file in the format of `auth.json`; `None` if it is not there.
    ///
    /// # Errors
    /// [`AuthFileError::Read`] with the errno, and as [`Keyring::from_auth_json`].
    pub fn read(path: &Path) -> Result<Option<Self>, AuthFileError> {
        use std::io::Read as _;
        let read = |source| AuthFileError::Read { path: path.to_owned(), source };
        let file = match std::fs::File::open(path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            file => file.map_err(read)?,
        };
        let mut bytes = Vec::new();
        file.take(MAX_FILE).read_to_end(&mut bytes).map_err(read)?;
        Self::from_auth_json(&bytes).map(Some)
    }

    fn from_entries(entries: BTreeMap<String, Entry>) -> Result<Self, AuthFileError> {
        let mut keyring = Self::default();
        for (key, entry) in entries {
            if let Some(credential) = credential(&key, entry)? {
                keyring.entries.push((Pattern::parse(&key), Source::Known(credential)));
            }
        }
        Ok(keyring)
    }
}

fn parse<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, AuthFileError> {
    // The error's own text may quote the content.
    serde_json::from_slice(bytes)
        .map_err(|error| AuthFileError::Json { line: error.line(), column: error.column() })
}

/// Returns what an entry holds; an empty one, as docker leaves it where a helper keeps the password, holds nothing.
fn credential(key: &str, entry: Entry) -> Result<Option<Credential>, AuthFileError> {
    if !entry.registrytoken.is_empty() {
        return Ok(Some(Credential::RegistryToken(entry.registrytoken)));
    }
    if !entry.identitytoken.is_empty() {
        return Ok(Some(Credential::IdentityToken(entry.identitytoken)));
    }
    let (username, password) = if entry.auth.is_empty() {
        (entry.username, entry.password)
    } else {
        decode(&entry.auth).ok_or_else(|| AuthFileError::Auth { registry: key.to_owned() })?
    };
    Ok(match (username.as_str(), password.as_str()) {
        ("", _) | (_, "") => None,
        (TOKEN_USER, _) => Some(Credential::IdentityToken(password)),
        _ => Some(Credential::Password { username, password }),
    })
}

fn decode(auth: &str) -> Option<(String, String)> {
    const LENIENT: GeneralPurpose = GeneralPurpose::new(
        &STANDARD,
        GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
    );
    let decoded = String::from_utf8(LENIENT.decode(auth.trim()).ok()?).ok()?;
    let (username, password) = decoded.split_once(':')?;
    // Old versions of docker ended the password with NUL characters.
    Some((username.to_owned(), password.trim_end_matches('\0').to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(keyring: &Keyring, image: &str) -> Vec<Credential> {
        keyring.for_image(&image.parse().expect(image), false).expect("no helper")
    }

    fn password(username: &str, password: &str) -> Credential {
        Credential::Password { username: username.to_owned(), password: password.to_owned() }
    }

    #[test]
    fn every_form_of_entry_is_read() {
        // "bWU6cGFzczp3b3Jk" is me:pass:word.
        let keyring = Keyring::from_auth_json(
            br#"{"auths": {
                "a.example": {"auth": "bWU6cGFzczp3b3Jk"},
                "b.example": {"username": "u", "password": "p", "email": "e"},
                "c.example": {"auth": "PHRva2VuPjp0", "identitytoken": "id"},
                "d.example": {"auth": "PHRva2VuPjp0"},
                "e.example": {"registrytoken": "rt"},
                "f.example": {}
            }, "HttpHeaders": {"User-Agent": "x"}, "currentContext": "y"}"#,
        )
        .expect("valid");
        assert_eq!(found(&keyring, "a.example/x"), [password("me", "pass:word")]);
        assert_eq!(found(&keyring, "b.example/x"), [password("u", "p")]);
        assert_eq!(found(&keyring, "c.example/x"), [Credential::IdentityToken("id".to_owned())]);
        assert_eq!(found(&keyring, "d.example/x"), [Credential::IdentityToken("t".to_owned())]);
        assert_eq!(found(&keyring, "e.example/x"), [Credential::RegistryToken("rt".to_owned())]);
        assert_eq!(found(&keyring, "f.example/x"), []);
    }

    #[test]
    fn the_longest_path_is_tried_first() {
        let keyring = Keyring::from_auth_json(
            br#"{"auths": {"r.example": {"username": "all", "password": "p"},
                           "r.example/team/app": {"username": "app", "password": "p"},
                           "r.example/team": {"username": "team", "password": "p"},
                           "*.example/team": {"username": "star", "password": "p"}}}"#,
        )
        .expect("valid");
        let names = |image| -> Vec<String> {
            let name = |credential: Credential| match credential {
                Credential::Password { username, .. } => username,
                other => panic!("{other:?}"),
            };
            found(&keyring, image).into_iter().map(name).collect()
        };
        assert_eq!(names("r.example/team/app"), ["app", "team", "star", "all"]);
        assert_eq!(names("r.example/team/other"), ["team", "star", "all"]);
        assert_eq!(names("r.example/teams"), ["all"]);
    }

    #[test]
    fn dockercfg_has_entries_alone() {
        let keyring =
            Keyring::from_dockercfg(br#"{"https://index.docker.io/v1/": {"auth": "bWU6c2VjcmV0"}}"#)
                .expect("valid");
        assert_eq!(found(&keyring, "busybox"), [password("me", "secret")]);
    }

    #[test]
    fn errors_do_not_repeat_secrets() {
        for bytes in [
            br#"{"auths": {"r": {"auth": "s3cret!"}}}"#.as_slice(),
            br#"{"auths": {"r": {"auth": "c2VjcmV0"}}}"#,
            br#"{"auths": {"r": {"password": s3cret}}}"#,
            br#"{"auths": "s3cret"}"#,
            b"s3cret",
        ] {
            let error = Keyring::from_auth_json(bytes).expect_err("broken");
            assert!(!format!("{error} {error:?}").contains("s3cret"), "{error:?}");
        }
    }

    #[test]
    fn helpers_are_told_of_and_not_run() {
        let keyring = Keyring::from_auth_json(
            br#"{"auths": {"a.example": {"auth": "bWU6c2VjcmV0"}}, "credHelpers": {"b.example": "gcr"}, "credsStore": "pass"}"#,
        )
        .expect("valid");
        assert_eq!(found(&keyring, "a.example/x"), [password("me", "secret")]);
        for (image, program) in
            [("b.example/x", "docker-credential-gcr"), ("c.example/x", "docker-credential-pass")]
        {
            let error = keyring.for_image(&image.parse().expect(image), false).expect_err("a helper");
            assert!(error.to_string().contains(program), "{error}");
        }
    }
}
