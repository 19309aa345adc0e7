//! Options of bridges and of their ports.

use std::time::Duration;

use crate::error::Malformed;
use crate::wire::{Attributes, Body};

// enum in include/uapi/linux/if_link.h
const IFLA_BR_FORWARD_DELAY: u16 = 1;
const IFLA_BR_AGEING_TIME: u16 = 4;
const IFLA_BR_STP_STATE: u16 = 5;
const IFLA_BR_VLAN_FILTERING: u16 = 7;
const IFLA_BR_MCAST_SNOOPING: u16 = 23;

const IFLA_BRPORT_MODE: u16 = 4;
const IFLA_BRPORT_LEARNING: u16 = 8;
const IFLA_BRPORT_UNICAST_FLOOD: u16 = 9;
const IFLA_BRPORT_MCAST_FLOOD: u16 = 27;
const IFLA_BRPORT_BCAST_FLOOD: u16 = 30;
const IFLA_BRPORT_NEIGH_SUPPRESS: u16 = 32;
const IFLA_BRPORT_ISOLATED: u16 = 33;
const IFLA_BRPORT_GUARD: u16 = 5;
const IFLA_BRPORT_FAST_LEAVE: u16 = 7;
const IFLA_BRPORT_PROTECT: u16 = 6;

/// The kernel counts times of a bridge in hundredths of a second.
const TICK: Duration = Duration::from_millis(10);

/// Options of a bridge. `None` leaves the kernel's default, or what is set, alone.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct BridgeOptions {
    /// For how long an address that was learnt is kept; 10 ms at least, or zero for a bridge that floods everything.
    pub ageing: Option<Duration>,
    /// For how long a port that came up only listens and learns, with the spanning tree protocol.
    pub forward_delay: Option<Duration>,
    /// The spanning tree protocol.
    pub stp: Option<bool>,
    /// Whether the bridge respects VLAN tags. A kernel without support refuses even `false` (`EOPNOTSUPP`).
    pub vlan_filtering: Option<bool>,
    /// Whether it listens to IGMP and MLD, to forward multicast to those alone who want it. A kernel without support
    /// refuses even `false` (`EOPNOTSUPP`).
    pub multicast_snooping: Option<bool>,
}

impl BridgeOptions {
    /// Returns options that leave everything alone.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets how long an address that was learnt is kept.
    #[must_use]
    pub fn ageing(self, ageing: Duration) -> Self {
        Self { ageing: Some(ageing), ..self }
    }

    /// Sets how long a port that came up only listens and learns.
    #[must_use]
    pub fn forward_delay(self, delay: Duration) -> Self {
        Self { forward_delay: Some(delay), ..self }
    }

    /// Switches the spanning tree protocol.
    #[must_use]
    pub fn stp(self, on: bool) -> Self {
        Self { stp: Some(on), ..self }
    }

    /// Switches VLAN filtering.
    #[must_use]
    pub fn vlan_filtering(self, on: bool) -> Self {
        Self { vlan_filtering: Some(on), ..self }
    }

    /// Switches multicast snooping.
    #[must_use]
    pub fn multicast_snooping(self, on: bool) -> Self {
        Self { multicast_snooping: Some(on), ..self }
    }

    pub(super) fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    pub(super) fn write(&self, body: &mut Body) {
        if let Some(delay) = self.forward_delay {
            body.u32(IFLA_BR_FORWARD_DELAY, ticks(delay));
        }
        if let Some(ageing) = self.ageing {
            body.u32(IFLA_BR_AGEING_TIME, ticks(ageing));
        }
        if let Some(on) = self.stp {
            body.u32(IFLA_BR_STP_STATE, u32::from(on));
        }
        if let Some(on) = self.vlan_filtering {
            body.u8(IFLA_BR_VLAN_FILTERING, u8::from(on));
        }
        if let Some(on) = self.multicast_snooping {
            body.u8(IFLA_BR_MCAST_SNOOPING, u8::from(on));
        }
    }

    pub(super) fn read(attributes: Attributes<'_>) -> Result<Self, Malformed> {
        let mut options = Self::default();
        for attribute in attributes {
            let attribute = attribute?;
            match attribute.kind() {
                IFLA_BR_FORWARD_DELAY => options.forward_delay = Some(TICK * attribute.u32()?),
                IFLA_BR_AGEING_TIME => options.ageing = Some(TICK * attribute.u32()?),
                // 1 is the kernel's own, 2 a daemon's.
                IFLA_BR_STP_STATE => options.stp = Some(attribute.u32()? != 0),
                IFLA_BR_VLAN_FILTERING => options.vlan_filtering = Some(attribute.u8()? != 0),
                IFLA_BR_MCAST_SNOOPING => options.multicast_snooping = Some(attribute.u8()? != 0),
                _ => {}
            }
        }
        Ok(options)
    }
}

fn ticks(duration: Duration) -> u32 {
    u32::try_from(duration.as_millis() / TICK.as_millis()).unwrap_or(u32::MAX)
}

macro_rules! port_options {
    ($($(#[$doc:meta])* $field:ident = $attribute:ident;)+) => {
        /// Options of the port of a bridge; see bridge(8). `None` leaves what is set alone.
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
        #[non_exhaustive]
        pub struct PortOptions {
            $($(#[$doc])* pub $field: Option<bool>,)+
        }

        impl PortOptions {
            /// Returns options that leave everything alone.
            pub fn new() -> Self {
                Self::default()
            }

            $($(#[$doc])*
            #[must_use]
            pub fn $field(self, on: bool) -> Self {
                Self { $field: Some(on), ..self }
            })+

            pub(super) fn write(&self, body: &mut Body) {
                $(if let Some(on) = self.$field {
                    body.u8($attribute, u8::from(on));
                })+
            }

            pub(super) fn read(attributes: Attributes<'_>) -> Result<Self, Malformed> {
                let mut options = Self::default();
                for attribute in attributes {
                    let attribute = attribute?;
                    match attribute.kind() {
                        $($attribute => options.$field = Some(attribute.u8()? != 0),)+
                        _ => {}
                    }
                }
                Ok(options)
            }
        }
    };
}

port_options! {
    /// Whether a packet may leave through the port it came in by.
    hairpin = IFLA_BRPORT_MODE;
    /// Whether the port is cut off from other isolated ports.
    isolated = IFLA_BRPORT_ISOLATED;
    /// Whether source addresses are learnt from what comes in.
    learning = IFLA_BRPORT_LEARNING;
    /// Whether packets to addresses that were not learnt go out here.
    unicast_flood = IFLA_BRPORT_UNICAST_FLOOD;
    /// Whether multicast that nobody asked for goes out here.
    multicast_flood = IFLA_BRPORT_MCAST_FLOOD;
    /// Whether broadcast goes out here.
    broadcast_flood = IFLA_BRPORT_BCAST_FLOOD;
    /// Whether the bridge answers ARP and neighbour solicitations in the port's stead.
    neighbour_suppression = IFLA_BRPORT_NEIGH_SUPPRESS;
    /// Whether spanning tree messages that come in shut the port.
    bpdu_guard = IFLA_BRPORT_GUARD;
    /// Whether the port can never become the root port of the spanning tree.
    root_block = IFLA_BRPORT_PROTECT;
    /// Whether a multicast group is left at the first word of it.
    fast_leave = IFLA_BRPORT_FAST_LEAVE;
}
