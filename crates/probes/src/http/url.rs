//! As much of URLs as probes need, with the leniency of Go's `net/url`.

use std::fmt;

use crate::text::join_host_port;

/// Where a request goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Url {
    /// In lower case.
    pub(crate) scheme: String,
    /// Without brackets.
    pub(crate) host: String,
    pub(crate) port: Option<u16>,
    /// Path and query as they are sent; begins with a slash.
    pub(crate) target: String,
}

/// A `Location` that is no URL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Malformed;

impl Url {
    /// The URL of an `httpGet`. A path that is a whole URL, with a host of its own, has no say in the host.
    pub(crate) fn of_action(scheme: &str, host: &str, port: u16, path: &str) -> Self {
        let target = match parse(path) {
            Some(parts) => target(parts.path, parts.query),
            // Not a reference at all: a path in which everything special is meant literally.
            None => target(&path.replace('%', "%25").replace('?', "%3F"), None),
        };
        Self { scheme: scheme.to_owned(), host: host.to_owned(), port: Some(port), target }
    }

    /// Resolves the reference of a redirect (RFC 3986, section 5.2).
    pub(crate) fn join(&self, reference: &str) -> Result<Self, Malformed> {
        let parts = parse(reference).ok_or(Malformed)?;
        let (own_path, own_query) = split_query(&self.target);
        let mut url = self.clone();
        if let Some(scheme) = parts.scheme {
            url.scheme = scheme.to_ascii_lowercase();
        }
        if parts.scheme.is_some() || parts.authority.is_some() {
            let (host, port) = split_authority(parts.authority.unwrap_or_default())?;
            (url.host, url.port) = (host.to_owned(), port);
            url.target = target(&without_dots(parts.path), parts.query);
        } else if parts.path.is_empty() {
            url.target = target(own_path, parts.query.or(own_query));
        } else if parts.path.starts_with('/') {
            url.target = target(&without_dots(parts.path), parts.query);
        } else {
            let directory = &own_path[..=own_path.rfind('/').unwrap_or(0)];
            url.target = target(&without_dots(&format!("{directory}{}", parts.path)), parts.query);
        }
        Ok(url)
    }

    /// Returns host and port as in a URL and a `Host` header.
    pub(crate) fn authority(&self) -> String {
        match self.port {
            Some(port) => join_host_port(&self.host, port),
            None if self.host.contains(':') => format!("[{}]", self.host),
            None => self.host.clone(),
        }
    }

    /// Returns the port to connect to.
    pub(crate) fn port_or_default(&self) -> u16 {
        self.port.unwrap_or(if self.scheme == "https" { 443 } else { 80 })
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}{}", self.scheme, self.authority(), self.target)
    }
}

/// Whether a reference names its scheme.
pub(crate) fn is_absolute(reference: &str) -> bool {
    split_scheme(reference).0.is_some()
}

struct Parts<'a> {
    scheme: Option<&'a str>,
    authority: Option<&'a str>,
    path: &'a str,
    query: Option<&'a str>,
}

/// Takes a reference apart; `None` if it is none, because of a control character or a percent sign out of place.
fn parse(reference: &str) -> Option<Parts<'_>> {
    if reference.contains(|character: char| character.is_ascii_control()) {
        return None;
    }
    let reference = reference.split('#').next().unwrap_or_default();
    let (scheme, rest) = split_scheme(reference);
    let (rest, query) = split_query(rest);
    let (authority, path) = match rest.strip_prefix("//") {
        Some(rest) => {
            let end = rest.find('/').unwrap_or(rest.len());
            (Some(&rest[..end]), &rest[end..])
        }
        None => (None, rest),
    };
    has_valid_escapes(path).then_some(Parts { scheme, authority, path, query })
}

fn split_scheme(reference: &str) -> (Option<&str>, &str) {
    let Some((scheme, rest)) = reference.split_once(':') else { return (None, reference) };
    let mut characters = scheme.chars();
    let starts = characters.next().is_some_and(|first| first.is_ascii_alphabetic());
    if starts && characters.all(|one| one.is_ascii_alphanumeric() || "+-.".contains(one)) {
        (Some(scheme), rest)
    } else {
        (None, reference)
    }
}

fn split_query(reference: &str) -> (&str, Option<&str>) {
    match reference.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (reference, None),
    }
}

/// Leaves out a user and password.
fn split_authority(authority: &str) -> Result<(&str, Option<u16>), Malformed> {
    let place = authority.rsplit_once('@').map_or(authority, |(_, place)| place);
    let (host, port) = match place.strip_prefix('[') {
        Some(rest) => rest.split_once(']').ok_or(Malformed)?,
        None => place.split_at(place.rfind(':').unwrap_or(place.len())),
    };
    match port {
        "" | ":" => Ok((host, None)),
        _ => {
            let number = port.strip_prefix(':').and_then(|port| port.parse().ok());
            Ok((host, Some(number.ok_or(Malformed)?)))
        }
    }
}

fn has_valid_escapes(path: &str) -> bool {
    let escapes = path.split('%').skip(1);
    escapes.into_iter().all(|rest| {
        let bytes = rest.as_bytes();
        bytes.len() >= 2 && bytes[..2].iter().all(u8::is_ascii_hexdigit)
    })
}

