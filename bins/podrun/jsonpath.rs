//! kubectl's JSONPath templates: text with `{.a.b[0]}`, `[*]`, `[?(@.x=="y")]`, `{range}`…`{end}` and `{"\n"}`.

use serde_json::Value;

/// Fills a template from a document.
///
/// # Errors
/// A text that says what the template lacks. Paths that lead nowhere give nothing, as in kubectl.
pub(crate) fn render(template: &str, document: &Value) -> Result<String, String> {
    let nodes = parse(template)?;
    let mut output = String::new();
    print(&nodes, document, &mut output);
    Ok(output)
}

/// Returns the texts of all that one path leads to: `.metadata.labels.app`.
///
/// # Errors
/// A text that says what is wrong with the path.
pub(crate) fn find(path: &str, document: &Value) -> Result<Vec<String>, String> {
    Ok(select(&steps(path)?, document).into_iter().map(text).collect())
}

#[derive(Debug)]
enum Node {
    Text(String),
    Path(Vec<Step>),
    Range(Vec<Step>, Vec<Node>),
}

#[derive(Debug)]
enum Step {
    Field(String),
    /// `['a','b']`
    Fields(Vec<String>),
    Recursive(String),
    Index(i64),
    Slice(Option<i64>, Option<i64>),
    All,
    Filter(Vec<Step>, Option<(Comparison, Value)>),
}

#[derive(Clone, Copy, Debug)]
enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessEqual,
    Greater,
    GreaterEqual,
}

fn parse(template: &str) -> Result<Vec<Node>, String> {
    // Without braces the whole template is one path.
    let template = if template.contains('{') { template.to_owned() } else { format!("{{{template}}}") };
    let mut stack: Vec<(Vec<Step>, Vec<Node>)> = vec![(Vec::new(), Vec::new())];
    let mut rest = template.as_str();
    while !rest.is_empty() {
        let Some(open) = rest.find('{') else {
            add(&mut stack, Node::Text(rest.to_owned()));
            break;
        };
        if open > 0 {
            add(&mut stack, Node::Text(rest[..open].to_owned()));
        }
        let (inside, after) = split_braces(&rest[open + 1..])?;
        rest = after;
        let inside = inside.trim();
        if inside == "end" {
            let (path, body) = stack.pop().unwrap_or_default();
            if stack.is_empty() {
                return Err("{end} without {range}".to_owned());
            }
            add(&mut stack, Node::Range(path, body));
        } else if let Some(path) = inside.strip_prefix("range ") {
            stack.push((steps(path.trim())?, Vec::new()));
        } else if inside.starts_with(['"', '\'']) {
            add(&mut stack, Node::Text(unquote(inside)?));
        } else {
            add(&mut stack, Node::Path(steps(inside)?));
        }
    }
    match (stack.len(), stack.pop()) {
        (1, Some((_, nodes))) => Ok(nodes),
        _ => Err("{range} without {end}".to_owned()),
    }
}

fn add(stack: &mut [(Vec<Step>, Vec<Node>)], node: Node) {
    if let Some((_, nodes)) = stack.last_mut() {
        nodes.push(node);
    }
}

/// Splits after the closing brace, which may not be inside quotes.
fn split_braces(text: &str) -> Result<(&str, &str), String> {
    let mut quote = None;
    let mut escaped = false;
    for (index, c) in text.char_indices() {
        match (quote, c) {
            _ if escaped => escaped = false,
            (Some(_), '\\') => escaped = true,
            (Some(q), c) if c == q => quote = None,
            (None, '"' | '\'') => quote = Some(c),
            (None, '}') => return Ok((&text[..index], &text[index + 1..])),
            _ => {}
        }
    }
    Err("unclosed {".to_owned())
}

fn unquote(text: &str) -> Result<String, String> {
    let body = text
        .strip_prefix(['"', '\''])
        .and_then(|t| t.strip_suffix(['"', '\'']))
        .ok_or_else(|| format!("unclosed quote in {text}"))?;
    let mut result = String::new();
    let mut chars = body.chars();
    while let Some(c) = chars.next() {
        result.push(match c {
            '\\' => match chars.next() {
                Some('n') => '\n',
                Some('t') => '\t',
                Some(other) => other,
                None => '\\',
            },
            c => c,
        });
    }
    Ok(result)
}

