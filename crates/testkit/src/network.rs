//! A network of a test's own, so that the machine's is never touched.

use std::cell::Cell;
use std::io;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};

use nix::sched::{CloneFlags, unshare};

thread_local! {
    static HAS_ONE: Cell<bool> = const { Cell::new(false) };
}

/// Gives the calling thread a network namespace of its own, with loopback up and nothing else, unless it has one. The
/// programs and threads that it starts from then on are in it too. It is gone when the last of them is.
///
/// # Panics
/// If the kernel refuses: that needs root.
pub fn own_network() {
    if HAS_ONE.replace(true) {
        return;
    }
    unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace");
    loopback_up().expect("loopback");
}

fn loopback_up() -> io::Result<()> {
    let done = |result: i32| if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) };
    // SAFETY: makes a descriptor and touches no memory.
    let socket = done(unsafe { libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) })?;
    // SAFETY: the descriptor has just been made and is nobody else's.
    let socket = unsafe { OwnedFd::from_raw_fd(socket) };
    // SAFETY: all zero is a value of this structure of numbers.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    request.ifr_name[0] = b'l'.cast_signed();
    request.ifr_name[1] = b'o'.cast_signed();
    request.ifr_ifru.ifru_flags = libc::c_short::try_from(libc::IFF_UP).expect("one bit");
    // SAFETY: the kernel reads one live ifreq, whose name is shorter than the array and so terminated.
    done(unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request) })?;
    Ok(())
}

/// Returns the names of the links in the calling thread's network namespace, loopback left out.
pub fn links() -> Vec<String> {
    let text = std::fs::read_to_string("/proc/thread-self/net/dev").unwrap_or_default();
    crate::proc_file::parse_links(&text).into_iter().filter(|name| name != "lo").collect()
}
