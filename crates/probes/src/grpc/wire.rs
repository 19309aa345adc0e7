//! The bytes of `grpc.health.v1.Health/Check`: one string there, one number back.
//!
//! The message formats are those of protocol buffers (<https://protobuf.dev/programming-guides/encoding/>), the framing
//! that of gRPC over HTTP/2 (`PROTOCOL-HTTP2.md` of the gRPC project).

use std::fmt;

/// The largest message that is read. A health status takes two bytes.
pub(super) const MAX_MESSAGE: usize = 4096;
/// A flag and a length stand before every message.
pub(super) const PREFIX: usize = 5;

/// Returns a framed `HealthCheckRequest`.
pub(super) fn request(service: &str) -> Vec<u8> {
    let mut message = Vec::with_capacity(service.len() + 3);
    if !service.is_empty() {
        // Field 1, length-delimited.
        message.push(0x0a);
        push_varint(&mut message, service.len() as u64);
        message.extend_from_slice(service.as_bytes());
    }
    let length = u32::try_from(message.len()).unwrap_or(u32::MAX);
    let mut framed = vec![0];
    framed.extend_from_slice(&length.to_be_bytes());
    framed.extend_from_slice(&message);
    framed
}

fn push_varint(into: &mut Vec<u8>, mut value: u64) {
    loop {
        let [low, ..] = value.to_le_bytes();
        value >>= 7;
        if value == 0 {
            into.push(low & 0x7f);
            return;
        }
        into.push(low | 0x80);
    }
}

/// Returns the status in a framed `HealthCheckResponse`; `None` if the bytes are none.
pub(super) fn response(framed: &[u8]) -> Option<ServingStatus> {
    let (prefix, message) = framed.split_at_checked(PREFIX)?;
    let length = u32::from_be_bytes(prefix[1..].try_into().ok()?);
    // A compressed one was not asked for.
    if prefix[0] != 0 || usize::try_from(length).ok()? != message.len() {
        return None;
    }
    let mut rest = message;
    let mut status = 0;
    while !rest.is_empty() {
        let key = take_varint(&mut rest)?;
        match (key >> 3, key & 7) {
            (1, 0) => status = take_varint(&mut rest)?,
            // Fields of later versions are skipped.
            (_, 0) => drop(take_varint(&mut rest)?),
            (_, 1) => rest = rest.get(8..)?,
            (_, 2) => {
                let length = usize::try_from(take_varint(&mut rest)?).ok()?;
                rest = rest.get(length..)?;
            }
            (_, 5) => rest = rest.get(4..)?,
            _ => return None,
        }
    }
    Some(ServingStatus(status))
}

fn take_varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        let (first, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(first & 0x7f) << shift;
        if first & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

/// A `HealthCheckResponse.ServingStatus`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ServingStatus(pub(super) u64);

impl ServingStatus {
    pub(super) const SERVING: Self = Self(1);
}

impl fmt::Display for ServingStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 => f.write_str("UNKNOWN"),
            1 => f.write_str("SERVING"),
            2 => f.write_str("NOT_SERVING"),
            3 => f.write_str("SERVICE_UNKNOWN"),
            other => write!(f, "{other}"),
        }
    }
}

pub(super) const UNIMPLEMENTED: u32 = 12;
pub(super) const DEADLINE_EXCEEDED: u32 = 4;

/// Returns the name of a status code of gRPC.
pub(super) fn code_name(code: u32) -> String {
    let names = [
        "OK",
        "Canceled",
        "Unknown",
        "InvalidArgument",
        "DeadlineExceeded",
        "NotFound",
        "AlreadyExists",
        "PermissionDenied",
        "ResourceExhausted",
        "FailedPrecondition",
        "Aborted",
        "OutOfRange",
        "Unimplemented",
        "Internal",
        "Unavailable",
        "DataLoss",
        "Unauthenticated",
    ];
    let name = usize::try_from(code).ok().and_then(|code| names.get(code));
    name.map_or_else(|| format!("Code({code})"), |name| (*name).to_owned())
}

