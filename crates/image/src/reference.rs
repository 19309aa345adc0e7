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
    ///
    /// It means the same image: a repository of Docker Hub that would read as another registry's keeps its registry.
    pub fn familiar(&self) -> String {
        let name = if self.domain == DEFAULT_DOMAIN {
            let short = self.path.strip_prefix(OFFICIAL_PREFIX).filter(|rest| !rest.contains('/'));
            match (short, self.path.split_once('/')) {
                (None, Some((first, _))) if is_registry(first) => self.repository(),
                _ => short.unwrap_or(&self.path).to_owned(),
            }
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
        Some((first, rest)) if is_registry(first) => (first, rest),
        Some(_) => return (DEFAULT_DOMAIN.to_owned(), text.to_owned()),
    };
    let official = domain == DEFAULT_DOMAIN && !rest.contains('/');
    (domain.to_owned(), if official { format!("{OFFICIAL_PREFIX}{rest}") } else { rest.to_owned() })
}

/// Whether the part of a name before the first slash is a registry, and not a part of the path.
fn is_registry(first: &str) -> bool {
    first == LOCAL_DOMAIN || first.contains(['.', ':']) || first.chars().any(char::is_uppercase)
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
            ("docker.io/a.b/c", "docker.io/a.b/c:latest", "docker.io/a.b/c:latest"),
            ("docker.io/localhost/c", "docker.io/localhost/c:latest", "docker.io/localhost/c:latest"),
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

    mod properties {
        //! The grammar of `github.com/distribution/reference`, from which references are made and with which any text is
        //! compared.

        use proptest::prelude::*;

        use super::*;

        const COMPONENT: &str = "[a-z0-9]{1,6}((\\.|_|__|-{1,3})[a-z0-9]{1,6}){0,3}";
        const TAG: &str = "[A-Za-z0-9_][A-Za-z0-9_.-]{0,20}";

        /// A registry that cannot be taken for a part of the path.
        fn domain() -> impl Strategy<Value = String> {
            prop_oneof![
                Just("localhost".to_owned()),
                Just("docker.io".to_owned()),
                Just("index.docker.io".to_owned()),
                "[a-zA-Z0-9]([a-zA-Z0-9-]{0,6}[a-zA-Z0-9])?(\\.[a-zA-Z0-9]([a-z-]{0,6}[a-z])?){1,3}(:[0-9]{1,5})?",
                "[a-zA-Z0-9]([a-zA-Z0-9-]{0,6}[a-zA-Z0-9])?:[0-9]{1,5}",
                "\\[[0-9a-f]{0,4}:[0-9a-f:]{1,16}\\](:[0-9]{1,5})?",
            ]
        }

        fn digest() -> impl Strategy<Value = String> {
            prop_oneof!["sha256:[0-9a-f]{64}", "sha512:[0-9a-f]{128}", "sha384:[0-9a-f]{96}"]
        }

        fn reference() -> impl Strategy<Value = String> {
            let path = prop::collection::vec(COMPONENT, 1..4).prop_map(|parts| parts.join("/"));
            let suffix = (prop::option::of(TAG), prop::option::of(digest()));
            (prop::option::of(domain()), path, suffix).prop_map(|(domain, path, (tag, digest))| {
                // A first part with a dot is a registry, also where none is meant.
                let dotted = path.split_once('/').is_some_and(|(first, _)| is_registry(first));
                let domain = domain.or_else(|| dotted.then(|| DEFAULT_DOMAIN.to_owned()));
                let domain = domain.map_or_else(String::new, |domain| domain + "/");
                let tag = tag.map_or_else(String::new, |tag| format!(":{tag}"));
                let digest = digest.map_or_else(String::new, |digest| format!("@{digest}"));
                format!("{domain}{path}{tag}{digest}")
            })
        }

        proptest! {
            #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

            #[test]
            fn what_the_grammar_makes_is_parsed_and_printed_forms_mean_the_same(text in reference()) {
                // Sixty-four hexadecimal digits alone are an ID.
                prop_assume!(text.len() != 64);
                let parsed = Reference::parse(&text).map_err(|e| TestCaseError::fail(format!("{text}: {e}")))?;
                for printed in [parsed.to_string(), parsed.familiar()] {
                    prop_assert_eq!(Reference::parse(&printed), Ok(parsed.clone()), "{} of {}", printed, text);
                }
                prop_assert!(parsed.tag().is_some() || parsed.digest().is_some());
                prop_assert_eq!(parsed.to_string(), Reference::parse(&parsed.to_string()).expect("above").to_string());
                let whole = [parsed.domain(), "/", parsed.path()].concat();
                prop_assert_eq!(parsed.repository(), whole);
                if parsed.domain() == "docker.io" {
                    prop_assert!(parsed.path().contains('/'), "{} has no library/", parsed);
                }
                prop_assert!(parsed.domain() != "index.docker.io");
                // What is said is kept.
                let written = text.rsplit('/').next().unwrap_or_default();
                prop_assert_eq!(parsed.digest(), written.split_once('@').map(|(_, digest)| digest));
            }

            #[test]
            fn any_text_is_parsed_or_refused_and_never_changes_its_meaning(text in "[a-zA-Z0-9@:/._\\-\\[\\] ]{0,40}") {
                if let Ok(parsed) = Reference::parse(&text) {
                    prop_assert_eq!(Reference::parse(&parsed.to_string()), Ok(parsed.clone()));
                    prop_assert_eq!(Reference::parse(&parsed.familiar()), Ok(parsed.clone()));
                    // It can be a file's name in parts, and a part of a URL, as it is.
                    let odd = |c: char| c.is_whitespace() || c.is_control() || "%?#\\".contains(c);
                    prop_assert!(!parsed.to_string().contains(odd));
                    prop_assert!(parsed.path().split('/').all(|part| !part.is_empty() && part != ".." && part != "."));
                }
            }

            #[test]
            fn any_bytes_of_text_are_no_reason_to_panic(text in any::<String>()) {
                drop(Reference::parse(&text));
                drop(apply_default_tag(&text));
            }
        }
    }
}
