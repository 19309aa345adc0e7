//! Texts for events: bounded, harmless on a terminal, and worded as Go's programs do.

use std::io;
use std::time::Duration;

use nix::errno::Errno;

/// How much of an output or a body is kept: `maxReadLength` and `maxRespBodyLength` of the kubelet.
pub const MAX_OUTPUT: usize = 10 * 1024;

/// Returns what a container wrote as text of at most [`MAX_OUTPUT`] bytes.
///
/// What is not UTF-8 is replaced, and control characters other than tab and newline are written as escapes, so that the
/// text cannot move a terminal's cursor or forge lines of a log.
pub(crate) fn harmless(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(MAX_OUTPUT)]);
    let mut clean = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '\n' | '\t' => clean.push(character),
            _ if character.is_control() => clean.extend(character.escape_default()),
            _ => clean.push(character),
        }
    }
    truncate(&mut clean, MAX_OUTPUT);
    clean
}

/// Cuts at a border of characters.
fn truncate(text: &mut String, limit: usize) {
    let mut end = limit.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.truncate(end);
}

/// Returns the words for an errno that Go has: those of the C library without a capital.
pub(crate) fn errno_text(error: &io::Error) -> String {
    let text = match error.raw_os_error() {
        Some(code) => Errno::from_raw(code).desc().to_owned(),
        None => error.to_string(),
    };
    let mut characters = text.chars();
    match characters.next() {
        Some(first) => first.to_lowercase().chain(characters).collect(),
        None => text,
    }
}

/// Formats a duration as Go does: `1s`, `1m0s`, `1.5s`, `250ms`.
pub(crate) fn go_duration(duration: Duration) -> String {
    let nanos = duration.as_nanos();
    let decimal = |unit: u128, name: &str| {
        let (whole, rest) = (nanos / unit, nanos % unit);
        if rest == 0 {
            return format!("{whole}{name}");
        }
        let width = unit.ilog10() as usize;
        let digits = format!("{rest:0width$}");
        format!("{whole}.{}{name}", digits.trim_end_matches('0'))
    };
    match nanos {
        0 => "0s".to_owned(),
        1..1_000 => format!("{nanos}ns"),
        1_000..1_000_000 => decimal(1_000, "µs"),
        1_000_000..1_000_000_000 => decimal(1_000_000, "ms"),
        _ => {
            let (minutes, seconds) = (duration.as_secs() / 60, duration.as_secs() % 60);
            let fraction = format!("{:09}", duration.subsec_nanos());
            let tail = format!("{seconds}.{fraction}");
            let tail = tail.trim_end_matches('0').trim_end_matches('.');
            match (minutes / 60, minutes % 60) {
                (0, 0) => format!("{tail}s"),
                (0, minutes) => format!("{minutes}m{tail}s"),
                (hours, minutes) => format!("{hours}h{minutes}m{tail}s"),
            }
        }
    }
}

/// Joins a host and a port; a colon in the host makes it an IPv6 address.
pub(crate) fn join_host_port(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_container_wrote_cannot_speak_to_a_terminal() {
        for (bytes, expected) in [
            (&b"plain\ttext\n"[..], "plain\ttext\n"),
            (b"\x1b[2Jgone", "\\u{1b}[2Jgone"),
            (b"a\rb", "a\\rb"),
            (b"\x00", "\\u{0}"),
            ("\u{9b}2J".as_bytes(), "\\u{9b}2J"),
            (b"caf\xe9", "caf\u{fffd}"),
            ("größe".as_bytes(), "größe"),
        ] {
            assert_eq!(harmless(bytes), expected);
        }
    }

    #[test]
    fn texts_stay_within_the_limit_whatever_they_hold() {
        for filler in ["a", "é", "\u{1f980}", "\x1b", "\n"] {
            let text = harmless(filler.repeat(MAX_OUTPUT).as_bytes());
            assert!(text.len() <= MAX_OUTPUT && text.len() + 10 > MAX_OUTPUT, "{filler:?}: {}", text.len());
        }
    }

    #[test]
    fn durations_read_as_in_go() {
        for (duration, expected) in [
            (Duration::ZERO, "0s"),
            (Duration::from_nanos(7), "7ns"),
            (Duration::from_micros(1), "1µs"),
            (Duration::from_nanos(1_500), "1.5µs"),
            (Duration::from_millis(250), "250ms"),
            (Duration::from_micros(1_050), "1.05ms"),
            (Duration::from_secs(1), "1s"),
            (Duration::from_millis(1_500), "1.5s"),
            (Duration::from_secs(60), "1m0s"),
            (Duration::from_millis(61_001), "1m1.001s"),
            (Duration::from_secs(3_600), "1h0m0s"),
        ] {
            assert_eq!(go_duration(duration), expected);
        }
    }

    #[test]
    fn errnos_read_as_in_go() {
        let refused = io::Error::from_raw_os_error(Errno::ECONNREFUSED as i32);
        assert_eq!(errno_text(&refused), "connection refused");
        assert_eq!(errno_text(&io::Error::other("Unexpected")), "unexpected");
    }
}