/// Resolves `.` and `..` (RFC 3986, section 5.2.4).
fn without_dots(path: &str) -> String {
    let mut segments: Vec<&str> = Vec::new();
    let mut parts = path.strip_prefix('/').unwrap_or(path).split('/').peekable();
    while let Some(part) = parts.next() {
        let is_last = parts.peek().is_none();
        match part {
            "." => {}
            ".." => drop(segments.pop()),
            _ => {
                segments.push(part);
                continue;
            }
        }
        if is_last {
            segments.push("");
        }
    }
    format!("/{}", segments.join("/"))
}

/// Writes a path and a query with everything escaped that cannot stand in a request line.
fn target(path: &str, query: Option<&str>) -> String {
    let mut target = String::with_capacity(path.len() + 1);
    if !path.starts_with('/') {
        target.push('/');
    }
    escape(&mut target, path, b"-_.~$&+,/:;=@!'()*[]%");
    if let Some(query) = query {
        target.push('?');
        escape(&mut target, query, b"-_.~$&+,/:;=@!'()*[]%?{}|^`\\");
    }
    target
}

fn escape(into: &mut String, text: &str, allowed: &[u8]) {
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || allowed.contains(&byte) {
            into.push(char::from(byte));
        } else {
            into.push_str(&format!("%{byte:02X}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn base() -> Url {
        Url::of_action("http", "10.0.0.1", 80, "/a/b?q=1")
    }

    #[test]
    fn paths_of_manifests_become_urls() {
        for (path, expected) in [
            ("/", "/"),
            ("", "/"),
            ("/healthz", "/healthz"),
            ("healthz", "/healthz"),
            ("/a?b=c&d", "/a?b=c&d"),
            ("?b", "/?b"),
            ("/a#fragment", "/a"),
            ("/a b", "/a%20b"),
            ("/a?b c", "/a?b%20c"),
            ("/ä", "/%C3%A4"),
            ("/a%20b", "/a%20b"),
            ("/a%zz?b", "/a%25zz%3Fb"),
            ("/a%", "/a%25"),
            ("/a\r\nX: y", "/a%0D%0AX:%20y"),
            ("http://evil.example/x?y", "/x?y"),
            ("//evil.example/x", "/x"),
            ("//evil.example", "/"),
            ("/a/../b", "/a/../b"),
            ("/\"<>", "/%22%3C%3E"),
        ] {
            let url = Url::of_action("http", "10.0.0.1", 8080, path);
            assert_eq!(url.to_string(), format!("http://10.0.0.1:8080{expected}"), "{path:?}");
        }
        assert_eq!(Url::of_action("https", "::1", 1, "/").to_string(), "https://[::1]:1/");
    }

    #[test]
    fn references_are_resolved_as_rfc_3986_says() {
        for (reference, expected) in [
            ("/c", "http://10.0.0.1:80/c"),
            ("c", "http://10.0.0.1:80/a/c"),
            ("../c", "http://10.0.0.1:80/c"),
            ("../../../c", "http://10.0.0.1:80/c"),
            (".", "http://10.0.0.1:80/a/"),
            ("", "http://10.0.0.1:80/a/b?q=1"),
            ("#x", "http://10.0.0.1:80/a/b?q=1"),
            ("?r", "http://10.0.0.1:80/a/b?r"),
            ("/c/./d/../e?f", "http://10.0.0.1:80/c/e?f"),
            ("//other:81/x", "http://other:81/x"),
            ("https://10.0.0.1/x", "https://10.0.0.1/x"),
            ("HTTPS://user:pw@10.0.0.1:8443", "https://10.0.0.1:8443/"),
            ("http://[fd00::1]:9/", "http://[fd00::1]:9/"),
            ("ftp://10.0.0.1/", "ftp://10.0.0.1/"),
            ("http:opaque", "http:///opaque"),
        ] {
            assert_eq!(
                base().join(reference).map(|url| url.to_string()),
                Ok(expected.to_owned()),
                "{reference:?}"
            );
        }
        for reference in ["/a\nb", "/%", "http://[::1/", "http://h:port/", "http://h:70000/"] {
            assert_eq!(base().join(reference), Err(Malformed), "{reference:?}");
        }
    }

    #[test]
    fn ports_have_the_defaults_of_their_schemes() {
        for (reference, port) in
            [("http://h/", 80), ("https://h/", 443), ("https://h:80/", 80), ("http://h:/", 80)]
        {
            assert_eq!(base().join(reference).map(|url| url.port_or_default()), Ok(port), "{reference:?}");
        }
    }

    #[test]
    fn absolute_references_name_a_scheme() {
        for (reference, expected) in
            [("http://h", true), ("//h", false), ("/a:b", false), ("a", false), (":x", false)]
        {
            assert_eq!(is_absolute(reference), expected, "{reference:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn whatever_is_written_makes_a_target_that_can_be_sent(path in "\\PC{0,40}|[/%?#:.a-z0-9\\r\\n]{0,20}") {
            let url = Url::of_action("http", "h", 1, &path);
            assert!(url.target.starts_with('/'));
            assert!(url.target.bytes().all(|byte| byte.is_ascii_graphic()), "{}", url.target);
            assert!(url.target.parse::<hyper::Uri>().is_ok(), "{}", url.target);
            if let Ok(joined) = url.join(&path) {
                assert!(joined.target.parse::<hyper::Uri>().is_ok(), "{}", joined.target);
            }
        }
    }
}
