//! nftables over nfnetlink: messages, expressions, podrun's tables, and what a Pod adds to them.

mod element;
mod expr;
mod firewall;
#[cfg(test)]
mod golden;
mod ruleset;
pub(crate) mod wire;

pub(crate) use element::{Element, identity, number, ports};
pub(crate) use firewall::{Elements, Firewall, State};
pub(crate) use ruleset::family_name;
