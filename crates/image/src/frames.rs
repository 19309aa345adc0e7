//! Streams of zstd frames, [RFC 8878](https://www.rfc-editor.org/rfc/rfc8878), decompressed within bounds of memory.
//!
//! A frame says in its header how large a window its decoder has to keep. The header is looked at before a decoder is
//! made: a frame that wants more than [`limits::MAX_ZSTD_WINDOW_LOG`] is refused, and another one waits until its window
//! fits into the memory that all decoders of a session share.

use std::io::{self, BufRead, Read};

use zstd::stream::raw::{DParameter, Decoder, InBuffer, Operation, OutBuffer};

use crate::limits;
use crate::memory::{Memory, Share};
use crate::protection::Protection;

const FRAME: u32 = 0xfd2f_b528;
/// The last four bits of a skippable frame's number are its author's.
const SKIPPABLE: u32 = 0x184d_2a50;
/// Bytes of the longest header: number, descriptor, window, dictionary, content size.
const MAX_HEADER: usize = 4 + 1 + 1 + 4 + 8;
/// Bytes of the largest block.
const BLOCK: u64 = 128 << 10;
/// Bytes that a decoder has besides its window, one block's worth and a bit: its input, tables, and the block in the making.
const BESIDES: u64 = 512 << 10;

/// What of a frame's header decides about memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Header {
    /// Bytes that a decoder keeps to refer to.
    window: u64,
    /// Bytes of the content, if they are announced.
    content: Option<u64>,
}

impl Header {
    /// Returns how long a header is that begins with this descriptor, the number before it included.
    fn length(descriptor: u8) -> usize {
        let single = descriptor & 0x20 != 0;
        let dictionary = [0, 1, 2, 4][usize::from(descriptor & 3)];
        let content = match descriptor >> 6 {
            0 => usize::from(single),
            flag => 1 << flag,
        };
        4 + 1 + usize::from(!single) + dictionary + content
    }

    /// Reads a whole header.
    fn read(header: &[u8]) -> Self {
        let descriptor = header[4];
        let single = descriptor & 0x20 != 0;
        let content_length = match descriptor >> 6 {
            0 => usize::from(single),
            flag => 1 << flag,
        };
        let mut content = [0; 8];
        content[..content_length].copy_from_slice(&header[header.len() - content_length..]);
        let content = match content_length {
            0 => None,
            2 => Some(u64::from_le_bytes(content) + 256),
            _ => Some(u64::from_le_bytes(content)),
        };
        let window = if single {
            content.unwrap_or_default()
        } else {
            let base = 1_u64 << (10 + (header[5] >> 3));
            base + base / 8 * u64::from(header[5] & 7)
        };
        Self { window, content }
    }

    /// Returns what the decoder of such a frame takes.
    fn memory(self) -> u64 {
        // A buffer with room for one more block, but not more than there is to come.
        let buffer = self.window.saturating_add(BLOCK).min(self.content.unwrap_or(u64::MAX));
        buffer.saturating_add(BESIDES)
    }
}

/// Decompresses frame after frame.
pub(crate) struct Frames<'m, R> {
    source: R,
    memory: &'m Memory,
    decoder: Option<(Decoder<'static>, Share<'m>)>,
    /// The header of the present frame, and how much of it the decoder has seen; none between frames.
    header: Option<(Vec<u8>, usize)>,
}

impl<'m, R: BufRead> Frames<'m, R> {
    pub(crate) fn new(source: R, memory: &'m Memory) -> Self {
        Self { source, memory, decoder: None, header: None }
    }

    /// Goes to the beginning of the next frame; false at the end.
    fn begin(&mut self) -> io::Result<bool> {
        let mut header = vec![0; MAX_HEADER];
        loop {
            if self.source.fill_buf()?.is_empty() {
                return Ok(false);
            }
            self.source.read_exact(&mut header[..4])?;
            let number = u32::from_le_bytes([header[0], header[1], header[2], header[3]]);
            if number & !0xf != SKIPPABLE {
                break if number == FRAME {
                    Ok(())
                } else {
                    Err(invalid("no zstd frame where one should begin"))
                };
            }
            let mut length = [0; 4];
            self.source.read_exact(&mut length)?;
            let length = u64::from(u32::from_le_bytes(length));
            if io::copy(&mut self.source.by_ref().take(length), &mut io::sink())? < length {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }?;
        self.source.read_exact(&mut header[4..5])?;
        header.truncate(Header::length(header[4]));
        self.source.read_exact(&mut header[5..])?;
        self.prepare(Header::read(&header))?;
        self.header = Some((header, 0));
        Ok(true)
    }

    /// Makes a decoder, or takes the one before, if the frame is within bounds.
    fn prepare(&mut self, header: Header) -> io::Result<()> {
        if header.window > 1 << limits::MAX_ZSTD_WINDOW_LOG && Protection::ZstdWindow.is_on() {
            let (window, max) = (header.window, 1_u64 << limits::MAX_ZSTD_WINDOW_LOG);
            return Err(invalid(&format!(
                "a zstd frame has a window of {window} bytes, and {max} are the most"
            )));
        }
        let needed = header.memory();
        match &mut self.decoder {
            Some((decoder, share)) if needed <= share.bytes() => decoder.reinit(),
            _ => {
                // Nothing goes from frame to frame, so the old one goes before the new one's memory is waited for.
                self.decoder = None;
                let share = self.memory.take(needed);
                let mut decoder = Decoder::new()?;
                // Decided here.
                decoder.set_parameter(DParameter::WindowLogMax(31))?;
                self.decoder = Some((decoder, share));
                Ok(())
            }
        }
    }
}

impl<R: BufRead> Read for Frames<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        loop {
            if self.header.is_none() && !self.begin()? {
                return Ok(0);
            }
            let (Some((decoder, _)), Some((header, seen))) = (&mut self.decoder, &mut self.header) else {
                return Err(io::ErrorKind::NotFound.into());
            };
            let mut output = OutBuffer::around(buffer);
            let left = if *seen < header.len() {
                let mut input = InBuffer::around(&header[*seen..]);
                let left = decoder.run(&mut input, &mut output)?;
                *seen += input.pos();
                left
            } else {
                let available = self.source.fill_buf()?;
                let is_over = available.is_empty();
                let mut input = InBuffer::around(available);
                let left = decoder.run(&mut input, &mut output)?;
                let read = input.pos();
                self.source.consume(read);
                // What the decoder still has comes out without input.
                if is_over && left > 0 && output.pos() == 0 {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                left
            };
            let written = output.pos();
            if left == 0 {
                self.header = None;
            }
            if written > 0 {
                return Ok(written);
            }
        }
    }
}

