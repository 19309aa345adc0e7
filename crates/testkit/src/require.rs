//! What a test needs from its host, and what happens when it is missing.

use std::fmt;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::fd::{FromRawFd as _, OwnedFd};
use std::process::ExitCode;

use nix::errno::Errno;
use nix::sched::CloneFlags;
use nix::unistd::{AccessFlags, access};

use crate::child;
use crate::proc_file::cgroup2_mount;

/// Names the file that collects the skips of a run, one line each.
const SKIP_LOG: &str = "PODRUN_SKIP_LOG";
/// When it is `1`, a missing requirement fails the test instead of skipping it.
const REQUIRE_ALL: &str = "PODRUN_REQUIRE_ALL";

/// Something a test needs from the host.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Requirement {
    /// The effective user id is 0.
    Root,
    /// A cgroup2 hierarchy is mounted and writable.
    Cgroup2,
    /// The cgroup2 hierarchy offers this controller.
    Controller(String),
    /// A network namespace can be made.
    Netns,
    /// A user namespace can be made.
    Userns,
    /// The kernel knows overlayfs and we may mount it.
    Overlay,
    /// The kernel is at least this version.
    Kernel(u32, u32),
    /// This capability is in the effective set; the `CAP_` may be left out.
    Cap(String),
    /// This program is somewhere in `PATH`.
    Program(String),
    /// This file is there, such as one that another task has made.
    File(String),
}

/// Constructors with the names that [`require!`](crate::require) uses.
impl Requirement {
    /// Returns the need for user id 0.
    pub fn root() -> Self {
        Self::Root
    }

    /// Returns the need for a writable cgroup2 hierarchy.
    pub fn cgroup2() -> Self {
        Self::Cgroup2
    }

    /// Returns the need for a cgroup2 controller such as `memory`.
    pub fn controller(name: &str) -> Self {
        Self::Controller(name.to_owned())
    }

    /// Returns the need for network namespaces.
    pub fn netns() -> Self {
        Self::Netns
    }

    /// Returns the need for user namespaces.
    pub fn userns() -> Self {
        Self::Userns
    }

    /// Returns the need for overlayfs.
    pub fn overlay() -> Self {
        Self::Overlay
    }

    /// Returns the need for a kernel of at least this version.
    pub fn kernel(major: u32, minor: u32) -> Self {
        Self::Kernel(major, minor)
    }

    /// Returns the need for an effective capability such as `SYS_RESOURCE`.
    pub fn cap(name: &str) -> Self {
        Self::Cap(name.to_owned())
    }

    /// Returns the need for a program in `PATH`.
    pub fn program(name: &str) -> Self {
        Self::Program(name.to_owned())
    }

    /// Returns the need for a file.
    pub fn file(path: &str) -> Self {
        Self::File(path.to_owned())
    }

    /// Tries whether the host offers it.
    ///
    /// # Errors
    /// Why it does not, in words for the skip line.
    pub fn check(&self) -> Result<(), String> {
        match self {
            Self::Root => match nix::unistd::geteuid() {
                uid if uid.is_root() => Ok(()),
                uid => Err(format!("the effective user id is {uid}")),
            },
            Self::Cgroup2 => {
                let mount = cgroup2_mount().ok_or("no cgroup2 file system is mounted")?;
                access(&mount, AccessFlags::W_OK).map_err(|errno| format!("{}: {errno}", mount.display()))
            }
            Self::Controller(name) => controller(name),
            Self::Netns => unshare(CloneFlags::CLONE_NEWNET),
            Self::Userns => unshare(CloneFlags::CLONE_NEWUSER),
            Self::Overlay => overlay(),
            Self::Kernel(major, minor) => {
                let uname = nix::sys::utsname::uname().map_err(|errno| format!("uname: {errno}"))?;
                let release = uname.release().to_string_lossy();
                match parse_release(&release) {
                    Some(found) if found >= (*major, *minor) => Ok(()),
                    _ => Err(format!("the kernel is {release}")),
                }
            }
            Self::Cap(name) => capability(name),
            Self::File(path) => match std::fs::metadata(path) {
                Ok(_) => Ok(()),
                Err(error) => Err(error.to_string()),
            },
            Self::Program(name) => {
                let path = std::env::var_os("PATH").unwrap_or_default();
                let found = std::env::split_paths(&path)
                    .any(|dir| access(&dir.join(name), AccessFlags::X_OK).is_ok());
                found.then_some(()).ok_or_else(|| format!("not found in PATH={}", path.display()))
            }
        }
    }
}

