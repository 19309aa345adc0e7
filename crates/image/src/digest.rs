//! Content digests: `sha256:` and 64 lower-case hexadecimal digits.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::Digest as _;

use crate::protection::Protection;

/// Why a text is not a digest. The texts are those of the Go library that Kubernetes uses, since users meet them
/// in a Pod's status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DigestError {
    /// The text does not follow `algorithm:hex`.
    #[error("invalid checksum digest format")]
    Format,
    /// The algorithm is not one that is known here.
    #[error("unsupported digest algorithm")]
    Unsupported,
    /// The number of hexadecimal digits does not fit the algorithm.
    #[error("invalid checksum digest length")]
    Length,
}

/// A SHA-256 digest of content.
///
/// Parsing is strict, because digests become file names: lower case, exact length, no other algorithm.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest([u8; 32]);

impl Digest {
    /// Returns the digest of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Self(sha2::Sha256::digest(bytes).into())
    }

    pub(crate) fn from_hasher(hasher: sha2::Sha256) -> Self {
        Self(hasher.finalize().into())
    }

    /// Returns the 64 hexadecimal digits without the algorithm.
    pub fn hex(&self) -> String {
        use fmt::Write as _;
        self.0.iter().fold(String::with_capacity(64), |mut hex, byte| {
            write!(hex, "{byte:02x}").expect("writing to a String does not fail");
            hex
        })
    }

    pub(crate) fn from_hex(hex: &str) -> Option<Self> {
        let nibble = |c: u8| match c {
            b'0'..=b'9' => Some(c - b'0'),
            b'a'..=b'f' => Some(c - b'a' + 10),
            _ => None,
        };
        let hex: &[u8; 64] = hex.as_bytes().try_into().ok()?;
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(hex.chunks_exact(2)) {
            *byte = nibble(pair[0])? << 4 | nibble(pair[1])?;
        }
        Some(Self(bytes))
    }
}

impl FromStr for Digest {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Self, DigestError> {
        if !Protection::DigestSyntax.is_on() {
            // What a program has that hashes whatever it is given, for want of a better name.
            return Ok(Self::of(text.as_bytes()));
        }
        validate(text)?;
        let hex = text.strip_prefix("sha256:").ok_or(DigestError::Unsupported)?;
        Self::from_hex(hex).ok_or(DigestError::Format)
    }
}

/// Checks a digest of any registered algorithm, in the order and with the texts of `go-digest`.
pub(crate) fn validate(text: &str) -> Result<(), DigestError> {
    let (algorithm, hex) = text.split_once(':').ok_or(DigestError::Format)?;
    if algorithm.is_empty() || hex.is_empty() {
        return Err(DigestError::Format);
    }
    let length = match algorithm {
        "sha256" => 64,
        "sha384" => 96,
        "sha512" => 128,
        _ if algorithm
            .bytes()
            .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || b"+._-".contains(&c)) =>
        {
            return Err(DigestError::Unsupported);
        }
        _ => return Err(DigestError::Format),
    };
    if hex.len() != length {
        return Err(DigestError::Length);
    }
    if !hex.bytes().all(|c| c.is_ascii_digit() || (b'a'..=b'f').contains(&c)) {
        return Err(DigestError::Format);
    }
    Ok(())
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", self.hex())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_strict_sha256_becomes_a_digest() {
        let hex = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        let good = format!("sha256:{hex}");
        assert_eq!(good.parse::<Digest>().expect("a valid digest"), Digest::of(b""));
        assert_eq!(Digest::of(b"").to_string(), good);
        for (text, error) in [
            ("", DigestError::Format),
            ("sha256", DigestError::Format),
            ("sha256:", DigestError::Format),
            (hex, DigestError::Format),
            ("sha256:../../x", DigestError::Length),
            ("sha256:%2e%2e", DigestError::Length),
            (&good.to_uppercase(), DigestError::Format),
            (&format!("sha256:{}", hex.to_uppercase()), DigestError::Format),
            (&format!("sha256:{}/", &hex[1..]), DigestError::Format),
            (&format!("sha256:{hex}0"), DigestError::Length),
            (&format!("sha512:{hex}"), DigestError::Length),
            (&format!("sha512:{hex}{hex}"), DigestError::Unsupported),
            (&format!("md5:{hex}"), DigestError::Unsupported),
            (&"a".repeat(1 << 20), DigestError::Format),
            (&format!("sha256:{}", "é".repeat(32)), DigestError::Format),
        ] {
            assert_eq!(text.parse::<Digest>(), Err(error), "{}", &text[..text.len().min(90)]);
        }
    }
}
