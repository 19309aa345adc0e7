//! The hierarchical token bucket.

use podrun_netlink::{Attributes, Body, Malformed, Message, Reply};

use super::tbf::agrees;
use super::{Parts, structure, words};
use crate::difference::{Comparison, Difference, Field};
use crate::error::{Error, Result};
use crate::handle::Handle;
use crate::psched::Psched;
use crate::statistics::Statistics;
use crate::units::{Bytes, Rate};
use crate::wire::{KIND, OPTIONS, RateSpec, Tcmsg, read_rate, word};

// enum in include/uapi/linux/pkt_sched.h
const TCA_HTB_PARMS: u16 = 1;
const TCA_HTB_INIT: u16 = 2;
const TCA_HTB_CTAB: u16 = 3;
const TCA_HTB_RTAB: u16 = 4;
const TCA_HTB_DIRECT_QLEN: u16 = 5;
const TCA_HTB_RATE64: u16 = 6;
const TCA_HTB_CEIL64: u16 = 7;

/// The version of HTB's interface since Linux 2.4.20.
const VERSION: u32 = 3;
/// The packet size at which `tc(8)` lets tables of HTB end.
const TABLE_MTU: u32 = 1600;

/// A hierarchy of token buckets. What no filter leads to a class goes to the default class; if that is absent, it is sent
/// without any limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Htb {
    /// The minor number of the default class.
    pub default_class: u16,
    /// By what the rate of a class is divided for its quantum, if it has none of its own.
    pub rate_to_quantum: u32,
    /// How many packets may wait that are sent without limit; `None` is the length of the link's own queue.
    pub direct_queue_length: Option<u32>,
}

impl Htb {
    /// Returns a hierarchy with a default class.
    pub fn new(default_class: u16) -> Self {
        Self { default_class, rate_to_quantum: 10, direct_queue_length: None }
    }

    pub(super) fn write(&self, body: &mut Body) {
        body.nest_unmarked(OPTIONS, |options| {
            // struct tc_htb_glob: debug and direct_pkts are zero
            let global = words([VERSION, self.rate_to_quantum, self.default_class.into(), 0, 0]);
            options.bytes(TCA_HTB_INIT, &global);
            if let Some(packets) = self.direct_queue_length {
                options.u32(TCA_HTB_DIRECT_QLEN, packets);
            }
        });
    }

    pub(super) fn read(attributes: Attributes<'_>) -> Result<Self, Malformed> {
        let (mut global, mut direct_queue_length) = (None, None);
        for attribute in attributes {
            let attribute = attribute?;
            match attribute.kind() {
                TCA_HTB_INIT => global = Some(attribute),
                TCA_HTB_DIRECT_QLEN => direct_queue_length = Some(attribute.u32()?),
                _ => {}
            }
        }
        let global: [u8; 20] = structure(global, "struct tc_htb_glob")?;
        let default_class = Handle::from_raw(word(&global, 8)).minor();
        Ok(Self { default_class, rate_to_quantum: word(&global, 4), direct_queue_length })
    }

    pub(super) fn differences(&self, found: &Self) -> Vec<Difference> {
        let class = |minor: u16| format!("{minor:x}");
        Comparison::default()
            .equal(Field::DefaultClass, class(self.default_class), class(found.default_class))
            .equal(Field::Quantum, self.rate_to_quantum, found.rate_to_quantum)
            .if_wanted(Field::Limit, self.direct_queue_length, found.direct_queue_length)
            .finish()
    }
}

/// A class of [`Htb`]: it gets its rate, and up to its ceiling what its parent has left over.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct HtbClass {
    /// The class or discipline above.
    pub parent: Handle,
    /// Its name.
    pub handle: Handle,
    /// The rate.
    pub rate: Rate,
    /// What may be sent at once after a pause.
    pub burst: Bytes,
    /// The rate up to which it may borrow; the rate itself if it may not.
    pub ceiling: Rate,
    /// What may be sent at once at the ceiling.
    pub ceiling_burst: Bytes,
    /// Which class gets first what is left over, 0 before 7.
    pub priority: u32,
    /// How much it sends at its turn; `None` lets the kernel reckon.
    pub quantum: Option<u32>,
}

impl HtbClass {
    /// Returns a class that does not borrow.
    pub fn new(parent: Handle, handle: Handle, rate: Rate, burst: Bytes) -> Self {
        let (ceiling, ceiling_burst) = (rate, burst);
        Self { parent, handle, rate, burst, ceiling, ceiling_burst, priority: 0, quantum: None }
    }

    /// Lets it borrow up to a rate.
    #[must_use]
    pub fn ceiling(self, rate: Rate, burst: Bytes) -> Self {
        Self { ceiling: rate, ceiling_burst: burst, ..self }
    }

    /// Sets the priority.
    #[must_use]
    pub fn priority(self, priority: u32) -> Self {
        Self { priority, ..self }
    }

    /// Sets how many bytes it sends at its turn.
    #[must_use]
    pub fn quantum(self, bytes: u32) -> Self {
        Self { quantum: Some(bytes), ..self }
    }

