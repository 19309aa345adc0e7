//! Tables, ages and times, as kubectl prints them.

use std::fmt::Write as _;
use std::time::Duration;

use podrun_spec::time::Timestamp;

/// Formats rows under a header in columns three spaces apart. The last column is not padded.
pub(crate) fn table(header: Option<&[&str]>, rows: &[Vec<String>]) -> String {
    Columns::default().format(header, rows)
}

/// The columns of a table that is printed piece by piece: they never get narrower, so that what comes later lines up.
#[derive(Debug, Default)]
pub(crate) struct Columns {
    widths: Vec<usize>,
}

impl Columns {
    /// Formats a piece, as [`table`] does.
    pub(crate) fn format(&mut self, header: Option<&[&str]>, rows: &[Vec<String>]) -> String {
        let header: Option<Vec<String>> = header.map(|h| h.iter().map(ToString::to_string).collect());
        let lines: Vec<&Vec<String>> = header.iter().chain(rows).collect();
        for line in &lines {
            self.widths.resize(self.widths.len().max(line.len()), 0);
            for (width, cell) in self.widths.iter_mut().zip(*line) {
                *width = (*width).max(cell.chars().count());
            }
        }
        let mut text = String::new();
        for line in lines {
            for (column, cell) in line.iter().enumerate() {
                if column + 1 == line.len() {
                    text.push_str(cell);
                } else {
                    // Writing to a string cannot fail.
                    let _ = write!(text, "{cell:<width$}   ", width = self.widths[column]);
                }
            }
            text.push('\n');
        }
        text
    }
}

/// Returns a text with its control characters written out, `^[` for Escape: what a container has said must not steer the
/// terminal of whoever looks at it. Lines and tabs stay.
pub(crate) fn harmless(text: &str) -> String {
    let mut harmless = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '\n' | '\t' => harmless.push(character),
            '\0'..='\x1f' | '\x7f' => {
                harmless.push('^');
                harmless.push(char::from((character as u8) ^ 0x40));
            }
            _ if character.is_control() => harmless.extend(character.escape_unicode()),
            _ => harmless.push(character),
        }
    }
    harmless
}

/// Returns a duration in at most two units, as kubectl's AGE column: `45s`, `3m12s`, `5h`, `2d3h`.
pub(crate) fn age(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    let two = |big: u64, unit: char, small: u64, small_unit: char| {
        if small == 0 { format!("{big}{unit}") } else { format!("{big}{unit}{small}{small_unit}") }
    };
    match seconds {
        0..120 => format!("{seconds}s"),
        120..600 => two(minutes, 'm', seconds % 60, 's'),
        600..10_800 => format!("{minutes}m"),
        10_800..28_800 => two(hours, 'h', minutes % 60, 'm'),
        28_800..172_800 => format!("{hours}h"),
        172_800..691_200 => two(days, 'd', hours % 24, 'h'),
        691_200..63_072_000 => format!("{days}d"),
        _ => two(days / 365, 'y', days % 365, 'd'),
    }
}

/// Returns the time since a timestamp; zero for one in the future.
pub(crate) fn since(timestamp: Timestamp, now: Timestamp) -> Duration {
    Duration::from_nanos(u64::try_from(now.0 - timestamp.0).unwrap_or(0))
}

/// Returns the present time.
pub(crate) fn now() -> Timestamp {
    Timestamp(i64::try_from(jiff::Timestamp::now().as_nanosecond()).unwrap_or(i64::MAX))
}

/// Returns bytes in decimal units: `2.1MB`.
pub(crate) fn bytes(count: u64) -> String {
    const UNITS: [&str; 6] = ["B", "kB", "MB", "GB", "TB", "PB"];
    #[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
    let mut value = count as f64;
    let mut unit = 0;
    while value >= 999.5 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    match unit {
        0 => format!("{count}B"),
        _ if value < 9.95 => format!("{value:.1}{}", UNITS[unit]),
        _ => format!("{value:.0}{}", UNITS[unit]),
    }
}

