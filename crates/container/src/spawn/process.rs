//! Attributes of the process itself.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::Mode;
use nix::unistd::{Uid, fchdir, fchown, getcwd};
use podrun_plan::model::ContainerSetup;
use podrun_sandbox::path::{self, Walk};
use podrun_sandbox::protocol::{Failure, Stage};

use super::mounts::read_regular;
use super::user::{self, User};
use super::{at, failure, text};
use crate::sys;

/// Leaves the keyring of whoever started podrun.
pub(crate) fn new_keyring() -> io::Result<()> {
    match sys::join_new_session_keyring() {
        // A kernel without keyrings has none to leave.
        Err(error) if error.raw_os_error() == Some(libc::ENOSYS) => Ok(()),
        result => result,
    }
}

/// Sets the score by which the kernel picks a process to kill when memory runs out. Lowering it takes a capability that
/// even root may lack; the container then runs with a worse chance, and that is told.
pub(crate) fn set_oom_score(
    proc: BorrowedFd<'_>,
    score: i32,
    warnings: &mut Vec<String>,
) -> Result<(), Failure> {
    // Not by way of `self`: a path without links ends where it says.
    let own = format!("{}/oom_score_adj", std::process::id());
    let set = path::open(proc, Path::new(&own), OFlag::O_WRONLY, Walk::NoLinks)
        .and_then(|file| File::from(file).write_all(score.to_string().as_bytes()));
    match set {
        Err(error) if matches!(error.raw_os_error(), Some(libc::EACCES | libc::EPERM)) => {
            warnings.push(format!("oom_score_adj stays as it is, {score} was refused: {}", text(&error)));
            Ok(())
        }
        result => at(Stage::Process, "set oom_score_adj", result),
    }
}

/// Sets resource limits. One above what the caller may grant stays at the most there can be, and that is told.
pub(crate) fn set_limits(limits: &[(String, u64, u64)], warnings: &mut Vec<String>) -> Result<(), Failure> {
    for (name, soft, hard) in limits {
        let what = || format!("set the limit {name}");
        let resource =
            resource(name).ok_or_else(|| failure(Stage::Process, &what(), &Errno::EINVAL.into()))?;
        match sys::set_rlimit(resource, *soft, *hard) {
            Err(error) if error.raw_os_error() == Some(libc::EPERM) => {
                let current = at(Stage::Process, &what(), sys::hard_rlimit(resource))?;
                warnings.push(format!("limit {name} is {current}, {hard} was refused: {}", text(&error)));
                at(Stage::Process, &what(), sys::set_rlimit(resource, (*soft).min(current), current))?;
            }
            result => at(Stage::Process, &what(), result)?,
        }
    }
    Ok(())
}

fn resource(name: &str) -> Option<i32> {
    let resource = match name {
        "AS" => libc::RLIMIT_AS,
        "CORE" => libc::RLIMIT_CORE,
        "CPU" => libc::RLIMIT_CPU,
        "DATA" => libc::RLIMIT_DATA,
        "FSIZE" => libc::RLIMIT_FSIZE,
        "LOCKS" => libc::RLIMIT_LOCKS,
        "MEMLOCK" => libc::RLIMIT_MEMLOCK,
        "MSGQUEUE" => libc::RLIMIT_MSGQUEUE,
        "NICE" => libc::RLIMIT_NICE,
        "NOFILE" => libc::RLIMIT_NOFILE,
        "NPROC" => libc::RLIMIT_NPROC,
        "RSS" => libc::RLIMIT_RSS,
        "RTPRIO" => libc::RLIMIT_RTPRIO,
        "RTTIME" => libc::RLIMIT_RTTIME,
        "SIGPENDING" => libc::RLIMIT_SIGPENDING,
        "STACK" => libc::RLIMIT_STACK,
        _ => return None,
    };
    i32::try_from(resource).ok()
}

/// Lets a user open its own outputs by name, as `/dev/stdout`: pipes belong to whoever has made them.
pub(crate) fn give_outputs(outputs: [BorrowedFd<'_>; 2], uid: u32) -> Result<(), Failure> {
    let give = |fd: BorrowedFd<'_>| fchown(fd, Some(Uid::from_raw(uid)), None).map_err(io::Error::from);
    let given = outputs.into_iter().try_for_each(give);
    at(Stage::Process, "give the outputs to the user", given)
}

/// Finds user and groups in the image.
pub(super) fn find_user(root: BorrowedFd<'_>, setup: &ContainerSetup) -> Result<User, Failure> {
    let read =
        |path: &str| at(Stage::User, &format!("read {path}"), read_regular(root, path, user::MAX_FILE));
    let (passwd, group) = (read("/etc/passwd")?, read("/etc/group")?);
    user::resolve(&setup.security, &setup.image_user, &passwd, &group).map_err(|message| Failure {
        stage: Stage::User,
        errno: 0,
        message,
    })
}

/// Enters the working directory, after making it where it is missing.
pub(super) fn enter_directory(root: BorrowedFd<'_>, cwd: &Path) -> Result<(), Failure> {
    enter(cwd, || path::make_dir(root, cwd, Mode::from_bits_truncate(0o755)))
}

/// Enters the working directory of a container that has started.
pub(crate) fn enter_existing_directory(root: BorrowedFd<'_>, cwd: &Path) -> Result<(), Failure> {
    enter(cwd, || path::open(root, cwd, OFlag::O_PATH | OFlag::O_DIRECTORY, Walk::InRoot))
}

/// The walk cannot use a descriptor of this process (`/proc/self/fd/7`), which would be a way out of the container
/// (CVE-2024-21626); as a second line the kernel is asked where we are.
fn enter(cwd: &Path, open: impl FnOnce() -> io::Result<OwnedFd>) -> Result<(), Failure> {
    let enter = || {
        fchdir(open()?)?;
        if getcwd()?.is_absolute() { Ok(()) } else { Err(Errno::EXDEV.into()) }
    };
    at(Stage::WorkingDir, &format!("enter the working directory {:?}", cwd.display().to_string()), enter())
}
