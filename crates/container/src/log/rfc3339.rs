//! Timestamps of log entries.

use podrun_spec::time::Timestamp;

/// Appends a time as RFC 3339 in UTC with nine digits of fraction: `2026-11-23T16:15:00.000000001Z`.
pub fn write_rfc3339(time: Timestamp, out: &mut Vec<u8>) {
    const NANOS: i64 = 1_000_000_000;
    let seconds = time.0.div_euclid(NANOS);
    let (year, month, day) = date(seconds.div_euclid(86_400));
    let second = seconds.rem_euclid(86_400);
    digits(out, year, 4);
    out.push(b'-');
    digits(out, month, 2);
    out.push(b'-');
    digits(out, day, 2);
    out.push(b'T');
    digits(out, second / 3600, 2);
    out.push(b':');
    digits(out, second / 60 % 60, 2);
    out.push(b':');
    digits(out, second % 60, 2);
    out.push(b'.');
    digits(out, time.0.rem_euclid(NANOS), 9);
    out.push(b'Z');
}

/// Returns year, month and day of a day number of 1970-01-01 = 0, in the proleptic Gregorian calendar.
///
/// Years are counted from March, which puts the leap day last: <https://howardhinnant.github.io/date_algorithms.html>.
fn date(day: i64) -> (i64, i64, i64) {
    let shifted = day + 719_468;
    let era = shifted.div_euclid(146_097);
    let of_era = shifted.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, day)
}

fn digits(out: &mut Vec<u8>, mut number: i64, width: usize) {
    let start = out.len();
    out.resize(start + width, b'0');
    for digit in out[start..].iter_mut().rev() {
        *digit = b'0' + u8::try_from(number % 10).unwrap_or(0);
        number /= 10;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn text(nanos: i64) -> String {
        let mut out = Vec::new();
        write_rfc3339(Timestamp(nanos), &mut out);
        String::from_utf8(out).expect("ASCII")
    }

    #[test]
    fn dates_are_those_of_the_calendar() {
        let table = [
            (0, "1970-01-01T00:00:00.000000000Z"),
            (-1, "1969-12-31T23:59:59.999999999Z"),
            (951_782_400_000_000_000, "2000-02-29T00:00:00.000000000Z"),
            (1_475_712_229_669_794_202, "2016-10-06T00:03:49.669794202Z"),
            (4_107_542_399_123_456_789, "2100-02-28T23:59:59.123456789Z"),
            (4_107_542_400_000_000_000, "2100-03-01T00:00:00.000000000Z"),
            (1_735_689_599_999_999_999, "2024-12-31T23:59:59.999999999Z"),
        ];
        for (nanos, expected) in table {
            assert_eq!(text(nanos), expected);
        }
    }

    proptest! {
        #[test]
        fn it_agrees_with_a_calendar_library(nanos in any::<i64>()) {
            let other = Timestamp(nanos).to_jiff();
            prop_assert_eq!(text(nanos), format!("{other:.9}"));
        }
    }
}
