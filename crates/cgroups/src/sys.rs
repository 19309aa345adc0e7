//! bpf(2), for which neither libc nor nix has a wrapper. The one file with unsafe code.

use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd, RawFd};

use crate::devices::Instruction;

const BPF_PROG_LOAD: libc::c_int = 5;
const BPF_PROG_ATTACH: libc::c_int = 8;
const BPF_PROG_DETACH: libc::c_int = 9;
const BPF_PROG_QUERY: libc::c_int = 16;
const BPF_PROG_TYPE_CGROUP_DEVICE: u32 = 15;
const BPF_CGROUP_DEVICE: u32 = 6;
const BPF_F_ALLOW_MULTI: u32 = 2;

/// The members of `union bpf_attr` for `BPF_PROG_LOAD`, as far as they are used. The kernel takes a shorter union.
#[repr(C)]
struct LoadAttr {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buf: u64,
    kern_version: u32,
    prog_flags: u32,
    prog_name: [u8; 16],
}

/// For `BPF_PROG_ATTACH` and `BPF_PROG_DETACH`.
#[repr(C)]
struct AttachAttr {
    target_fd: u32,
    attach_bpf_fd: u32,
    attach_type: u32,
    attach_flags: u32,
}

/// For `BPF_PROG_QUERY`.
#[repr(C)]
struct QueryAttr {
    target_fd: u32,
    attach_type: u32,
    query_flags: u32,
    attach_flags: u32,
    prog_ids: u64,
    prog_cnt: u32,
    // Makes the padding of the C union explicit: the kernel wants zeroes there.
    zero: u32,
}

pub(crate) fn load_device_program(program: &[Instruction]) -> io::Result<OwnedFd> {
    let mut attr = LoadAttr {
        prog_type: BPF_PROG_TYPE_CGROUP_DEVICE,
        insn_cnt: u32::try_from(program.len()).map_err(|_| io::Error::from_raw_os_error(libc::E2BIG))?,
        insns: program.as_ptr().addr() as u64,
        // No helper that asks for the GPL is called.
        license: c"MIT OR Apache-2.0".as_ptr().addr() as u64,
        log_level: 0,
        log_size: 0,
        log_buf: 0,
        kern_version: 0,
        prog_flags: 0,
        prog_name: *b"device_filter\0\0\0",
    };
    // SAFETY: `insns` and `license` point to memory that outlives the call, and the kernel only reads it: `program` is
    // borrowed, of `insn_cnt` instructions laid out as `struct bpf_insn`, and the licence is a static C string.
    let fd = unsafe { bpf(BPF_PROG_LOAD, &mut attr) }?;
    // SAFETY: the kernel has just made this fd for us (with O_CLOEXEC), and nothing else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

pub(crate) fn attach_device_program(cgroup: BorrowedFd<'_>, program: BorrowedFd<'_>) -> io::Result<()> {
    let mut attr = attach_attr(cgroup, program, BPF_F_ALLOW_MULTI);
    // SAFETY: this command has fds and numbers in its attributes, no pointers.
    unsafe { bpf(BPF_PROG_ATTACH, &mut attr) }.map(drop)
}

pub(crate) fn detach_device_program(cgroup: BorrowedFd<'_>, program: BorrowedFd<'_>) -> io::Result<()> {
    let mut attr = attach_attr(cgroup, program, 0);
    // SAFETY: this command has fds and numbers in its attributes, no pointers.
    unsafe { bpf(BPF_PROG_DETACH, &mut attr) }.map(drop)
}

pub(crate) fn query_device_programs(cgroup: BorrowedFd<'_>) -> io::Result<Vec<u32>> {
    // BPF_CGROUP_MAX_PROGS of linux/bpf-cgroup.h: a cgroup cannot have more.
    let mut ids = vec![0_u32; 64];
    let mut attr = QueryAttr {
        target_fd: number(cgroup),
        attach_type: BPF_CGROUP_DEVICE,
        query_flags: 0,
        attach_flags: 0,
        prog_ids: ids.as_mut_ptr().expose_provenance() as u64,
        prog_cnt: 64,
        zero: 0,
    };
    // SAFETY: `prog_ids` points to room for `prog_cnt` ids, borrowed mutably and alive until after the call; the kernel
    // writes no more than that.
    unsafe { bpf(BPF_PROG_QUERY, &mut attr) }?;
    ids.truncate(attr.prog_cnt as usize);
    Ok(ids)
}

fn attach_attr(cgroup: BorrowedFd<'_>, program: BorrowedFd<'_>, attach_flags: u32) -> AttachAttr {
    AttachAttr {
        target_fd: number(cgroup),
        attach_bpf_fd: number(program),
        attach_type: BPF_CGROUP_DEVICE,
        attach_flags,
    }
}

fn number(fd: BorrowedFd<'_>) -> u32 {
    fd.as_raw_fd().cast_unsigned()
}

/// Calls bpf(2) with `attr` as its union.
///
/// # Safety
///
/// `T` is laid out as the members of `union bpf_attr` that `command` uses, without padding, and the pointers among them
/// are valid for what the command does with them.
unsafe fn bpf<T>(command: libc::c_int, attr: &mut T) -> io::Result<RawFd> {
    // SAFETY: `attr` is valid for reads and writes of its own size, which is the size the kernel is told; the caller
    // answers for the pointers in it.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attr), size_of::<T>()) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    // The result is an fd or zero.
    RawFd::try_from(result).map_err(io::Error::other)
}