impl fmt::Display for Requirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Root => f.write_str("root"),
            Self::Cgroup2 => f.write_str("cgroup2"),
            Self::Controller(name) => write!(f, "the cgroup2 controller {name}"),
            Self::Netns => f.write_str("network namespaces"),
            Self::Userns => f.write_str("user namespaces"),
            Self::Overlay => f.write_str("overlayfs"),
            Self::Kernel(major, minor) => write!(f, "Linux {major}.{minor}"),
            Self::Cap(name) => write!(f, "the capability {name}"),
            Self::Program(name) => write!(f, "the program {name}"),
            Self::File(path) => write!(f, "the file {path}"),
        }
    }
}

fn controller(name: &str) -> Result<(), String> {
    let mount = cgroup2_mount().ok_or("no cgroup2 file system is mounted")?;
    let file = mount.join("cgroup.controllers");
    let offered = std::fs::read_to_string(&file).map_err(|error| format!("{}: {error}", file.display()))?;
    if offered.split_whitespace().any(|word| word == name) {
        Ok(())
    } else {
        Err(format!("{} holds \"{}\"", file.display(), offered.trim_end()))
    }
}

/// Tries in a child, because a namespace once entered is not left again.
fn unshare(flag: CloneFlags) -> Result<(), String> {
    let code = child::exit_code(|| nix::sched::unshare(flag).err().map_or(0, |errno| errno as i32));
    if code == 0 { Ok(()) } else { Err(format!("unshare: {}", Errno::from_raw(code))) }
}

/// Opens a context for overlayfs: unlike a look into /proc/filesystems this loads the module too.
fn overlay() -> Result<(), String> {
    // SAFETY: the name is a NUL-terminated string that outlives the call, which keeps no pointer.
    let fd = unsafe { libc::syscall(libc::SYS_fsopen, c"overlay".as_ptr(), libc::FSOPEN_CLOEXEC) };
    let fd = Errno::result(fd).map_err(|errno| format!("fsopen: {errno}"))?;
    let fd = i32::try_from(fd).expect("a file descriptor is an int");
    // SAFETY: the kernel has just returned this descriptor to us and nobody else knows it.
    drop(unsafe { OwnedFd::from_raw_fd(fd) });
    Ok(())
}

