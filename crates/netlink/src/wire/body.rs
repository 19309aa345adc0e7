//! Writing messages.

use std::net::IpAddr;

use super::{ATTRIBUTE_HEADER, HEADER, align, flags};

/// What follows the header of a message: a fixed structure and attributes, or attributes that are nested in one.
///
/// ```
/// use podrun_netlink::Body;
///
/// let mut body = Body::new();
/// body.u16(1, 0x0203).text(3, "lo").nest(18, |link| {
///     link.text(1, "veth");
/// });
/// let expected: &[u8] = &[
///     6, 0, 1, 0, 0x03, 0x02, 0, 0, // padded to four bytes
///     7, 0, 3, 0, b'l', b'o', 0, 0, // texts end in NUL
///     16, 0, 18, 0x80, // NLA_F_NESTED
///     9, 0, 1, 0, b'v', b'e', b't', b'h', 0, 0, 0, 0,
/// ];
/// # #[cfg(target_endian = "little")]
/// assert_eq!(body.as_bytes(), expected);
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Body {
    bytes: Vec<u8>,
    too_large: bool,
}

impl Body {
    /// Returns an empty body.
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns the bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Whether an attribute did not fit into its 16 bits of length, so that the bytes are of no use.
    pub fn is_too_large(&self) -> bool {
        self.too_large
    }

    /// Appends a structure without an attribute header, padded to four bytes.
    pub fn raw(&mut self, bytes: &[u8]) -> &mut Self {
        self.bytes.extend_from_slice(bytes);
        self.bytes.resize(align(self.bytes.len()), 0);
        self
    }

    /// Appends an attribute.
    pub fn bytes(&mut self, kind: u16, payload: &[u8]) -> &mut Self {
        self.header(kind, payload.len());
        self.raw(payload)
    }

    /// Appends an attribute without payload, whose presence says it all.
    pub fn flag(&mut self, kind: u16) -> &mut Self {
        self.bytes(kind, &[])
    }

    /// Appends an attribute of one byte.
    pub fn u8(&mut self, kind: u16, value: u8) -> &mut Self {
        self.bytes(kind, &[value])
    }

    /// Appends an attribute of two bytes.
    pub fn u16(&mut self, kind: u16, value: u16) -> &mut Self {
        self.bytes(kind, &value.to_ne_bytes())
    }

    /// Appends an attribute of two bytes in network order.
    pub fn be16(&mut self, kind: u16, value: u16) -> &mut Self {
        self.bytes(kind, &value.to_be_bytes())
    }

    /// Appends an attribute of four bytes.
    pub fn u32(&mut self, kind: u16, value: u32) -> &mut Self {
        self.bytes(kind, &value.to_ne_bytes())
    }

    /// Appends an attribute of four bytes in network order.
    pub fn be32(&mut self, kind: u16, value: u32) -> &mut Self {
        self.bytes(kind, &value.to_be_bytes())
    }

    /// Appends an attribute of four bytes with a sign.
    pub fn i32(&mut self, kind: u16, value: i32) -> &mut Self {
        self.bytes(kind, &value.to_ne_bytes())
    }

    /// Appends an attribute of eight bytes.
    pub fn u64(&mut self, kind: u16, value: u64) -> &mut Self {
        self.bytes(kind, &value.to_ne_bytes())
    }

    /// Appends an attribute of eight bytes in network order.
    pub fn be64(&mut self, kind: u16, value: u64) -> &mut Self {
        self.bytes(kind, &value.to_be_bytes())
    }

    /// Appends an attribute that holds a text and a NUL.
    pub fn text(&mut self, kind: u16, value: &str) -> &mut Self {
        self.header(kind, value.len() + 1);
        self.bytes.extend_from_slice(value.as_bytes());
        self.raw(&[0])
    }

    /// Appends an attribute that holds an address of 4 or 16 bytes.
    pub fn ip(&mut self, kind: u16, address: IpAddr) -> &mut Self {
        match address {
            IpAddr::V4(v4) => self.bytes(kind, &v4.octets()),
            IpAddr::V6(v6) => self.bytes(kind, &v6.octets()),
        }
    }

    /// Appends an attribute that holds what `fill` writes, marked as nested (`NLA_F_NESTED`).
    pub fn nest(&mut self, kind: u16, fill: impl FnOnce(&mut Self)) -> &mut Self {
        self.nest_unmarked(kind | flags(libc::NLA_F_NESTED), fill)
    }

