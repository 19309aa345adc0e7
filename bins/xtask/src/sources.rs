//! What the sources of pure crates may not mention.

use std::fs;
use std::path::{Path, PathBuf};

use crate::process::{Context as _, Result};
use crate::workspace::Package;

/// Crates whose results depend on their arguments alone: no files, no clock, no randomness.
const PURE: &[&str] = &["podrun-spec", "podrun-plan", "podrun-lifecycle"];
const TEST_FILE: &str = "#![cfg(test)]";
const TEST_ONLY: &str = "#[cfg(test)]";
const FORBIDDEN: &[&str] = &[
    "std::fs",
    "SystemTime",
    "Instant::now",
    "rand::",
    "getrandom",
    "RandomState",
    // The files of podrun-cgroups; its conversions may be used.
    "Cgroup::",
    "Hierarchy::",
];

/// Returns the lines of pure crates that mention something forbidden. Their tests are free.
pub(crate) fn violations(packages: &[Package]) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for package in packages.iter().filter(|package| PURE.contains(&package.name.as_str())) {
        let mut texts = Vec::new();
        for file in rust_files(&package.dir.join("src"))? {
            let text = fs::read_to_string(&file).context(file.display())?;
            texts.push((file, text));
        }
        let tests: Vec<PathBuf> = texts.iter().flat_map(|(file, text)| test_modules(file, text)).collect();
        for (file, text) in &texts {
            let is_test = text.lines().any(|line| line == TEST_FILE);
            if is_test || tests.iter().any(|test| file.starts_with(test) || file.with_extension("") == *test)
            {
                continue;
            }
            for (number, word) in mentions(text) {
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

/// Returns the modules, as paths without extension, that `file` declares for tests only.
fn test_modules(file: &Path, text: &str) -> Vec<PathBuf> {
    let dir = match file.file_stem().and_then(|stem| stem.to_str()) {
        Some("lib" | "mod" | "main") => file.with_file_name(""),
        _ => file.with_extension(""),
    };
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    let declared = lines.windows(2).filter(|pair| pair[0] == TEST_ONLY);
    declared.filter_map(|pair| Some(dir.join(pair[1].strip_prefix("mod ")?.strip_suffix(';')?))).collect()
}

/// Returns line numbers and forbidden words, leaving comments and items for tests aside.
fn mentions(text: &str) -> Vec<(usize, &'static str)> {
    let mut found = Vec::new();
    // The line that ends the item we are skipping: formatted code closes it where it began.
    let mut end: Option<String> = None;
    for (index, line) in text.lines().enumerate() {
        if let Some(closing) = &end {
            let is_one_line = line.ends_with(';') && closing.len() > line.len() - line.trim_start().len();
            if line == closing || is_one_line {
                end = None;
            }
            continue;
        }
        if line.trim() == TEST_ONLY {
            end = Some(line.replace(TEST_ONLY, "}"));
            continue;
        }
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
            ("#[cfg(test)]\nmod tests {\n    use std::fs;\n}\nuse std::fs;", vec![(5, "std::fs")]),
            ("#[cfg(test)]\nuse std::fs;\nuse std::fs;", vec![(3, "std::fs")]),
        ] {
            assert_eq!(mentions(text), expected, "{text}");
        }
    }

    #[test]
    fn modules_for_tests_are_found_beside_or_below_their_parent() {
        let text = "mod a;\n#[cfg(test)]\nmod b;\n#[cfg(test)]\nmod tests {\n}\n";
        for (file, expected) in
            [("src/lib.rs", "src/b"), ("src/x/mod.rs", "src/x/b"), ("src/x.rs", "src/x/b")]
        {
            assert_eq!(test_modules(Path::new(file), text), [Path::new(expected)], "{file}");
        }
    }
}
