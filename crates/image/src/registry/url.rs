//! The part of URLs that registries use: `http` and `https`, a host, a port, a path with its query.

use std::fmt;

use hyper::Uri;

use super::error::RegistryError;

/// Longest URL that is followed, in bytes; signed URLs of blob stores have two thousand at most.
const MAX_URL: usize = 8 << 10;

/// Who is spoken to. Credentials for one origin are never sent to another.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Origin {
    pub(crate) https: bool,
    /// In lower case, an IPv6 address without brackets.
    pub(crate) host: String,
    pub(crate) port: u16,
}

impl Origin {
    /// Returns the origin of a registry written as `host`, `host:port` or `[v6]:port`.
    pub(crate) fn of_registry(domain: &str, https: bool) -> Result<Self, RegistryError> {
        let scheme = if https { "https" } else { "http" };
        Ok(Url::parse(&format!("{scheme}://{domain}/"))?.origin)
    }

    /// Returns `host` or `host:port`, as a `Host` header has it.
    pub(crate) fn authority(&self) -> String {
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        if self.port == if self.https { 443 } else { 80 } { host } else { format!("{host}:{}", self.port) }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", if self.https { "https" } else { "http" }, self.authority())
    }
}

/// A URL without user information and fragment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Url {
    pub(crate) origin: Origin,
    /// Path and query; begins with a slash.
    pub(crate) target: String,
}

impl Url {
    pub(crate) fn new(origin: &Origin, target: String) -> Self {
        Self { origin: origin.clone(), target }
    }

    /// Parses an absolute URL.
    pub(crate) fn parse(text: &str) -> Result<Self, RegistryError> {
        let bad = |reason| RegistryError::Url { url: super::error::shortened(text), reason };
        if text.len() > MAX_URL {
            return Err(bad("is too long"));
        }
        let text = text.split('#').next().unwrap_or_default();
        let https = match text.split_once(':') {
            Some((scheme, _)) if scheme.eq_ignore_ascii_case("https") => true,
            Some((scheme, _)) if scheme.eq_ignore_ascii_case("http") => false,
            _ => return Err(bad("is neither http nor https")),
        };
        let uri: Uri = text.parse().map_err(|_| bad("is malformed"))?;
        let authority = uri.authority().ok_or_else(|| bad("has no host"))?;
        if authority.as_str().contains('@') {
            return Err(bad("has a user name in it"));
        }
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_ascii_lowercase();
        if host.is_empty() {
            return Err(bad("has no host"));
        }
        // The library passes over a port that is none.
        let port = match authority.as_str().strip_prefix(authority.host()).unwrap_or_default() {
            "" if https => 443,
            "" => 80,
            port => port[1..].parse().ok().filter(|port| *port != 0).ok_or_else(|| bad("has a bad port"))?,
        };
        let target = uri.path_and_query().map_or("/", |target| target.as_str());
        let target = if target.starts_with('/') { target.to_owned() } else { format!("/{target}") };
        Ok(Self { origin: Origin { https, host, port }, target })
    }

    /// Resolves what a `Location` header says.
    pub(crate) fn join(&self, reference: &str) -> Result<Self, RegistryError> {
        let absolute = reference.split_once(':').is_some_and(|(scheme, _)| {
            !scheme.is_empty() && scheme.bytes().all(|c| c.is_ascii_alphanumeric() || b"+-.".contains(&c))
        });
        if absolute {
            return Self::parse(reference);
        }
        let scheme = if self.origin.https { "https" } else { "http" };
        if reference.starts_with("//") {
            return Self::parse(&format!("{scheme}:{reference}"));
        }
        let path = self.target.split('?').next().unwrap_or("/");
        let target = match reference.bytes().next() {
            Some(b'/') => reference.to_owned(),
            Some(b'?') => format!("{path}{reference}"),
            _ => format!("{}/{reference}", path.rsplit_once('/').map_or("", |(dir, _)| dir)),
        };
        Self::parse(&format!("{}{target}", self.origin))
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.origin, self.target)
    }
}

/// Appends `key=value` pairs to a target, percent-encoded.
pub(crate) fn with_query(target: &str, pairs: &[(&str, &str)]) -> String {
    let mut text = target.to_owned();
    for (key, value) in pairs {
        text.push(if text.contains('?') { '&' } else { '?' });
        text.push_str(&format!("{key}={}", encoded(value)));
    }
    text
}

/// Percent-encodes everything but unreserved characters and those that are harmless in a query.
pub(crate) fn encoded(value: &str) -> String {
    value.bytes().fold(String::with_capacity(value.len()), |mut text, byte| {
        if byte.is_ascii_alphanumeric() || b"-._~:/".contains(&byte) {
            text.push(char::from(byte));
        } else {
            text.push_str(&format!("%{byte:02X}"));
        }
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_taken_apart_and_put_together() {
        for (text, shown) in [
            ("https://Registry.Example/v2/", "https://registry.example/v2/"),
            ("https://r.example:443/x?y=1#z", "https://r.example/x?y=1"),
            ("http://r.example:443/x", "http://r.example:443/x"),
            ("http://[::1]:5000/v2/", "http://[::1]:5000/v2/"),
            ("https://r.example", "https://r.example/"),
            ("https://r.example?x", "https://r.example/?x"),
        ] {
            assert_eq!(Url::parse(text).expect(text).to_string(), shown, "{text}");
        }
    }

    #[test]
    fn what_is_no_registry_url_is_refused() {
        for text in [
            "",
            "/v2/",
            "ftp://r.example/",
            "file:///etc/passwd",
            "gopher://r.example/",
            "https://user:pass@r.example/",
            "https://good.example@evil.example/",
            "https:///x",
            "https://r.example:0/",
            "https://r.example:65536/",
            "https://r.example:/",
            "https://r.example:x/",
            "https://r.example/\r\nX: y",
            &format!("https://r.example/{}", "x".repeat(9000)),
        ] {
            assert!(Url::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn locations_are_relative_to_the_request() {
        let base = Url::parse("https://r.example/v2/a/blobs/x?y").expect("valid");
        for (reference, joined) in [
            ("/b", "https://r.example/b"),
            ("c?d", "https://r.example/v2/a/blobs/c?d"),
            ("?e", "https://r.example/v2/a/blobs/x?e"),
            ("//cdn.example/f", "https://cdn.example/f"),
            ("http://cdn.example/f", "http://cdn.example/f"),
        ] {
            assert_eq!(base.join(reference).expect(reference).to_string(), joined);
        }
        assert!(base.join("file:/etc/passwd").is_err());
    }

    #[test]
    fn queries_are_encoded() {
        assert_eq!(
            with_query("/token?a=b", &[("scope", "repository:x/y:pull"), ("service", "a b&c")]),
            "/token?a=b&scope=repository:x/y:pull&service=a%20b%26c"
        );
    }
}