    /// Checks that the kernel can keep the rates.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidValue`] if a rate is below 8 bit/s, the ceiling is below the rate or the priority above 7.
    pub fn check(&self) -> Result<()> {
        let invalid = |what, value: String, reason: &str| {
            Err(Error::InvalidValue { what, value, reason: reason.to_owned() })
        };
        if self.rate.bytes_per_second() == 0 {
            return invalid("a rate", self.rate.to_string(), "the least is 8 bit/s");
        }
        if self.ceiling < self.rate {
            return invalid("a ceiling", self.ceiling.to_string(), "it is below the rate");
        }
        if self.priority > 7 {
            return invalid("a priority", self.priority.to_string(), "the kernel has 0 to 7");
        }
        Ok(())
    }

    pub(crate) fn message(&self, link: u32, flags: i32, psched: Psched) -> Message {
        let tcmsg = Tcmsg { link, handle: self.handle, parent: self.parent, info: 0 };
        let mut message = tcmsg.message(libc::RTM_NEWTCLASS, flags);
        let rate = RateSpec::new(self.rate, TABLE_MTU);
        let ceiling = RateSpec::new(self.ceiling, TABLE_MTU);
        // struct tc_htb_opt; the level is the kernel's.
        let mut parameters = [rate.bytes(), ceiling.bytes()].concat();
        parameters.extend(words([
            psched.ticks(self.burst, self.rate),
            psched.ticks(self.ceiling_burst, self.ceiling),
            self.quantum.unwrap_or(0),
            0,
            self.priority,
        ]));
        message.body.text(KIND, "htb").nest_unmarked(OPTIONS, |options| {
            if self.rate.needs_64_bits() {
                options.u64(TCA_HTB_RATE64, self.rate.bytes_per_second());
            }
            if self.ceiling.needs_64_bits() {
                options.u64(TCA_HTB_CEIL64, self.ceiling.bytes_per_second());
            }
            options.bytes(TCA_HTB_PARMS, &parameters);
            rate.write_table(psched, TCA_HTB_RTAB, options);
            ceiling.write_table(psched, TCA_HTB_CTAB, options);
        });
        message
    }

    pub(crate) fn deletion(link: u32, handle: Handle) -> Message {
        Tcmsg { link, handle, parent: Handle::NONE, info: 0 }.message(libc::RTM_DELTCLASS, 0)
    }

    /// Reads a class; those of other disciplines are none.
    pub(crate) fn read(reply: Reply<'_>, psched: Psched) -> Result<Option<FoundClass>, Malformed> {
        if reply.kind() != libc::RTM_NEWTCLASS {
            return Ok(None);
        }
        let (tcmsg, rest) = Tcmsg::read(&reply)?;
        let parts = Parts::read(rest)?;
        let Some(options) = parts.options.filter(|_| parts.kind == "htb") else { return Ok(None) };
        let (mut parameters, mut rate, mut ceiling) = (None, None, None);
        for attribute in options.nested() {
            let attribute = attribute?;
            match attribute.kind() {
                TCA_HTB_PARMS => parameters = Some(attribute),
                TCA_HTB_RATE64 => rate = Some(attribute.u64()?),
                TCA_HTB_CEIL64 => ceiling = Some(attribute.u64()?),
                _ => {}
            }
        }
        let parameters: [u8; 44] = structure(parameters, "struct tc_htb_opt")?;
        let rate = read_rate(&parameters, 0, rate);
        let ceiling = read_rate(&parameters, RateSpec::SIZE, ceiling);
        let class = Self {
            parent: tcmsg.parent,
            handle: tcmsg.handle,
            rate,
            burst: psched.bytes(word(&parameters, 24), rate),
            ceiling,
            ceiling_burst: psched.bytes(word(&parameters, 28), ceiling),
            priority: word(&parameters, 40),
            quantum: Some(word(&parameters, 32)),
        };
        Ok(Some(FoundClass { link: tcmsg.link, class, statistics: parts.statistics }))
    }

    /// Returns in what `found` differs from this; rounding by the kernel is no difference.
    pub fn differences(&self, found: &Self, psched: Psched) -> Vec<Difference> {
        let mut comparison = Comparison::default();
        let whole = |rate: Rate| Rate::from_bytes_per_second(rate.bytes_per_second());
        let (rate, ceiling) = (whole(self.rate), whole(self.ceiling));
        comparison.equal(Field::Rate, rate, found.rate).equal(Field::Ceiling, ceiling, found.ceiling);
        if rate == found.rate {
            let agree = agrees(psched, self.burst, rate, found.burst);
            comparison.agree(Field::Burst, agree, self.burst, found.burst);
        }
        if ceiling == found.ceiling {
            let agree = agrees(psched, self.ceiling_burst, ceiling, found.ceiling_burst);
            comparison.agree(Field::CeilingBurst, agree, self.ceiling_burst, found.ceiling_burst);
        }
        comparison
            .equal(Field::Priority, self.priority, found.priority)
            .if_wanted(Field::Quantum, self.quantum, found.quantum)
            .finish()
    }
}

/// A class as the kernel tells it.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct FoundClass {
    /// The link it is on, by index.
    pub link: u32,
    /// The class.
    pub class: HtbClass,
    /// What went through.
    pub statistics: Statistics,
}
