//! What a registry asks for: the `WWW-Authenticate` header (RFC 9110, section 11).

/// Longest header that is read, in bytes.
const MAX_HEADER: usize = 8 << 10;

/// How to authenticate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Challenge {
    /// User name and password with each request.
    Basic,
    /// A token from a server of its own.
    Bearer {
        /// The token server's URL.
        realm: String,
        /// The registry's name for itself there.
        service: Option<String>,
    },
}

/// Returns the challenge to answer: a token rather than a password. What is malformed is passed over.
pub(super) fn choose<'h>(headers: impl Iterator<Item = &'h [u8]>) -> Option<Challenge> {
    let mut found = None;
    for header in headers.filter(|header| header.len() <= MAX_HEADER) {
        let Ok(text) = std::str::from_utf8(header) else { continue };
        for challenge in parse(text) {
            match challenge {
                bearer @ Challenge::Bearer { .. } => return Some(bearer),
                Challenge::Basic => found = Some(Challenge::Basic),
            }
        }
    }
    found
}

/// Reads all challenges of a header.
fn parse(text: &str) -> Vec<Challenge> {
    let mut found = Vec::new();
    let mut rest = text;
    let mut current: Option<(String, Vec<(String, String)>)> = None;
    loop {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        let length = rest.bytes().take_while(|c| is_token(*c)).count();
        if length == 0 {
            break;
        }
        let (word, after) = rest.split_at(length);
        let after_space = after.trim_start_matches([' ', '\t']);
        let Some(value) = after_space.strip_prefix('=').filter(|_| current.is_some()) else {
            found.extend(current.take().and_then(finish));
            current = Some((word.to_ascii_lowercase(), Vec::new()));
            rest = after;
            continue;
        };
        let Some((value, after)) = read_value(value.trim_start_matches([' ', '\t'])) else { return found };
        if let Some((_, parameters)) = &mut current {
            parameters.push((word.to_ascii_lowercase(), value));
        }
        rest = after;
    }
    found.extend(current.and_then(finish));
    found
}

fn finish((scheme, parameters): (String, Vec<(String, String)>)) -> Option<Challenge> {
    // A parameter given twice may mean one thing to us and another to a proxy.
    let unique =
        parameters.iter().enumerate().all(|(i, (name, _))| parameters[..i].iter().all(|(n, _)| n != name));
    if !unique {
        return None;
    }
    let get = |name: &str| parameters.iter().find(|(n, _)| n == name).map(|(_, value)| value.clone());
    match scheme.as_str() {
        "basic" => Some(Challenge::Basic),
        "bearer" => Some(Challenge::Bearer { realm: get("realm")?, service: get("service") }),
        _ => None,
    }
}

/// Reads a token or a quoted string; returns what follows it.
fn read_value(text: &str) -> Option<(String, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        let length = text.bytes().take_while(|c| is_token(*c) || b"/:?&%=".contains(c)).count();
        let (value, rest) = text.split_at(length);
        return Some((value.to_owned(), rest));
    };
    let mut value = String::new();
    let mut characters = quoted.char_indices();
    while let Some((index, c)) = characters.next() {
        match c {
            '"' => return Some((value, &quoted[index + 1..])),
            '\\' => value.push(characters.next()?.1),
            c => value.push(c),
        }
    }
    None
}

fn is_token(c: u8) -> bool {
    c.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&c)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bearer(realm: &str, service: Option<&str>) -> Challenge {
        Challenge::Bearer { realm: realm.to_owned(), service: service.map(str::to_owned) }
    }

    #[test]
    fn challenges_of_real_registries_are_read() {
        for (headers, expected) in [
            (
                &[
                    r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:a/b:pull""#,
                ][..],
                bearer("https://auth.docker.io/token", Some("registry.docker.io")),
            ),
            (&[r#"Basic realm="Registry Realm""#], Challenge::Basic),
            (&["Basic"], Challenge::Basic),
            (&["basic realm=x"], Challenge::Basic),
            (
                &[r#"Basic realm="x", Bearer realm="https://t.example/t""#],
                bearer("https://t.example/t", None),
            ),
            (
                &[r#"Basic realm="x""#, r#"bearer realm = "https://t.example/t""#],
                bearer("https://t.example/t", None),
            ),
            (
                &[r#"Bearer service="a\"b",realm="https://t.example/a,b""#],
                bearer("https://t.example/a,b", Some("a\"b")),
            ),
            (&["Negotiate, Basic realm=\"x\""], Challenge::Basic),
        ] {
            assert_eq!(choose(headers.iter().map(|h| h.as_bytes())), Some(expected), "{headers:?}");
        }
    }

    #[test]
    fn doubtful_challenges_are_passed_over() {
        let huge = format!("Bearer realm=\"https://t.example/{}\"", "x".repeat(9000));
        for header in [
            "",
            "Bearer",
            "Bearer service=\"x\"",
            "Bearer realm=\"https://a.example\",realm=\"https://b.example\"",
            "Bearer realm=\"unterminated",
            "Digest realm=\"x\"",
            "=x",
            "\"",
            huge.as_str(),
        ] {
            assert_eq!(choose([header.as_bytes()].into_iter()), None, "{header:.60}");
        }
        assert_eq!(choose([&[0xff_u8, 0xfe][..]].into_iter()), None);
    }

    proptest::proptest! {
        #[test]
        fn no_header_is_a_panic(header in "[ -~]{0,200}") {
            let _ = choose([header.as_bytes()].into_iter());
        }
    }
}
