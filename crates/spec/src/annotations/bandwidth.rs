//! Rates, bursts and exceptions.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::{EGRESS, EGRESS_BURST, INGRESS, INGRESS_BURST, MODE, Mistake, UNSHAPED};
use crate::model::Bandwidth;
use crate::quantity::{Quantity, QuantityError};

/// 1 kbit/s and 1 Pbit/s: what lies outside cannot be meant.
const LEAST: u64 = 1_000;
const MOST: u64 = 1_000_000_000_000_000;
/// The kernel keeps bursts in 32 bits.
const MOST_BURST: u64 = u32::MAX as u64;

type Annotations = BTreeMap<String, String>;

/// Returns what the annotations ask for, and adds what in them cannot be meant.
pub(crate) fn bandwidth(annotations: &Annotations, mistakes: &mut Vec<Mistake>) -> Bandwidth {
    let mut reading = Reading { annotations, mistakes };
    let ingress = reading.read(INGRESS, rate);
    let egress = reading.read(EGRESS, rate);
    let bandwidth = Bandwidth {
        ingress,
        egress,
        ingress_burst: reading.read(INGRESS_BURST, burst),
        egress_burst: reading.read(EGRESS_BURST, burst),
        unshaped: reading.read(UNSHAPED, subnets).unwrap_or_default(),
        cni: reading.read(MODE, mode).unwrap_or_default(),
    };
    // What refines a rate says nothing without one.
    reading.needs(INGRESS_BURST, &[INGRESS]);
    reading.needs(EGRESS_BURST, &[EGRESS]);
    reading.needs(UNSHAPED, &[INGRESS, EGRESS]);
    reading.needs(MODE, &[INGRESS, EGRESS]);
    bandwidth
}

/// The machine's own network is not shaped, which a cluster says nothing about.
pub(super) fn check_host_network(annotations: &Annotations, host_network: bool, mistakes: &mut Vec<Mistake>) {
    if host_network {
        for key in [INGRESS, EGRESS] {
            if let Some(value) = annotations.get(key) {
                mistakes.push(Mistake::new(key, value, "may not be set when `hostNetwork` is true"));
            }
        }
    }
}

struct Reading<'a> {
    annotations: &'a Annotations,
    mistakes: &'a mut Vec<Mistake>,
}

impl Reading<'_> {
    fn read<T>(&mut self, key: &'static str, one: fn(&str) -> Result<T, String>) -> Option<T> {
        let value = self.annotations.get(key)?;
        one(value).map_err(|why| self.mistakes.push(Mistake::new(key, value, why))).ok()
    }

    fn needs(&mut self, key: &'static str, rates: &[&str]) {
        if let Some(value) = self.annotations.get(key)
            && !rates.iter().any(|rate| self.annotations.contains_key(*rate))
        {
            let rates = rates.join(" or ");
            self.mistakes.push(Mistake::new(key, value, format!("needs {rates}")));
        }
    }
}

/// Bits per second.
fn rate(text: &str) -> Result<u64, String> {
    match quantity(text)?.units() {
        ..LEAST => Err("resource is unreasonably small (< 1kbit)".to_owned()),
        LEAST..=MOST => Ok(quantity(text)?.units()),
        _ => Err("resource is unreasonably large (> 1Pbit)".to_owned()),
    }
}

/// Bytes.
fn burst(text: &str) -> Result<u64, String> {
    let bytes = quantity(text)?.units();
    if (1..=MOST_BURST).contains(&bytes) {
        Ok(bytes)
    } else {
        Err(format!("must be between 1 and {MOST_BURST} bytes, inclusive"))
    }
}

/// Reads a quantity, with the API's words for what is wrong with one.
fn quantity(text: &str) -> Result<Quantity, String> {
    const FORM: &str =
        "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'";
    Quantity::parse(text).map_err(|error| {
        let suffix = match &error {
            QuantityError::ReadSuffix { suffix, .. } => suffix.as_str(),
            QuantityError::ReadNumber { .. } => return FORM.to_owned(),
        };
        let exponent = suffix.trim_start_matches(|c: char| "eEinumkKMGTP".contains(c));
        let digits = exponent.strip_prefix(['-', '+']).unwrap_or(exponent);
        if digits.bytes().all(|b| b.is_ascii_digit()) {
            "unable to parse quantity's suffix".to_owned()
        } else {
            FORM.to_owned()
        }
    })
}

fn subnets(text: &str) -> Result<Vec<String>, String> {
    text.split(',').map(|subnet| self::subnet(subnet.trim())).collect()
}

/// A subnet in CIDR notation, whose address has no bits beyond the prefix.
fn subnet(text: &str) -> Result<String, String> {
    let wrong = || format!("{text:?} must be a subnet, (e.g. 10.9.8.0/24 or 2001:db8::/64)");
    let (address, length) = text.split_once('/').ok_or_else(wrong)?;
    let address: IpAddr = address.parse().map_err(|_| wrong())?;
    let (bits, width) = match address {
        IpAddr::V4(address) => (u128::from(u32::from(address)) << 96, 32),
        IpAddr::V6(address) => (u128::from(address), 128),
    };
    let digits = !length.is_empty() && length.bytes().all(|b| b.is_ascii_digit());
    let length: u32 = length.parse().ok().filter(|length| digits && *length <= width).ok_or_else(wrong)?;
    let beyond = bits.checked_shl(length).unwrap_or(0);
    if beyond == 0 {
        Ok(format!("{address}/{length}"))
    } else {
        Err(format!("{text:?} has bits beyond its prefix"))
    }
}

