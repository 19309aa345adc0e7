//! Image references: what a user writes and which repository, tag and digest it means.
//!
//! The grammar and the error texts are those of `github.com/distribution/reference`, which the kubelet uses:
//! `busybox` means `docker.io/library/busybox`, and the first path component is a registry only if it is
//! `localhost`, has a dot or a colon, or has an upper-case letter.

use std::fmt;
use std::str::FromStr;

use crate::digest::{self, DigestError};

const DEFAULT_DOMAIN: &str = "docker.io";
const LEGACY_DEFAULT_DOMAIN: &str = "index.docker.io";
const OFFICIAL_PREFIX: &str = "library/";
const LOCAL_DOMAIN: &str = "localhost";
/// The tag that is meant where there is neither a tag nor a digest.
pub const DEFAULT_TAG: &str = "latest";
/// The longest repository path, in bytes.
const MAX_NAME: usize = 255;
const MAX_TAG: usize = 128;

/// Why a text is not an image reference, in the words that Kubernetes users know.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReferenceError {
    /// The text does not follow the grammar.
    #[error("invalid reference format")]
    Format,
    /// The repository has upper-case letters.
    #[error("invalid reference format: repository name ({0}) must be lowercase")]
    Uppercase(String),
    /// The text is 64 hexadecimal digits, which would be confused with an image ID.
    #[error("invalid repository name ({0}), cannot specify 64-byte hexadecimal strings")]
    Identifier(String),
    /// The repository path is longer than 255 bytes.
    #[error("repository name must not be more than 255 characters")]
    TooLong,
    /// The digest after `@` is not valid.
    #[error(transparent)]
    Digest(DigestError),
}

/// A parsed and normalised image reference.
///
/// `Display` writes the canonical form (`docker.io/library/busybox:1.36`), which names the same image everywhere;
/// [`Reference::familiar`] is the short form that people type.
///
/// ```
/// use podrun_image::Reference;
///
/// let reference: Reference = "busybox".parse()?;
/// assert_eq!(reference.to_string(), "docker.io/library/busybox:latest");
/// assert_eq!(reference.familiar(), "busybox:latest");
///
/// let reference: Reference = "localhost:5000/team/app@sha256:\
///     e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855".parse()?;
/// assert_eq!((reference.domain(), reference.path(), reference.tag()), ("localhost:5000", "team/app", None));
/// # Ok::<(), podrun_image::ReferenceError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Reference {
    domain: String,
    path: String,
    tag: Option<String>,
    digest: Option<String>,
}

impl Reference {
    /// Parses and normalises `text`; a reference with neither tag nor digest gets the tag `latest`.
    ///
    /// # Errors
    ///
    /// [`ReferenceError`] says which rule of the grammar is broken.
    pub fn parse(text: &str) -> Result<Self, ReferenceError> {
        let mut reference = Self::parse_as_written(text)?;
        if reference.tag.is_none() && reference.digest.is_none() {
            reference.tag = Some(DEFAULT_TAG.to_owned());
        }
        Ok(reference)
    }

    /// Parses without adding the default tag: Go's `ParseNormalizedNamed`.
    fn parse_as_written(text: &str) -> Result<Self, ReferenceError> {
        if text.len() == 64 && text.bytes().all(|c| c.is_ascii_digit() || (b'a'..=b'f').contains(&c)) {
            return Err(ReferenceError::Identifier(text.to_owned()));
        }
        let (domain, remainder) = split_domain(text);
        let remote = remainder.split(':').next().unwrap_or_default();
        if remote.chars().any(char::is_uppercase) {
            return Err(ReferenceError::Uppercase(remote.to_owned()));
        }
        let (name_and_tag, digest) = match remainder.split_once('@') {
            Some((rest, digest)) => (rest, Some(digest)),
            None => (remainder.as_str(), None),
        };
        let (path, tag) = match name_and_tag.split_once(':') {
            Some((path, tag)) => (path, Some(tag)),
            None => (name_and_tag, None),
        };
        let well_formed = is_domain(&domain)
            && path.split('/').all(is_path_component)
            && tag.is_none_or(is_tag)
            && digest.is_none_or(looks_like_digest);
        if !well_formed {
            return Err(ReferenceError::Format);
        }
        if path.len() > MAX_NAME {
            return Err(ReferenceError::TooLong);
        }
        if let Some(digest) = digest {
            digest::validate(digest).map_err(ReferenceError::Digest)?;
        }
        Ok(Self {
            path: path.to_owned(),
            domain,
            tag: tag.map(str::to_owned),
            digest: digest.map(str::to_owned),
        })
    }

