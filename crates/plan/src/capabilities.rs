//! Capabilities by name, and the set of a container.

use caps::Capability;
use podrun_spec::model::Capabilities;

/// What a container has when nothing is written: the set of podman and CRI-O.
const DEFAULT: [&str; 11] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "NET_BIND_SERVICE",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
];

const EVERY: &str = "ALL";

/// Why a capability cannot be given.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// No capability has that name.
    Unknown(String),
    /// The running kernel is older than it.
    NotInKernel(String),
}

/// Returns the name of a bit, as in capabilities(7) without the prefix `CAP_`; bits without a name keep their number.
pub(crate) fn name_of(bit: u8) -> String {
    let named = caps::all().into_iter().find(|capability| capability.index() == bit);
    named.map_or_else(|| bit.to_string(), |capability| plain(&capability.to_string()))
}

/// Returns the bit of a name as [`name_of`] gives it.
pub(crate) fn bit_of(name: &str) -> Option<u8> {
    known(name).or_else(|| name.parse().ok().filter(|bit| *bit < 64))
}

/// Returns all capabilities that the kernel knows.
pub(crate) fn all(last: u8) -> u64 {
    // A shift by 64 is not defined, and 63 is the highest bit there can ever be.
    u64::MAX >> (63 - last.min(63))
}

/// Returns the set of a container that is not privileged.
///
/// As runtimes do it, `ALL` is handled before single names, whichever list it is in: adding ALL and dropping CHOWN
/// gives all but CHOWN, dropping ALL and adding CHOWN gives CHOWN alone. A name in both lists is dropped.
pub(crate) fn container_set(wanted: &Capabilities, last: u8) -> Result<u64, Vec<Refused>> {
    let mut refused = Vec::new();
    let mut set = DEFAULT.iter().filter_map(|name| bit_of(name)).fold(0, |set, bit| set | 1 << bit);
    if wanted.add.iter().any(|name| plain(name) == EVERY) {
        set = all(last);
    }
    if wanted.drop.iter().any(|name| plain(name) == EVERY) {
        set = 0;
    }
    for name in wanted.add.iter().filter(|name| plain(name) != EVERY) {
        match known(name) {
            Some(bit) if bit <= last => set |= 1 << bit,
            Some(_) => refused.push(Refused::NotInKernel(name.clone())),
            None => refused.push(Refused::Unknown(name.clone())),
        }
    }
    for name in wanted.drop.iter().filter(|name| plain(name) != EVERY) {
        match known(name) {
            Some(bit) => set &= !(1 << bit),
            None => refused.push(Refused::Unknown(name.clone())),
        }
    }
    if refused.is_empty() { Ok(set) } else { Err(refused) }
}

fn plain(name: &str) -> String {
    let upper = name.to_ascii_uppercase();
    upper.strip_prefix("CAP_").map_or_else(|| upper.clone(), str::to_owned)
}

fn known(name: &str) -> Option<u8> {
    let capability: Capability = format!("CAP_{}", plain(name)).parse().ok()?;
    Some(capability.index())
}

#[cfg(test)]
mod tests {
    use super::*;

    const LAST: u8 = 40;
    const ELEVEN: u64 = 0x8004_05fb;

    fn set(add: &[&str], drop: &[&str]) -> Result<u64, Vec<Refused>> {
        let names = |list: &[&str]| list.iter().map(|name| (*name).to_owned()).collect();
        container_set(&Capabilities { add: names(add), drop: names(drop) }, LAST)
    }

    #[test]
    fn sets_of_containers() {
        let chown = 1;
        let net_admin = 1 << 12;
        for (add, drop, expected) in [
            (&[][..], &[][..], ELEVEN),
            (&["NET_ADMIN"], &[], ELEVEN | net_admin),
            (&["CAP_NET_ADMIN"], &[], ELEVEN | net_admin),
            (&["net_admin"], &[], ELEVEN | net_admin),
            (&[], &["CHOWN"], ELEVEN & !chown),
            (&[], &["ALL"], 0),
            (&["CHOWN"], &["ALL"], chown),
            (&["ALL"], &[], 0x1ff_ffff_ffff),
            (&["ALL"], &["CHOWN"], 0x1ff_ffff_fffe),
            (&["ALL"], &["ALL"], 0),
            (&["NET_ADMIN"], &["NET_ADMIN"], ELEVEN),
            // Dropping what the set never had is nothing to complain about.
            (&[], &["SYS_ADMIN"], ELEVEN),
        ] {
            assert_eq!(set(add, drop), Ok(expected), "add {add:?} drop {drop:?}");
        }
    }

    #[test]
    fn names_that_do_not_exist_are_refused() {
        assert_eq!(
            set(&["NET_ADMN"], &["FOO"]),
            Err(vec![Refused::Unknown("NET_ADMN".to_owned()), Refused::Unknown("FOO".to_owned())])
        );
        assert_eq!(set(&["12"], &[]), Err(vec![Refused::Unknown("12".to_owned())]));
    }

    #[test]
    fn a_kernel_cannot_give_what_it_does_not_know() {
        let add = |name: &str| Capabilities { add: vec![name.to_owned()], drop: Vec::new() };
        assert_eq!(
            container_set(&add("CHECKPOINT_RESTORE"), 37),
            Err(vec![Refused::NotInKernel("CHECKPOINT_RESTORE".to_owned())])
        );
        assert_eq!(container_set(&add("ALL"), 37), Ok(0x3f_ffff_ffff));
    }

    #[test]
    fn bits_have_names_and_names_bits() {
        for bit in 0..64 {
            assert_eq!(bit_of(&name_of(bit)), Some(bit));
        }
        assert_eq!(all(63), u64::MAX);
    }
}
