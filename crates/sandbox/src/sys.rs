//! The system calls that neither std nor nix has, and the two places where descriptors arrive as integers.

use std::ffi::{CStr, c_long, c_uint};
use std::io;
use std::mem;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;

/// Turns the result of a system call that returns a descriptor into its owner.
fn owned(result: c_long) -> io::Result<OwnedFd> {
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    let fd = RawFd::try_from(result).map_err(|_| io::Error::from_raw_os_error(libc::EBADF))?;
    // SAFETY: every caller passes the result of a system call that makes a descriptor; nobody else knows this one.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn done(result: c_long) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

pub(crate) fn open_tree(dir: BorrowedFd<'_>, path: &CStr, flags: c_uint) -> io::Result<OwnedFd> {
    // SAFETY: the path is a live, NUL-terminated string, the descriptor is open while it is borrowed.
    owned(unsafe { libc::syscall(libc::SYS_open_tree, dir.as_raw_fd(), path.as_ptr(), flags) })
}

pub(crate) fn move_mount(
    from: BorrowedFd<'_>,
    to: BorrowedFd<'_>,
    to_path: &CStr,
    flags: c_uint,
) -> io::Result<()> {
    let (from, to) = (from.as_raw_fd(), to.as_raw_fd());
    // SAFETY: both paths are live, NUL-terminated strings, the descriptors are open while they are borrowed.
    done(unsafe { libc::syscall(libc::SYS_move_mount, from, c"".as_ptr(), to, to_path.as_ptr(), flags) })
}

pub(crate) fn mount_setattr(mount: BorrowedFd<'_>, flags: c_uint, attr: &libc::mount_attr) -> io::Result<()> {
    let (fd, size) = (mount.as_raw_fd(), size_of::<libc::mount_attr>());
    // SAFETY: the kernel reads `size` bytes of a live struct; the path is a live, NUL-terminated string.
    done(unsafe {
        libc::syscall(libc::SYS_mount_setattr, fd, c"".as_ptr(), flags, ptr::from_ref(attr), size)
    })
}

pub(crate) fn fsopen(kind: &CStr) -> io::Result<OwnedFd> {
    // SAFETY: the name is a live, NUL-terminated string.
    owned(unsafe { libc::syscall(libc::SYS_fsopen, kind.as_ptr(), libc::FSOPEN_CLOEXEC) })
}

/// `FSCONFIG_*` of `linux/mount.h`.
#[derive(Clone, Copy)]
#[repr(u32)]
pub(crate) enum FsConfig {
    Flag = 0,
    String = 1,
    Create = 6,
}

pub(crate) fn fsconfig(
    context: BorrowedFd<'_>,
    command: FsConfig,
    key: Option<&CStr>,
    value: Option<&CStr>,
) -> io::Result<()> {
    let key = key.map_or(ptr::null(), CStr::as_ptr);
    let value = value.map_or(ptr::null(), CStr::as_ptr);
    // SAFETY: key and value are null, as the commands without them want, or live, NUL-terminated strings.
    done(unsafe { libc::syscall(libc::SYS_fsconfig, context.as_raw_fd(), command as c_uint, key, value, 0) })
}

pub(crate) fn fsmount(context: BorrowedFd<'_>, attributes: u64) -> io::Result<OwnedFd> {
    // SAFETY: takes numbers only.
    owned(unsafe { libc::syscall(libc::SYS_fsmount, context.as_raw_fd(), libc::FSMOUNT_CLOEXEC, attributes) })
}

/// Takes over descriptors that a control message has just brought.
pub(crate) fn received(fds: Vec<RawFd>) -> Vec<OwnedFd> {
    // SAFETY: recvmsg has just made these descriptors for this process, and the list is consumed here.
    fds.into_iter().map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }).collect()
}

/// Takes over the descriptor that the parent has put at `number`.
///
/// # Safety
///
/// The number must be an open descriptor that nothing else in the process owns, as at the start of a program whose
/// parent promises it.
pub(crate) unsafe fn inherited(number: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: takes numbers only; fails without harm for one that is not open.
    let flags = unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) };
    done(c_long::from(flags))?;
    // SAFETY: it is open, as fcntl has just shown, and unowned, as the caller promises.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// Sets the flags `add` of the network interface named `name` on top of those it has.
pub(crate) fn set_link_flags(socket: BorrowedFd<'_>, name: &CStr, add: i16) -> io::Result<()> {
    // SAFETY: a plain struct of integers for which zeroes are a value.
    let mut request: libc::ifreq = unsafe { mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(name.to_bytes()) {
        *to = from.cast_signed();
    }
    let fd = socket.as_raw_fd();
    // SAFETY: the kernel reads and writes one live ifreq, whose name is shorter than the array and so terminated.
    done(c_long::from(unsafe { libc::ioctl(fd, libc::SIOCGIFFLAGS, &raw mut request) }))?;
    // SAFETY: SIOCGIFFLAGS has just written this member of the union.
    let flags = unsafe { request.ifr_ifru.ifru_flags };
    request.ifr_ifru.ifru_flags = flags | add;
    // SAFETY: as above; the kernel reads only.
    done(c_long::from(unsafe { libc::ioctl(fd, libc::SIOCSIFFLAGS, &raw const request) }))
}

/// Returns lines and columns of a terminal.
pub(crate) fn window_size(terminal: BorrowedFd<'_>) -> io::Result<(u16, u16)> {
    // SAFETY: a plain struct of integers for which zeroes are a value.
    let mut size: libc::winsize = unsafe { mem::zeroed() };
    let fd = terminal.as_raw_fd();
    // SAFETY: the kernel writes to a live struct.
    done(c_long::from(unsafe { libc::ioctl(fd, libc::TIOCGWINSZ, &raw mut size) }))?;
    Ok((size.ws_row, size.ws_col))
}

/// Sets lines and columns of a terminal.
pub(crate) fn set_window_size(terminal: BorrowedFd<'_>, rows: u16, columns: u16) -> io::Result<()> {
    let size = libc::winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    let fd = terminal.as_raw_fd();
    // SAFETY: the kernel reads a live struct.
    done(c_long::from(unsafe { libc::ioctl(fd, libc::TIOCSWINSZ, &raw const size) }))
}
