//! What the kernel holds, beside what it should hold.

use std::fmt;

/// One thing that differs: where, which field of it, what was wanted and what was found.
///
/// ```
/// use podrun_tc::{Bytes, Field, Psched, QdiscKind, Rate, Tbf};
/// let wanted = QdiscKind::Tbf(Tbf::new(Rate::from_bits_per_second(10_000_000), Bytes::new(71_680), Bytes::new(100_000)));
/// let found = QdiscKind::Tbf(Tbf::new(Rate::from_bits_per_second(20_000_000), Bytes::new(71_680), Bytes::new(100_000)));
/// let differences = wanted.differences(&found, Psched::default());
/// assert_eq!(differences[0].field, Field::Rate);
/// assert_eq!(differences[0].to_string(), "rate: wanted 10 Mbit/s, found 20 Mbit/s");
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Difference {
    /// Where: such as `veth0: root`. Empty if only one thing was compared.
    pub place: String,
    /// What differs.
    pub field: Field,
    /// What was wanted.
    pub wanted: String,
    /// What was found; `nothing` if it is absent.
    pub found: String,
}

impl Difference {
    pub(crate) fn new(field: Field, wanted: impl fmt::Display, found: impl fmt::Display) -> Self {
        Self { place: String::new(), field, wanted: wanted.to_string(), found: found.to_string() }
    }

    /// Says where, before what is said already.
    pub(crate) fn at(self, place: &str) -> Self {
        let place = if self.place.is_empty() { place.to_owned() } else { format!("{place}: {}", self.place) };
        Self { place, ..self }
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.place.is_empty() {
            write!(f, "{}: ", self.place)?;
        }
        write!(f, "{}: wanted {}, found {}", self.field, self.wanted, self.found)
    }
}

/// What may differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Field {
    /// The link itself: absent, or of another kind.
    Link,
    /// Whether the link is up.
    Up,
    /// The MTU of the link.
    Mtu,
    /// The kind of a queueing discipline or of a filter.
    Kind,
    /// The handle.
    Handle,
    /// The rate.
    Rate,
    /// The rate that a class may borrow up to.
    Ceiling,
    /// The peak rate.
    PeakRate,
    /// The burst.
    Burst,
    /// The burst at the ceiling.
    CeilingBurst,
    /// The largest packet at the peak rate.
    PeakBurst,
    /// The room for what waits.
    Limit,
    /// The class of what no filter names.
    DefaultClass,
    /// The priority.
    Priority,
    /// The quantum.
    Quantum,
    /// The number of flows.
    Flows,
    /// The delay that is aimed at.
    Target,
    /// The time in which it is to be reached.
    Interval,
    /// Whether packets are marked instead of dropped.
    Ecn,
    /// The delay above which every packet is marked.
    MarkThreshold,
    /// The room in bytes of memory.
    MemoryLimit,
    /// The delay that is added.
    Delay,
    /// The variation of the delay.
    Jitter,
    /// The share of packets lost.
    Loss,
    /// The share of packets doubled.
    Duplicate,
    /// The filters as a whole: there are more or fewer.
    Filters,
    /// What a filter matches.
    Match,
    /// The class a filter leads to.
    Class,
    /// What a filter does with a packet.
    Action,
    /// The link that packets are redirected to.
    Redirect,
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Link => "link",
            Self::Up => "up",
            Self::Mtu => "mtu",
            Self::Kind => "kind",
            Self::Handle => "handle",
            Self::Rate => "rate",
            Self::Ceiling => "ceiling",
            Self::PeakRate => "peak rate",
            Self::Burst => "burst",
            Self::CeilingBurst => "ceiling burst",
            Self::PeakBurst => "peak burst",
            Self::Limit => "limit",
            Self::DefaultClass => "default class",
            Self::Priority => "priority",
            Self::Quantum => "quantum",
            Self::Flows => "flows",
            Self::Target => "target",
            Self::Interval => "interval",
            Self::Ecn => "ecn",
            Self::MarkThreshold => "mark threshold",
            Self::MemoryLimit => "memory limit",
            Self::Delay => "delay",
            Self::Jitter => "jitter",
            Self::Loss => "loss",
            Self::Duplicate => "duplicate",
            Self::Filters => "filters",
            Self::Match => "match",
            Self::Class => "class",
            Self::Action => "action",
            Self::Redirect => "redirect target",
        })
    }
}

/// Compares fields one by one.
#[derive(Debug, Default)]
pub(crate) struct Comparison(Vec<Difference>);

impl Comparison {
    /// Compares what must be equal.
    pub(crate) fn equal<T: PartialEq + fmt::Display>(
        &mut self,
        field: Field,
        wanted: T,
        found: T,
    ) -> &mut Self {
        if wanted != found {
            self.0.push(Difference::new(field, wanted, found));
        }
        self
    }

    /// Compares what must be equal if it is wanted at all.
    pub(crate) fn if_wanted<T: PartialEq + fmt::Display>(
        &mut self,
        field: Field,
        wanted: Option<T>,
        found: Option<T>,
    ) -> &mut Self {
        if let Some(wanted) = wanted
            && found.as_ref() != Some(&wanted)
        {
            let found = found.map_or("nothing".to_owned(), |found| found.to_string());
            self.0.push(Difference::new(field, wanted, found));
        }
        self
    }

    /// Notes a difference unless the two agree.
    pub(crate) fn agree(
        &mut self,
        field: Field,
        agree: bool,
        wanted: impl fmt::Display,
        found: impl fmt::Display,
    ) -> &mut Self {
        if !agree {
            self.0.push(Difference::new(field, wanted, found));
        }
        self
    }

    pub(crate) fn finish(&mut self) -> Vec<Difference> {
        std::mem::take(&mut self.0)
    }
}
