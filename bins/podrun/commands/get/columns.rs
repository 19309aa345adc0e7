//! `-o custom-columns=NAME:.metadata.name,PHASE:.status.phase`.

use serde_json::Value;

use crate::jsonpath;

/// Columns that somebody wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CustomColumns {
    columns: Vec<Column>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Column {
    header: String,
    path: String,
}

impl CustomColumns {
    /// Reads `HEADER:PATH,...`; a path may stand in braces.
    ///
    /// # Errors
    /// A text that says which column is wrong.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let columns = text.split(',').map(|part| {
            let wrong = || format!("expected HEADER:PATH, got {part:?}");
            let (header, path) = part.split_once(':').ok_or_else(wrong)?;
            let path = path.strip_prefix('{').and_then(|path| path.strip_suffix('}')).unwrap_or(path);
            if header.is_empty() || path.is_empty() {
                return Err(wrong());
            }
            // kubectl takes paths without the leading dot too.
            let path = if path.starts_with(['.', '[', '$']) { path.to_owned() } else { format!(".{path}") };
            jsonpath::find(&path, &Value::Null)?;
            Ok(Column { header: header.to_owned(), path })
        });
        Ok(Self { columns: columns.collect::<Result<_, _>>()? })
    }

    pub(super) fn headers(&self) -> Vec<&str> {
        self.columns.iter().map(|column| column.header.as_str()).collect()
    }

    pub(super) fn row(&self, pod: &Value) -> Vec<String> {
        let cell = |column: &Column| match jsonpath::find(&column.path, pod) {
            Ok(found) if !found.is_empty() => found.join(","),
            _ => "<none>".to_owned(),
        };
        self.columns.iter().map(cell).collect()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn columns_are_headers_and_paths() {
        let columns = CustomColumns::parse("NAME:.metadata.name,C:spec.c[*].name,N:{.n},X:.x.y").unwrap();
        assert_eq!(columns.headers(), ["NAME", "C", "N", "X"]);
        let pod = json!({ "metadata": { "name": "web" }, "spec": { "c": [{ "name": "a" }, { "name": "b" }] }, "n": 3 });
        assert_eq!(columns.row(&pod), ["web", "a,b", "3", "<none>"]);
        for wrong in ["", "NAME", "NAME:", ":.x", "A:.a,", "A:.a[", "A:.a[x]"] {
            CustomColumns::parse(wrong).unwrap_err();
        }
    }
}