fn steps(path: &str) -> Result<Vec<Step>, String> {
    let mut steps = Vec::new();
    let mut rest = path.strip_prefix(['$', '@']).unwrap_or(path);
    while !rest.is_empty() {
        if let Some(after) = rest.strip_prefix("..") {
            let (name, after) = name(after);
            steps.push(Step::Recursive(name));
            rest = after;
        } else if let Some(after) = rest.strip_prefix('.') {
            let (name, after) = name(after);
            rest = after;
            match name.as_str() {
                "" => {}
                "*" => steps.push(Step::All),
                _ => steps.push(Step::Field(name)),
            }
        } else if let Some(after) = rest.strip_prefix('[') {
            let end = close(after).ok_or_else(|| format!("unclosed [ in {path}"))?;
            steps.push(subscript(after[..end].trim())?);
            rest = &after[end + 1..];
        } else {
            return Err(format!("expected . or [ at {rest:?} in {path:?}"));
        }
    }
    Ok(steps)
}

/// Reads a field name; a backslash takes the next character as it is: `kubernetes\.io/x`.
fn name(text: &str) -> (String, &str) {
    let mut result = String::new();
    let mut chars = text.char_indices();
    while let Some((index, c)) = chars.next() {
        match c {
            '\\' => result.extend(chars.next().map(|(_, c)| c)),
            '.' | '[' => return (result, &text[index..]),
            c => result.push(c),
        }
    }
    (result, "")
}

/// Returns where the bracket closes that was opened before `text`.
fn close(text: &str) -> Option<usize> {
    let (mut depth, mut quote) = (1, None);
    for (index, c) in text.char_indices() {
        match (quote, c) {
            (Some(q), c) if c == q => quote = None,
            (Some(_), _) => {}
            (None, '"' | '\'') => quote = Some(c),
            (None, '[') => depth += 1,
            (None, ']') => {
                depth -= 1;
                if depth == 0 {
                    return Some(index);
                }
            }
            _ => {}
        }
    }
    None
}

fn subscript(text: &str) -> Result<Step, String> {
    let number = |text: &str| -> Result<Option<i64>, String> {
        if text.is_empty() {
            return Ok(None);
        }
        text.parse().map(Some).map_err(|_| format!("expected a number, got {text:?}"))
    };
    if text == "*" {
        Ok(Step::All)
    } else if text.starts_with(['"', '\'']) {
        let mut names =
            split_quoted(text).into_iter().map(|name| unquote(name.trim())).collect::<Result<Vec<_>, _>>()?;
        Ok(if names.len() == 1 { Step::Field(names.remove(0)) } else { Step::Fields(names) })
    } else if let Some(filter) = text.strip_prefix("?(").and_then(|t| t.strip_suffix(')')) {
        self::filter(filter.trim())
    } else if let Some((from, to)) = text.split_once(':') {
        Ok(Step::Slice(number(from)?, number(to)?))
    } else {
        number(text)?.map(Step::Index).ok_or_else(|| "empty []".to_owned())
    }
}

/// Splits at commas outside quotes.
fn split_quoted(text: &str) -> Vec<&str> {
    let (mut parts, mut quote, mut start) = (Vec::new(), None, 0);
    for (index, c) in text.char_indices() {
        match (quote, c) {
            (Some(q), c) if c == q => quote = None,
            (None, '"' | '\'') => quote = Some(c),
            (None, ',') => {
                parts.push(&text[start..index]);
                start = index + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    parts
}

fn filter(text: &str) -> Result<Step, String> {
    use Comparison::{Equal, Greater, GreaterEqual, Less, LessEqual, NotEqual};
    let operators = [
        ("==", Equal),
        ("!=", NotEqual),
        ("<=", LessEqual),
        (">=", GreaterEqual),
        ("<", Less),
        (">", Greater),
    ];
    for (operator, comparison) in operators {
        if let Some((left, right)) = text.split_once(operator) {
            let right = right.trim();
            let value = if right.starts_with(['"', '\'']) {
                Value::String(unquote(right)?)
            } else {
                serde_json::from_str(right).map_err(|_| format!("expected a value, got {right:?}"))?
            };
            return Ok(Step::Filter(steps(left.trim())?, Some((comparison, value))));
        }
    }
    Ok(Step::Filter(steps(text)?, None))
}

fn print(nodes: &[Node], document: &Value, output: &mut String) {
    for node in nodes {
        match node {
            Node::Text(text) => output.push_str(text),
            Node::Path(path) => {
                let found: Vec<String> = select(path, document).into_iter().map(text).collect();
                output.push_str(&found.join(" "));
            }
            Node::Range(path, body) => {
                for item in select(path, document) {
                    print(body, item, output);
                }
            }
        }
    }
}

fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

fn select<'a>(path: &[Step], document: &'a Value) -> Vec<&'a Value> {
    let mut found = vec![document];
    for step in path {
        found = found.into_iter().flat_map(|value| take(step, value)).collect();
    }
    found
}

fn take<'a>(step: &Step, value: &'a Value) -> Vec<&'a Value> {
    match (step, value) {
        (Step::Field(name), Value::Object(map)) => map.get(name).into_iter().collect(),
        (Step::Fields(names), Value::Object(map)) => names.iter().filter_map(|name| map.get(name)).collect(),
        (Step::All, Value::Array(items)) => items.iter().collect(),
        (Step::All, Value::Object(map)) => map.values().collect(),
        (Step::Index(index), Value::Array(items)) => {
            at(*index, items.len()).map(|i| &items[i]).into_iter().collect()
        }
        (Step::Slice(from, to), Value::Array(items)) => {
            let len = i64::try_from(items.len()).unwrap_or(i64::MAX);
            let bound = |n: i64| usize::try_from(if n < 0 { n + len } else { n }).unwrap_or(0);
            let from = from.map_or(0, bound).min(items.len());
            let to = to.map_or(items.len(), bound).min(items.len());
            items.get(from..to).unwrap_or_default().iter().collect()
        }
        (Step::Filter(path, condition), Value::Array(items)) => {
            items.iter().filter(|item| holds(path, condition.as_ref(), item)).collect()
        }
        (Step::Recursive(name), value) => {
            let mut found = Vec::new();
            descend(name, value, &mut found);
            found
        }
        _ => Vec::new(),
    }
}

