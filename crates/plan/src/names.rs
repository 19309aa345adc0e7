//! Names of links and tables. They derive from a Pod's UID or a directory alone, so whoever knows that finds them.

use std::path::Path;

/// The interface of every Pod, in its own network namespace.
pub const POD_INTERFACE: &str = "eth0";
/// What the host's ends of Pods' links begin with, and their shaping devices.
const LINK: &str = "pr";
const SHAPER: &str = "pi";
/// Where state is kept unless somebody says otherwise.
const SYSTEM: &str = "/run/podrun";

/// Names of the links of one Pod on the host's side.
///
/// ```
/// use podrun_plan::names::LinkNames;
/// let names = LinkNames::of("0b5a2f2e-5d3c-4a53-8b38-7a6bb1a3c001", "podrun0");
/// assert_eq!(names.host.len(), 15);
/// assert_eq!(names.host[2..], names.shaper[2..]);
/// assert_eq!(names.alias, "podrun0 pod 0b5a2f2e-5d3c-4a53-8b38-7a6bb1a3c001");
/// assert_eq!(LinkNames::owner(&names.alias, "podrun0"), Some("0b5a2f2e-5d3c-4a53-8b38-7a6bb1a3c001"));
/// assert_eq!(LinkNames::owner(&names.alias, "podrun-another0"), None);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkNames {
    /// The host's end of the veth pair: `pr` and 13 characters.
    pub host: String,
    /// The ifb through which the Pod's egress is shaped: `pi` and the same characters.
    pub shaper: String,
    /// The alias of both: it says at which bridge they are and whose.
    pub alias: String,
}

impl LinkNames {
    /// Returns the names for a Pod at a bridge.
    pub fn of(uid: &str, bridge: &str) -> Self {
        let tail = base32(hash(uid.as_bytes()), 13);
        Self {
            host: format!("{LINK}{tail}"),
            shaper: format!("{SHAPER}{tail}"),
            alias: format!("{bridge} pod {uid}"),
        }
    }

    /// Returns the UID of the Pod that an alias names, if it is one at that bridge.
    pub fn owner<'a>(alias: &'a str, bridge: &str) -> Option<&'a str> {
        alias.strip_prefix(bridge)?.strip_prefix(" pod ")
    }
}

/// Names of what all Pods below one state directory share.
///
/// ```
/// use podrun_plan::names::NodeNames;
/// use std::path::Path;
/// assert_eq!(NodeNames::of(Path::new("/run/podrun")).bridge, "podrun0");
/// let other = NodeNames::of(Path::new("/srv/test/run"));
/// assert_eq!(other.bridge.len(), 15);
/// assert_eq!(other.bridge, other.table);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeNames {
    /// The bridge.
    pub bridge: String,
    /// The nftables tables, one in `inet` and one in `bridge`.
    pub table: String,
}

impl NodeNames {
    /// Returns the names for a directory of live state.
    pub fn of(run: &Path) -> Self {
        if run == Path::new(SYSTEM) {
            return Self { bridge: "podrun0".to_owned(), table: "podrun".to_owned() };
        }
        let name = format!("podrun-{}", base32(hash(run.as_os_str().as_encoded_bytes()), 8));
        Self { bridge: name.clone(), table: name }
    }
}

/// Returns a number that spreads evenly: FNV-1a, and a mixing step, since the names take the upper bits.
pub fn hash(bytes: &[u8]) -> u64 {
    let hash = bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    });
    (hash ^ hash >> 32).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

fn base32(mut number: u64, characters: usize) -> String {
    const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
    let next = |_| {
        let character = ALPHABET[usize::try_from(number >> 59).expect("five bits")];
        number <<= 5;
        char::from(character)
    };
    (0..characters).map(next).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn many_pods_have_names_of_their_own() {
        let uid = |n: u64| format!("{:08x}-{:04x}-4a53-8b38-7a6bb1a3c001", n, n % 7);
        let names: BTreeSet<_> = (0..20_000).map(|n| LinkNames::of(&uid(n), "podrun0").host).collect();
        assert_eq!(names.len(), 20_000);
        assert!(names.iter().all(|name| name.len() == 15));
    }

    #[test]
    fn names_stay_what_they_are() {
        // A Pod may outlive an update of podrun, which has to find its links.
        assert_eq!(LinkNames::of("7f3c", "podrun0").host, "prtepy2nyegrvhy");
    }
}
