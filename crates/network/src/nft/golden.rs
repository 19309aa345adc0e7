//! Messages that were captured from `nft`, to compare with.

use podrun_netlink::Message;

use super::wire::Fields;

/// A captured message: kind, flags, and what follows the netlink header.
pub(crate) struct Captured {
    kind: u16,
    flags: u16,
    payload: Vec<u8>,
}

/// Reads `kind flags payload` lines in hexadecimal.
pub(crate) fn read(text: &str) -> Vec<Captured> {
    let number = |text: &str| u16::from_str_radix(text, 16).unwrap();
    let bytes = |text: &str| -> Vec<u8> {
        let byte = |at| u8::from_str_radix(&text[at..at + 2], 16).unwrap();
        (0..text.len()).step_by(2).map(byte).collect()
    };
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let message = |line: &str| {
        let parts: Vec<&str> = line.split(' ').collect();
        Captured { kind: number(parts[0]), flags: number(parts[1]), payload: bytes(parts[2]) }
    };
    lines.map(message).collect()
}

/// Compares messages with those of the same family that were captured, in order.
///
/// Left out is what only `nft` itself reads: user data of sets (13), and of elements the number of their set (4).
pub(crate) fn check(ours: &[Message], captured: &[Captured], family: u8) {
    let captured: Vec<&Captured> = captured.iter().filter(|message| message.payload[0] == family).collect();
    for (message, theirs) in ours.iter().zip(&captured) {
        let name = format!("message {:04x}", theirs.kind);
        assert_eq!(
            (message.kind(), i32::from(message.flags()) | libc::NLM_F_REQUEST),
            (theirs.kind, theirs.flags.into()),
            "{name}"
        );
        let left_out = match theirs.kind & 0xff {
            9 => 13,
            12 | 14 => 4,
            _ => 0,
        };
        assert_eq!(without(message.body.as_bytes(), left_out), without(&theirs.payload, left_out), "{name}");
    }
    assert_eq!(ours.len(), captured.len());
}

/// Returns the header and each attribute in hexadecimal.
fn without(payload: &[u8], left_out: u16) -> Vec<String> {
    let attributes = Fields(&payload[4..]).iter().filter(|(kind, _)| *kind != left_out);
    let attributes = attributes.map(|(kind, value)| format!("{kind} {value:02x?}"));
    std::iter::once(format!("{:02x?}", &payload[..4])).chain(attributes).collect()
}
