//! Rates with their bursts and latencies.

use std::time::Duration;

use crate::units::{Bytes, Rate};

/// For how long the rate may be exceeded after a pause.
const BURST: Duration = Duration::from_millis(10);
/// How long a packet may wait in a queue for all.
const LATENCY: Duration = Duration::from_millis(50);
const CNI_LATENCY: Duration = Duration::from_millis(25);
/// What container runtimes ask the CNI plugin for if the Pod does not say.
const CNI_BURST_BITS: u64 = 4_294_967_295;
/// The header of a frame.
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
    /// assert_eq!(limit.burst_on(1500), Bytes::new(536_870_911));
    /// assert_eq!(limit.queue_on(1500), Bytes::new(536_902_161));
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

    /// Returns the burst on a link with an MTU in bytes.
    ///
    /// If it is not set it is 10 ms of the rate, and never less than two frames. At less than 57 Mbit/s a packet that is still
    /// to be segmented (64 KiB) is larger than that. TBF cuts it then, which costs nothing at such a rate; a larger bucket
    /// would let it pass whole, and at 10 Mbit/s every other packet would wait for 52 ms behind it, whatever queue there is
    /// below.
    ///
    /// ```
    /// use podrun_tc::{Bytes, Limit, Rate};
    /// let burst = |bits| Limit::new(Rate::from_bits_per_second(bits)).burst_on(1500).get();
    /// assert_eq!(burst(1_000_000_000), 1_250_000);
    /// assert_eq!(burst(10_000_000), 12_500);
    /// assert_eq!(burst(1_000_000), 2 * 1514);
    /// ```
    pub fn burst_on(&self, mtu: u32) -> Bytes {
        let frames = 2 * frame(mtu);
        self.burst
            .unwrap_or_else(|| Bytes::new(self.rate.bytes_in(BURST).get().clamp(frames, u32::MAX.into())))
    }

    /// Returns the room for what waits in a queue for all: what the rate carries in the latency, and the burst. If the burst
    /// is not set there is room for ten frames at least, without which TCP does not get up to a slow rate.
    pub fn queue_on(&self, mtu: u32) -> Bytes {
        let waiting = self.rate.bytes_in(self.latency).get();
        let waiting = if self.burst.is_some() { waiting } else { waiting.max(10 * frame(mtu)) };
        let queue = self.burst_on(mtu).saturating_add(Bytes::new(waiting));
        Bytes::new(queue.get().min(u32::MAX.into()))
    }
}

fn frame(mtu: u32) -> u64 {
    u64::from(mtu) + ETHERNET
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_second_is_within_a_tenth_from_1_megabit_on() {
        for bits in [1_000_000, 5_000_000, 10_000_000, 100_000_000, 1_000_000_000, 100_000_000_000] {
            let rate = Rate::from_bits_per_second(bits);
            let burst = Limit::new(rate).burst_on(1500).get();
            assert!(burst * 10 <= rate.bytes_per_second(), "{burst} bytes at {rate}");
        }
    }

    #[test]
    fn every_frame_passes_and_a_large_packet_does_where_it_takes_no_longer_than_the_burst() {
        for mtu in [576, 1280, 1500, 9000, 65_535] {
            let burst = |megabits: u64| {
                Limit::new(Rate::from_bits_per_second(megabits * 1_000_000)).burst_on(mtu).get()
            };
            assert!(burst(1) >= u64::from(mtu) + 14);
            // With the headers of its segments 64 KiB are some 71 KB on an Ethernet.
            assert!(burst(57) >= 71_000);
        }
    }

    #[test]
    fn sizes_stay_within_32_bits() {
        let limit = Limit::new(Rate::from_bits_per_second(1_000_000_000_000_000));
        assert_eq!(limit.burst_on(1500).get(), u64::from(u32::MAX));
        assert_eq!(limit.queue_on(1500).get(), u64::from(u32::MAX));
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
            assert_eq!((cni.burst_on(1500).get(), cni.queue_on(1500).get()), (burst, limit));
        }
    }
}
