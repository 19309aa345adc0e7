//! The token bucket filter.

use podrun_netlink::{Attributes, Body, Malformed};

use super::structure;
use crate::difference::{Comparison, Difference, Field};
use crate::error::{Error, Result};
use crate::psched::Psched;
use crate::units::{Bytes, Rate};
use crate::wire::{OPTIONS, RateSpec, TABLE_MTU, read_rate, word};

// enum in include/uapi/linux/pkt_sched.h
const TCA_TBF_PARMS: u16 = 1;
const TCA_TBF_RTAB: u16 = 2;
const TCA_TBF_PTAB: u16 = 3;
const TCA_TBF_RATE64: u16 = 4;
const TCA_TBF_PRATE64: u16 = 5;
const TCA_TBF_BURST: u16 = 6;
const TCA_TBF_PBURST: u16 = 7;

/// A token bucket: packets leave at a rate, except that as many bytes as the bucket holds may leave at once after a pause.
///
/// A packet that is larger than the bucket is dropped, unless it can be segmented. What waits is in a queue of `limit`
/// bytes, or in a discipline put below class 1 of it.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct Tbf {
    /// The rate.
    pub rate: Rate,
    /// The size of the bucket.
    pub burst: Bytes,
    /// The room for what waits, together with the bucket.
    pub limit: Bytes,
    /// A second bucket that bounds the rate even after a pause.
    pub peak: Option<Peak>,
}

/// The second bucket of a [`Tbf`]: its rate, and its size, which must hold the largest packet.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Peak {
    /// The rate.
    pub rate: Rate,
    /// The size of the bucket.
    pub burst: Bytes,
}

impl Tbf {
    /// Returns a token bucket.
    pub fn new(rate: Rate, burst: Bytes, limit: Bytes) -> Self {
        Self { rate, burst, limit, peak: None }
    }

    /// Adds a second bucket.
    #[must_use]
    pub fn peak(self, rate: Rate, burst: Bytes) -> Self {
        Self { peak: Some(Peak { rate, burst }), ..self }
    }

    /// Checks that every packet of a link can pass: the kernel takes a smaller bucket without a word and then drops every
    /// larger packet.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidValue`] if the rate is below 8 bit/s, or a burst or the limit is smaller than a packet of `mtu` bytes
    /// with its Ethernet header, or larger than 32 bits.
    pub fn check(&self, mtu: u32) -> Result<()> {
        let packet = u64::from(mtu) + 14;
        let invalid = |what, value: String, reason: String| Err(Error::InvalidValue { what, value, reason });
        if self.rate.bytes_per_second() == 0 {
            return invalid("a rate", self.rate.to_string(), "the least is 8 bit/s".to_owned());
        }
        let sizes = [("a burst", self.burst), ("a limit", self.limit)];
        let peak = self.peak.map(|peak| ("a peak burst", peak.burst));
        for (what, size) in sizes.into_iter().chain(peak) {
            if size.get() < packet {
                let reason = format!("the largest packet has {packet} bytes and would be dropped");
                return invalid(what, size.to_string(), reason);
            }
            if size.get() > u32::MAX.into() {
                return invalid(what, size.to_string(), "the kernel has 32 bits for it".to_owned());
            }
        }
        Ok(())
    }

