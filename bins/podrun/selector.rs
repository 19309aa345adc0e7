//! Label selectors: `a=b,c!=d,e,!f,g in (h,i),j notin (k)`.

use std::collections::BTreeMap;

/// Requirements that all have to hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Selector {
    requirements: Vec<Requirement>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Requirement {
    In(String, Vec<String>),
    NotIn(String, Vec<String>),
    Exists(String),
    DoesNotExist(String),
}

impl Selector {
    /// Reads a selector.
    ///
    /// # Errors
    /// A text that says which requirement is wrong.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let requirements =
            split(text).into_iter().map(|part| requirement(part.trim())).collect::<Result<_, _>>()?;
        Ok(Self { requirements })
    }

    pub(crate) fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        self.requirements.iter().all(|requirement| match requirement {
            Requirement::In(key, values) => labels.get(key).is_some_and(|value| values.contains(value)),
            Requirement::NotIn(key, values) => labels.get(key).is_none_or(|value| !values.contains(value)),
            Requirement::Exists(key) => labels.contains_key(key),
            Requirement::DoesNotExist(key) => !labels.contains_key(key),
        })
    }
}

/// Splits at commas outside parentheses.
fn split(text: &str) -> Vec<&str> {
    let (mut parts, mut depth, mut start) = (Vec::new(), 0, 0);
    for (index, c) in text.char_indices() {
        match c {
            '(' => depth += 1,
            ')' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(&text[start..index]);
                start = index + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    parts
}

fn requirement(text: &str) -> Result<Requirement, String> {
    let key = |text: &str| {
        let text = text.trim();
        let fits = |c: char| c.is_ascii_alphanumeric() || "-_./".contains(c);
        if text.is_empty() || !text.chars().all(fits) {
            return Err(format!("expected a label, got {text:?}"));
        }
        Ok(text.to_owned())
    };
    let set = |text: &str| -> Result<Vec<String>, String> {
        text.trim()
            .strip_prefix('(')
            .and_then(|t| t.strip_suffix(')'))
            .map(|t| t.split(',').map(|v| v.trim().to_owned()).collect())
            .ok_or_else(|| format!("expected (value, ...), got {text:?}"))
    };
    if let Some((name, values)) = text.split_once(" notin ") {
        Ok(Requirement::NotIn(key(name)?, set(values)?))
    } else if let Some((name, values)) = text.split_once(" in ") {
        Ok(Requirement::In(key(name)?, set(values)?))
    } else if let Some((name, value)) = text.split_once("!=") {
        Ok(Requirement::NotIn(key(name)?, vec![value.trim().to_owned()]))
    } else if let Some((name, value)) = text.split_once("==").or_else(|| text.split_once('=')) {
        Ok(Requirement::In(key(name)?, vec![value.trim().to_owned()]))
    } else if let Some(name) = text.strip_prefix('!') {
        Ok(Requirement::DoesNotExist(key(name)?))
    } else {
        Ok(Requirement::Exists(key(text)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selectors_match_as_kubectl_does() {
        let labels =
            BTreeMap::from([("app".to_owned(), "web".to_owned()), ("tier".to_owned(), "1".to_owned())]);
        let cases = [
            ("app=web", true),
            ("app==web,tier=1", true),
            ("app=db", false),
            ("app!=db", true),
            ("other!=x", true),
            ("app", true),
            ("!app", false),
            ("!other", true),
            ("app in (db, web)", true),
            ("app notin (db,web),tier", false),
        ];
        for (text, expected) in cases {
            assert_eq!(Selector::parse(text).unwrap().matches(&labels), expected, "{text}");
        }
        for wrong in ["", "a b", "app in web", "=x"] {
            Selector::parse(wrong).unwrap_err();
        }
    }
}
