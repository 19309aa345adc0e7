//! The handle: one cgroup directory by fd.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Component, Path, PathBuf};
use std::str::FromStr;

use nix::dir::Dir;
use nix::fcntl::{AT_FDCWD, OFlag, openat};
use nix::sys::stat::{Mode, mkdirat};
use nix::sys::statfs::{CGROUP2_SUPER_MAGIC, fstatfs};

use crate::availability::{Availability, Facts, Level, availability};
use crate::controllers::{Controller, Controllers};
use crate::error::{Error, ParseError, Result};

const DIRECTORY: OFlag = OFlag::O_RDONLY.union(OFlag::O_DIRECTORY).union(OFlag::O_CLOEXEC);

/// An open cgroup directory.
///
/// Every file is reached from the directory fd, so the handle keeps meaning the same cgroup when paths change, and a
/// handle of a removed cgroup never touches a new one of the same name. The path is for messages.
///
/// [`AsFd`] hands the directory out: `clone3` takes it for `CLONE_INTO_CGROUP`, and
/// [`DeviceFilter`](crate::devices::DeviceFilter) attaches to it.
#[derive(Debug)]
pub struct Cgroup {
    dir: OwnedFd,
    path: PathBuf,
}

impl AsFd for Cgroup {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.dir.as_fd()
    }
}