/// Whether the numbers are those of the CNI plugin.
fn mode(text: &str) -> Result<bool, String> {
    match text {
        "cni" => Ok(true),
        "podrun" => Ok(false),
        _ => Err("must be \"podrun\" or \"cni\"".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(entries: &[(&str, &str)]) -> (Bandwidth, Vec<String>) {
        let annotations =
            entries.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let mut mistakes = Vec::new();
        let bandwidth = bandwidth(&annotations, &mut mistakes);
        (bandwidth, mistakes.into_iter().map(|mistake| format!("{}: {}", mistake.key, mistake.why)).collect())
    }

    #[test]
    fn rates_are_quantities_of_bits() {
        for (text, expected) in [
            ("1k", 1_000),
            ("999.5", 1_000),
            ("10M", 10_000_000),
            ("10Mi", 10_485_760),
            ("1e9", 1_000_000_000),
            ("1P", 1_000_000_000_000_000),
        ] {
            let (bandwidth, mistakes) = read(&[(INGRESS, text)]);
            assert_eq!((bandwidth.ingress, bandwidth.egress), (Some(expected), None), "{text}");
            assert!(mistakes.is_empty(), "{mistakes:?}");
            assert_eq!(read(&[(EGRESS, text)]).0.egress, Some(expected), "{text}");
        }
    }

    #[test]
    fn rates_that_cannot_be_meant_are_refused_in_the_words_of_the_api() {
        let form =
            "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'";
        for (text, why) in [
            ("999", "resource is unreasonably small (< 1kbit)"),
            ("0", "resource is unreasonably small (< 1kbit)"),
            ("-10M", "resource is unreasonably small (< 1kbit)"),
            ("1000001G", "resource is unreasonably large (> 1Pbit)"),
            ("1Pi", "resource is unreasonably large (> 1Pbit)"),
            ("", form),
            ("fast", form),
            ("10Mbit", form),
            ("10K", "unable to parse quantity's suffix"),
            ("10ki", "unable to parse quantity's suffix"),
        ] {
            let (bandwidth, mistakes) = read(&[(EGRESS, text)]);
            assert_eq!(bandwidth.egress, None, "{text}");
            assert_eq!(mistakes, [format!("{EGRESS}: {why}")], "{text}");
        }
    }

    #[test]
    fn what_refines_a_rate_needs_one() {
        let (bandwidth, mistakes) = read(&[
            (INGRESS, "1M"),
            (INGRESS_BURST, "64Ki"),
            (UNSHAPED, "10.0.0.0/8, fd00::/8"),
            (MODE, "cni"),
        ]);
        assert!(mistakes.is_empty(), "{mistakes:?}");
        assert_eq!(bandwidth.ingress_burst, Some(65536));
        assert_eq!(bandwidth.unshaped, ["10.0.0.0/8", "fd00::/8"]);
        assert!(bandwidth.cni);
        let (_, mistakes) = read(&[(EGRESS, "1M"), (INGRESS_BURST, "1"), (EGRESS_BURST, "1")]);
        assert_eq!(mistakes, ["podrun.io/ingress-burst: needs kubernetes.io/ingress-bandwidth"]);
        let (_, mistakes) = read(&[(UNSHAPED, "::/0"), (MODE, "podrun")]);
        let rates = "kubernetes.io/ingress-bandwidth or kubernetes.io/egress-bandwidth";
        assert_eq!(
            mistakes,
            [
                format!("podrun.io/unshaped-subnets: needs {rates}"),
                format!("podrun.io/bandwidth-mode: needs {rates}")
            ]
        );
    }

    #[test]
    fn bursts_subnets_and_modes_that_cannot_be_meant_are_refused() {
        for (key, text) in [
            (INGRESS_BURST, "0"),
            (INGRESS_BURST, "4Gi"),
            (INGRESS_BURST, "x"),
            (UNSHAPED, ""),
            (UNSHAPED, "10.0.0.0"),
            (UNSHAPED, "10.0.0.1/8"),
            (UNSHAPED, "10.0.0.0/33"),
            (UNSHAPED, "10.0.0.0/+8"),
            (UNSHAPED, "fd00::1/64"),
            (UNSHAPED, "10.0.0.0/8,"),
            (MODE, "CNI"),
            (MODE, ""),
        ] {
            let (_, mistakes) = read(&[(INGRESS, "1M"), (key, text)]);
            assert_eq!(mistakes.len(), 1, "{key}: {text}");
        }
        assert!(read(&[(INGRESS, "1M"), (UNSHAPED, "1.2.3.4/32,::1/128,0.0.0.0/0")]).1.is_empty());
    }
}
