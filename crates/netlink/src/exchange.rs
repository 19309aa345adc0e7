//! What counts as the answer to a request. Pure: datagrams come from wherever the caller has them.

use std::io;

use crate::error::{Action, Error, KernelError, Malformed};
use crate::wire::{DONE, Frame, flags, frames, split_answer};

/// Where datagrams of the kernel come from.
pub(crate) trait Datagrams {
    /// Returns the next one. Those of other senders than the kernel are never returned.
    fn next(&mut self) -> io::Result<&[u8]>;
}

/// A message of the kernel that answers a request.
#[derive(Debug, Clone, Copy)]
pub struct Reply<'a> {
    frame: Frame<'a>,
}

impl<'a> Reply<'a> {
    /// Returns the type, such as `RTM_NEWLINK`.
    pub fn kind(&self) -> u16 {
        self.frame.kind
    }

    /// Returns what follows the header: a fixed structure and attributes.
    pub fn payload(&self) -> &'a [u8] {
        self.frame.payload
    }

    /// Splits the payload into the fixed structure of `N` bytes, which must be a multiple of four, and the attributes.
    ///
    /// # Errors
    ///
    /// If the payload is shorter.
    pub fn split<const N: usize>(&self, what: &'static str) -> Result<(&'a [u8; N], &'a [u8]), Malformed> {
        let found = self.frame.payload.len();
        self.frame.payload.split_first_chunk::<N>().ok_or(Malformed { what, found, expected: N })
    }
}

/// How an answer ended.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct End {
    /// The text that came with the success.
    pub(crate) warning: Option<String>,
    /// The kernel says that the list is not of one moment.
    pub(crate) interrupted: bool,
}

/// Why an answer did not end well.
#[derive(Debug)]
pub(crate) enum Failure {
    Receive(io::Error),
    Malformed(Malformed),
    Refused(KernelError),
}

impl Failure {
    pub(crate) fn of(self, action: &Action) -> Error {
        let action = action.clone();
        match self {
            Self::Receive(source) => Error::Receive { action, source },
            Self::Malformed(source) => Error::Malformed { action, source },
            Self::Refused(source) => Error::Refused { action, source },
        }
    }
}

