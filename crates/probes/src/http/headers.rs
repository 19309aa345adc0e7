//! The headers of a request, as Go's client sends them for a kubelet.

use hyper::HeaderMap;
use hyper::header::{ACCEPT, CONNECTION, HOST, HeaderName, HeaderValue, REFERER, USER_AGENT};

use super::url::{Url, is_absolute};

/// What Go decides itself, whatever the headers say.
const OWNED_BY_CLIENT: [&str; 3] = ["content-length", "transfer-encoding", "trailer"];

/// Headers of a request without its `Host`.
#[derive(Clone, Debug)]
pub(super) struct Headers {
    map: HeaderMap,
    /// The `Host` of the manifest, if it has one.
    host: Option<HeaderValue>,
}

impl Headers {
    /// Makes headers of those of a manifest. Duplicates are sent twice; `User-Agent` and `Accept` have defaults, and are
    /// left out if they are set to nothing.
    ///
    /// # Errors
    ///
    /// The words of Go for a name or a value that cannot be sent, such as one with a line break.
    pub(super) fn new(list: &[(String, String)], user_agent: &str) -> Result<Self, String> {
        let mut map = HeaderMap::with_capacity(list.len() + 3);
        for (name, value) in list {
            let key = HeaderName::from_bytes(name.as_bytes());
            let key = key.map_err(|_| format!("net/http: invalid header field name {name:?}"))?;
            // The value is not told: it may be a password.
            let value = HeaderValue::from_bytes(value.trim().as_bytes())
                .map_err(|_| format!("net/http: invalid header field value for {name:?}"))?;
            map.append(key, value);
        }
        let host = map.remove(HOST).filter(|host| !host.is_empty());
        for name in OWNED_BY_CLIENT {
            map.remove(name);
        }
        // Go sends the first one only.
        let agent = match map.remove(USER_AGENT) {
            Some(agent) => Some(agent),
            None => HeaderValue::from_str(user_agent).ok(),
        };
        if let Some(agent) = agent.filter(|agent| !agent.is_empty()) {
            map.insert(USER_AGENT, agent);
        }
        match map.get(ACCEPT) {
            None => drop(map.insert(ACCEPT, HeaderValue::from_static("*/*"))),
            Some(accept) if accept.is_empty() => drop(map.remove(ACCEPT)),
            Some(_) => {}
        }
        if !map.contains_key(CONNECTION) {
            map.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        Ok(Self { map, host })
    }

    /// Changes the headers for the request that follows a redirect.
    pub(super) fn redirected(&mut self, from: &Url, to: &Url, reference: &str) {
        if is_absolute(reference) {
            self.host = None;
        }
        let tells = !(from.scheme == "https" && to.scheme == "http");
        let referer = HeaderValue::from_str(&from.to_string()).ok().filter(|_| tells);
        if let Some(referer) = referer.filter(|_| !self.map.contains_key(REFERER)) {
            self.map.insert(REFERER, referer);
        }
    }

    /// Leaves out what must not be sent in the clear.
    pub(super) fn without_credentials(mut self) -> Self {
        self.map.remove(hyper::header::AUTHORIZATION);
        self
    }

    /// Returns the headers of a request to `url`.
    pub(super) fn for_request(&self, url: &Url) -> HeaderMap {
        let mut map = self.map.clone();
        let host = self.host.clone().or_else(|| HeaderValue::from_str(&url.authority()).ok());
        if let Some(host) = host {
            map.insert(HOST, host);
        }
        map
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url() -> Url {
        Url::of_action("http", "10.0.0.1", 80, "/")
    }

    /// Headers of a manifest and what is sent.
    type Case<'a> = (&'a [(&'a str, &'a str)], &'a [&'a str]);

    /// Lines as they are sent, sorted.
    fn sent(list: &[(&str, &str)]) -> Result<Vec<String>, String> {
        let list: Vec<_> =
            list.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let map = Headers::new(&list, "kube-probe/1.36")?.for_request(&url());
        let line = |(name, value): (&HeaderName, &HeaderValue)| {
            format!("{name}: {}", value.to_str().expect("ASCII"))
        };
        let mut lines: Vec<_> = map.iter().map(line).filter(|line| line != "connection: close").collect();
        lines.sort();
        Ok(lines)
    }

    #[test]
    fn defaults_and_overrides_are_those_of_the_kubelet() {
        let agent = "user-agent: kube-probe/1.36";
        let host = "host: 10.0.0.1:80";
        let all = "accept: */*";
        let table: [Case<'_>; 11] = [
            (&[], &[all, host, agent]),
            (&[("X-A", "1"), ("x-a", "2")], &[all, host, agent, "x-a: 1", "x-a: 2"]),
            (&[("Accept", "text/html")], &["accept: text/html", host, agent]),
            (&[("accept", "")], &[host, agent]),
            (&[("User-Agent", "me")], &[all, host, "user-agent: me"]),
            (&[("User-Agent", "me"), ("User-Agent", "you")], &[all, host, "user-agent: me"]),
            (&[("user-agent", "")], &[all, host]),
            (&[("Host", "web.example")], &[all, "host: web.example", agent]),
            (&[("Host", "")], &[all, host, agent]),
            (&[("Content-Length", "7"), ("Transfer-Encoding", "chunked")], &[all, host, agent]),
            (&[("X-A", "  padded ")], &[all, host, agent, "x-a: padded"]),
        ];
        for (list, expected) in table {
            assert_eq!(sent(list), Ok(expected.iter().map(|line| (*line).to_owned()).collect()), "{list:?}");
        }
    }

    #[test]
    fn what_would_forge_a_request_is_refused_without_telling_values() {
        for (name, value, error) in [
            ("X-A", "1\r\nX-B: 2", "net/http: invalid header field value for \"X-A\""),
            ("Authorization", "Bearer\ns", "net/http: invalid header field value for \"Authorization\""),
            ("X A", "1", "net/http: invalid header field name \"X A\""),
            ("X-A:", "1", "net/http: invalid header field name \"X-A:\""),
            ("", "1", "net/http: invalid header field name \"\""),
        ] {
            assert_eq!(sent(&[(name, value)]), Err(error.to_owned()));
        }
        // White space around a value is cut off, as by Go, line breaks included.
        assert!(sent(&[("X-A", "1\r\n")]).is_ok());
    }

    #[test]
    fn redirects_keep_the_host_of_the_manifest_only_if_they_are_relative() {
        let list = [("Host".to_owned(), "web.example".to_owned())];
        for (reference, host) in [("/x", "web.example"), ("http://10.0.0.1/x", "10.0.0.1")] {
            let mut headers = Headers::new(&list, "a").expect("valid");
            let to = url().join(reference).expect("a reference");
            headers.redirected(&url(), &to, reference);
            let sent = headers.for_request(&to);
            assert_eq!(sent[HOST], host, "{reference}");
            assert_eq!(sent[REFERER], "http://10.0.0.1:80/");
        }
    }
}