    /// Appends an attribute that holds what `fill` writes, without the mark: what `tc(8)` does.
    pub fn nest_unmarked(&mut self, kind: u16, fill: impl FnOnce(&mut Self)) -> &mut Self {
        let start = self.bytes.len();
        self.header(kind, 0);
        fill(self);
        let length = u16::try_from(self.bytes.len() - start);
        self.too_large |= length.is_err();
        self.bytes[start..start + 2].copy_from_slice(&length.unwrap_or(u16::MAX).to_ne_bytes());
        self
    }

    fn header(&mut self, kind: u16, payload: usize) {
        let length = u16::try_from(ATTRIBUTE_HEADER + payload);
        self.too_large |= length.is_err();
        self.bytes.extend_from_slice(&length.unwrap_or(u16::MAX).to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
    }
}

/// A request: its type, its flags and its [`Body`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    kind: u16,
    flags: u16,
    /// What follows the header.
    pub body: Body,
}

impl Message {
    /// Returns a message of a type such as `RTM_NEWLINK` with flags such as `NLM_F_CREATE`; `NLM_F_REQUEST` is always
    /// added, `NLM_F_ACK` and `NLM_F_DUMP` are added by how it is sent. `structure` is what the type begins with, such
    /// as `struct ifinfomsg`.
    pub fn new(kind: u16, bits: i32, structure: &[u8]) -> Self {
        let mut body = Body::new();
        body.raw(structure);
        Self { kind, flags: flags(bits), body }
    }

    /// Returns the type.
    pub fn kind(&self) -> u16 {
        self.kind
    }

    /// Returns the flags.
    pub fn flags(&self) -> u16 {
        self.flags
    }

    /// Returns the message as it would be sent, but with sequence number 0 and without the flags that
    /// are added by how it is sent: for comparison with what other programs send.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut datagram = Vec::new();
        self.write(&mut datagram, 0, 0);
        datagram
    }

    /// Appends the message to a datagram, with `extra` flags beside its own.
    pub(crate) fn write(&self, datagram: &mut Vec<u8>, sequence: u32, extra: i32) {
        let length = u32::try_from(HEADER + self.body.bytes.len()).unwrap_or(u32::MAX);
        let flags = self.flags | flags(libc::NLM_F_REQUEST | extra);
        datagram.extend_from_slice(&length.to_ne_bytes());
        datagram.extend_from_slice(&self.kind.to_ne_bytes());
        datagram.extend_from_slice(&flags.to_ne_bytes());
        datagram.extend_from_slice(&sequence.to_ne_bytes());
        // The port of the sender; the kernel is port 0 and puts in who we are.
        datagram.extend_from_slice(&0u32.to_ne_bytes());
        datagram.extend_from_slice(&self.body.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_carries_its_length_and_the_request_flag() {
        let mut message = Message::new(18, libc::NLM_F_ACK, &[7]);
        message.body.u8(1, 2);
        let mut datagram = Vec::new();
        message.write(&mut datagram, 9, 0);
        let mut expected = Vec::new();
        expected.extend_from_slice(&28u32.to_ne_bytes());
        expected.extend_from_slice(&18u16.to_ne_bytes());
        expected.extend_from_slice(&5u16.to_ne_bytes());
        expected.extend_from_slice(&9u32.to_ne_bytes());
        expected.extend_from_slice(&[0; 4]);
        expected.extend_from_slice(&[7, 0, 0, 0]);
        expected.extend_from_slice(&5u16.to_ne_bytes());
        expected.extend_from_slice(&1u16.to_ne_bytes());
        expected.extend_from_slice(&[2, 0, 0, 0]);
        assert_eq!(datagram, expected);
    }

    #[test]
    fn an_attribute_beyond_its_length_field_is_noticed() {
        let mut body = Body::new();
        assert!(!body.bytes(1, &vec![0; 65_531]).is_too_large());
        assert!(body.clone().bytes(1, &vec![0; 65_532]).is_too_large());
        body.nest(2, |inner| {
            inner.bytes(1, &vec![0; 40_000]).bytes(1, &vec![0; 40_000]);
        });
        assert!(body.is_too_large());
    }
}
