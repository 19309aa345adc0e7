//! Where state is kept, and how its files are written.

use std::ffi::OsString;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// Name of the journal in the directory of lasting state of a Pod, and of what came before it.
pub(crate) const JOURNAL: &str = "journal.jsonl";
pub(crate) const OLD_JOURNAL: &str = "journal.old.jsonl";

/// The longest name of a file, in bytes.
const NAME_MAX: usize = 255;

/// Length of a UID.
const UID_LENGTH: usize = 36;

/// End of the name of a file that is being written.
const TEMPORARY: &str = ".tmp";

/// The two directories of state, and that of configuration.
///
/// `run` holds sockets and belongs on a tmpfs; `data` holds what lasts: images, Pods, volumes, logs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Paths {
    /// `/run/podrun`, or `<root>/run`.
    pub run: PathBuf,
    /// `/var/lib/podrun`, or `<root>/data`.
    pub data: PathBuf,
    /// `/etc/podrun`, or `<root>/etc`: `config.toml`, `registries.toml` and `auth.json`. Only read.
    pub config: PathBuf,
}

impl Paths {
    /// Returns the places of a machine-wide installation.
    pub fn system() -> Self {
        Self {
            run: PathBuf::from("/run/podrun"),
            data: PathBuf::from("/var/lib/podrun"),
            config: PathBuf::from("/etc/podrun"),
        }
    }

    /// Returns all directories below one root, so that many can exist side by side.
    pub fn below(root: &Path) -> Self {
        Self { run: root.join("run"), data: root.join("data"), config: root.join("etc") }
    }

    /// Returns the file that says what is the same for all Pods of this machine; it need not be there.
    pub fn config_file(&self) -> PathBuf {
        self.config.join("config.toml")
    }

    /// Returns the directory of live state of a Pod's supervisor: its socket and its lock.
    ///
    /// The sandbox has a directory of its own, `<run>/pods/<uid>`, which goes when the sandbox goes.
    pub fn supervisor(&self, uid: &str) -> PathBuf {
        self.run.join("supervisors").join(uid)
    }

    /// Returns the directory of live state of a Pod's sandbox: the socket of its init.
    pub fn sandbox(&self, uid: &str) -> PathBuf {
        self.run.join("pods").join(uid)
    }

    /// Returns the directory of lasting state of a Pod.
    pub fn pod_data(&self, uid: &str) -> PathBuf {
        self.data.join("pods").join(uid)
    }

    /// Returns where a Pod's supervisor leaves its complaints.
    pub fn supervisor_log(&self, uid: &str) -> PathBuf {
        self.pod_data(uid).join("supervisor.log")
    }

    /// Returns the directory of the image store.
    pub fn images(&self) -> PathBuf {
        self.data.join("images")
    }

    /// Returns the directory of the logs of a Pod.
    pub fn pod_logs(&self, namespace: &str, name: &str, uid: &str) -> PathBuf {
        self.data.join("logs").join(format!("{namespace}_{name}_{uid}"))
    }

    /// Makes both directories of state, readable by their owner alone.
    ///
    /// # Errors
    /// Any errno of mkdir(2), with the path.
    pub fn create(&self) -> Result<()> {
        for dir in [&self.run, &self.data] {
            create_private_dir(dir)?;
        }
        Ok(())
    }
}

/// Returns why a Pod of this name cannot be kept: the directory of its logs would have too long a name, as it would have
/// on a kubelet's node.
pub(crate) fn too_long(namespace: &str, name: &str) -> Option<String> {
    // <namespace>_<name>_<uid>
    let room = NAME_MAX - UID_LENGTH - 2;
    let length = namespace.len() + name.len();
    (length > room).then(|| {
        format!(
            "pod \"{namespace}/{name}\": namespace and name have {length} characters together, and the name of the \
             directory of its logs has room for {room}"
        )
    })
}

/// Makes a directory of mode 0700 and what is missing above it; fine if it is there.
pub(crate) fn create_private_dir(path: &Path) -> Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|source| Error::io("create directory", path, source))
}