    /// Returns the registry's host, with its port if there is one: `docker.io`, `localhost:5000`.
    pub fn domain(&self) -> &str {
        &self.domain
    }

    /// Returns the repository's path within the registry: `library/busybox`.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Returns the tag; `None` only if there is a digest.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// Returns the digest, `sha256:…`; it decides alone if there is a tag too.
    pub fn digest(&self) -> Option<&str> {
        self.digest.as_deref()
    }

    /// Returns the canonical repository without tag and digest: `docker.io/library/busybox`.
    pub fn repository(&self) -> String {
        format!("{}/{}", self.domain, self.path)
    }

    /// Returns the short form that people type: no `docker.io/`, no `library/`.
    pub fn familiar(&self) -> String {
        let name = if self.domain == DEFAULT_DOMAIN {
            let short = self.path.strip_prefix(OFFICIAL_PREFIX).filter(|rest| !rest.contains('/'));
            short.unwrap_or(&self.path).to_owned()
        } else {
            self.repository()
        };
        self.with_suffix(name)
    }

    /// Whether no registry can serve this name: its host is `localhost` without a port.
    ///
    /// podman names locally built images so; a registry on this machine is always written with its port.
    pub fn is_local_only(&self) -> bool {
        self.domain == LOCAL_DOMAIN
    }

    fn with_suffix(&self, mut name: String) -> String {
        for (mark, part) in [(':', &self.tag), ('@', &self.digest)] {
            if let Some(part) = part {
                name.push(mark);
                name.push_str(part);
            }
        }
        name
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.with_suffix(self.repository()))
    }
}

impl FromStr for Reference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        Self::parse(text)
    }
}

/// Returns what the kubelet hands to the runtime: `raw` with a textual `:latest` if it has neither tag nor digest.
///
/// Short names are not expanded, so the name in a Pod's status stays what the user wrote.
///
/// # Errors
///
/// [`ReferenceError`] if `raw` cannot be parsed; the text to show is made by
/// [`invalid_image_name`](crate::pull::invalid_image_name).
pub fn apply_default_tag(raw: &str) -> Result<String, ReferenceError> {
    let reference = Reference::parse_as_written(raw)?;
    let complete = reference.tag.is_some() || reference.digest.is_some();
    Ok(if complete { raw.to_owned() } else { format!("{raw}:{DEFAULT_TAG}") })
}

/// Go's `splitDockerDomain`: the host and what follows it, with Docker Hub's defaults filled in.
fn split_domain(text: &str) -> (String, String) {
    let (domain, rest) = match text.split_once('/') {
        None => (DEFAULT_DOMAIN, text),
        Some((LEGACY_DEFAULT_DOMAIN, rest)) => (DEFAULT_DOMAIN, rest),
        Some((first, rest))
            if first == LOCAL_DOMAIN
                || first.contains(['.', ':'])
                || first.chars().any(char::is_uppercase) =>
        {
            (first, rest)
        }
        Some(_) => return (DEFAULT_DOMAIN.to_owned(), text.to_owned()),
    };
    let official = domain == DEFAULT_DOMAIN && !rest.contains('/');
    (domain.to_owned(), if official { format!("{OFFICIAL_PREFIX}{rest}") } else { rest.to_owned() })
}