    pub(super) fn write(&self, psched: Psched, body: &mut Body) {
        let mtu = self.peak.map_or(TABLE_MTU, |peak| peak.burst.in_32_bits());
        // Kernels since 3.14 go by the attributes in bytes and in 64 bits. Like tc(8) we reckon what is in ticks, for older
        // ones, with the 32 bits of rate that stand beside.
        let narrow = |rate: Rate| Rate::from_bytes_per_second(rate.in_32_bits().into());
        let rate = RateSpec::new(narrow(self.rate), mtu);
        let peak = self.peak.map(|peak| (RateSpec::new(narrow(peak.rate), mtu), peak));
        // struct tc_tbf_qopt
        let mut parameters = rate.bytes().to_vec();
        parameters.extend_from_slice(&peak.map_or([0; RateSpec::SIZE], |(spec, _)| spec.bytes()));
        let ticks = |burst, rate| psched.ticks(burst, narrow(rate));
        let peak_ticks = peak.map_or(0, |(_, peak)| ticks(peak.burst, peak.rate));
        let sizes = [self.limit.in_32_bits(), ticks(self.burst, self.rate), peak_ticks];
        parameters.extend(super::words(sizes));

        body.nest_unmarked(OPTIONS, |options| {
            options.bytes(TCA_TBF_PARMS, &parameters);
            options.u32(TCA_TBF_BURST, self.burst.in_32_bits());
            if self.rate.needs_64_bits() {
                options.u64(TCA_TBF_RATE64, self.rate.bytes_per_second());
            }
            rate.write_table(psched, TCA_TBF_RTAB, options);
            if let Some((spec, peak)) = peak {
                if peak.rate.needs_64_bits() {
                    options.u64(TCA_TBF_PRATE64, peak.rate.bytes_per_second());
                }
                options.u32(TCA_TBF_PBURST, peak.burst.in_32_bits());
                spec.write_table(psched, TCA_TBF_PTAB, options);
            }
        });
    }

    pub(super) fn read(attributes: Attributes<'_>, psched: Psched) -> Result<Self, Malformed> {
        let (mut parameters, mut rate, mut peak) = (None, None, None);
        for attribute in attributes {
            let attribute = attribute?;
            match attribute.kind() {
                TCA_TBF_PARMS => parameters = Some(attribute),
                TCA_TBF_RATE64 => rate = Some(attribute.u64()?),
                TCA_TBF_PRATE64 => peak = Some(attribute.u64()?),
                _ => {}
            }
        }
        let parameters: [u8; 36] = structure(parameters, "struct tc_tbf_qopt")?;
        let rate = read_rate(&parameters, 0, rate);
        let peak_rate = read_rate(&parameters, RateSpec::SIZE, peak);
        let peak = (peak_rate.bits_per_second() > 0)
            .then(|| Peak { rate: peak_rate, burst: psched.bytes(word(&parameters, 32), peak_rate) });
        let limit = Bytes::new(word(&parameters, 24).into());
        Ok(Self { rate, burst: psched.bytes(word(&parameters, 28), rate), limit, peak })
    }

    pub(super) fn differences(&self, found: &Self, psched: Psched) -> Vec<Difference> {
        let mut comparison = Comparison::default();
        let rate = Rate::from_bytes_per_second(self.rate.bytes_per_second());
        comparison.equal(Field::Rate, rate, found.rate);
        if rate == found.rate {
            // Its ticks mean something else at another rate, which is a difference already.
            let agree = agrees(psched, self.burst, rate, found.burst);
            comparison.agree(Field::Burst, agree, self.burst, found.burst);
        }
        comparison.equal(Field::Limit, Bytes::new(self.limit.in_32_bits().into()), found.limit);
        match (self.peak, found.peak) {
            (None, None) => {}
            (Some(wanted), Some(found)) => {
                let rate = Rate::from_bytes_per_second(wanted.rate.bytes_per_second());
                comparison.equal(Field::PeakRate, rate, found.rate);
                let agree = rate != found.rate || agrees(psched, wanted.burst, rate, found.burst);
                comparison.agree(Field::PeakBurst, agree, wanted.burst, found.burst);
            }
            (wanted, found) => {
                let text =
                    |peak: Option<Peak>| peak.map_or("nothing".to_owned(), |peak| peak.rate.to_string());
                comparison.agree(Field::PeakRate, false, text(wanted), text(found));
            }
        }
        comparison.finish()
    }
}

/// Whether a burst that was found is the one that was wanted, but for rounding.
pub(super) fn agrees(psched: Psched, wanted: Bytes, rate: Rate, found: Bytes) -> bool {
    let tolerance = psched.tolerance(wanted, rate);
    let expected = psched.read_back(wanted, rate);
    // HTB is given ticks, which stay at the most there can be.
    let saturated = psched.bytes(psched.ticks(wanted, rate), rate);
    [expected, saturated].iter().any(|expected| expected.get().abs_diff(found.get()) <= tolerance)
}
