//! Rules for names. Each function returns the reasons why a text breaks its rule; none means it is fine.

const LABEL: &str = "[a-z0-9]([-a-z0-9]*[a-z0-9])?";

/// Labels of DNS: `my-name`.
pub(crate) fn dns_label(text: &str) -> Vec<String> {
    let mut reasons = too_long(text, 63);
    if !is_dns_label(text) {
        reasons.push(format!(
            "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start \
             and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is \
             '{LABEL}')"
        ));
    }
    reasons
}

/// Names of DNS: `example.com`.
pub(crate) fn dns_subdomain(text: &str) -> Vec<String> {
    let mut reasons = too_long(text, 253);
    if !is_dns_subdomain(text) {
        reasons.push(format!(
            "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must \
             start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is \
             '{LABEL}(\\.{LABEL})*')"
        ));
    }
    reasons
}

fn is_dns_subdomain(text: &str) -> bool {
    text.split('.').all(is_dns_label)
}

fn is_dns_label(text: &str) -> bool {
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    text.bytes().all(inner) && !text.is_empty() && !text.starts_with('-') && !text.ends_with('-')
}

fn too_long(text: &str, most: usize) -> Vec<String> {
    if text.len() > most { vec![format!("must be no more than {most} characters")] } else { Vec::new() }
}

fn is_name(text: &str) -> bool {
    let edge = |b: Option<u8>| b.is_some_and(|b| b.is_ascii_alphanumeric());
    text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
        && edge(text.bytes().next())
        && edge(text.bytes().last())
}

const NAME_RULE: &str = "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an \
                         alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for \
                         validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";

/// Qualified names: an optional DNS prefix and `/`, then a name of at most 63 characters.
pub(crate) fn qualified_name(text: &str) -> Vec<String> {
    let parts: Vec<&str> = text.split('/').collect();
    let (prefix, name) = match parts[..] {
        [name] => (None, name),
        [prefix, name] => (Some(prefix), name),
        _ => {
            return vec![format!(
                "a qualified name {NAME_RULE} with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')"
            )];
        }
    };
    let mut reasons = Vec::new();
    if let Some(prefix) = prefix {
        if prefix.is_empty() {
            reasons.push("prefix part must be non-empty".to_owned());
        } else {
            reasons.extend(dns_subdomain(prefix).into_iter().map(|why| format!("prefix part {why}")));
        }
    }
    if name.is_empty() {
        reasons.push("name part must be non-empty".to_owned());
    } else if name.len() > 63 {
        reasons.push("name part must be no more than 63 characters".to_owned());
    }
    if !is_name(name) {
        reasons.push(format!("name part {NAME_RULE}"));
    }
    reasons
}

/// Keys of labels.
pub(crate) fn label_key(text: &str) -> Vec<String> {
    let reasons = qualified_name(text);
    // The API server has a text of its own for keys with more than one slash.
    let renamed = |why: String| why.replacen("a qualified name must", "a valid label key must", 1);
    reasons.into_iter().map(renamed).collect()
}

/// Values of labels.
pub(crate) fn label_value(text: &str) -> Vec<String> {
    let mut reasons = too_long(text, 63);
    if !text.is_empty() && !is_name(text) {
        reasons.push(
            "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must \
             start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used \
             for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')"
                .to_owned(),
        );
    }
    reasons
}

/// Keys of ConfigMaps and Secrets.
pub(crate) fn config_key(text: &str) -> Vec<String> {
    let mut reasons = too_long(text, 253);
    let fine = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    if text.is_empty() || !text.bytes().all(fine) {
        reasons.push(
            "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or \
             'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')"
                .to_owned(),
        );
    }
    if text == "." || text == ".." {
        reasons.push(format!("must not be '{text}'"));
    } else if text.starts_with("..") {
        reasons.push("must not start with '..'".to_owned());
    }
    reasons
}

/// Names of environment variables.
pub(crate) fn env_name(text: &str) -> Vec<String> {
    if text.bytes().all(|b| (b' '..=b'~').contains(&b) && b != b'=') {
        return Vec::new();
    }
    let reason =
        "a valid environment variable name must consist only of printable ASCII characters other than '='";
    vec![reason.to_owned()]
}

/// Names of ports.
pub(crate) fn port_name(text: &str) -> Vec<String> {
    let mut reasons = too_long(text, 15);
    let mut add = |broken: bool, why: &str| {
        if broken {
            reasons.push(why.to_owned());
        }
    };
    let fine = |b: u8| b.is_ascii_alphanumeric() || b == b'-';
    add(
        !text.bytes().all(|b| fine(b) && !b.is_ascii_uppercase()),
        "must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)",
    );
    add(!text.bytes().any(|b| b.is_ascii_lowercase()), "must contain at least one letter (a-z)");
    add(text.contains("--"), "must not contain consecutive hyphens");
    let edge = text.starts_with('-') || text.ends_with('-');
    add(edge, "must not begin or end with a hyphen");
    reasons
}

/// Paths that lead nowhere up.
pub(crate) fn dots(path: &str) -> Vec<String> {
    if path.split('/').any(|part| part == "..") {
        vec!["must not contain '..'".to_owned()]
    } else {
        Vec::new()
    }
}