pub(crate) fn is_domain(text: &str) -> bool {
    let (host, port) = match text.strip_prefix('[') {
        Some(v6) => match v6.split_once(']') {
            Some((address, rest)) => {
                let hex = !address.is_empty() && address.bytes().all(|c| c.is_ascii_hexdigit() || c == b':');
                return hex && (rest.is_empty() || rest.strip_prefix(':').is_some_and(is_number));
            }
            None => return false,
        },
        None => text.split_once(':').map_or((text, None), |(host, port)| (host, Some(port))),
    };
    let label = |label: &str| {
        label.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'-')
            && label.bytes().next().is_some_and(|c| c != b'-')
            && !label.ends_with('-')
    };
    host.split('.').all(label) && port.is_none_or(is_number)
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|c| c.is_ascii_digit())
}

/// `[a-z0-9]+` joined by `.`, `_`, `__` or any number of `-`.
pub(crate) fn is_path_component(text: &str) -> bool {
    let alphanumeric = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let mut rest = text;
    loop {
        let after_word = rest.trim_start_matches(alphanumeric);
        if after_word.len() == rest.len() {
            return false;
        }
        if after_word.is_empty() {
            return true;
        }
        let after_separator = after_word.trim_start_matches(['.', '_', '-']);
        let separator = &after_word[..after_word.len() - after_separator.len()];
        if !matches!(separator, "." | "_" | "__") && separator.bytes().any(|c| c != b'-') {
            return false;
        }
        rest = after_separator;
    }
}

fn is_tag(text: &str) -> bool {
    let word = |c: u8| c.is_ascii_alphanumeric() || c == b'_';
    text.len() <= MAX_TAG
        && text.bytes().next().is_some_and(word)
        && text.bytes().all(|c| word(c) || c == b'.' || c == b'-')
}

