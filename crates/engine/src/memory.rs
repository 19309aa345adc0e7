//! Memory of a process that is busy for a moment and then waits for most of its life: what the moment needed is given
//! back to the kernel.

#![expect(unsafe_code, reason = "malloc and the kernel are told by their own calls: see the SAFETY comments")]

use std::ffi::{c_int, c_void};
use std::ops::Range;

use procfs::process::{MMapPath, Process};

/// How far below the caller's frame the stack may be in use.
const FRAMES: usize = 16 * 1024;

/// Lets threads share one arena of malloc(3). Each would keep one of its own, long after its work is done.
pub(crate) fn share_arena() {
    #[cfg(target_env = "gnu")]
    // SAFETY: mallopt takes two numbers; see mallopt(3).
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1);
    }
}

/// Makes this process give large blocks of memory back to the kernel as soon as they are freed.
///
/// By itself malloc keeps blocks as large as the largest that was freed so far, for each thread: a few decoders, one after
/// the other, would take as much as all at once.
pub fn return_large_blocks() {
    #[cfg(target_env = "gnu")]
    // SAFETY: mallopt takes numbers and may be called at any time; see mallopt(3).
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, 1 << 20);
    }
}

/// Gives back what is not in use: free memory of malloc(3), the stack below this frame, and the program's own code, which
/// is read from its file again where it is needed.
///
/// To be called by the main thread, which is the one whose stack is known.
pub(crate) fn release() {
    // Nothing is lost where the kernel does not tell, or does not listen: it is only memory.
    drop(release_stack());
    #[cfg(target_env = "gnu")]
    // SAFETY: malloc_trim takes a number and may be called at any time; see malloc_trim(3).
    unsafe {
        libc::malloc_trim(0);
    }
    // SAFETY: the callback keeps to what dl_iterate_phdr(3) hands it.
    unsafe { libc::dl_iterate_phdr(Some(release_code), std::ptr::null_mut()) };
}

fn release_stack() -> procfs::ProcResult<()> {
    let here = std::ptr::from_ref(&FRAMES.to_ne_bytes()).addr();
    let maps = Process::myself()?.maps()?;
    let stack = maps.iter().find(|map| map.pathname == MMapPath::Stack);
    let Some((bottom, top)) = stack.map(|map| map.address) else { return Ok(()) };
    let (bottom, top) = (usize::try_from(bottom).unwrap_or(usize::MAX), usize::try_from(top).unwrap_or(0));
    // Another thread's stack is elsewhere.
    if (bottom..top).contains(&here) {
        drop_pages(bottom..here.saturating_sub(FRAMES));
    }
    Ok(())
}

/// Drops the code and the constants of one object, which nobody can have written to.
unsafe extern "C" fn release_code(
    object: *mut libc::dl_phdr_info,
    _size: libc::size_t,
    _data: *mut c_void,
) -> c_int {
    // SAFETY: dl_iterate_phdr hands over an object that is loaded and stays so while it is looked at.
    let object = unsafe { &*object };
    // SAFETY: so many program headers are there; see dl_iterate_phdr(3).
    let headers = unsafe { std::slice::from_raw_parts(object.dlpi_phdr, usize::from(object.dlpi_phnum)) };
    for header in headers.iter().filter(|h| h.p_type == libc::PT_LOAD && h.p_flags & libc::PF_W == 0) {
        let start = usize::try_from(object.dlpi_addr + header.p_vaddr).unwrap_or(usize::MAX);
        drop_pages(start..start.saturating_add(usize::try_from(header.p_memsz).unwrap_or(0)));
    }
    0
}

/// Has the kernel forget the whole pages of a range: of a file's they are read again, of the stack's they are zeros.
fn drop_pages(range: Range<usize>) {
    // The kernel rounds an end up to its own pages, of which some machines have larger ones: what lies behind is in use.
    // SAFETY: sysconf takes a number.
    let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    let Some(page) = usize::try_from(page).ok().filter(|page| *page > 0) else { return };
    let (start, end) = (range.start.next_multiple_of(page), range.end / page * page);
    if start < end {
        // SAFETY: the callers name private pages of a file that are never written, and a part of the stack that no frame
        // reaches: what is lost is nothing. See madvise(2).
        unsafe {
            libc::madvise(std::ptr::with_exposed_provenance_mut(start), end - start, libc::MADV_DONTNEED)
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // The stack of a test's thread is left alone. That of a main thread is released by every supervisor of `tests/` whose
    // Pod lives for more than a second.

    /// Touches a stretch of the stack, far more than the kernel keeps anyway.
    #[inline(never)]
    #[expect(clippy::large_stack_arrays, reason = "it is what is tested")]
    fn use_stack() -> usize {
        let buffer = [1_u8; 512 * 1024];
        std::hint::black_box(&buffer).iter().map(|byte| usize::from(*byte)).sum()
    }

    #[test]
    fn what_is_released_can_be_used_again() {
        share_arena();
        let kept: Vec<String> = (0..1000).map(|number| format!("number {number}")).collect();
        assert_eq!(use_stack(), 512 * 1024);
        release();
        assert_eq!(use_stack(), 512 * 1024);
        assert!(kept.iter().enumerate().all(|(n, text)| *text == format!("number {n}")));
    }
}