/// Replaces a file in one step: a reader sees the old text or the new one, also after a crash of this process.
///
/// `durable` also waits for the disk, so that the text survives a crash of the machine.
pub(crate) fn write_atomically(path: &Path, content: &[u8], durable: bool) -> Result<()> {
    let tmp = temporary(path);
    if let Err(error) = write_and_rename(&tmp, path, content, durable) {
        // On a full disk the next attempt may need its place. What cannot be removed is overwritten then.
        let _ = fs::remove_file(&tmp);
        return Err(error);
    }
    if durable && let Some(dir) = path.parent() {
        File::open(dir)
            .and_then(|d| d.sync_all())
            .map_err(|source| Error::io("sync directory", dir, source))?;
    }
    Ok(())
}

fn write_and_rename(tmp: &Path, path: &Path, content: &[u8], durable: bool) -> Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(tmp)
        .map_err(|source| Error::io("create", tmp, source))?;
    file.write_all(content).map_err(|source| Error::io("write", tmp, source))?;
    if durable {
        file.sync_all().map_err(|source| Error::io("sync", tmp, source))?;
    }
    fs::rename(tmp, path).map_err(|source| Error::io("rename to", path, source))
}

/// Returns where the new text of a file is written. Names of Pods may hold dots, but none begins with one, so that the
/// name cannot be another file's.
fn temporary(path: &Path) -> PathBuf {
    let mut name = OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(TEMPORARY);
    path.with_file_name(name)
}

/// Returns whether this is the name of a file whose writer was killed.
pub(crate) fn is_temporary(name: &str) -> bool {
    name.starts_with('.') && name.ends_with(TEMPORARY)
}

/// Opens a file that serves as a lock, and makes it if need be.
pub(crate) fn open_lock(path: &Path) -> Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(false).mode(0o600);
    options.open(path).map_err(|source| Error::io("open", path, source))
}

/// Takes the lock of a data directory under which names and room are given; released on drop.
pub(crate) fn lock(data: &Path) -> Result<File> {
    let path = data.join("lock");
    let file = open_lock(&path)?;
    file.lock().map_err(|source| Error::io("lock", &path, source))?;
    Ok(file)
}

/// Removes a file; fine if it is not there.
pub(crate) fn remove_file(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
            Err(Error::io("remove", path, source))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_root_holds_both_directories() {
        let paths = Paths::below(Path::new("/x"));
        assert_eq!(paths.supervisor("u"), Path::new("/x/run/supervisors/u"));
        assert_eq!(paths.pod_logs("ns", "p", "u"), Path::new("/x/data/logs/ns_p_u"));
    }

    #[test]
    fn the_longest_names_have_a_directory_for_their_logs() {
        let dir = tempfile::tempdir().unwrap();
        let paths = Paths::below(dir.path());
        let uid = "26b0340e-e849-48c2-95f5-cae16de6c1b5";
        for (length, fits) in [(210, true), (211, false)] {
            let name = "a".repeat(length);
            let made = fs::create_dir_all(paths.pod_logs("default", &name, uid));
            assert_eq!((made.is_ok(), too_long("default", &name).is_none()), (fits, fits), "{length}");
        }
    }

    #[test]
    fn a_failed_write_leaves_no_temporary_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f.json");
        fs::create_dir(&path).unwrap();
        write_atomically(&path, b"text", false).unwrap_err();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn writing_replaces_the_whole_text_and_leaves_no_temporary_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state.json");
        write_atomically(&path, b"a long first text", false).unwrap();
        write_atomically(&path, b"second", true).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"second");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn writing_a_file_leaves_one_of_a_similar_name_alone() {
        let dir = tempfile::tempdir().unwrap();
        let (neighbour, path) = (dir.path().join("default_web.tmp"), dir.path().join("default_web.new"));
        write_atomically(&neighbour, b"neighbour", false).unwrap();
        write_atomically(&path, b"new", false).unwrap();
        assert_eq!(fs::read(&neighbour).unwrap(), b"neighbour");
        assert!(is_temporary(&temporary(&path).file_name().unwrap().to_string_lossy()));
        assert!(!is_temporary("default_web.tmp"));
    }
}