impl Cgroup {
    /// Opens the cgroup at `path`.
    ///
    /// # Errors
    ///
    /// [`Error::Open`] if there is no such directory, [`Error::NotCgroup2`] if it is not on a cgroup2 file system.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let cgroup = Self::open_unchecked_fs(path)?;
        cgroup.check_file_system()?;
        Ok(cgroup)
    }

    /// Takes an open directory as a cgroup; `path` appears in messages.
    ///
    /// # Errors
    ///
    /// [`Error::NotCgroup2`] if the directory is not on a cgroup2 file system.
    pub fn from_fd(dir: OwnedFd, path: impl Into<PathBuf>) -> Result<Self> {
        let cgroup = Self { dir, path: path.into() };
        cgroup.check_file_system()?;
        Ok(cgroup)
    }

    /// Opens the directory at `path` without a look at its file system, so that a temporary directory with files of
    /// the right names can stand in for a cgroup in tests.
    ///
    /// # Errors
    ///
    /// [`Error::Open`] if there is no such directory.
    pub fn open_unchecked_fs(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let dir = openat(AT_FDCWD, path, DIRECTORY, Mode::empty())
            .map_err(|errno| Error::Open { path: path.to_owned(), source: errno.into() })?;
        Ok(Self { dir, path: path.to_owned() })
    }

    /// Returns a second handle of the same cgroup.
    ///
    /// # Errors
    ///
    /// [`Error::Open`] with `EMFILE` if the process has no fd left.
    pub fn try_clone(&self) -> Result<Self> {
        let dir = self.dir.try_clone().map_err(|source| Error::Open { path: self.path.clone(), source })?;
        Ok(Self { dir, path: self.path.clone() })
    }

    /// Returns the path the cgroup was opened by.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Opens the child `name`.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidName`], or [`Error::Open`] with `ENOENT` if there is none.
    pub fn child(&self, name: &str) -> Result<Self> {
        validate_name(name)?;
        let path = self.path.join(name);
        match openat(&self.dir, name, DIRECTORY | OFlag::O_NOFOLLOW, Mode::empty()) {
            Ok(dir) => Ok(Self { dir, path }),
            Err(errno) => Err(Error::Open { path, source: errno.into() }),
        }
    }

    /// Creates the child `name` and opens it.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidName`], or [`Error::Create`]: `EEXIST` if it exists, `EAGAIN` if `cgroup.max.descendants` or
    /// `cgroup.max.depth` is reached, `EACCES`/`EROFS` where the hierarchy is not ours to change.
    pub fn create_child(&self, name: &str) -> Result<Self> {
        validate_name(name)?;
        mkdirat(&self.dir, name, Mode::from_bits_truncate(0o755))
            .map_err(|errno| Error::Create { path: self.path.join(name), source: errno.into() })?;
        self.child(name)
    }

    /// Opens the child `name`, after creating it if there is none.
    ///
    /// # Errors
    ///
    /// As [`Cgroup::create_child`], except for `EEXIST`.
    pub fn ensure_child(&self, name: &str) -> Result<Self> {
        match self.create_child(name) {
            Err(Error::Create { source, .. }) if source.kind() == io::ErrorKind::AlreadyExists => {
                self.child(name)
            }
            other => other,
        }
    }

    /// Opens the descendant at the relative path `below`, after creating what is missing of it.
    ///
    /// # Errors
    ///
    /// As [`Cgroup::ensure_child`] for the first part that fails; [`Error::InvalidName`] if the path is absolute or
    /// leads upwards.
    pub fn ensure_path(&self, below: impl AsRef<Path>) -> Result<Self> {
        let mut cgroup = self.try_clone()?;
        for name in names(below.as_ref())? {
            cgroup = cgroup.ensure_child(name)?;
        }
        Ok(cgroup)
    }

    /// Returns the names of the children, in no order.
    ///
    /// # Errors
    ///
    /// [`Error::Read`] if the directory cannot be listed.
    pub fn children(&self) -> Result<Vec<String>> {
        self.list(|kind| kind == nix::dir::Type::Directory)
    }

    /// Returns the names of the files, in no order.
    pub(crate) fn files(&self) -> Result<Vec<String>> {
        self.list(|kind| kind == nix::dir::Type::File)
    }

    fn list(&self, wanted: impl Fn(nix::dir::Type) -> bool) -> Result<Vec<String>> {
        let failed = |errno: nix::Error| Error::Read { path: self.path.clone(), source: errno.into() };
        // A directory stream of its own: reading moves the offset, which clones of the fd share.
        let mut stream = Dir::openat(&self.dir, ".", DIRECTORY, Mode::empty()).map_err(failed)?;
        let mut found = Vec::new();
        for entry in stream.iter() {
            let entry = entry.map_err(failed)?;
            let name = entry.file_name().to_string_lossy();
            if entry.file_type().is_some_and(&wanted) && name != "." && name != ".." {
                found.push(name.into_owned());
            }
        }
        Ok(found)
    }

    /// Returns the processes in the cgroup itself, without those of its descendants.
    ///
    /// A process that is outside of this PID namespace is listed as 0.
    ///
    /// # Errors
    ///
    /// [`Error::Read`]; `EOPNOTSUPP` if the cgroup is threaded, `ENODEV` if it was removed.
    pub fn procs(&self) -> Result<Vec<u32>> {
        let text = self.read("cgroup.procs")?;
        text.lines()
            .map(|line| {
                line.parse().map_err(|_| Error::Parse {
                    path: self.path.join("cgroup.procs"),
                    source: ParseError::new("a process id", line),
                })
            })
            .collect()
    }

    /// Moves process `pid`, with all its threads, into the cgroup; 0 is the caller itself.
    ///
    /// Cloning into the cgroup is cheaper and has no moment in which the process is outside.
    ///
    /// # Errors
    ///
    /// [`Error::Write`]: `ESRCH` if there is no such process, `EBUSY` if the cgroup passes controllers on to its
    /// children, `EACCES` without write access to the common ancestor.
    pub fn add_process(&self, pid: u32) -> Result<()> {
        self.write("cgroup.procs", &pid.to_string())
    }

    /// Returns the controllers that the cgroup has.
    ///
    /// # Errors
    ///
    /// [`Error::Read`].
    pub fn controllers(&self) -> Result<Controllers> {
        Ok(Controllers::parse(&self.read("cgroup.controllers")?))
    }

    /// Returns whether the cgroup has `controller`, and if not, who has it.
    ///
    /// # Errors
    ///
    /// As [`Facts::read`].
    pub fn availability(&self, controller: Controller) -> Result<Availability> {
        Ok(availability(controller, &Facts::read(self)?))
    }

    /// Reads the file `name` of the cgroup.
    ///
    /// # Errors
    ///
    /// [`Error::ControllerMissing`] if the file is absent because its controller is; otherwise [`Error::Read`].
    pub fn read(&self, name: &str) -> Result<String> {
        let mut text = String::new();
        self.open_file(name, OFlag::O_RDONLY).and_then(|mut file| file.read_to_string(&mut text)).map_err(
            |source| {
                let error = |path, source| Error::Read { path, source };
                self.explain(name, source, error)
            },
        )?;
        Ok(text)
    }

    /// Reads and parses the file `name` of the cgroup.
    ///
    /// # Errors
    ///
    /// As [`Cgroup::read`], and [`Error::Parse`].
    pub fn read_as<T: FromStr<Err = ParseError>>(&self, name: &str) -> Result<T> {
        self.read(name)?.parse().map_err(|source| Error::Parse { path: self.path.join(name), source })
    }

    /// Writes `value` to the file `name` of the cgroup, in one system call.
    ///
    /// # Errors
    ///
    /// [`Error::ControllerMissing`] if the file is absent because its controller is; otherwise [`Error::Write`] with
    /// what the kernel says about the value: `EINVAL`, `ERANGE`, `EBUSY`, `EOPNOTSUPP`.
    pub fn write(&self, name: &str, value: &str) -> Result<()> {
        // Truncation means nothing to the kernel's files, and makes a regular file hold the value alone.
        self.open_file(name, OFlag::O_WRONLY | OFlag::O_TRUNC)
            .and_then(|mut file| file.write_all(value.as_bytes()))
            .map_err(|source| {
                let error = |path, source| Error::Write { value: value.to_owned(), path, source };
                self.explain(name, source, error)
            })
    }

    /// As [`Cgroup::read_as`], but a file that does not exist, for whatever reason, is nothing.
    pub(crate) fn read_optional<T: FromStr<Err = ParseError>>(&self, name: &str) -> Result<Option<T>> {
        match self.read_as(name) {
            Err(Error::ControllerMissing { .. }) => Ok(None),
            Err(Error::Read { source, .. }) if absent(&source) => Ok(None),
            other => other.map(Some),
        }
    }

    /// Opens the file `name`, which is a file of this very directory and no symbolic link.
    pub(crate) fn open_file(&self, name: &str, flags: OFlag) -> io::Result<File> {
        if name.contains('/') {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let flags = flags | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW;
        Ok(File::from(openat(&self.dir, name, flags, Mode::empty())?))
    }

    /// Returns the error for a file that could not be used: the controller's absence if that is why it is missing.
    pub(crate) fn explain(
        &self,
        name: &str,
        source: io::Error,
        otherwise: impl FnOnce(PathBuf, io::Error) -> Error,
    ) -> Error {
        let path = self.path.join(name);
        let missing = Controller::of_file(name).filter(|_| source.kind() == io::ErrorKind::NotFound);
        // If the facts cannot be read either, the cgroup itself is gone, and ENOENT is the whole truth.
        match missing.map(|controller| (controller, Facts::read(self))) {
            Some((controller, Ok(facts))) if !facts.levels.is_empty() => {
                match availability(controller, &facts) {
                    Availability::Available => otherwise(path, source),
                    availability => Error::ControllerMissing { controller, path, availability },
                }
            }
            _ => otherwise(path, source),
        }
    }

    /// Returns what this cgroup and its ancestors say about controllers, as far up as can be seen.
    pub(crate) fn levels(&self) -> Result<Vec<Level>> {
        let mut levels = Vec::new();
        let mut cgroup = self.try_clone()?;
        // `..` of the mount's root is a directory of another file system, without such a file.
        while let Some(text) = cgroup.read_raw("cgroup.controllers")? {
            levels.push(Level {
                cgroup: cgroup.path.clone(),
                controllers: Controllers::parse(&text),
                is_root: cgroup.open_file("cgroup.type", OFlag::O_PATH).is_err_and(|error| absent(&error)),
            });
            cgroup = cgroup.parent()?;
        }
        Ok(levels)
    }

    /// Returns the directory above, by fd; the path in messages loses its last name.
    pub(crate) fn parent(&self) -> Result<Self> {
        let path = self.path.parent().map_or_else(|| self.path.join(".."), Path::to_owned);
        match openat(&self.dir, "..", DIRECTORY, Mode::empty()) {
            Ok(dir) => Ok(Self { dir, path }),
            Err(errno) => Err(Error::Open { path, source: errno.into() }),
        }
    }

    /// Reads a file without asking why it is absent.
    fn read_raw(&self, name: &str) -> Result<Option<String>> {
        let mut text = String::new();
        match self.open_file(name, OFlag::O_RDONLY).and_then(|mut file| file.read_to_string(&mut text)) {
            Ok(_) => Ok(Some(text)),
            Err(source) if absent(&source) => Ok(None),
            Err(source) => Err(Error::Read { path: self.path.join(name), source }),
        }
    }

    fn check_file_system(&self) -> Result<()> {
        let statfs = fstatfs(&self.dir)
            .map_err(|errno| Error::Open { path: self.path.clone(), source: errno.into() })?;
        match statfs.filesystem_type() {
            CGROUP2_SUPER_MAGIC => Ok(()),
            _ => Err(Error::NotCgroup2 { path: self.path.clone() }),
        }
    }
}