fn at(index: i64, len: usize) -> Option<usize> {
    let len = i64::try_from(len).ok()?;
    let index = if index < 0 { index + len } else { index };
    if index < len { usize::try_from(index).ok() } else { None }
}

fn descend<'a>(name: &str, value: &'a Value, found: &mut Vec<&'a Value>) {
    match value {
        Value::Object(map) => {
            found.extend(map.get(name));
            map.values().for_each(|value| descend(name, value, found));
        }
        Value::Array(items) => items.iter().for_each(|value| descend(name, value, found)),
        _ => {}
    }
}

fn holds(path: &[Step], condition: Option<&(Comparison, Value)>, item: &Value) -> bool {
    let found = select(path, item);
    let Some((comparison, expected)) = condition else { return !found.is_empty() };
    found.iter().any(|value| {
        let order = match (value, expected) {
            (Value::Number(a), Value::Number(b)) => {
                a.as_f64().zip(b.as_f64()).and_then(|(a, b)| a.partial_cmp(&b))
            }
            (Value::String(a), Value::String(b)) => Some(a.cmp(b)),
            (a, b) => (*a == b).then_some(std::cmp::Ordering::Equal),
        };
        match comparison {
            Comparison::Equal => order.is_some_and(std::cmp::Ordering::is_eq),
            Comparison::NotEqual => !order.is_some_and(std::cmp::Ordering::is_eq),
            Comparison::Less => order.is_some_and(std::cmp::Ordering::is_lt),
            Comparison::LessEqual => order.is_some_and(std::cmp::Ordering::is_le),
            Comparison::Greater => order.is_some_and(std::cmp::Ordering::is_gt),
            Comparison::GreaterEqual => order.is_some_and(std::cmp::Ordering::is_ge),
        }
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn templates_are_filled_as_kubectl_does() {
        let pod = json!({
            "metadata": {"name": "web", "annotations": {"a.b/c": "x"}},
            "status": {"phase": "Running", "conditions": [
                {"type": "Ready", "status": "True"}, {"type": "Initialized", "status": "False"}],
                "containerStatuses": [{"name": "a", "restartCount": 0}, {"name": "b", "restartCount": 3}]}
        });
        let cases = [
            ("{.metadata.name}", "web"),
            (".metadata.name", "web"),
            (r"{.metadata.annotations.a\.b/c}", "x"),
            ("{.metadata.annotations['a.b/c']}", "x"),
            ("{.status.containerStatuses[*].name}", "a b"),
            ("{.status.containerStatuses[-1].name}", "b"),
            ("{.status.containerStatuses[0:1].name}", "a"),
            (r#"{.status.conditions[?(@.type=="Ready")].status}"#, "True"),
            ("{.status.containerStatuses[?(@.restartCount>2)].name}", "b"),
            (r#"{range .status.containerStatuses[*]}{.name}={.restartCount}{"\n"}{end}"#, "a=0\nb=3\n"),
            ("name: {.metadata.name}!", "name: web!"),
            ("{..type}", "Ready Initialized"),
            ("{.nothing.here}", ""),
            ("{.status.containerStatuses[*]['name','restartCount']}", "a 0 b 3"),
            ("{.metadata['name', \"x\"]}", "web"),
        ];
        for (template, expected) in cases {
            assert_eq!(render(template, &pod).as_deref(), Ok(expected), "{template}");
        }
    }

    #[test]
    fn broken_templates_say_what_they_lack() {
        for template in ["{.a", "{range .a}", "{end}", "{.a[}", "{.a[x]}", "{a}"] {
            render(template, &json!({})).unwrap_err();
        }
    }
}