fn capability(name: &str) -> Result<(), String> {
    let full = format!("CAP_{}", name.trim_start_matches("CAP_"));
    let cap: caps::Capability = full.parse().map_err(|error| format!("{error}"))?;
    match caps::has_cap(None, caps::CapSet::Effective, cap) {
        Ok(true) => Ok(()),
        Ok(false) => Err("not in the effective set".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

/// Reads `6.18.5-cloud` as `(6, 18)`.
fn parse_release(release: &str) -> Option<(u32, u32)> {
    let (major, rest) = release.split_once('.')?;
    let minor: String = rest.chars().take_while(char::is_ascii_digit).collect();
    Some((major.parse().ok()?, minor.parse().ok()?))
}

/// What a skipped test returns; the reason why [`require!`](crate::require) works in tests that
/// return a `Result`.
pub trait Skipped {
    /// Returns the value of a test that was skipped: success.
    fn skipped() -> Self;
}

impl Skipped for () {
    fn skipped() -> Self {}
}

impl Skipped for ExitCode {
    fn skipped() -> Self {
        Self::SUCCESS
    }
}

impl<T: Skipped, E> Skipped for Result<T, E> {
    fn skipped() -> Self {
        Ok(T::skipped())
    }
}

/// Tells whether a requirement is missing, after making the skip visible.
///
/// This is the body of [`require!`](crate::require), which tests use instead.
///
/// # Panics
/// If something is missing and `PODRUN_REQUIRE_ALL=1`, or the skip log cannot be written.
pub fn is_missing(test: &str, requirement: &Requirement) -> bool {
    let Err(why) = requirement.check() else { return false };
    let line = format!("SKIP {test}: needs {requirement}: {why}\n");
    let forbidden = std::env::var_os(REQUIRE_ALL).is_some_and(|value| value == "1");
    assert!(!forbidden, "{REQUIRE_ALL}=1 forbids to {}", line.trim_end());
    if let Some(log) = std::env::var_os(SKIP_LOG) {
        // One write to a file opened for appending, so that lines of many tests do not mix.
        let written = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&log)
            .and_then(|mut file| file.write_all(line.as_bytes()));
        written.unwrap_or_else(|error| panic!("{SKIP_LOG}={}: {error}", log.display()));
    }
    // Not eprint!, which libtest captures: a skip must be seen even though the test passes.
    // A closed stderr is no reason to fail a test.
    let _ = std::io::stderr().write_all(line.as_bytes());
    true
}

/// States in a test's first line what it needs; a test whose host lacks it is skipped, visibly.
///
/// Understands `root`, `cgroup2`, `controller("memory")`, `netns`, `userns`, `overlay`,
/// `kernel(6, 5)`, `cap("SYS_RESOURCE")`, `program("busybox")` and `file("/dev/fuse")`: the
/// constructors of [`Requirement`].
///
/// A skip prints `SKIP <test>: needs <what>: <why>` on stderr and appends the same line to the file
/// named by `PODRUN_SKIP_LOG`; with `PODRUN_REQUIRE_ALL=1` it is a failure instead, so that a green
/// run cannot mean that nothing ran.
///
/// ```
/// fn a_test() -> Result<(), std::io::Error> {
///     podrun_testkit::require!(root, cgroup2, kernel(6, 5));
///     Ok(())
/// }
/// # a_test().unwrap();
/// ```
#[macro_export]
macro_rules! require {
    ($($name:ident $(($($argument:expr),* $(,)?))?),+ $(,)?) => {{
        // The name of a function defined here carries the test's own path.
        fn here() {}
        let path = ::std::any::type_name_of_val(&here);
        let test = path.trim_end_matches("::here").trim_end_matches("::{{closure}}");
        $(
            if $crate::is_missing(test, &$crate::Requirement::$name($($($argument),*)?)) {
                return $crate::Skipped::skipped();
            }
        )+
    }};
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_are_read_up_to_the_minor_number() {
        for (release, expected) in [
            ("6.18.5-cloud", Some((6, 18))),
            ("6.1.0-42-amd64", Some((6, 1))),
            ("5.10", Some((5, 10))),
            ("6.12+", Some((6, 12))),
            ("six", None),
        ] {
            assert_eq!(parse_release(release), expected, "{release}");
        }
    }

    #[test]
    fn an_old_kernel_is_enough_and_a_future_one_is_not() {
        assert_eq!(Requirement::kernel(3, 0).check(), Ok(()));
        let why = Requirement::kernel(99, 0).check().expect_err("Linux 99 is not out");
        assert!(why.starts_with("the kernel is "), "{why}");
    }

    #[test]
    fn a_program_is_looked_up_in_path() {
        assert_eq!(Requirement::program("sh").check(), Ok(()));
        assert!(Requirement::program("no-such-program").check().is_err());
    }

    #[test]
    fn an_unknown_capability_and_controller_are_missing() {
        assert!(Requirement::cap("NO_SUCH").check().is_err());
        assert!(Requirement::controller("no-such").check().is_err());
    }
}
