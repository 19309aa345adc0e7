//! From what a process writes to log entries.

use podrun_spec::time::Timestamp;

use super::rfc3339::write_rfc3339;

/// Bytes of content that one entry holds at most; longer lines are split. As containerd does.
pub const MAX_CONTENT: usize = 16 * 1024;

/// Which of its outputs a process wrote to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// File descriptor 1.
    Stdout,
    /// File descriptor 2.
    Stderr,
}

impl Stream {
    /// Returns the name in a log entry.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }
}

/// Turns the chunks that are read from one stream into log entries.
///
/// A line is held until its end has come or it is too long for one entry. The time of an entry is that of the chunk
/// that completed it.
#[derive(Debug)]
pub struct Framer {
    stream: Stream,
    pending: Vec<u8>,
}

impl Framer {
    /// Returns the framer of a stream that has just begun.
    pub const fn new(stream: Stream) -> Self {
        Self { stream, pending: Vec::new() }
    }

    /// Takes the next chunk, and appends the entries that it completes to `out`. Returns how many they are.
    pub fn push(&mut self, chunk: &[u8], now: Timestamp, out: &mut Vec<u8>) -> u64 {
        let mut entries = 0;
        let mut rest = chunk;
        while !rest.is_empty() {
            let line = rest.iter().position(|byte| *byte == b'\n');
            let content = &rest[..line.unwrap_or(rest.len())];
            let room = MAX_CONTENT - self.pending.len();
            if content.len() > room {
                let (fits, more) = rest.split_at(room);
                self.entry(fits, b'P', now, out);
                entries += 1;
                rest = more;
            } else if let Some(end) = line {
                self.entry(content, b'F', now, out);
                entries += 1;
                rest = &rest[end + 1..];
            } else {
                self.pending.extend_from_slice(content);
                break;
            }
        }
        entries
    }

    /// Appends what is held of a line as a part, because its end will not come. Returns how many entries that were.
    ///
    /// Readers put a newline after each `F`, which the process did not write.
    pub fn flush(&mut self, now: Timestamp, out: &mut Vec<u8>) -> u64 {
        if self.pending.is_empty() {
            return 0;
        }
        self.entry(&[], b'P', now, out);
        1
    }

    fn entry(&mut self, content: &[u8], tag: u8, now: Timestamp, out: &mut Vec<u8>) {
        write_rfc3339(now, out);
        out.push(b' ');
        out.extend_from_slice(self.stream.name().as_bytes());
        out.extend_from_slice(&[b' ', tag, b' ']);
        out.extend_from_slice(&self.pending);
        out.extend_from_slice(content);
        out.push(b'\n');
        self.pending.clear();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::log::parse_entry;

    const NOW: Timestamp = Timestamp(1_000_000_007);
    const TIME: &str = "1970-01-01T00:00:01.000000007Z";

    fn frame(chunks: &[&[u8]]) -> (String, u64) {
        let mut framer = Framer::new(Stream::Stdout);
        let mut out = Vec::new();
        let mut entries = 0;
        for chunk in chunks {
            entries += framer.push(chunk, NOW, &mut out);
        }
        entries += framer.flush(NOW, &mut out);
        (String::from_utf8(out).expect("text"), entries)
    }

    #[test]
    fn lines_are_whole_and_the_last_without_end_is_a_part() {
        let table: [(&[&[u8]], &str); 6] = [
            (&[b"hello\n"], "F hello"),
            (&[b"hel", b"lo", b"\n"], "F hello"),
            (&[b"\n"], "F "),
            (&[b"DONE"], "P DONE"),
            (&[b"a\nb"], "F a|P b"),
            (&[b"a\r\n\n\nb\n"], "F a\r|F |F |F b"),
        ];
        for (chunks, expected) in table {
            let expected: String =
                expected.split('|').map(|entry| format!("{TIME} stdout {entry}\n")).collect();
            assert_eq!(frame(chunks).0, expected, "{chunks:?}");
        }
        assert_eq!(frame(&[]), (String::new(), 0));
    }

    #[test]
    fn long_lines_are_split_and_exactly_full_ones_are_not() {
        let full = "x".repeat(MAX_CONTENT);
        let (text, entries) = frame(&[full.as_bytes(), b"\n"]);
        assert_eq!((text.as_str(), entries), (format!("{TIME} stdout F {full}\n").as_str(), 1));
        let (text, entries) = frame(&[full.as_bytes(), b"y\n"]);
        assert_eq!(text, format!("{TIME} stdout P {full}\n{TIME} stdout F y\n"));
        assert_eq!(entries, 2);
    }

    /// A stream of bytes with newlines rare enough for long lines and frequent enough for short ones.
    fn bytes() -> impl Strategy<Value = Vec<u8>> {
        let piece = prop_oneof![
            proptest::collection::vec(any::<u8>(), 0..200),
            (0..40_000_usize, any::<u8>()).prop_map(|(length, byte)| vec![byte; length]),
            Just(b"\n".to_vec()),
        ];
        proptest::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #[test]
        fn any_chunking_gives_back_the_same_content(
            content in bytes(), cuts in proptest::collection::vec(any::<prop::sample::Index>(), 0..10),
        ) {
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(content.len() + 1)).collect();
            cuts.sort_unstable();
            let mut framer = Framer::new(Stream::Stderr);
            let (mut out, mut entries, mut start) = (Vec::new(), 0, 0);
            for cut in cuts.into_iter().chain([content.len()]) {
                entries += framer.push(&content[start..cut], NOW, &mut out);
                start = cut;
            }
            entries += framer.flush(NOW, &mut out);

            let mut read = Vec::new();
            let mut count = 0;
            for line in out.split_inclusive(|byte| *byte == b'\n') {
                let entry = parse_entry(line).expect("an entry");
                prop_assert!(entry.content.len() <= MAX_CONTENT);
                prop_assert_eq!(entry.stream, b"stderr");
                read.extend_from_slice(entry.content);
                if !entry.partial {
                    read.push(b'\n');
                }
                count += 1;
            }
            prop_assert_eq!(read, content);
            prop_assert_eq!(count, entries);
        }
    }
}