/// Reads a duration of one or more numbers with units: `30s`, `1h30m`, `500ms`.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("expected a duration such as 30s, 5m or 1h30m, got {text:?}");
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    let mut rest = text;
    let mut total = Duration::ZERO;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
        let number: u64 = rest[..digits].parse().map_err(|_| wrong())?;
        let unit_end = rest[digits..].find(|c: char| c.is_ascii_digit()).map_or(rest.len(), |n| digits + n);
        let part = match &rest[digits..unit_end] {
            "ms" => Duration::from_millis(number),
            "s" => Duration::from_secs(number),
            "m" => Duration::from_secs(number.saturating_mul(60)),
            "h" => Duration::from_secs(number.saturating_mul(3600)),
            "d" => Duration::from_secs(number.saturating_mul(86_400)),
            _ => return Err(wrong()),
        };
        total = total.saturating_add(part);
        rest = &rest[unit_end..];
    }
    if text.is_empty() { Err(wrong()) } else { Ok(total) }
}

/// Reads an RFC 3339 time.
pub(crate) fn rfc3339(text: &str) -> Result<Timestamp, String> {
    let time: jiff::Timestamp = text.parse().map_err(|error: jiff::Error| error.to_string())?;
    i64::try_from(time.as_nanosecond()).map(Timestamp).map_err(|_| "out of range".to_owned())
}

/// Returns a rate in bits per second with three digits: `10.0 Mbit/s`.
pub(crate) fn bits(mut rate: f64) -> String {
    for unit in ["bit/s", "kbit/s", "Mbit/s", "Gbit/s"] {
        if rate < 999.5 {
            let digits = if rate < 9.995 { 2 } else { usize::from(rate < 99.95) };
            return format!("{rate:.digits$} {unit}");
        }
        rate /= 1000.0;
    }
    format!("{rate:.2} Tbit/s")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_have_three_digits() {
        for (rate, text) in [
            (0.0, "0.00 bit/s"),
            (1_000.0, "1.00 kbit/s"),
            (12_345_678.0, "12.3 Mbit/s"),
            (999_900_000.0, "1.00 Gbit/s"),
            (2.5e15, "2500.00 Tbit/s"),
        ] {
            assert_eq!(bits(rate), text);
        }
    }

    #[test]
    fn control_characters_have_no_power() {
        let table = [
            ("plain\ttext\n", "plain\ttext\n"),
            ("\x1b[2J\x1b]0;title\x07", "^[[2J^[]0;title^G"),
            ("over\rwritten\x08\x7f\0", "over^Mwritten^H^?^@"),
            ("\u{9b}31m é", "\\u{9b}31m é"),
        ];
        for (text, expected) in table {
            assert_eq!(harmless(text), expected, "{text:?}");
        }
    }

    #[test]
    fn ages_have_at_most_two_units() {
        let cases = [
            (0, "0s"),
            (119, "119s"),
            (120, "2m"),
            (192, "3m12s"),
            (3600, "60m"),
            (10_860, "3h1m"),
            (90_000, "25h"),
            (180_000, "2d2h"),
            (864_000, "10d"),
        ];
        for (seconds, text) in cases {
            assert_eq!(age(Duration::from_secs(seconds)), text);
        }
    }

    #[test]
    fn durations_are_read_with_their_units() {
        assert_eq!(duration("1h30m"), Ok(Duration::from_secs(5400)));
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("0"), Ok(Duration::ZERO));
        for wrong in ["", "5", "s", "5x", "-5s"] {
            duration(wrong).unwrap_err();
        }
    }

    #[test]
    fn columns_line_up() {
        let rows = vec![vec!["a".to_owned(), "long".to_owned()], vec!["bbbbb".to_owned(), "x".to_owned()]];
        assert_eq!(table(Some(&["NAME", "Y"]), &rows), "NAME    Y\na       long\nbbbbb   x\n");
        let mut columns = Columns::default();
        columns.format(None, &rows);
        assert_eq!(columns.format(None, &rows[..1]), "a       long\n");
    }

    #[test]
    fn bytes_have_two_digits() {
        assert_eq!(
            [0, 999, 1000, 2_140_000, 99_400_000].map(bytes),
            ["0B", "999B", "1.0kB", "2.1MB", "99MB"]
        );
    }
}