/// Reads up to the acknowledgement or the end of the list that answers `sequence`, and gives every message to `each`.
///
/// What answers an older request is passed over. After an error of `each` the rest is read all the same, since a list
/// that is left half read blocks the next one (`EBUSY`).
pub(crate) fn read_answer(
    source: &mut impl Datagrams,
    sequence: u32,
    is_dump: bool,
    mut each: impl FnMut(Reply<'_>) -> Result<(), Malformed>,
) -> Result<End, Failure> {
    let mut interrupted = false;
    let mut first_error = None;
    loop {
        let datagram = match source.next() {
            Ok(datagram) => datagram,
            // Something was lost. A list is never dropped for want of room, only broken up, so its end still comes;
            // the acknowledgement of a request may be gone for good.
            Err(error) if is_dump && error.raw_os_error() == Some(libc::ENOBUFS) => {
                interrupted = true;
                continue;
            }
            Err(error) => return Err(Failure::Receive(error)),
        };
        for frame in frames(datagram) {
            let frame = frame.map_err(Failure::Malformed)?;
            if frame.sequence != sequence {
                continue;
            }
            interrupted |= frame.flags & flags(libc::NLM_F_DUMP_INTR) != 0;
            match i32::from(frame.kind) {
                libc::NLMSG_NOOP => {}
                libc::NLMSG_OVERRUN => {
                    return Err(Failure::Receive(io::Error::from_raw_os_error(libc::ENOBUFS)));
                }
                libc::NLMSG_ERROR | libc::NLMSG_DONE => {
                    // The very end of a list may have no code at all.
                    let bare = u32::from(frame.kind) == DONE && frame.payload.is_empty();
                    let ended =
                        if bare { Ok(None) } else { split_answer(&frame).map_err(Failure::Malformed)? };
                    let warning = ended.map_err(Failure::Refused)?;
                    return first_error
                        .map_or(Ok(End { warning, interrupted }), |error| Err(Failure::Malformed(error)));
                }
                _ if first_error.is_some() => {}
                _ => first_error = each(Reply { frame }).err(),
            }
        }
    }
}

/// Reads what there is, for the messages of a transaction with these sequence numbers: the first refusal with its place,
/// and whether anything was acknowledged. All answers are there once the transaction is sent.
pub(crate) fn read_batch(
    source: &mut impl Datagrams,
    first: u32,
    count: usize,
    mut each: impl FnMut(Reply<'_>) -> Result<(), Malformed>,
) -> Result<BatchEnd, Failure> {
    let mut end = BatchEnd::default();
    loop {
        let datagram = match source.next() {
            Ok(datagram) => datagram,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(end),
            Err(error) => return Err(Failure::Receive(error)),
        };
        for frame in frames(datagram) {
            let frame = frame.map_err(Failure::Malformed)?;
            let index = usize::try_from(frame.sequence.wrapping_sub(first)).unwrap_or(usize::MAX);
            if index >= count {
                continue;
            }
            match i32::from(frame.kind) {
                libc::NLMSG_NOOP | libc::NLMSG_DONE => {}
                libc::NLMSG_OVERRUN => {
                    return Err(Failure::Receive(io::Error::from_raw_os_error(libc::ENOBUFS)));
                }
                libc::NLMSG_ERROR => match split_answer(&frame).map_err(Failure::Malformed)? {
                    Ok(_) => end.acknowledged = true,
                    Err(refusal) if end.refused.is_none() => end.refused = Some((index, refusal)),
                    Err(_) => {}
                },
                _ => each(Reply { frame }).map_err(Failure::Malformed)?,
            }
        }
    }
}

/// How a batch ended.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct BatchEnd {
    pub(crate) refused: Option<(usize, KernelError)>,
    pub(crate) acknowledged: bool,
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;
    use crate::wire::Message;

    struct Canned {
        queue: VecDeque<io::Result<Vec<u8>>>,
        current: Vec<u8>,
    }

    impl Canned {
        fn new(datagrams: impl IntoIterator<Item = io::Result<Vec<u8>>>) -> Self {
            Self { queue: datagrams.into_iter().collect(), current: Vec::new() }
        }
    }

    impl Datagrams for Canned {
        fn next(&mut self) -> io::Result<&[u8]> {
            self.current = self.queue.pop_front().unwrap_or(Err(io::ErrorKind::WouldBlock.into()))?;
            Ok(&self.current)
        }
    }

    const LINK: u16 = 16;
    const ERROR: u16 = 2;
    const END: u16 = 3;

    fn message(kind: u16, bits: i32, sequence: u32, payload: &[u8]) -> Vec<u8> {
        let mut datagram = Vec::new();
        Message::new(kind, bits, payload).write(&mut datagram, sequence, 0);
        datagram
    }

    fn answer(kind: u16, sequence: u32, errno: i32) -> Vec<u8> {
        let mut payload = (-errno).to_ne_bytes().to_vec();
        payload.extend_from_slice(&[0; 16]);
        message(kind, 0, sequence, &payload)
    }

    /// Reads a dump numbered 7 and returns the first byte of each message.
    fn dump(datagrams: Vec<io::Result<Vec<u8>>>) -> (Vec<u8>, Result<End, Failure>) {
        let mut seen = Vec::new();
        let ended = read_answer(&mut Canned::new(datagrams), 7, true, |reply| {
            seen.push(reply.payload()[0]);
            Ok(())
        });
        (seen, ended)
    }

    #[test]
    fn a_list_goes_over_many_datagrams_to_its_end() {
        let two = [message(LINK, 0, 7, &[1]), message(LINK, 0, 7, &[2])].concat();
        let (seen, ended) = dump(vec![Ok(two), Ok(message(LINK, 0, 7, &[3])), Ok(answer(END, 7, 0))]);
        assert_eq!(seen, [1, 2, 3]);
        assert_eq!(ended.unwrap(), End::default());
    }

    #[test]
    fn a_list_without_its_end_is_no_list() {
        let (_, ended) = dump(vec![Ok(message(LINK, 0, 7, &[1]))]);
        assert!(matches!(ended, Err(Failure::Receive(_))));
    }

    #[test]
    fn an_interruption_is_noticed_in_any_message() {
        for datagrams in [
            vec![Ok(message(LINK, libc::NLM_F_DUMP_INTR, 7, &[1])), Ok(answer(END, 7, 0))],
            vec![Ok(message(LINK, 0, 7, &[1])), Ok(message(END, libc::NLM_F_DUMP_INTR, 7, &[0; 4]))],
            vec![Err(io::Error::from_raw_os_error(libc::ENOBUFS)), Ok(answer(END, 7, 0))],
        ] {
            assert!(dump(datagrams).1.unwrap().interrupted);
        }
    }

    #[test]
    fn answers_to_older_requests_are_passed_over() {
        let (seen, ended) = dump(vec![
            Ok(message(LINK, 0, 6, &[9])),
            Ok(answer(ERROR, 6, libc::EBUSY)),
            Ok(message(LINK, 0, 7, &[1])),
            Ok(answer(END, 7, 0)),
        ]);
        assert_eq!(seen, [1]);
        assert!(ended.is_ok());
    }

    #[test]
    fn the_end_of_a_list_may_refuse() {
        let (_, ended) = dump(vec![Ok(answer(END, 7, libc::EINVAL))]);
        assert!(matches!(ended, Err(Failure::Refused(error)) if error.errno == libc::EINVAL));
    }

    #[test]
    fn a_bad_message_is_told_after_the_rest_is_read() {
        let mut source = Canned::new([
            Ok(message(LINK, 0, 7, &[1])),
            Ok(message(LINK, 0, 7, &[2])),
            Ok(answer(END, 7, 0)),
        ]);
        let mut calls = 0;
        let ended = read_answer(&mut source, 7, true, |_| {
            calls += 1;
            Err(Malformed { what: "a link", found: 1, expected: 16 })
        });
        assert!(matches!(ended, Err(Failure::Malformed(_))));
        assert_eq!((calls, source.queue.len()), (1, 0));
    }

    #[test]
    fn a_lost_acknowledgement_is_an_error() {
        let mut source = Canned::new([Err(io::Error::from_raw_os_error(libc::ENOBUFS))]);
        let ended = read_answer(&mut source, 7, false, |_| Ok(()));
        assert!(matches!(ended, Err(Failure::Receive(_))));
    }

    #[test]
    fn a_batch_is_refused_at_the_place_of_the_first_error() {
        let mut source = Canned::new([
            Ok(answer(ERROR, 12, libc::ENOENT)),
            Ok(answer(ERROR, 13, libc::EEXIST)),
            Ok(answer(ERROR, 11, 0)),
            Ok(answer(ERROR, 9, libc::EPERM)),
        ]);
        let end = read_batch(&mut source, 10, 4, |_| Ok(())).unwrap();
        assert_eq!(end.refused, Some((2, KernelError::new(libc::ENOENT))));
        assert!(end.acknowledged);
    }
}