/// Whether the file is absent, or was in a cgroup that has been removed.
pub(crate) fn absent(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENODEV))
}

/// Returns the names in a relative path.
pub(crate) fn names(path: &Path) -> Result<Vec<&str>> {
    let invalid = |reason| Error::InvalidName { name: path.to_string_lossy().into_owned(), reason };
    path.components()
        .filter(|part| *part != Component::CurDir)
        .map(|part| match part {
            Component::Normal(name) => {
                let name = name.to_str().ok_or_else(|| invalid("is not UTF-8"))?;
                validate_name(name).map(|()| name)
            }
            _ => Err(invalid("is not a path below a cgroup")),
        })
        .collect()
}

/// Checks that `name` can be the name of a cgroup, and of nothing but a direct child.
fn validate_name(name: &str) -> Result<()> {
    let reason = match name {
        "" => "is empty",
        "." | ".." => "is not a name of its own",
        _ if name.contains('/') => "contains a slash",
        _ if name.contains('\0') => "contains a NUL",
        // The kernel refuses it too, because it would forge lines of /proc/PID/cgroup.
        _ if name.contains('\n') => "contains a newline",
        _ if name.len() > 255 => "is longer than 255 bytes",
        _ => return Ok(()),
    };
    Err(Error::InvalidName { name: name.to_owned(), reason })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::stand_in::StandIn;

    #[test]
    fn a_temporary_directory_is_not_a_cgroup() {
        let dir = tempfile::tempdir().unwrap();
        let error = Cgroup::open(dir.path()).unwrap_err();
        assert!(matches!(error, Error::NotCgroup2 { .. }), "{error}");
        let fd = OwnedFd::from(File::open(dir.path()).unwrap());
        assert!(matches!(Cgroup::from_fd(fd, "x").unwrap_err(), Error::NotCgroup2 { .. }));
        assert!(Cgroup::open(dir.path().join("none")).unwrap_err().is_gone());
    }

    #[test]
    fn names_that_would_leave_the_cgroup_are_refused() {
        let stand_in = StandIn::new(&[]);
        for name in ["", ".", "..", "a/b", "/a", "a\0b", "a\nb", &"x".repeat(256)] {
            let error = stand_in.cgroup.create_child(name).unwrap_err();
            assert!(matches!(error, Error::InvalidName { .. }), "{name:?}: {error}");
        }
        for path in ["/a", "a/../b", ".."] {
            let error = stand_in.cgroup.ensure_path(path).unwrap_err();
            assert!(matches!(error, Error::InvalidName { .. }), "{path:?}: {error}");
        }
    }

    #[test]
    fn ensure_creates_once_and_create_refuses_twice() {
        let stand_in = StandIn::new(&[]);
        stand_in.cgroup.ensure_path("a/b").unwrap();
        let again = stand_in.cgroup.ensure_path("a/./b").unwrap();
        assert_eq!(again.path(), stand_in.cgroup.path().join("a/b"));
        let error = stand_in.cgroup.create_child("a").unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EEXIST));
        assert_eq!(stand_in.cgroup.children().unwrap(), ["a"]);
    }

    #[test]
    fn a_symbolic_link_is_neither_child_nor_file() {
        let stand_in = StandIn::new(&[]);
        let path = stand_in.cgroup.path();
        std::os::unix::fs::symlink("/", path.join("link")).unwrap();
        std::os::unix::fs::symlink("/proc/version", path.join("cgroup.type")).unwrap();
        assert!(stand_in.cgroup.child("link").is_err());
        assert!(stand_in.cgroup.read("cgroup.type").is_err());
    }

    #[test]
    fn files_with_a_slash_are_refused() {
        let stand_in = StandIn::new(&[]);
        stand_in.cgroup.ensure_child("a").unwrap();
        fs::write(stand_in.cgroup.path().join("a/x"), "1").unwrap();
        assert!(stand_in.cgroup.read("a/x").is_err());
        assert!(stand_in.cgroup.write("../x", "1").is_err());
    }

    #[test]
    fn procs_are_numbers() {
        let stand_in = StandIn::new(&[("cgroup.procs", "1\n0\n42\n")]);
        assert_eq!(stand_in.cgroup.procs().unwrap(), [1, 0, 42]);
        stand_in.cgroup.add_process(7).unwrap();
        assert_eq!(stand_in.content("cgroup.procs"), "7");
        let stand_in = StandIn::new(&[("cgroup.procs", "x\n")]);
        assert!(matches!(stand_in.cgroup.procs().unwrap_err(), Error::Parse { .. }));
    }

    #[test]
    fn a_failed_write_says_verb_value_and_path() {
        let stand_in = StandIn::new(&[]);
        let error = stand_in.cgroup.write("cgroup.freeze", "1").unwrap_err();
        let expected = format!("write \"1\" to {}/cgroup.freeze", stand_in.cgroup.path().display());
        assert_eq!(error.to_string(), expected);
        assert_eq!(error.raw_os_error(), Some(libc::ENOENT));
    }

    #[test]
    fn a_missing_controller_is_named_with_its_holder() {
        let stand_in = StandIn::new(&[("cgroup.controllers", "cpu memory\n")]);
        let child = stand_in.cgroup.create_child("c").unwrap();
        fs::write(child.path().join("cgroup.controllers"), "memory\n").unwrap();
        let holder = stand_in.cgroup.path();
        match child.write("cpu.max", "max").unwrap_err() {
            Error::ControllerMissing { controller: Controller::Cpu, path, availability } => {
                assert_eq!(path, child.path().join("cpu.max"));
                assert_eq!(availability, Availability::NotDelegated { cgroup: holder.to_owned() });
            }
            other => panic!("{other}"),
        }
        // The controller is there, the file is not: an older kernel, and not the controller's fault.
        assert!(matches!(child.read("memory.peak").unwrap_err(), Error::Read { .. }));
        assert_eq!(child.controllers().unwrap(), Controller::Memory.into());
    }
}
