//! The manifests that a command line names: files, directories, standard input.

use std::io::{ErrorKind, Read as _};
use std::path::{Path, PathBuf};

use podrun_spec::Manifest;

use crate::cli::Global;
use crate::exit_code::Code;
use crate::report::CommandError;

/// What names of manifests end with in a directory, as kubectl has it.
const EXTENSIONS: [&str; 3] = ["json", "yaml", "yml"];

/// A manifest and what it is called.
type Source = (String, String);

/// Reads manifests as one, which has at least one Pod; `-` is standard input, a directory all manifests in it.
pub(crate) fn read<'a>(
    global: &Global,
    files: impl IntoIterator<Item = &'a String>,
) -> Result<Manifest, CommandError> {
    let mut sources = Vec::new();
    for file in files {
        sources.extend(sources_of(file)?);
    }
    let texts = sources.iter().map(|(name, text)| (name.as_str(), text.as_str()));
    let manifest = podrun_spec::parse_all(texts, global.asked_namespace())?;
    if manifest.pods.is_empty() {
        let names: Vec<&str> = sources.iter().map(|(name, _)| name.as_str()).collect();
        let message = format!("{}: the manifest has no Pod", names.join(", "));
        return Err(CommandError::new(Code::Invalid, message));
    }
    Ok(manifest)
}

fn sources_of(file: &str) -> Result<Vec<Source>, CommandError> {
    if file == "-" {
        let mut text = String::new();
        std::io::stdin()
            .read_to_string(&mut text)
            .map_err(|error| CommandError::io("read", Path::new("standard input"), &error))?;
        return Ok(vec![("<stdin>".to_owned(), text)]);
    }
    if Path::new(file).is_dir() {
        return in_directory(Path::new(file))?.iter().map(|path| source(path)).collect();
    }
    source(Path::new(file)).map(|source| vec![source]).map_err(|error| match not_a_file(file) {
        Some(hint) => error.with_hint(hint),
        None => error,
    })
}

fn source(path: &Path) -> Result<Source, CommandError> {
    let text = std::fs::read_to_string(path).map_err(|error| match error.kind() {
        // It was read, and is no manifest.
        ErrorKind::InvalidData => {
            CommandError::new(Code::Invalid, format!("{}: no UTF-8 text", path.display()))
        }
        _ => CommandError::io("read", path, &error),
    })?;
    Ok((path.display().to_string(), text))
}

/// Returns the manifests of a directory in the order of their names; what lies deeper is not among them.
fn in_directory(dir: &Path) -> Result<Vec<PathBuf>, CommandError> {
    let failed = |error: std::io::Error| CommandError::io("list", dir, &error);
    let entries = std::fs::read_dir(dir).map_err(failed)?.collect::<Result<Vec<_>, _>>().map_err(failed)?;
    let mut paths: Vec<PathBuf> =
        entries.iter().map(std::fs::DirEntry::path).filter(|path| is_manifest(path)).collect();
    paths.sort();
    if paths.is_empty() {
        let message = format!("{}: no file ends with .json, .yaml or .yml", dir.display());
        return Err(CommandError::new(Code::NotFound, message));
    }
    Ok(paths)
}

fn is_manifest(path: &Path) -> bool {
    let extension = path.extension().and_then(std::ffi::OsStr::to_str);
    extension.is_some_and(|extension| EXTENSIONS.contains(&extension)) && path.is_file()
}

/// Returns what may help where something else than a file is named.
fn not_a_file(file: &str) -> Option<String> {
    if file.starts_with("http://") || file.starts_with("https://") {
        return Some(format!("manifests are not downloaded: curl -fsSL {file} | podrun run -"));
    }
    let is_word = !file.contains(['.', '/']) || file.contains(':');
    is_word.then(|| "a manifest is expected, not an image: a file, a directory or -".to_owned())
}

#[cfg(test)]
mod tests {
    use super::not_a_file;

    #[test]
    fn what_is_no_file_has_a_hint() {
        assert!(not_a_file("nginx").unwrap().starts_with("a manifest is expected"));
        assert!(not_a_file("nginx:1.27").unwrap().starts_with("a manifest is expected"));
        assert_eq!(
            not_a_file("https://example.com/pod.yaml").unwrap(),
            "manifests are not downloaded: curl -fsSL https://example.com/pod.yaml | podrun run -"
        );
        assert_eq!(not_a_file("pods/web.yaml"), None);
    }
}