/// Returns the status code that stands for an HTTP status, for servers that do not speak gRPC.
pub(super) const fn code_of_http(status: u16) -> u32 {
    match status {
        400 => 13,
        401 => 16,
        403 => 7,
        404 => UNIMPLEMENTED,
        429 | 502 | 503 | 504 => 14,
        _ => 2,
    }
}

/// Decodes the percent-encoding of `grpc-message`.
pub(super) fn decode_message(text: &[u8]) -> Vec<u8> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((first, after)) = rest.split_first() {
        let digits = after.get(..2).filter(|_| *first == b'%').and_then(|two| std::str::from_utf8(two).ok());
        let byte =
            digits.filter(|two| !two.starts_with('+')).and_then(|two| u8::from_str_radix(two, 16).ok());
        match byte {
            Some(byte) => {
                decoded.push(byte);
                rest = &after[2..];
            }
            None => {
                decoded.push(*first);
                rest = after;
            }
        }
    }
    decoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_those_of_grpc_health_probe() {
        // As sent by grpc_health_probe and by grpcurl: an empty message, and one with a service.
        assert_eq!(request(""), [0, 0, 0, 0, 0]);
        assert_eq!(request("web"), *b"\0\0\0\0\x05\x0a\x03web");
        let long = request(&"x".repeat(300));
        assert_eq!(&long[..8], [0, 0, 0, 1, 0x2f, 0x0a, 0xac, 0x02]);
    }

    #[test]
    fn responses_are_read_and_unknown_fields_skipped() {
        let framed = |message: &[u8]| {
            let mut framed = vec![0];
            framed.extend_from_slice(&u32::try_from(message.len()).expect("short").to_be_bytes());
            framed.extend_from_slice(message);
            framed
        };
        let table: [(&[u8], Option<u64>); 11] = [
            (b"\x08\x01", Some(1)),
            (b"\x08\x02", Some(2)),
            (b"", Some(0)),
            (b"\x08\x01\x08\x03", Some(3)),
            (b"\x12\x02hi\x08\x01", Some(1)),
            (b"\x19\0\0\0\0\0\0\0\0\x08\x01\x25\0\0\0\0", Some(1)),
            (b"\x08\xff\xff\xff\xff\x0f", Some(0xffff_ffff)),
            (b"\x08", None),
            (b"\x08\xff", None),
            (b"\x12\x7fhi", None),
            (b"\x0b", None),
        ];
        for (message, expected) in table {
            assert_eq!(response(&framed(message)), expected.map(ServingStatus), "{message:?}");
        }
        for broken in [
            &b""[..],
            b"\0\0\0\0",
            b"\0\0\0\0\x03\x08\x01",
            b"\x01\0\0\0\x02\x08\x01",
            b"\0\0\0\0\x01\x08\x01",
        ] {
            assert_eq!(response(broken), None, "{broken:?}");
        }
    }

    #[test]
    fn names_of_statuses_and_codes_are_those_of_go() {
        assert_eq!(
            [0, 1, 2, 3, 9].map(|n| ServingStatus(n).to_string()).join(" "),
            "UNKNOWN SERVING NOT_SERVING SERVICE_UNKNOWN 9"
        );
        for (code, name) in
            [(0, "OK"), (5, "NotFound"), (12, "Unimplemented"), (16, "Unauthenticated"), (17, "Code(17)")]
        {
            assert_eq!(code_name(code), name);
        }
    }

    #[test]
    fn messages_are_decoded() {
        for (text, expected) in [
            (&b"plain"[..], &b"plain"[..]),
            (b"a%20b%25", b"a b%"),
            (b"100%", b"100%"),
            (b"%zz%+1%4", b"%zz%+1%4"),
            (b"%C3%A4", "ä".as_bytes()),
        ] {
            assert_eq!(decode_message(text), expected);
        }
    }

    proptest::proptest! {
        #[test]
        fn no_answer_is_too_strange(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..64)) {
            response(&bytes);
            decode_message(&bytes);
        }
    }
}