fn invalid(text: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    /// Compresses with a window of 2 to the power of `window_log`; the size is announced or not.
    fn compress(bytes: &[u8], window_log: u32, announced: bool) -> Vec<u8> {
        let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 1).expect("encoder");
        encoder.window_log(window_log).expect("window");
        encoder.include_contentsize(announced).expect("parameter");
        if announced {
            encoder.set_pledged_src_size(Some(bytes.len() as u64)).expect("size");
        }
        encoder.write_all(bytes).expect("memory");
        encoder.finish().expect("memory")
    }

    fn noise(count: usize) -> Vec<u8> {
        let mut state = 7_u64;
        let next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            // Some of it compresses.
            if state & 0x300 == 0 { state.to_be_bytes()[0] } else { 7 }
        };
        std::iter::repeat_with(next).take(count).collect()
    }

    fn read(bytes: &[u8], at_a_time: usize) -> io::Result<Vec<u8>> {
        let memory = Memory::default();
        let mut frames = Frames::new(io::BufReader::with_capacity(at_a_time, bytes), &memory);
        let mut read = Vec::new();
        frames.read_to_end(&mut read).map(|_| read)
    }

    #[test]
    fn frames_are_one_stream_however_they_come() {
        let skippable = |length: u32| {
            let mut frame = (SKIPPABLE | 5).to_le_bytes().to_vec();
            frame.extend(length.to_le_bytes());
            frame.resize(8 + length as usize, 9);
            frame
        };
        let (mut stream, mut expected) = (skippable(3), Vec::new());
        for (count, window_log, announced) in [
            (0, 10, false),
            (1, 10, true),
            (300, 20, true),
            (70_000, 17, true),
            (700_000, 10, false),
            (900_000, 23, false),
        ] {
            let content = noise(count);
            stream.extend(compress(&content, window_log, announced));
            stream.extend(skippable(u32::try_from(count).expect("small") % 1000));
            expected.extend(content);
        }
        for at_a_time in [1, 5, 4096, 1 << 20] {
            assert!(read(&stream, at_a_time).expect("valid") == expected, "{at_a_time}");
        }
        assert_eq!(read(b"", 10).expect("nothing"), b"");
        for cut in [1, 4, 9, 10, 13, stream.len() - 1, stream.len() / 2] {
            let error = read(&stream[..cut], 4096).expect_err("cut");
            assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof, "{cut}");
        }
        stream.extend(b"trailing");
        assert_eq!(read(&stream, 4096).expect_err("garbage").kind(), io::ErrorKind::InvalidData);
    }

    #[test]
    fn headers_are_read_as_encoders_write_them() {
        let table = [
            (0, 10, true, Header { window: 0, content: Some(0) }),
            (255, 10, true, Header { window: 255, content: Some(255) }),
            (256, 10, true, Header { window: 256, content: Some(256) }),
            (65_791, 20, true, Header { window: 65_791, content: Some(65_791) }),
            (65_792, 20, true, Header { window: 65_792, content: Some(65_792) }),
            (70_000, 12, true, Header { window: 4096, content: Some(70_000) }),
            (70_000, 12, false, Header { window: 4096, content: None }),
            (70_000, 26, false, Header { window: 1 << 26, content: None }),
        ];
        for (count, window_log, announced, expected) in table {
            let frame = compress(&noise(count), window_log, announced);
            let header = Header::read(&frame[..Header::length(frame[4])]);
            assert_eq!(header, expected, "{count} {window_log} {announced}");
        }
        // A window between two powers of two.
        assert_eq!(Header::read(&[0, 0, 0, 0, 0, (3 << 3) | 5]).window, 8192 + 5 * 1024);
        let largest = Header { window: 1 << limits::MAX_ZSTD_WINDOW_LOG, content: None };
        assert!(largest.memory() <= limits::MAX_DECODER_BYTES, "it gets what it needs");
    }

    #[test]
    fn a_window_beyond_the_bound_is_refused_with_a_reason() {
        let log = limits::MAX_ZSTD_WINDOW_LOG;
        assert!(read(&compress(&noise(9), log, false), 10).is_ok());
        let error = read(&compress(&noise(9), log + 1, false), 10).expect_err("too large");
        let expected =
            format!("a zstd frame has a window of {} bytes, and {} are the most", 2 << log, 1 << log);
        assert_eq!(error.to_string(), expected);
    }
}
