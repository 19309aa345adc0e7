//! Messages and attributes as bytes.
//!
//! Everything is in the machine's byte order except where a name says `be`. Attributes are padded to four bytes; see
//! `include/uapi/linux/netlink.h`.

mod body;
mod frame;
mod read;

pub use body::{Body, Message};
pub(crate) use frame::{DONE, Frame, frames, split_answer};
pub use read::{Attribute, Attributes, attributes};

/// The length of `struct nlmsghdr`.
pub(crate) const HEADER: usize = 16;
/// The length of `struct nlattr`.
pub(crate) const ATTRIBUTE_HEADER: usize = 4;

/// Returns the next multiple of four, or the largest number of all.
pub(crate) const fn align(length: usize) -> usize {
    match length.checked_next_multiple_of(4) {
        Some(aligned) => aligned,
        None => usize::MAX,
    }
}

/// Converts the `int` flags of libc to the 16 bits of a header.
pub(crate) const fn flags(bits: i32) -> u16 {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "all NLM_F_* have 16 bits")]
    let bits = bits as u16;
    bits
}
