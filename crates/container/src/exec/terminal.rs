//! A terminal of the container's own.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::{fstat, major, minor};
use nix::sys::statfs::{FsType, fstatfs};
use nix::unistd::{Uid, fchown};
use podrun_sandbox::path::{self, Walk};
use podrun_sandbox::protocol::{Channel, ExecAnswer, Failure, Stage, TerminalSize};

use crate::spawn::at;
use crate::sys;

/// devpts (include/uapi/linux/magic.h).
const DEVPTS_MAGIC: FsType = FsType(0x1cd1);

/// Makes a terminal, sends its other end to the caller, and returns the three standard streams on it.
pub(super) fn open(
    root: BorrowedFd<'_>,
    size: TerminalSize,
    uid: u32,
    caller: BorrowedFd<'_>,
) -> Result<[OwnedFd; 3], Failure> {
    let open = || {
        let master = open_master(root)?;
        let slave = sys::open_terminal(master.as_fd())?;
        size.give_to(&master)?;
        // It belongs to whoever has opened it.
        fchown(&slave, Some(Uid::from_raw(uid)), None)?;
        Channel::new(caller.try_clone_to_owned()?).send(&ExecAnswer::Terminal, &[master.as_fd()])?;
        Ok([slave.try_clone()?, slave.try_clone()?, slave])
    };
    at(Stage::Process, "make a terminal", open())
}

/// Opens the multiplexer of the container's devpts, and makes sure that it is one: whoever may mount could have put
/// something else there, which the caller would take for a terminal.
fn open_master(root: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let flags = OFlag::O_RDWR | OFlag::O_NOCTTY;
    let master = path::open(root, Path::new("dev/pts/ptmx"), flags, Walk::NoLinks)?;
    let stat = fstat(&master)?;
    let is_multiplexer = stat.st_mode & libc::S_IFMT == libc::S_IFCHR
        && (major(stat.st_rdev), minor(stat.st_rdev)) == (5, 2)
        && fstatfs(&master)?.filesystem_type() == DEVPTS_MAGIC;
    if is_multiplexer { Ok(master) } else { Err(Errno::ENOTTY.into()) }
}
