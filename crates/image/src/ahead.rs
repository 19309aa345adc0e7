//! A reader whose bytes are made in another thread, a few chunks ahead.

use std::io::{self, Read};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::thread;

use crate::protection;

/// Bytes of a chunk.
const CHUNK: usize = 256 << 10;
/// Chunks that may wait to be read.
const AHEAD: usize = 4;

enum Message<B> {
    Begin(B),
    Chunk(Vec<u8>),
    Failed(io::Error),
}

/// Where a producer puts its bytes.
pub(crate) struct Sink<B> {
    full: SyncSender<Message<B>>,
    /// Chunks that were read and can be filled again.
    empty: Receiver<Vec<u8>>,
}

impl<B> Sink<B> {
    /// Says what the stream is; false if nobody wants to know.
    pub(crate) fn begin(&mut self, what: B) -> bool {
        self.full.send(Message::Begin(what)).is_ok()
    }

    /// Passes everything of `stream` on; false if nobody reads any more.
    pub(crate) fn pass_on(&mut self, stream: &mut impl Read) -> io::Result<bool> {
        loop {
            let mut chunk = self.empty.try_recv().unwrap_or_else(|_| vec![0; CHUNK]);
            chunk.resize(CHUNK, 0);
            let mut filled = 0;
            while filled < CHUNK {
                match stream.read(&mut chunk[filled..]) {
                    Ok(0) => break,
                    Ok(read) => filled += read,
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => {
                        // What came before the error is read before it is met.
                        chunk.truncate(filled);
                        if self.full.send(Message::Chunk(chunk)).is_err() {
                            return Ok(false);
                        }
                        return Err(error);
                    }
                }
            }
            let ended = filled < CHUNK;
            chunk.truncate(filled);
            if self.full.send(Message::Chunk(chunk)).is_err() {
                return Ok(false);
            }
            if ended {
                return Ok(true);
            }
        }
    }
}

/// What the producer passes on.
pub(crate) struct Ahead<B> {
    full: Receiver<Message<B>>,
    empty: Sender<Vec<u8>>,
    chunk: Vec<u8>,
    position: usize,
}

impl<B> Read for Ahead<B> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.position == self.chunk.len() {
            match self.full.recv() {
                Ok(Message::Chunk(chunk)) => {
                    // The producer may be at its end and not want it back.
                    drop(self.empty.send(std::mem::replace(&mut self.chunk, chunk)));
                    self.position = 0;
                }
                Ok(Message::Begin(_)) => {}
                Ok(Message::Failed(error)) => return Err(error),
                Err(_) => return Ok(0),
            }
        }
        let count = buffer.len().min(self.chunk.len() - self.position);
        buffer[..count].copy_from_slice(&self.chunk[self.position..self.position + count]);
        self.position += count;
        Ok(count)
    }
}

/// Runs `produce` in a thread and `consume` in this one; returns what both return.
///
/// The consumer meets an error of the producer where the bytes end, and then the producer returns `Ok`; the consumer
/// does not run, and is `None`, if there is no beginning.
pub(crate) fn run<B: Send, P: Send, C>(
    produce: impl FnOnce(&mut Sink<B>) -> io::Result<Option<P>> + Send,
    consume: impl FnOnce(B, Ahead<B>) -> C,
) -> (io::Result<Option<P>>, Option<C>) {
    let (full, waiting) = sync_channel(AHEAD);
    let (empty, returned) = channel();
    let inherited = protection::inherit();
    thread::scope(|scope| {
        let producer = scope.spawn(move || {
            inherited.apply();
            let mut sink = Sink { full, empty: returned };
            match produce(&mut sink) {
                // If it cannot be passed on, nobody reads any more or there was no beginning.
                Err(error) => match sink.full.send(Message::Failed(error)) {
                    Ok(()) => Ok(None),
                    Err(unsent) => match unsent.0 {
                        Message::Failed(error) => Err(error),
                        Message::Begin(_) | Message::Chunk(_) => Ok(None),
                    },
                },
                done => done,
            }
        });
        let (consumed, unbegun) = match waiting.recv() {
            Ok(Message::Begin(what)) => {
                let ahead = Ahead { full: waiting, empty, chunk: Vec::new(), position: 0 };
                (Some(consume(what, ahead)), None)
            }
            Ok(Message::Failed(error)) => (None, Some(error)),
            Ok(Message::Chunk(_)) | Err(_) => (None, None),
        };
        let produced = producer.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        (unbegun.map_or(produced, Err), consumed)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    type Outcome = (io::Result<Option<u64>>, Option<io::Result<Vec<u8>>>);

    fn pass(source: impl Read + Send, wanted: u64) -> Outcome {
        run(
            move |sink| {
                let mut source = source;
                let mut count = io::Read::by_ref(&mut source).take(10_000_000);
                Ok(if sink.begin(()) && sink.pass_on(&mut count)? { Some(count.limit()) } else { None })
            },
            |(), ahead| {
                let mut read = Vec::new();
                ahead.take(wanted).read_to_end(&mut read).map(|_| read)
            },
        )
    }

    /// Bytes, and then an error.
    struct Broken(u64);

    impl Read for Broken {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            if self.0 == 0 {
                return Err(io::ErrorKind::ConnectionReset.into());
            }
            let count = buffer.len().min(1000).min(usize::try_from(self.0).expect("small"));
            buffer[..count].fill(7);
            self.0 -= count as u64;
            Ok(count)
        }
    }

    #[test]
    fn all_bytes_pass_in_order() {
        for length in [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 11 * CHUNK + 5] {
            let bytes: Vec<u8> = (0..length).map(|n| u8::try_from(n % 251).expect("small")).collect();
            let (produced, consumed) = pass(&bytes[..], u64::MAX);
            assert_eq!(produced.expect("no error"), Some(10_000_000 - length as u64));
            assert_eq!(consumed.expect("it began").expect("no error"), bytes, "{length}");
        }
    }

    #[test]
    fn an_error_comes_where_the_bytes_end() {
        let (produced, consumed) = pass(Broken(3 * CHUNK as u64 + 9), 3 * CHUNK as u64 + 9);
        assert_eq!(consumed.expect("it began").expect("before the error").len(), 3 * CHUNK + 9);
        drop(produced);
        let (produced, consumed) = pass(Broken(9), u64::MAX);
        assert_eq!(produced.expect("the consumer has the error"), None);
        let error = consumed.expect("it began").expect_err("the error");
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    }

    #[test]
    fn a_reader_that_stops_stops_the_producer() {
        let (produced, consumed) = pass(io::repeat(1), 5);
        assert_eq!(
            (produced.expect("no error"), consumed.expect("it began").expect("no error").len()),
            (None, 5)
        );
        let (produced, consumed) =
            run(|_: &mut Sink<()>| Err::<Option<()>, _>(io::ErrorKind::NotFound.into()), |(), _| ());
        assert_eq!(produced.expect_err("no beginning").kind(), io::ErrorKind::NotFound);
        assert_eq!(consumed, None);
    }
}
