//! The system calls that neither the standard library nor nix has: extended attributes by descriptor, and syncfs.

#![expect(unsafe_code, reason = "libc functions without a safe wrapper")]

use std::ffi::CStr;
use std::os::fd::{AsRawFd, BorrowedFd};

use nix::errno::Errno;
use nix::fcntl::OFlag;

/// The flags to open a directory with that is not to be a link.
pub(crate) const DIRECTORY: OFlag =
    OFlag::O_RDONLY.union(OFlag::O_DIRECTORY).union(OFlag::O_NOFOLLOW).union(OFlag::O_CLOEXEC);

/// Sets the extended attribute `name` of the open file or directory, see
/// [setxattr(2)](https://man7.org/linux/man-pages/man2/setxattr.2.html).
pub(crate) fn fsetxattr(fd: BorrowedFd<'_>, name: &CStr, value: &[u8]) -> nix::Result<()> {
    // SAFETY: `name` is NUL-terminated, and `value` is readable for the length that is passed with it; the kernel
    // only reads both, and `fd` is open for the duration of the call because it is borrowed.
    let result =
        unsafe { libc::fsetxattr(fd.as_raw_fd(), name.as_ptr(), value.as_ptr().cast(), value.len(), 0) };
    Errno::result(result).map(drop)
}

/// Returns the value of the extended attribute `name`, see
/// [getxattr(2)](https://man7.org/linux/man-pages/man2/getxattr.2.html).
pub(crate) fn fgetxattr(fd: BorrowedFd<'_>, name: &CStr) -> nix::Result<Vec<u8>> {
    // XATTR_SIZE_MAX: no value is longer, so the call need not be repeated with a larger buffer.
    let mut value = vec![0_u8; 1 << 16];
    // SAFETY: the kernel writes at most `value.len()` bytes into `value`, which is that long; `name` is
    // NUL-terminated and `fd` is open because it is borrowed.
    let length =
        unsafe { libc::fgetxattr(fd.as_raw_fd(), name.as_ptr(), value.as_mut_ptr().cast(), value.len()) };
    value.truncate(usize::try_from(Errno::result(length)?).expect("not negative after the check"));
    Ok(value)
}

/// Whether the extended attribute `name` is there and has the short value `wanted`; false where there are no attributes.
pub(crate) fn xattr_is(fd: BorrowedFd<'_>, name: &CStr, wanted: &[u8]) -> nix::Result<bool> {
    let mut value = [0_u8; 8];
    debug_assert!(wanted.len() < value.len(), "a longer one needs a longer buffer");
    // SAFETY: as above.
    let length =
        unsafe { libc::fgetxattr(fd.as_raw_fd(), name.as_ptr(), value.as_mut_ptr().cast(), value.len()) };
    match Errno::result(length) {
        Ok(length) => Ok(usize::try_from(length).is_ok_and(|length| &value[..length] == wanted)),
        // A longer value is another one.
        Err(Errno::ENODATA | Errno::EOPNOTSUPP | Errno::ERANGE) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Removes the extended attribute `name`, see [removexattr(2)](https://man7.org/linux/man-pages/man2/removexattr.2.html).
pub(crate) fn fremovexattr(fd: BorrowedFd<'_>, name: &CStr) -> nix::Result<()> {
    // SAFETY: `name` is NUL-terminated, and `fd` is open because it is borrowed.
    Errno::result(unsafe { libc::fremovexattr(fd.as_raw_fd(), name.as_ptr()) }).map(drop)
}

/// Returns the names of all extended attributes, each NUL-terminated, see
/// [listxattr(2)](https://man7.org/linux/man-pages/man2/listxattr.2.html).
pub(crate) fn flistxattr(fd: BorrowedFd<'_>) -> nix::Result<Vec<u8>> {
    // XATTR_LIST_MAX, as above.
    let mut names = vec![0_u8; 1 << 16];
    // SAFETY: the kernel writes at most `names.len()` bytes into `names`, which is that long, and `fd` is open
    // because it is borrowed.
    let length = unsafe { libc::flistxattr(fd.as_raw_fd(), names.as_mut_ptr().cast(), names.len()) };
    names.truncate(usize::try_from(Errno::result(length)?).expect("not negative after the check"));
    Ok(names)
}

/// Writes everything of the file system that holds `fd` to its device, see
/// [syncfs(2)](https://man7.org/linux/man-pages/man2/syncfs.2.html). Since Linux 5.8 it reports write errors.
pub(crate) fn syncfs(fd: BorrowedFd<'_>) -> nix::Result<()> {
    // SAFETY: the call takes no pointer, and `fd` is open because it is borrowed.
    Errno::result(unsafe { libc::syncfs(fd.as_raw_fd()) }).map(drop)
}
