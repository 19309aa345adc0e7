//! Memory that several decoders share.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use crate::limits;
use crate::protection::Protection;

/// A number of bytes of which everyone takes a share, and waits for it if there is not enough left.
///
/// Shares are given in the order in which they were asked for, so that a large one is not overtaken for ever. Nobody may
/// wait for a share who has one: two who did could wait for each other.
#[derive(Debug)]
pub(crate) struct Memory {
    total: u64,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// Bytes of all shares.
    taken: u64,
    /// The next to ask gets this number.
    next: u64,
    /// This number gets its share next.
    turn: u64,
}

/// Some bytes of a [`Memory`], until it is dropped.
#[derive(Debug)]
pub(crate) struct Share<'m> {
    memory: &'m Memory,
    bytes: u64,
}

impl Memory {
    pub(crate) fn new(total: u64) -> Self {
        Self { total, state: Mutex::default(), changed: Condvar::new() }
    }

    /// Takes `bytes`, or all there are if that is less, as soon as they are free.
    pub(crate) fn take(&self, bytes: u64) -> Share<'_> {
        let bytes = bytes.min(self.total);
        let mut state = self.state();
        let number = state.next;
        state.next += 1;
        let must_wait = |state: &mut State| {
            let is_free = bytes <= self.total - state.taken.min(self.total);
            Protection::DecoderMemory.is_on() && (state.turn != number || !is_free)
        };
        state = self.changed.wait_while(state, must_wait).unwrap_or_else(PoisonError::into_inner);
        state.taken += bytes;
        state.turn += 1;
        drop(state);
        self.changed.notify_all();
        Share { memory: self, bytes }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Numbers are changed as one.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for Memory {
    fn default() -> Self {
        Self::new(limits::MAX_DECODER_BYTES)
    }
}

impl Share<'_> {
    pub(crate) const fn bytes(&self) -> u64 {
        self.bytes
    }
}

impl Drop for Share<'_> {
    fn drop(&mut self) {
        self.memory.state().taken -= self.bytes;
        self.memory.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::sync::mpsc::{RecvTimeoutError, channel};
    use std::time::Duration;

    use super::*;

    #[test]
    fn shares_are_waited_for_in_order() {
        let memory = Memory::new(10);
        let (first, second) = (memory.take(4), memory.take(4));
        let (told, telling) = channel();
        std::thread::scope(|scope| {
            let (memory, large) = (&memory, told.clone());
            scope.spawn(move || {
                let share = memory.take(9);
                large.send(9).expect("somebody listens");
                drop(share);
            });
            while memory.state().next < 3 {
                std::thread::yield_now();
            }
            // There would be room for it, and it is not its turn.
            let small = told;
            scope.spawn(move || {
                let share = memory.take(1);
                small.send(1).expect("somebody listens");
                drop(share);
            });
            assert_eq!(telling.recv_timeout(Duration::from_millis(50)), Err(RecvTimeoutError::Timeout));
            drop(first);
            assert_eq!(telling.recv_timeout(Duration::from_millis(50)), Err(RecvTimeoutError::Timeout));
            drop(second);
            assert_eq!([telling.recv(), telling.recv()], [Ok(9), Ok(1)]);
        });
        assert_eq!(memory.state().taken, 0);
    }

    #[test]
    fn there_is_never_more_than_all() {
        let memory = Memory::new(10);
        let taken = AtomicU64::new(0);
        std::thread::scope(|scope| {
            for seed in 0..8_u64 {
                let (memory, taken) = (&memory, &taken);
                scope.spawn(move || {
                    for round in 0..500 {
                        let share = memory.take((seed * 31 + round * 7) % 15);
                        let before = taken.fetch_add(share.bytes(), Ordering::SeqCst);
                        assert!(before + share.bytes() <= 10, "{before} and {}", share.bytes());
                        taken.fetch_sub(share.bytes(), Ordering::SeqCst);
                    }
                });
            }
        });
        assert_eq!(memory.take(u64::MAX).bytes(), 10, "more than there is is all there is");
    }
}
