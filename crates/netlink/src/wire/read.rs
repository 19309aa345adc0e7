//! Reading attributes. Nothing here panics, whatever the bytes are.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{ATTRIBUTE_HEADER, align, flags};
use crate::error::Malformed;

/// Iterates over the attributes in `bytes`; one that does not fit ends the iteration with an error.
///
/// ```
/// use podrun_netlink::{Body, attributes};
///
/// let mut body = Body::new();
/// body.u32(4, 1500).text(3, "eth0");
/// let found: Vec<_> = attributes(body.as_bytes()).collect::<Result<_, _>>()?;
/// assert_eq!((found[0].kind(), found[0].u32()?), (4, 1500));
/// assert_eq!((found[1].kind(), found[1].text()), (3, "eth0".into()));
/// # Ok::<(), podrun_netlink::Malformed>(())
/// ```
pub fn attributes(bytes: &[u8]) -> Attributes<'_> {
    Attributes { bytes }
}

/// An iterator over attributes; see [`attributes`].
#[derive(Debug, Clone)]
pub struct Attributes<'a> {
    bytes: &'a [u8],
}

impl<'a> Iterator for Attributes<'a> {
    type Item = Result<Attribute<'a>, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.bytes.is_empty() {
            return None;
        }
        let left = std::mem::take(&mut self.bytes);
        let Some((header, _)) = left.split_first_chunk::<ATTRIBUTE_HEADER>() else {
            return Some(Err(Malformed { what: "an attribute", found: left.len(), expected: 4 }));
        };
        let length = usize::from(u16::from_ne_bytes([header[0], header[1]]));
        let Some(payload) = left.get(ATTRIBUTE_HEADER..length) else {
            return Some(Err(Malformed { what: "an attribute", found: left.len(), expected: length.max(4) }));
        };
        self.bytes = left.get(align(length)..).unwrap_or_default();
        Some(Ok(Attribute { kind: u16::from_ne_bytes([header[2], header[3]]), payload }))
    }
}

/// An attribute of a message of the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attribute<'a> {
    kind: u16,
    payload: &'a [u8],
}

impl<'a> Attribute<'a> {
    /// Returns the type, without the flags for nesting and byte order.
    pub fn kind(&self) -> u16 {
        self.kind & flags(libc::NLA_TYPE_MASK)
    }

    /// Returns the payload.
    pub fn payload(&self) -> &'a [u8] {
        self.payload
    }

    /// Iterates over the attributes inside.
    pub fn nested(&self) -> Attributes<'a> {
        attributes(self.payload)
    }

    /// Returns the text up to the first NUL; bytes that are not UTF-8 are replaced.
    pub fn text(&self) -> String {
        let end = self.payload.iter().position(|byte| *byte == 0).unwrap_or(self.payload.len());
        String::from_utf8_lossy(&self.payload[..end]).into_owned()
    }

    /// Returns the first `N` bytes. A longer payload is fine: structures of the kernel grow at their end.
    ///
    /// # Errors
    ///
    /// If there are fewer.
    pub fn array<const N: usize>(&self) -> Result<[u8; N], Malformed> {
        let array = self.payload.first_chunk::<N>();
        array.copied().ok_or(Malformed {
            what: "an attribute's value",
            found: self.payload.len(),
            expected: N,
        })
    }

    /// Returns a number of one byte.
    ///
    /// # Errors
    ///
    /// As [`array`](Self::array).
    pub fn u8(&self) -> Result<u8, Malformed> {
        self.array().map(u8::from_ne_bytes)
    }

    /// Returns a number of two bytes.
    ///
    /// # Errors
    ///
    /// As [`array`](Self::array).
    pub fn u16(&self) -> Result<u16, Malformed> {
        self.array().map(u16::from_ne_bytes)
    }

    /// Returns a number of four bytes.
    ///
    /// # Errors
    ///
    /// As [`array`](Self::array).
    pub fn u32(&self) -> Result<u32, Malformed> {
        self.array().map(u32::from_ne_bytes)
    }

    /// Returns a number of four bytes with a sign.
    ///
    /// # Errors
    ///
    /// As [`array`](Self::array).
    pub fn i32(&self) -> Result<i32, Malformed> {
        self.array().map(i32::from_ne_bytes)
    }

    /// Returns a number of eight bytes.
    ///
    /// # Errors
    ///
    /// As [`array`](Self::array).
    pub fn u64(&self) -> Result<u64, Malformed> {
        self.array().map(u64::from_ne_bytes)
    }

    /// Returns a number of two bytes in network order.
    ///
    /// # Errors
    ///
    /// As [`array`](Self::array).
    pub fn be16(&self) -> Result<u16, Malformed> {
        self.array().map(u16::from_be_bytes)
    }

    /// Returns a number of four bytes in network order.
    ///
    /// # Errors
    ///
    /// As [`array`](Self::array).
    pub fn be32(&self) -> Result<u32, Malformed> {
        self.array().map(u32::from_be_bytes)
    }

    /// Returns a number of eight bytes in network order.
    ///
    /// # Errors
    ///
    /// As [`array`](Self::array).
    pub fn be64(&self) -> Result<u64, Malformed> {
        self.array().map(u64::from_be_bytes)
    }

    /// Returns an address of 4 or 16 bytes.
    ///
    /// # Errors
    ///
    /// If it has another length.
    pub fn ip(&self) -> Result<IpAddr, Malformed> {
        match self.payload.len() {
            4 => self.array().map(|octets: [u8; 4]| Ipv4Addr::from(octets).into()),
            16 => self.array().map(|octets: [u8; 16]| Ipv6Addr::from(octets).into()),
            found => Err(Malformed { what: "an IP address", found, expected: 16 }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Body;

    #[test]
    fn what_is_written_is_read() {
        let mut body = Body::new();
        body.u8(1, 7).nest(2, |inner| {
            inner.be16(3, 0x1234).ip(4, "fd00::1".parse().unwrap());
        });
        let found: Vec<_> = attributes(body.as_bytes()).collect::<Result<_, _>>().unwrap();
        assert_eq!(found[0].u8(), Ok(7));
        assert_eq!(found[1].kind(), 2, "the mark of nesting is no part of the type");
        let inner: Vec<_> = found[1].nested().collect::<Result<_, _>>().unwrap();
        assert_eq!(inner[0].be16(), Ok(0x1234));
        assert_eq!(inner[1].ip(), Ok("fd00::1".parse().unwrap()));
    }

    #[test]
    fn short_values_and_empty_texts_are_no_panic() {
        let empty = Attribute { kind: 1, payload: &[] };
        assert_eq!(empty.text(), "");
        assert_eq!(empty.u32(), Err(Malformed { what: "an attribute's value", found: 0, expected: 4 }));
        assert!(empty.ip().is_err());
    }

    #[test]
    fn a_length_below_the_header_or_beyond_the_end_is_an_error() {
        for bytes in [&[3, 0, 1, 0][..], &[0, 0, 0, 0], &[9, 0, 1, 0, 1, 2, 3, 4], &[4, 0]] {
            let found: Vec<_> = attributes(bytes).collect();
            assert!(matches!(found.as_slice(), [Err(_)]), "{bytes:?}: {found:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_end_without_a_panic(bytes: Vec<u8>) {
            for attribute in attributes(&bytes).filter_map(Result::ok) {
                let _ = (attribute.text(), attribute.u64(), attribute.ip(), attribute.nested().count());
            }
        }
    }
}
