//! Taking datagrams of the kernel apart.

use super::{HEADER, align, attributes, flags};
use crate::error::{KernelError, Malformed};

// enum nlmsgerr_attrs
const NLMSGERR_ATTR_MSG: u16 = 1;
const NLMSGERR_ATTR_OFFS: u16 = 2;
const NLMSGERR_ATTR_MISS_TYPE: u16 = 5;

/// One message of a datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Frame<'a> {
    pub(crate) kind: u16,
    pub(crate) flags: u16,
    pub(crate) sequence: u32,
    pub(crate) payload: &'a [u8],
}

/// Iterates over the messages of a datagram; one that does not fit ends the iteration with an error.
pub(crate) fn frames(datagram: &[u8]) -> impl Iterator<Item = Result<Frame<'_>, Malformed>> {
    let mut left = datagram;
    std::iter::from_fn(move || {
        if left.is_empty() {
            return None;
        }
        let bytes = std::mem::take(&mut left);
        let Some((header, _)) = bytes.split_first_chunk::<HEADER>() else {
            return Some(Err(Malformed { what: "a message", found: bytes.len(), expected: HEADER }));
        };
        let word =
            |at: usize| u32::from_ne_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
        let half = |at: usize| u16::from_ne_bytes([header[at], header[at + 1]]);
        let length = usize::try_from(word(0)).unwrap_or(usize::MAX);
        let Some(payload) = bytes.get(HEADER..length) else {
            let expected = length.max(HEADER);
            return Some(Err(Malformed { what: "a message", found: bytes.len(), expected }));
        };
        left = bytes.get(align(length)..).unwrap_or_default();
        Some(Ok(Frame { kind: half(4), flags: half(6), sequence: word(8), payload }))
    })
}

/// Reads `NLMSG_ERROR` or `NLMSG_DONE`: an errno and what the extended ack says.
///
/// `Ok` holds the text of a warning, which the kernel may send with a success.
pub(crate) fn split_answer(frame: &Frame<'_>) -> Result<Result<Option<String>, KernelError>, Malformed> {
    let malformed = |expected| Malformed { what: "an acknowledgement", found: frame.payload.len(), expected };
    let (code, rest) = frame.payload.split_first_chunk::<4>().ok_or_else(|| malformed(4))?;
    let code = i32::from_ne_bytes(*code);
    let mut error = KernelError::new(code.checked_neg().unwrap_or(libc::EIO));
    if frame.flags & flags(libc::NLM_F_ACK_TLVS) != 0 {
        let skip = if u32::from(frame.kind) == DONE {
            0
        } else {
            // The request follows, whole or, if NLM_F_CAPPED says so, its header alone.
            let length = rest.first_chunk::<4>().map(|bytes| u32::from_ne_bytes(*bytes));
            let length =
                length.and_then(|length| usize::try_from(length).ok()).ok_or_else(|| malformed(20))?;
            if frame.flags & flags(libc::NLM_F_CAPPED) == 0 { align(length) } else { HEADER }
        };
        for attribute in attributes(rest.get(skip..).ok_or_else(|| malformed(skip.saturating_add(4)))?) {
            let attribute = attribute?;
            match attribute.kind() {
                NLMSGERR_ATTR_MSG => error.message = Some(attribute.text()),
                NLMSGERR_ATTR_OFFS => error.offset = Some(attribute.u32()?),
                NLMSGERR_ATTR_MISS_TYPE => error.missing = Some(attribute.u32()?),
                _ => {}
            }
        }
    }
    Ok(if code == 0 { Ok(error.message) } else { Err(error) })
}

/// `NLMSG_DONE`
pub(crate) const DONE: u32 = 3;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{Body, Message};

    fn frame(kind: u16, bits: i32, payload: &[u8]) -> Frame<'_> {
        Frame { kind, flags: flags(bits), sequence: 1, payload }
    }

    /// An errno, the request it is about, and an extended ack.
    fn answer(errno: i32, echoed: &[u8], text: Option<&str>) -> Vec<u8> {
        let mut bytes = (-errno).to_ne_bytes().to_vec();
        bytes.extend_from_slice(echoed);
        let mut extended = Body::new();
        if let Some(text) = text {
            extended.text(NLMSGERR_ATTR_MSG, text).u32(NLMSGERR_ATTR_OFFS, 36);
        }
        bytes.extend_from_slice(extended.as_bytes());
        bytes
    }

    fn request() -> Vec<u8> {
        let mut datagram = Vec::new();
        Message::new(16, 0, &[1; 16]).write(&mut datagram, 1, 0);
        datagram
    }

    #[test]
    fn a_refusal_has_its_text_after_the_whole_request() {
        let payload = answer(libc::EINVAL, &request(), Some("no such thing"));
        let refused = split_answer(&frame(2, libc::NLM_F_ACK_TLVS, &payload)).unwrap().unwrap_err();
        assert_eq!(refused.errno, libc::EINVAL);
        assert_eq!(refused.message.as_deref(), Some("no such thing"));
        assert_eq!(refused.offset, Some(36));
    }

    #[test]
    fn a_success_may_carry_a_warning_after_the_header_alone() {
        let payload = answer(0, &request()[..16], Some("quantum is big"));
        let bits = libc::NLM_F_ACK_TLVS | libc::NLM_F_CAPPED;
        let warning = split_answer(&frame(2, bits, &payload)).unwrap().unwrap();
        assert_eq!(warning.as_deref(), Some("quantum is big"));
    }

    #[test]
    fn the_end_of_a_dump_may_be_a_refusal() {
        let payload = answer(libc::EINVAL, &[], Some("bad filter"));
        let refused = split_answer(&frame(3, libc::NLM_F_ACK_TLVS, &payload)).unwrap().unwrap_err();
        assert_eq!(refused.message.as_deref(), Some("bad filter"));
    }

    #[test]
    fn an_answer_without_a_text_is_just_an_errno() {
        let payload = answer(libc::EEXIST, &request(), None);
        let refused = split_answer(&frame(2, 0, &payload)).unwrap().unwrap_err();
        assert_eq!(refused, KernelError::new(libc::EEXIST));
    }

    #[test]
    fn lengths_that_lie_are_errors() {
        assert!(split_answer(&frame(2, 0, &[1, 2])).is_err());
        let mut payload = answer(libc::EINVAL, &request(), Some("x"));
        payload[4..8].copy_from_slice(&u32::MAX.to_ne_bytes());
        assert!(split_answer(&frame(2, libc::NLM_F_ACK_TLVS, &payload)).is_err());
        let mut datagram = request();
        datagram[0] = 200;
        assert!(matches!(frames(&datagram).collect::<Vec<_>>().as_slice(), [Err(_)]));
        datagram[0] = 3;
        assert!(matches!(frames(&datagram).collect::<Vec<_>>().as_slice(), [Err(_)]));
    }

    proptest::proptest! {
        #[test]
        fn any_datagram_ends_without_a_panic(datagram: Vec<u8>) {
            for frame in frames(&datagram).filter_map(Result::ok) {
                let _ = split_answer(&frame);
            }
        }

        #[test]
        fn any_answer_ends_without_a_panic(payload: Vec<u8>, kind in 2u16..4, flags: u16) {
            let _ = split_answer(&Frame { kind, flags, sequence: 0, payload: &payload });
        }
    }
}
