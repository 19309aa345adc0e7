//! Init's side of a sandbox: what `podrun-init` does before any container runs.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;

use nix::fcntl::{OFlag, open};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, accept4, socket};
use nix::sys::stat::{Mode, mkdirat};
use nix::unistd::{fchdir, pivot_root, sethostname};

use crate::mount::{Attributes, Filesystem, attach_at};
use crate::path::{Walk, is_plain_name};
use crate::protocol::{Channel, InitSetup, LISTENER_FD};
use crate::{path, sys};

/// Where init keeps the tmpfs volumes, in its own root.
pub const VOLUMES: &str = "/volumes";
/// Where init keeps the /proc of the pid namespace that containers share, if they do.
pub const PROC: &str = "/proc";
/// Where init keeps the Pod's /dev/shm.
pub const SHM: &str = "/shm";
/// Where a container's root file system is attached, in its own copy of init's mounts.
pub const ROOTFS: &str = "/rootfs";
/// Where a container's process attaches, in its own copy of init's mounts, what it takes a part of.
pub const SCRATCH: &str = "/scratch";

/// The socket on which supervisors call.
#[derive(Debug)]
pub struct Listener {
    socket: OwnedFd,
}

impl Listener {
    /// Takes over the socket that the parent has put at [`LISTENER_FD`].
    ///
    /// # Errors
    ///
    /// `EBADF` if there is none: the program was not started by podrun.
    ///
    /// # Safety
    ///
    /// To be called once, before anything else in the process could own that descriptor.
    pub unsafe fn inherited() -> io::Result<Self> {
        // SAFETY: as promised by the caller.
        Ok(Self { socket: unsafe { sys::inherited(LISTENER_FD) }? })
    }

    /// Accepts the next supervisor; none if nobody calls. Only root is listened to.
    ///
    /// # Errors
    ///
    /// `EMFILE` if too many files are open.
    pub fn accept(&self) -> io::Result<Option<Channel>> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let connection = match accept4(self.socket.as_raw_fd(), flags) {
            Ok(fd) => sys::received(vec![fd]).pop(),
            Err(nix::errno::Errno::EAGAIN | nix::errno::Errno::EINTR | nix::errno::Errno::ECONNABORTED) => {
                None
            }
            Err(errno) => return Err(errno.into()),
        };
        let Some(channel) = connection.map(Channel::new) else { return Ok(None) };
        Ok(if channel.peer_uid()? == 0 { Some(channel) } else { None })
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Makes the sandbox from inside: loopback, host name, kernel parameters, and a root of its own.
///
/// Afterwards neither this process nor any that it clones sees a mount of the host.
///
/// # Errors
///
/// What could not be done, and why.
pub fn enter(setup: &InitSetup, mounts: Vec<OwnedFd>) -> Result<(), (String, io::Error)> {
    let step = |text: &str| {
        let text = text.to_owned();
        move |error: io::Error| (text, error)
    };
    if setup.subreaper {
        nix::sys::prctl::set_child_subreaper(true).map_err(|e| step("become a subreaper")(e.into()))?;
    }
    if setup.loopback {
        bring_loopback_up().map_err(step("bring the loopback interface up"))?;
    }
    if let Some(name) = &setup.hostname {
        sethostname(name).map_err(|e| step(&format!("set the host name {name:?}"))(e.into()))?;
    }
    for (name, value) in &setup.sysctls {
        set_sysctl(name, value).map_err(step(&format!("set {name} to {value:?}")))?;
    }
    enter_own_root(setup, mounts).map_err(step("make a root of its own"))
}

fn bring_loopback_up() -> io::Result<()> {
    let socket = socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?;
    sys::set_link_flags(socket.as_fd(), c"lo", i16::try_from(libc::IFF_UP).unwrap_or(1))
}

/// Writes a kernel parameter through a /proc that is nobody else's, so that nothing can be mounted over it.
fn set_sysctl(name: &str, value: &str) -> io::Result<()> {
    let proc =
        Filesystem::new(c"proc")?.mount(Attributes::NOSUID | Attributes::NODEV | Attributes::NOEXEC)?;
    let file = sysctl_path(name).ok_or(io::ErrorKind::InvalidInput)?;
    let file = path::open(proc.as_fd(), Path::new(&file), OFlag::O_WRONLY, Walk::NoLinks)?;
    File::from(file).write_all(value.as_bytes())
}

/// Returns the file of a parameter. Dots separate, unless a slash comes first: then slashes do, and dots belong to
/// names (sysctl(8)).
fn sysctl_path(name: &str) -> Option<String> {
    let path = match name.find(['.', '/']) {
        Some(at) if name.as_bytes()[at] == b'.' => name
            .chars()
            .map(|c| {
                if c == '.' {
                    '/'
                } else if c == '/' {
                    '.'
                } else {
                    c
                }
            })
            .collect(),
        _ => name.to_owned(),
    };
    path.split('/').all(is_plain_name).then(|| format!("sys/{path}"))
}

/// Replaces the host's mounts, of which this namespace is a copy, by a tmpfs with what containers need of init.
fn enter_own_root(setup: &InitSetup, mounts: Vec<OwnedFd>) -> io::Result<()> {
    // Nothing that follows may travel back to the host.
    let none: Option<&str> = None;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)?;
    let tmpfs = Filesystem::new(c"tmpfs")?;
    tmpfs.set(c"size", c"64k")?;
    tmpfs.set(c"mode", c"755")?;
    let root = tmpfs.mount(Attributes::NOSUID | Attributes::NODEV | Attributes::NOEXEC)?;
    let mode = Mode::from_bits_truncate(0o755);
    for name in ["proc", "rootfs", "scratch", "shm", "volumes"] {
        mkdirat(&root, name, mode)?;
    }
    let mut mounts = mounts.into_iter();
    let mut places = Vec::new();
    for name in &setup.volumes {
        if !is_plain_name(name) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let place = format!("volumes/{name}");
        mkdirat(&root, place.as_str(), mode)?;
        places.push(place);
    }
    if setup.shm {
        places.push("shm".to_owned());
    }
    // On top of the root: pivot_root wants the new root to be a mount in the tree of the old one.
    let slash = open("/", OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())?;
    crate::mount::attach(root.as_fd(), slash.as_fd())?;
    for place in places {
        let mount = mounts.next().ok_or(io::ErrorKind::InvalidInput)?;
        let place = std::ffi::CString::new(place)?;
        attach_at(mount.as_fd(), root.as_fd(), &place)?;
    }
    fchdir(&root)?;
    pivot_root(".", ".")?;
    // The old root is now on top of the new one, and `.` is still the new one.
    umount2(".", MntFlags::MNT_DETACH)?;
    nix::unistd::chdir("/")?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_separator_of_a_kernel_parameter_decides() {
        let table = [
            ("net.ipv4.ip_forward", Some("sys/net/ipv4/ip_forward")),
            ("net/ipv4/conf/eno2.100/rp_filter", Some("sys/net/ipv4/conf/eno2.100/rp_filter")),
            ("net.ipv4.conf.eno2/100.rp_filter", Some("sys/net/ipv4/conf/eno2.100/rp_filter")),
            ("net.ipv4/../../kernel.core_pattern", None),
            ("net/../kernel/core_pattern", None),
            ("net..ipv4", None),
            ("/kernel/core_pattern", None),
            ("", None),
        ];
        for (name, path) in table {
            assert_eq!(sysctl_path(name).as_deref(), path, "{name}");
        }
    }
}
