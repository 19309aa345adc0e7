//! The records of a pax extended header: `length key=value\n`, one after the other.

use crate::error::Refusal;
use crate::protection::Protection;

/// What the records of one extended header say about the next entry.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Pax {
    pub(crate) path: Option<Vec<u8>>,
    pub(crate) link: Option<Vec<u8>>,
    pub(crate) size: Option<u64>,
    pub(crate) uid: Option<u64>,
    pub(crate) gid: Option<u64>,
    /// Seconds and nanoseconds since 1970.
    pub(crate) mtime: Option<(i64, u32)>,
    pub(crate) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    pub(crate) sparse: PaxSparse,
}

/// GNU tar's three ways to describe a sparse file in pax records.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct PaxSparse {
    /// `GNU.sparse.major` is 1: the map is in front of the data.
    pub(crate) in_data: bool,
    /// The file's real name; the entry's own is a placeholder.
    pub(crate) name: Option<Vec<u8>>,
    pub(crate) real_size: Option<u64>,
    /// Offsets and lengths in turn, from versions 0.0 (a record each) and 0.1 (one record with commas).
    pub(crate) map: Vec<u64>,
}

impl PaxSparse {
    pub(crate) fn is_sparse(&self) -> bool {
        self.in_data || !self.map.is_empty()
    }
}

/// Why a record cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PaxError {
    Malformed(&'static str),
    Refused(Refusal),
}

/// Parses all records. Records are delimited by their length alone, since values may have any byte, newlines too.
/// A later record for a key wins; an empty value means that the key is absent.
pub(crate) fn parse(mut data: &[u8]) -> Result<Pax, PaxError> {
    let mut pax = Pax::default();
    while !data.is_empty() {
        let (key, value, rest) = record(data).ok_or(PaxError::Malformed("a pax record is broken"))?;
        apply(&mut pax, key, value)?;
        data = rest;
    }
    Ok(pax)
}

fn record(data: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let space = data.iter().take(20).position(|&byte| byte == b' ')?;
    let length = usize::try_from(decimal(&data[..space])?).ok()?;
    let body = data.get(space + 1..length)?.strip_suffix(b"\n")?;
    let equals = body.iter().position(|&byte| byte == b'=')?;
    (equals > 0).then_some((&body[..equals], &body[equals + 1..], &data[length..]))
}

fn apply(pax: &mut Pax, key: &[u8], value: &[u8]) -> Result<(), PaxError> {
    let name = || match value {
        [] => Ok(None),
        name if name.contains(&0) && Protection::Nul.is_on() => Err(PaxError::Refused(Refusal::Nul)),
        name => Ok(Some(name.to_vec())),
    };
    let number = || match value {
        [] => Ok(None),
        digits => decimal(digits).map(Some).ok_or(PaxError::Malformed("a pax number is broken")),
    };
    match key {
        b"path" => pax.path = name()?,
        b"linkpath" => pax.link = name()?,
        b"size" => pax.size = number()?,
        b"uid" => pax.uid = number()?,
        b"gid" => pax.gid = number()?,
        b"mtime" => {
            pax.mtime = match value {
                [] => None,
                text => Some(time(text).ok_or(PaxError::Malformed("a pax time is broken"))?),
            };
        }
        b"GNU.sparse.major" => pax.sparse.in_data = number()?.unwrap_or(0) == 1,
        b"GNU.sparse.name" => pax.sparse.name = name()?,
        b"GNU.sparse.size" | b"GNU.sparse.realsize" => pax.sparse.real_size = number()?,
        b"GNU.sparse.offset" | b"GNU.sparse.numbytes" => pax.sparse.map.extend(number()?),
        b"GNU.sparse.map" => {
            let numbers: Option<Vec<u64>> = value.split(|&byte| byte == b',').map(decimal).collect();
            pax.sparse.map = numbers.ok_or(PaxError::Malformed("a sparse map is broken"))?;
        }
        _ => {
            if let Some(xattr) = key.strip_prefix(b"SCHILY.xattr.") {
                if xattr.is_empty() || xattr.contains(&0) {
                    return Err(PaxError::Malformed("an extended attribute has no name"));
                }
                pax.xattrs.retain(|(earlier, _)| earlier != xattr);
                pax.xattrs.push((xattr.to_vec(), value.to_vec()));
            }
        }
    }
    Ok(())
}

