//! Reading the end of a log.

use std::collections::VecDeque;

/// One entry of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    /// The time as it is written.
    pub time: &'a [u8],
    /// `stdout` or `stderr`.
    pub stream: &'a [u8],
    /// The line goes on in the next entry of the stream.
    pub partial: bool,
    /// The content without the end of the line.
    pub content: &'a [u8],
}

/// Parses one line of a log, with or without its newline; none if it is no entry.
pub fn parse_entry(line: &[u8]) -> Option<Entry<'_>> {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    let mut parts = line.splitn(4, |byte| *byte == b' ');
    let (time, stream, tags, content) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let known = matches!(stream, b"stdout" | b"stderr");
    // Tags after the first are for readers of the future.
    let partial = match tags.split(|byte| *byte == b':').next()? {
        b"P" => true,
        b"F" => false,
        _ => return None,
    };
    (known && !time.is_empty()).then_some(Entry { time, stream, partial, content })
}

/// Returns the last `bytes` of what the last `lines` entries of a log say. Lines that are no entries are skipped, as is
/// a first one that is cut off.
pub fn last_bytes(log: &[u8], lines: usize, bytes: usize) -> Vec<u8> {
    let mut last = VecDeque::with_capacity(lines);
    for entry in log.split_inclusive(|byte| *byte == b'\n').filter_map(parse_entry) {
        if last.len() == lines {
            last.pop_front();
        }
        last.push_back(entry);
    }
    let mut content = Vec::new();
    for entry in last {
        content.extend_from_slice(entry.content);
        if !entry.partial {
            content.push(b'\n');
        }
    }
    content.split_off(content.len().saturating_sub(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIME: &str = "2016-10-06T00:17:09.669794202Z";

    #[test]
    fn entries_are_parsed_as_the_kubelet_does() {
        type Parts<'a> = Option<(&'a str, bool, &'a str)>;
        let table: [(&str, Parts<'_>); 8] = [
            ("T stdout F content", Some(("stdout", false, "content"))),
            ("T stderr P  two  spaces \n", Some(("stderr", true, " two  spaces "))),
            ("T stdout F:later x", Some(("stdout", false, "x"))),
            ("T stdout F ", Some(("stdout", false, ""))),
            ("T stdout F", None),
            ("T stdin F x", None),
            ("T stdout X x", None),
            ("", None),
        ];
        for (line, expected) in table {
            let line = line.replace('T', TIME);
            let entry = parse_entry(line.as_bytes());
            let parts = entry.map(|e| {
                let text = |bytes| std::str::from_utf8(bytes).expect("text");
                (text(e.stream), e.partial, text(e.content))
            });
            assert_eq!(parts, expected, "{line:?}");
        }
    }

    #[test]
    fn the_tail_counts_entries_and_bytes() {
        let log: String = (0..100).map(|n| format!("{TIME} stdout F line {n}\n")).collect();
        assert_eq!(last_bytes(log.as_bytes(), 2, 100), b"line 98\nline 99\n");
        assert_eq!(last_bytes(log.as_bytes(), 80, 5), b"e 99\n");
        let parts = format!("cut off\n{TIME} stdout P DO\n{TIME} stdout P NE\n");
        assert_eq!(last_bytes(parts.as_bytes(), 80, 2048), b"DONE");
    }
}
