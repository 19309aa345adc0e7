//! A directory for one test that must be removable at the end.

use std::path::{Path, PathBuf};

use crate::proc_file::mounts;

/// A temporary directory, for podrun's `--root` or anything else, that checks it was left clean.
///
/// At the end it is removed; mounts that are still below it fail the test. They are **not**
/// unmounted and then nothing is deleted, because a delete that walks into a forgotten bind mount
/// would destroy what is mounted there.
#[derive(Debug)]
pub struct TempRoot {
    path: PathBuf,
    removed: bool,
}

impl TempRoot {
    /// Makes the directory below the host's temporary directory.
    ///
    /// # Panics
    /// If it cannot be made.
    #[expect(clippy::new_without_default, reason = "making a directory is more than a default value")]
    pub fn new() -> Self {
        let dir = tempfile::Builder::new().prefix("podrun-test-").tempdir().expect("a temporary directory");
        // Mountinfo shows resolved paths, so what it is compared with must be one.
        let path = dir.keep().canonicalize().expect("it exists");
        Self { path, removed: false }
    }

    /// Returns its path, free of symbolic links.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Removes the directory.
    ///
    /// # Panics
    /// If something is still mounted below it or it cannot be removed.
    pub fn close(mut self) {
        if let Err(why) = self.remove() {
            panic!("{why}");
        }
    }

    fn remove(&mut self) -> Result<(), String> {
        if std::mem::replace(&mut self.removed, true) {
            return Ok(());
        }
        let below = mounts().into_iter().filter(|mount| mount.point.starts_with(&self.path));
        let left: Vec<String> = below.map(|mount| mount.line).collect();
        let path = self.path.display();
        if left.is_empty() {
            return std::fs::remove_dir_all(&self.path).map_err(|error| format!("remove {path}: {error}"));
        }
        Err(format!("still mounted below {path}, which is kept:\n  {}", left.join("\n  ")))
    }
}

impl Drop for TempRoot {
    #[expect(clippy::print_stderr, reason = "a second panic would hide the first one")]
    fn drop(&mut self) {
        match self.remove() {
            Err(why) if std::thread::panicking() => eprintln!("{why}"),
            Err(why) => panic!("{why}"),
            Ok(()) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_removed_with_its_content() {
        let root = TempRoot::new();
        let path = root.path().to_owned();
        std::fs::create_dir(path.join("sub")).expect("mkdir");
        root.close();
        assert!(!path.exists());
    }

    #[test]
    #[should_panic(expected = "No such file or directory")]
    fn a_directory_that_is_gone_already_is_reported() {
        let root = TempRoot::new();
        std::fs::remove_dir(root.path()).expect("rmdir");
        root.close();
    }
}
