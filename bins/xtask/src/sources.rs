//! What the sources of pure crates may not mention.

use std::fs;
use std::path::{Path, PathBuf};

use crate::process::{Context as _, Result};
use crate::workspace::Package;

/// Crates whose results depend on their arguments alone: no files, no clock, no randomness.
const PURE: &[&str] = &["podrun-spec", "podrun-plan", "podrun-lifecycle"];
const FORBIDDEN: &[&str] = &["std::fs", "SystemTime", "Instant::now", "rand::", "getrandom", "RandomState"];

/// Returns the lines of pure crates that mention something forbidden.
pub(crate) fn violations(packages: &[Package]) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for package in packages.iter().filter(|package| PURE.contains(&package.name.as_str())) {
        for file in rust_files(&package.dir.join("src"))? {
            let text = fs::read_to_string(&file).context(file.display())?;
            for (number, word) in mentions(&text) {
                let line = format!(
                    "{}:{number}: {} is pure and must not mention {word}: make it an argument",
                    file.display(),
                    package.name
                );
                found.push(line);
            }
        }
    }
    Ok(found)
}

fn rust_files(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut pending = vec![dir.to_owned()];
    while let Some(dir) = pending.pop() {
        for entry in fs::read_dir(&dir).context(dir.display())? {
            let path = entry.context(dir.display())?.path();
            if path.is_dir() {
                pending.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push(path);
            }
        }
    }
    files.sort();
    Ok(files)
}

/// Returns line numbers and forbidden words, leaving comments aside.
fn mentions(text: &str) -> Vec<(usize, &'static str)> {
    let mut found = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let code = line.split("//").next().unwrap_or_default();
        for word in FORBIDDEN {
            if code.match_indices(word).any(|(at, _)| !code[..at].ends_with(is_word)) {
                found.push((index + 1, *word));
            }
        }
    }
    found
}

fn is_word(character: char) -> bool {
    character.is_alphanumeric() || character == '_'
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forbidden_words_are_found_outside_comments_only() {
        for (text, expected) in [
            ("use std::fs;", vec![(1, "std::fs")]),
            ("\nlet now = Instant::now();", vec![(2, "Instant::now")]),
            ("let t = std::time::SystemTime::now();", vec![(1, "SystemTime")]),
            ("// std::fs is not for us", vec![]),
            ("operand::new()", vec![]),
            ("rand::rng()", vec![(1, "rand::")]),
        ] {
            assert_eq!(mentions(text), expected, "{text}");
        }
    }
}
