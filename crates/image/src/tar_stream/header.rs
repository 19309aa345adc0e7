//! One 512-byte tar header: ustar, GNU and the old V7 form.

/// The unit of a tar archive.
pub(crate) const BLOCK: usize = 512;

/// Parts of a sparse file that have data: offset and length.
pub(crate) type Segments = Vec<(u64, u64)>;

/// A header block whose checksum is right.
pub(crate) struct Header([u8; BLOCK]);

/// The magic of POSIX archives; only these have a path prefix.
const USTAR: &[u8] = b"ustar\0";
/// The magic of GNU archives.
const GNU: &[u8] = b"ustar  \0";

impl Header {
    /// Returns `None` if the checksum is wrong. Some old programs summed signed bytes, so both sums are accepted.
    pub(crate) fn parse(block: &[u8; BLOCK]) -> Option<Self> {
        let stated = number(&block[148..156])?;
        let (mut unsigned, mut signed) = (0_u64, 0_i64);
        for (index, &byte) in block.iter().enumerate() {
            let byte = if (148..156).contains(&index) { b' ' } else { byte };
            unsigned += u64::from(byte);
            signed += i64::from(byte.cast_signed());
        }
        (stated == unsigned || i64::try_from(stated) == Ok(signed)).then_some(Self(*block))
    }

    pub(crate) fn type_flag(&self) -> u8 {
        self.0[156]
    }

    pub(crate) fn is_gnu(&self) -> bool {
        self.0[257..].starts_with(GNU)
    }

    /// Returns the path, with the prefix of POSIX archives in front.
    pub(crate) fn path(&self) -> Vec<u8> {
        let name = text(&self.0[..100]);
        let prefix = if self.0[257..].starts_with(USTAR) { text(&self.0[345..500]) } else { b"" };
        if prefix.is_empty() { name.to_vec() } else { [prefix, b"/", name].concat() }
    }

    pub(crate) fn link(&self) -> &[u8] {
        text(&self.0[157..257])
    }

    pub(crate) fn mode(&self) -> Option<u64> {
        number(&self.0[100..108])
    }

    pub(crate) fn uid(&self) -> Option<u64> {
        number(&self.0[108..116])
    }

    pub(crate) fn gid(&self) -> Option<u64> {
        number(&self.0[116..124])
    }

    pub(crate) fn size(&self) -> Option<u64> {
        number(&self.0[124..136])
    }

    pub(crate) fn mtime(&self) -> Option<u64> {
        number(&self.0[136..148])
    }

    /// Returns the four (offset, length) pairs of an old GNU sparse header, whether more blocks with pairs follow,
    /// and the size of the file with its holes.
    pub(crate) fn gnu_sparse(&self) -> Option<(Segments, bool, u64)> {
        Some((sparse_pairs(&self.0[386..482])?, self.0[482] != 0, number(&self.0[483..495])?))
    }
}

/// Returns the (offset, length) pairs of a field of 24-byte records, up to the first empty one.
pub(crate) fn sparse_pairs(field: &[u8]) -> Option<Segments> {
    field
        .chunks_exact(24)
        .take_while(|pair| pair[0] != 0 || pair[12] != 0)
        .map(|pair| Some((number(&pair[..12])?, number(&pair[12..])?)))
        .collect()
}

/// A text field: up to the first NUL or its end.
fn text(field: &[u8]) -> &[u8] {
    field.split(|&byte| byte == 0).next().unwrap_or_default()
}

/// A numeric field: octal digits with NULs or spaces around, or GNU's base 256 if the first bit is set. Empty is 0.
///
/// A negative base-256 number is `None`: nothing here can be below zero but a time, and times before 1970 come in
/// pax records.
fn number(field: &[u8]) -> Option<u64> {
    if field[0] & 0x80 != 0 {
        return field.iter().enumerate().try_fold(0_u64, |sum, (index, &byte)| {
            let byte = if index == 0 { byte & 0x7f } else { byte };
            sum.checked_mul(256)?.checked_add(u64::from(byte))
        });
    }
    let start = field.iter().position(|&byte| byte != b' ' && byte != 0).unwrap_or(field.len());
    let digits = &field[start..];
    let end = digits.iter().position(|&byte| byte == b' ' || byte == 0).unwrap_or(digits.len());
    digits[..end].iter().try_fold(0_u64, |sum, &byte| match byte {
        b'0'..=b'7' => sum.checked_mul(8)?.checked_add(u64::from(byte - b'0')),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_octal_or_base_256() {
        for (field, value) in [
            (&b"0000644\0"[..], Some(0o644)),
            (b"    644 ", Some(0o644)),
            (b"\0\0\0\0", Some(0)),
            (b"        ", Some(0)),
            (b"7777777777777777", Some(0o7_777_777_777_777_777)),
            (b"0008", None),
            (b"-1", None),
            (b"\x80\0\0\0\0\0\x01\0", Some(256)),
            (b"\x80\0\0\0\xff\xff\xff\xff\xff\xff\xff\xff", Some(u64::MAX)),
            (b"\x80\0\0\x01\0\0\0\0\0\0\0\0", None),
            (b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", None),
        ] {
            assert_eq!(number(field), value, "{field:?}");
        }
    }

    #[test]
    fn a_wrong_checksum_is_no_header() {
        let mut header = tar::Header::new_ustar();
        header.set_size(3);
        header.set_cksum();
        let mut block = *header.as_bytes();
        assert_eq!(Header::parse(&block).and_then(|header| header.size()), Some(3));
        block[0] ^= 1;
        assert!(Header::parse(&block).is_none());
    }
}
