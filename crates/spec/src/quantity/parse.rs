//! Reading of quantities, in integers only.

use super::{Format, MAX_MILLIS, Quantity, QuantityError};

/// Reads sign, digits and suffix.
pub(super) fn parse(text: &str) -> Result<Quantity, QuantityError> {
    let (negative, rest) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
    let (number, suffix) = rest.split_at(end);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if fraction.contains('.') || (whole.is_empty() && fraction.is_empty()) {
        return Err(QuantityError::ReadNumber { text: text.to_owned() });
    }
    let unknown = || QuantityError::ReadSuffix { text: text.to_owned(), suffix: suffix.to_owned() };
    let (magnitude, format) = match suffix_of(suffix).ok_or_else(unknown)? {
        Suffix::Binary(bits) => (scale_binary(whole, fraction, bits), Format::Binary),
        Suffix::Decimal(power) => (scale_decimal(whole, fraction, power), Format::Decimal),
        Suffix::Exponent(power) => (scale_decimal(whole, fraction, power), Format::Exponent),
    };
    Ok(Quantity { millis: if negative { -magnitude } else { magnitude }, format })
}

/// What a suffix multiplies by.
enum Suffix {
    /// 2 to this power.
    Binary(u32),
    /// 10 to this power.
    Decimal(i64),
    /// 10 to this power, written as an exponent.
    Exponent(i64),
}

fn suffix_of(suffix: &str) -> Option<Suffix> {
    let decimal = |power| Some(Suffix::Decimal(power));
    match suffix {
        "Ki" => Some(Suffix::Binary(10)),
        "Mi" => Some(Suffix::Binary(20)),
        "Gi" => Some(Suffix::Binary(30)),
        "Ti" => Some(Suffix::Binary(40)),
        "Pi" => Some(Suffix::Binary(50)),
        "Ei" => Some(Suffix::Binary(60)),
        "n" => decimal(-9),
        "u" => decimal(-6),
        "m" => decimal(-3),
        "" => decimal(0),
        "k" => decimal(3),
        "M" => decimal(6),
        "G" => decimal(9),
        "T" => decimal(12),
        "P" => decimal(15),
        "E" => decimal(18),
        _ => {
            let digits = suffix.strip_prefix(['e', 'E'])?;
            let plain = digits.strip_prefix(['+', '-']).unwrap_or(digits);
            let numeric = !plain.is_empty() && plain.bytes().all(|b| b.is_ascii_digit());
            // An exponent beyond i64 says no more than the largest one: too large, or next to nothing.
            let huge = if digits.starts_with('-') { i64::MIN / 2 } else { i64::MAX / 2 };
            numeric.then(|| Suffix::Exponent(digits.parse().unwrap_or(huge)))
        }
    }
}

/// Moves the decimal point by `power` and three more places, so that thousandths are left of it.
fn scale_decimal(whole: &str, fraction: &str, power: i64) -> i128 {
    let digits = [whole, fraction].concat();
    let Some(first) = digits.bytes().position(|b| b != b'0') else { return 0 };
    let significant = &digits[first..];
    // How many significant digits stand left of the point after the move; negative means zeros in between.
    let before = i64::try_from(whole.len()).unwrap_or(i64::MAX);
    let point = before
        .saturating_sub(i64::try_from(first).unwrap_or(i64::MAX))
        .saturating_add(power)
        .saturating_add(3);
    if point <= 0 {
        return 1;
    }
    if point > 22 {
        return MAX_MILLIS;
    }
    let point = usize::try_from(point).unwrap_or(0);
    let (left, right) = significant.split_at(point.min(significant.len()));
    let mut millis = left.bytes().fold(0_i128, |sum, b| sum * 10 + i128::from(b - b'0'));
    for _ in left.len()..point {
        millis *= 10;
    }
    let rest = i128::from(right.bytes().any(|b| b != b'0'));
    (millis + rest).min(MAX_MILLIS)
}

/// Multiplies by 2^bits * 1000.
fn scale_binary(whole: &str, fraction: &str, bits: u32) -> i128 {
    let factor = 1000_i128 << bits;
    let mut units = 0_i128;
    for digit in whole.bytes() {
        units = (units * 10 + i128::from(digit - b'0')).min(i128::from(i64::MAX));
    }
    // Horner's scheme from the right; dividing in steps rounds like one division, so only the remainder counts.
    let (mut part, mut lost) = (0_i128, false);
    for digit in fraction.bytes().rev() {
        let sum = i128::from(digit - b'0') * factor + part;
        lost |= sum % 10 != 0;
        part = sum / 10;
    }
    let millis = units.checked_mul(factor).unwrap_or(MAX_MILLIS);
    millis.saturating_add(part + i128::from(lost)).min(MAX_MILLIS)
}