/// The loose form of the reference grammar; [`digest::validate`] is strict afterwards and has better texts.
fn looks_like_digest(text: &str) -> bool {
    let Some((algorithm, hex)) = text.split_once(':') else { return false };
    let part = |part: &str| {
        part.bytes().next().is_some_and(|c| c.is_ascii_alphabetic())
            && part.bytes().all(|c| c.is_ascii_alphanumeric())
    };
    algorithm.split(['-', '_', '+', '.']).all(part)
        && hex.len() >= 32
        && hex.bytes().all(|c| c.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEX: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn references_normalise_to_canonical_and_familiar() {
        for (text, canonical, familiar) in [
            ("busybox", "docker.io/library/busybox:latest", "busybox:latest"),
            ("busybox:1.36", "docker.io/library/busybox:1.36", "busybox:1.36"),
            ("team/app", "docker.io/team/app:latest", "team/app:latest"),
            ("docker.io/busybox", "docker.io/library/busybox:latest", "busybox:latest"),
            ("docker.io/library/a/b", "docker.io/library/a/b:latest", "library/a/b:latest"),
            ("index.docker.io/busybox:1", "docker.io/library/busybox:1", "busybox:1"),
            ("localhost/x", "localhost/x:latest", "localhost/x:latest"),
            ("localhost:5000/x/y:2", "localhost:5000/x/y:2", "localhost:5000/x/y:2"),
            ("localhost:5000", "docker.io/library/localhost:5000", "localhost:5000"),
            ("registry.k8s.io/pause:3.10", "registry.k8s.io/pause:3.10", "registry.k8s.io/pause:3.10"),
            ("HOST/x", "HOST/x:latest", "HOST/x:latest"),
            ("127.0.0.1:1/absent/image:1", "127.0.0.1:1/absent/image:1", "127.0.0.1:1/absent/image:1"),
            ("[::1]:5000/x", "[::1]:5000/x:latest", "[::1]:5000/x:latest"),
            ("a__b/c---d.e_f", "docker.io/a__b/c---d.e_f:latest", "a__b/c---d.e_f:latest"),
        ] {
            let reference = Reference::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!(reference.to_string(), canonical, "{text}");
            assert_eq!(reference.familiar(), familiar, "{text}");
            assert_eq!(
                Reference::parse(canonical).as_ref(),
                Ok(&reference),
                "{text}: canonical is a fixed point"
            );
            assert_eq!(
                Reference::parse(familiar).as_ref(),
                Ok(&reference),
                "{text}: familiar is a fixed point"
            );
        }
    }

    #[test]
    fn tag_and_digest_are_kept_side_by_side() {
        let reference = Reference::parse(&format!("busybox:1.0@sha256:{HEX}")).expect("valid");
        assert_eq!(reference.tag(), Some("1.0"));
        assert_eq!(reference.digest(), Some(&*format!("sha256:{HEX}")));
        let reference = Reference::parse(&format!("busybox@sha256:{HEX}")).expect("valid");
        assert_eq!((reference.tag(), reference.repository().as_str()), (None, "docker.io/library/busybox"));
    }

    #[test]
    fn broken_references_are_refused_in_go_s_words() {
        let long = "a/".repeat(128) + "a";
        for (text, error) in [
            ("", "invalid reference format"),
            (" busybox", "invalid reference format"),
            ("busybox ", "invalid reference format"),
            ("a//b", "invalid reference format"),
            ("/a", "invalid reference format"),
            ("a/", "invalid reference format"),
            ("../a", "invalid reference format"),
            ("a..b", "invalid reference format"),
            ("a___b", "invalid reference format"),
            ("-a", "invalid reference format"),
            ("a:", "invalid reference format"),
            ("a:b:c", "invalid reference format"),
            ("a@", "invalid reference format"),
            ("a@sha256:abc", "invalid reference format"),
            ("[::1/x", "invalid reference format"),
            ("host.:5000/x", "invalid reference format"),
            ("host.test:port/x", "invalid reference format"),
            (&format!("a:{}", "t".repeat(129)), "invalid reference format"),
            (HEX, &format!("invalid repository name ({HEX}), cannot specify 64-byte hexadecimal strings")),
            ("localhost/UPPER:1", "invalid reference format: repository name (UPPER) must be lowercase"),
            ("Busybox", "invalid reference format: repository name (library/Busybox) must be lowercase"),
            (&format!("a@md5:{}", &HEX[..32]), "unsupported digest algorithm"),
            (&format!("a@sha256:{}", &HEX[..40]), "invalid checksum digest length"),
            (&format!("a@sha256:{}", HEX.to_uppercase()), "invalid checksum digest format"),
            (&format!("host.test/{long}"), "repository name must not be more than 255 characters"),
        ] {
            match Reference::parse(text) {
                Ok(reference) => panic!("{text}: accepted as {reference}"),
                Err(found) => assert_eq!(found.to_string(), error, "{text}"),
            }
        }
    }

    #[test]
    fn latest_is_appended_as_text_only_where_nothing_is_said() {
        let digest = format!("busybox@sha256:{HEX}");
        for (raw, tagged) in [
            ("busybox", "busybox:latest"),
            ("host.test:5000/img", "host.test:5000/img:latest"),
            ("busybox:1", "busybox:1"),
            (&digest, &digest),
        ] {
            assert_eq!(apply_default_tag(raw).as_deref(), Ok(tagged));
        }
        assert!(apply_default_tag("a b").is_err());
    }

    #[test]
    fn only_localhost_without_a_port_is_local() {
        for (text, local) in [
            ("localhost/x", true),
            ("localhost:5000/x", false),
            ("busybox", false),
            ("localhost", false),
            ("localhost.localdomain/x", false),
        ] {
            assert_eq!(Reference::parse(text).expect("valid").is_local_only(), local, "{text}");
        }
    }
}
