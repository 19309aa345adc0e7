//! Rates with their bursts and latencies.

use std::time::Duration;

use crate::units::{Bytes, Rate};

/// For how long the rate may be exceeded after a pause.
const BURST: Duration = Duration::from_millis(10);
/// Up to what a burst grows for the sake of large packets.
const BURST_FOR_SEGMENTATION: Duration = Duration::from_millis(60);
/// How long a packet may wait in a queue for all.
const LATENCY: Duration = Duration::from_millis(50);
const CNI_LATENCY: Duration = Duration::from_millis(25);
/// What container runtimes ask the CNI plugin for if the Pod does not say.
const CNI_BURST_BITS: u64 = 4_294_967_295;
/// Ethernet, IPv6 and TCP with options: what each segment of a large packet has of its own.
const HEADERS: u64 = 14 + 40 + 60;
const ETHERNET: u64 = 14;

/// A rate, with how far and how long packets may exceed it.
///
/// The kernel counts whole Ethernet frames, so what a program sees of TCP is about 4 % less.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub struct Limit {
    rate: Rate,
    burst: Option<Bytes>,
    latency: Duration,
}

impl Limit {
    /// Returns a limit with a burst that fits the rate (see [`burst_on`](Self::burst_on)) and 50 ms of latency.
    pub fn new(rate: Rate) -> Self {
        Self { rate, burst: None, latency: LATENCY }
    }

    /// Returns a limit with the numbers of the CNI plugin `bandwidth`: 25 ms of latency, and a burst in **bits**, which is
    /// 4294967295 if nobody says otherwise: the first half gigabyte passes unshaped.
    ///
    /// ```
    /// use podrun_tc::{Bytes, Limit, Rate};
    /// let limit = Limit::cni(Rate::from_bits_per_second(10_000_000), None);
    /// assert_eq!(limit.burst_on(1500, 65_536), Bytes::new(536_870_911));
    /// assert_eq!(limit.queue_on(1500, 65_536), Bytes::new(536_902_161));
    /// ```
    pub fn cni(rate: Rate, burst_bits: Option<u64>) -> Self {
        let burst = Bytes::from_bits(burst_bits.unwrap_or(CNI_BURST_BITS));
        Self { rate, burst: Some(burst), latency: CNI_LATENCY }
    }

    /// Sets the burst.
    pub fn burst(self, burst: Bytes) -> Self {
        Self { burst: Some(burst), ..self }
    }

    /// Sets how long a packet may wait in a queue for all; `fq_codel` has its own mind.
    pub fn latency(self, latency: Duration) -> Self {
        Self { latency, ..self }
    }

    /// Returns the rate.
    pub fn rate(&self) -> Rate {
        self.rate
    }

    /// Returns the burst on a link with an MTU and a largest packet for segmentation, in bytes.
    ///
    /// If it is not set it is 10 ms of the rate, and not less than the largest packet that is still to be segmented, with the
    /// headers of its segments, so that it can pass in one piece. Below some 10 Mbit/s that would be a burst of more than
    /// 60 ms; there it is 60 ms, and the kernel cuts such packets itself, which costs nothing at that rate. It is never less
    /// than two frames.
    ///
    /// ```
    /// use podrun_tc::{Bytes, Limit, Rate};
    /// let burst = |bits| Limit::new(Rate::from_bits_per_second(bits)).burst_on(1500, 65_536).get();
    /// assert_eq!(burst(1_000_000_000), 1_250_000); // 10 ms
    /// assert!(burst(10_000_000) > 65_536 + 44 * 66);
    /// assert_eq!(burst(1_000_000), 7_500); // 60 ms
    /// assert_eq!(burst(1_000), 2 * 1514);
    /// ```
    pub fn burst_on(&self, mtu: u32, gso_max_size: u32) -> Bytes {
        if let Some(burst) = self.burst {
            return burst;
        }
        let segments = u64::from(gso_max_size).div_ceil(u64::from(mtu).saturating_sub(HEADERS).max(256));
        let large = u64::from(gso_max_size) + segments * HEADERS;
        let least = large.min(self.rate.bytes_in(BURST_FOR_SEGMENTATION).get());
        let frames = 2 * (u64::from(mtu) + ETHERNET);
        Bytes::new(self.rate.bytes_in(BURST).get().max(least).max(frames).min(u32::MAX.into()))
    }

    /// Returns the room for what waits in a queue for all: what the rate carries in the latency, and the burst. If the burst
    /// is not set there is room for ten frames at least, without which TCP does not get up to a slow rate.
    pub fn queue_on(&self, mtu: u32, gso_max_size: u32) -> Bytes {
        let waiting = self.rate.bytes_in(self.latency).get();
        let frames = 10 * (u64::from(mtu) + ETHERNET);
        let waiting = if self.burst.is_some() { waiting } else { waiting.max(frames) };
        let queue = self.burst_on(mtu, gso_max_size).saturating_add(Bytes::new(waiting));
        Bytes::new(queue.get().min(u32::MAX.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_second_is_within_a_tenth_from_1_megabit_on() {
        for bits in [1_000_000, 5_000_000, 10_000_000, 100_000_000, 1_000_000_000, 100_000_000_000] {
            let rate = Rate::from_bits_per_second(bits);
            let burst = Limit::new(rate).burst_on(1500, 65_536).get();
            assert!(burst * 10 <= rate.bytes_per_second(), "{burst} bytes at {rate}");
        }
    }

    #[test]
    fn a_large_packet_passes_in_one_piece_from_10_megabits_on() {
        for mtu in [576, 1280, 1500, 9000, 65_535] {
            let burst = Limit::new(Rate::from_bits_per_second(10_000_000)).burst_on(mtu, 65_536).get();
            let frames = 65_536_u64.div_ceil(u64::from(mtu) - 52);
            assert!(burst >= (65_536 + frames * 66).min(75_000), "{burst} at MTU {mtu}");
            assert!(burst >= u64::from(mtu) + 14);
        }
    }

    #[test]
    fn sizes_stay_within_32_bits() {
        let limit = Limit::new(Rate::from_bits_per_second(1_000_000_000_000_000));
        assert_eq!(limit.burst_on(1500, 65_536).get(), u64::from(u32::MAX));
        assert_eq!(limit.queue_on(1500, 65_536).get(), u64::from(u32::MAX));
    }

    #[test]
    fn cni_has_its_own_numbers() {
        // Examples of the plugin: rate, burst in bits, bytes of burst and limit.
        for (rate, bits, burst, limit) in [
            (10_000_000, Some(8_000_000), 1_000_000, 1_031_250),
            (10_000_000, None, 536_870_911, 536_902_161),
            (1_000_000, None, 536_870_911, 536_874_036),
        ] {
            let cni = Limit::cni(Rate::from_bits_per_second(rate), bits);
            assert_eq!((cni.burst_on(1500, 65_536).get(), cni.queue_on(1500, 65_536).get()), (burst, limit));
        }
    }
}
