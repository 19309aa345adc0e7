//! The first file system of the machine: busybox, a few modules, two scripts.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use super::cpio::Archive;
use super::kernel::Kernel;
use crate::debian;
use crate::process::{Context as _, Failure, Result, command};

/// What must be loaded before the host's files can be seen.
const MODULES: &[&str] = &["virtio_pci", "9pnet_virtio", "9p", "overlay"];
/// Directories that are a fresh tmpfs in the guest.
const FRESH: &[&str] = &["/tmp", "/run", "/var/lib/podrun"];

/// What the guest is made from.
pub(crate) struct Guest<'a> {
    pub(crate) busybox: &'a Path,
    pub(crate) kernel: &'a Kernel,
    /// Directories of the host that must be seen even below a fresh tmpfs.
    pub(crate) visible: &'a [PathBuf],
    pub(crate) environment: &'a [(OsString, OsString)],
    pub(crate) words: &'a [String],
}

/// Builds the archive.
pub(crate) fn build(guest: &Guest<'_>) -> Result<Vec<u8>> {
    let mut archive = Archive::default();
    for name in ["bin", "dev", "modules", "proc", "sys", "lower", "upper", "newroot"] {
        archive.directory(name);
    }
    archive.file("bin/busybox", &fs::read(guest.busybox).context(guest.busybox.display())?);
    let mut order = String::new();
    for path in guest.kernel.load_order(MODULES) {
        let name = path.file_name().expect("a module is a file").to_string_lossy();
        let name = name.trim_end_matches(".xz").to_owned();
        archive.file(&format!("modules/{name}"), &module(&path)?);
        order.push_str(&name);
        order.push('\n');
    }
    archive.file("modules/order", order.as_bytes());
    archive.file("visible", &lines(hidden(guest.visible)));
    archive.file("modules_dir", &lines([guest.kernel.modules.as_os_str()]));
    archive.file("command", &script(guest)?);
    archive.file("guest.sh", include_bytes!("guest.sh"));
    archive.file("init", include_bytes!("init.sh"));
    Ok(archive.finish())
}

/// Returns a module as busybox's insmod wants it: not compressed.
fn module(path: &Path) -> Result<Vec<u8>> {
    if path.extension() != Some(OsStr::new("xz")) {
        return fs::read(path).context(path.display());
    }
    if debian::find_program("xz").is_none() {
        debian::install(&["xz-utils"])?;
    }
    let output = command("xz").arg("-dc").arg(path).stderr(Stdio::inherit()).output().context("xz")?;
    if !output.status.success() {
        return Err(Failure::new(format!("xz -dc {}: {}", path.display(), output.status)));
    }
    Ok(output.stdout)
}

/// Returns the directories that one of the fresh file systems would hide.
fn hidden(visible: &[PathBuf]) -> Vec<&OsStr> {
    let is_hidden = |path: &&PathBuf| FRESH.iter().any(|fresh| path.starts_with(fresh));
    visible.iter().filter(is_hidden).map(|path| path.as_os_str()).collect()
}

fn lines<'a>(words: impl IntoIterator<Item = &'a OsStr>) -> Vec<u8> {
    let mut text = Vec::new();
    for word in words {
        text.extend_from_slice(word.as_bytes());
        text.push(b'\n');
    }
    text
}

/// Returns the shell script that becomes the command, in our working directory.
fn script(guest: &Guest<'_>) -> Result<Vec<u8>> {
    let cwd = std::env::current_dir().context("current directory")?;
    let mut text = b"cd ".to_vec();
    text.extend(quote(cwd.as_os_str()));
    text.extend_from_slice(b" || exit 125\nexec env -i");
    for (name, value) in guest.environment {
        let mut pair = name.clone();
        pair.push("=");
        pair.push(value);
        text.push(b' ');
        text.extend(quote(&pair));
    }
    for word in guest.words {
        text.push(b' ');
        text.extend(quote(OsStr::new(word)));
    }
    text.push(b'\n');
    Ok(text)
}

/// Quotes a word for the shell; inside single quotes only the single quote itself is special.
fn quote(word: &OsStr) -> Vec<u8> {
    let mut text = vec![b'\''];
    for &byte in word.as_bytes() {
        match byte {
            b'\'' => text.extend_from_slice(br"'\''"),
            other => text.push(other),
        }
    }
    text.push(b'\'');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_survive_the_shell() {
        assert_eq!(quote(OsStr::new("it's $HOME")), br"'it'\''s $HOME'");
    }

    #[test]
    fn only_directories_below_a_fresh_tmpfs_are_mounted_again() {
        let paths = ["/tmp/clone", "/home/me", "/tmpfoo", "/run/x"].map(PathBuf::from);
        assert_eq!(hidden(&paths), ["/tmp/clone", "/run/x"]);
    }
}