pub(crate) fn decimal(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// `[-]seconds[.fraction]`, rounded down to nanoseconds.
fn time(text: &[u8]) -> Option<(i64, u32)> {
    let (negative, digits) = match text.strip_prefix(b"-") {
        Some(digits) => (true, digits),
        None => (false, text),
    };
    let dot = digits.iter().position(|&byte| byte == b'.').unwrap_or(digits.len());
    let seconds = i64::try_from(decimal(&digits[..dot])?).ok()?;
    let fraction = digits.get(dot + 1..).unwrap_or_default();
    if !fraction.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let nanoseconds = (0..9)
        .fold(0, |sum, place| sum * 10 + u32::from(fraction.get(place).map_or(0, |digit| digit - b'0')));
    Some(match (negative, nanoseconds) {
        (false, _) => (seconds, nanoseconds),
        (true, 0) => (-seconds, 0),
        (true, _) => (-seconds - 1, 1_000_000_000 - nanoseconds),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record_of(key: &[u8], value: &[u8]) -> Vec<u8> {
        let body = key.len() + value.len() + 3;
        let length =
            (1..7).map(|digits| body + digits).find(|n| n.to_string().len() + body == *n).expect("short");
        [length.to_string().as_bytes(), b" ", key, b"=", value, b"\n"].concat()
    }

    #[test]
    fn records_are_delimited_by_length_not_by_newline() {
        // cap_dac_override and cap_fowner are bits 1 and 3: the value has a newline in it.
        let capability = b"\x01\0\0\x02\n\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
        let data =
            [record_of(b"SCHILY.xattr.security.capability", capability), record_of(b"size", b"7")].concat();
        let pax = parse(&data).expect("valid");
        assert_eq!(pax.xattrs, [(b"security.capability".to_vec(), capability.to_vec())]);
        assert_eq!(pax.size, Some(7));
    }

    #[test]
    fn the_last_record_wins_and_empty_means_absent() {
        let data = [record_of(b"path", b"a"), record_of(b"path", b"b"), record_of(b"uid", b"")].concat();
        let pax = parse(&data).expect("valid");
        assert_eq!((pax.path.as_deref(), pax.uid), (Some(&b"b"[..]), None));
    }

    #[test]
    fn broken_records_are_errors() {
        for data in [
            &b"6 a=b"[..],
            b"5 a=b\n",
            b"99 a=b\n",
            b"0 a=b\n",
            b"a=b\n",
            b" a=b\n",
            b"6 ab c\n",
            b"5 =b\n",
            b"99999999999999999999999 a=b\n",
            &record_of(b"size", b"-1"),
            &record_of(b"size", b"1x"),
            &record_of(b"uid", b"99999999999999999999"),
            &record_of(b"mtime", b"1.x"),
            &record_of(b"GNU.sparse.map", b"1,,2"),
        ] {
            assert!(matches!(parse(data), Err(PaxError::Malformed(_))), "{}", String::from_utf8_lossy(data));
        }
        assert_eq!(parse(&record_of(b"path", b"a\0b")), Err(PaxError::Refused(Refusal::Nul)));
    }

    #[test]
    fn times_have_fractions_and_signs() {
        for (text, value) in [
            (&b"1700000000.5"[..], Some((1_700_000_000, 500_000_000))),
            (b"1.0000000019", Some((1, 1))),
            (b"0", Some((0, 0))),
            (b"-1", Some((-1, 0))),
            (b"-1.25", Some((-2, 750_000_000))),
            (b"", None),
            (b".5", None),
            (b"1e3", None),
        ] {
            assert_eq!(time(text), value, "{text:?}");
        }
    }
}
