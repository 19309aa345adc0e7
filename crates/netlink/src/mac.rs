//! Hardware addresses.

use std::fmt;
use std::str::FromStr;

/// An Ethernet address.
///
/// ```
/// use podrun_netlink::MacAddress;
/// let mac: MacAddress = "0a:58:0a:01:02:03".parse()?;
/// assert_eq!(mac.octets()[0], 10);
/// assert_eq!(mac.to_string(), "0a:58:0a:01:02:03");
/// # Ok::<(), podrun_netlink::ParseMacError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MacAddress([u8; 6]);

impl MacAddress {
    /// Returns the address with these bytes.
    pub const fn new(octets: [u8; 6]) -> Self {
        Self(octets)
    }

    /// Returns the bytes.
    pub const fn octets(self) -> [u8; 6] {
        self.0
    }
}

impl fmt::Display for MacAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [first, others @ ..] = self.0;
        write!(f, "{first:02x}")?;
        others.iter().try_for_each(|octet| write!(f, ":{octet:02x}"))
    }
}

/// A text that is not six bytes in hexadecimal with colons between them.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no Ethernet address such as 0a:58:0a:01:02:03")]
pub struct ParseMacError {
    /// The text.
    pub text: String,
}

impl FromStr for MacAddress {
    type Err = ParseMacError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || ParseMacError { text: text.to_owned() };
        let mut octets = [0; 6];
        let mut parts = text.split(':');
        for octet in &mut octets {
            let part = parts.next().filter(|part| part.len() == 2).ok_or_else(wrong)?;
            // from_str_radix alone would take a sign.
            let is_hex = part.bytes().all(|byte| byte.is_ascii_hexdigit());
            *octet = u8::from_str_radix(part, 16).ok().filter(|_| is_hex).ok_or_else(wrong)?;
        }
        if parts.next().is_some() { Err(wrong()) } else { Ok(Self(octets)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn six_pairs_of_digits_and_nothing_else() {
        for text in
            ["", "0a:58:0a:01:02", "0a:58:0a:01:02:03:04", "0a:58:0a:01:02:3", "0a:58:0a:01:02:+3", "0A58"]
        {
            assert!(text.parse::<MacAddress>().is_err(), "{text}");
        }
        assert_eq!("0A:00:00:00:00:ff".parse(), Ok(MacAddress::new([10, 0, 0, 0, 0, 255])));
    }
}
