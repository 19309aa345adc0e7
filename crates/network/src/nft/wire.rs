//! nfnetlink: see `include/uapi/linux/netfilter/nfnetlink.h`. Values of attributes are in network order.

use std::net::IpAddr;

use podrun_netlink::{Message, attributes};

/// `NFNL_SUBSYS_CTNETLINK`
pub(crate) const CONNTRACK: u8 = 1;
/// `NFNL_SUBSYS_NFTABLES`
pub(crate) const NFTABLES: u8 = 10;

/// `struct nfgenmsg`
const HEADER: usize = 4;

/// Returns a message of a subsystem with flags such as `NLM_F_CREATE`, about an address family or all (0).
pub(crate) fn message(subsystem: u8, kind: u8, bits: i32, family: u8) -> Message {
    Message::new(u16::from_be_bytes([subsystem, kind]), bits, &[family, 0, 0, 0])
}

/// The attributes of a message or of an attribute, by their kind. What is malformed is as good as absent.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Fields<'a>(pub(crate) &'a [u8]);

impl<'a> Fields<'a> {
    /// Returns the attributes of a message.
    pub(crate) fn of_message(payload: &'a [u8]) -> Self {
        Self(payload.get(HEADER..).unwrap_or_default())
    }

    /// Returns kind and value of each attribute, in order.
    pub(crate) fn iter(self) -> impl Iterator<Item = (u16, &'a [u8])> {
        attributes(self.0).filter_map(|attribute| attribute.ok().map(|a| (a.kind(), a.payload())))
    }

    pub(crate) fn get(self, kind: u16) -> Option<&'a [u8]> {
        self.iter().find(|(found, _)| *found == kind).map(|(_, value)| value)
    }

    pub(crate) fn nested(self, kind: u16) -> Fields<'a> {
        Fields(self.get(kind).unwrap_or_default())
    }

    pub(crate) fn u32(self, kind: u16) -> Option<u32> {
        self.get(kind)?.try_into().ok().map(u32::from_be_bytes)
    }

    pub(crate) fn text(self, kind: u16) -> Option<&'a str> {
        let bytes = self.get(kind)?;
        let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
        std::str::from_utf8(&bytes[..end]).ok()
    }
}

/// Returns the bytes of an address as they are on the wire.
pub(crate) fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use podrun_netlink::Body;

    use super::*;

    #[test]
    fn fields_are_found_by_their_kind() {
        let mut body = Body::new();
        body.text(3, "name").nest(4, |inner| {
            inner.be32(1, 7);
        });
        let fields = Fields(body.as_bytes());
        assert_eq!(fields.text(3), Some("name"));
        assert_eq!(fields.nested(4).u32(1), Some(7));
        assert_eq!((fields.get(9), fields.nested(9).u32(1), fields.u32(3)), (None, None, None));
        assert_eq!(Fields::of_message(&[1, 2]).iter().count(), 0);
    }
}
