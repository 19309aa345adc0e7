//! What is wrong with a manifest, and where.

use std::fmt;

use crate::path::Path;
use crate::tree::Mark;

/// One thing that is wrong with a manifest.
///
/// Prints as one line: `pod.yaml:14:7: spec.containers[0].image: Required value`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The name of the source as the caller gave it.
    pub file: String,
    /// Line, from 1; 0 where no place is known.
    pub line: u32,
    /// Column in characters, from 1; 0 where no place is known.
    pub column: u32,
    /// The field as the API names it: `spec.containers[0].image`; empty for the document itself.
    pub path: String,
    /// What is wrong.
    pub message: String,
    /// What may help.
    pub hint: Option<String>,
}

impl Fault {
    /// Returns a fault without a file name yet.
    pub(crate) fn at(mark: Mark, path: &Path, message: impl Into<String>) -> Self {
        Self {
            file: String::new(),
            line: mark.line,
            column: mark.column,
            path: path.to_string(),
            message: message.into(),
            hint: None,
        }
    }

    pub(crate) fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if self.line > 0 {
            write!(f, ":{}:{}", self.line, self.column)?;
        }
        if !self.path.is_empty() {
            write!(f, ": {}", self.path)?;
        }
        write!(f, ": {}", self.message)
    }
}

/// Everything that is wrong with a manifest, in the order of the text; never empty.
///
/// Prints one line per fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Faults(Vec<Fault>);

/// Returns the faults of a file in the order of the text.
pub(crate) fn in_file(name: &str, mut faults: Vec<Fault>) -> Vec<Fault> {
    for fault in &mut faults {
        name.clone_into(&mut fault.file);
    }
    faults.sort_by_key(|fault| (fault.line, fault.column));
    faults
}

impl Faults {
    /// Returns the faults of a file in the order of the text, or none where there is none.
    pub(crate) fn of_file(name: &str, faults: Vec<Fault>) -> Option<Self> {
        Self::of_files(in_file(name, faults))
    }

    /// Returns the faults of some files, or none where there is none.
    pub(crate) fn of_files(faults: Vec<Fault>) -> Option<Self> {
        (!faults.is_empty()).then_some(Self(faults))
    }

    /// Returns the faults.
    pub fn iter(&self) -> std::slice::Iter<'_, Fault> {
        self.0.iter()
    }

    /// Returns how many there are.
    #[expect(clippy::len_without_is_empty, reason = "there is at least one fault")]
    pub fn len(&self) -> usize {
        self.0.len()
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, fault) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{fault}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Faults {}

impl From<Fault> for Faults {
    fn from(fault: Fault) -> Self {
        Self(vec![fault])
    }
}

impl IntoIterator for Faults {
    type Item = Fault;
    type IntoIter = std::vec::IntoIter<Fault>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl<'a> IntoIterator for &'a Faults {
    type Item = &'a Fault;
    type IntoIter = std::slice::Iter<'a, Fault>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}
