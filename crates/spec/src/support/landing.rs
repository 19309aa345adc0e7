//! What is read, checked and converted, but not carried out yet.
//!
//! The commit that makes the engine carry one of these out sets its constant; the rows of the table follow. A constant
//! that is set has done its work: then the row takes its place.

/// `hostAliases`: /etc/hosts has them.
pub(super) const HOST_ALIASES: bool = false;
/// `dnsConfig` and `dnsPolicy: None`: /etc/resolv.conf follows them.
pub(super) const DNS: bool = false;
/// `hostPort` and `hostIP` without `hostNetwork`: ports of the machine are forwarded.
pub(super) const HOST_PORTS: bool = false;
/// The annotations about bandwidth: a Pod is shaped.
pub(super) const BANDWIDTH: bool = false;
/// `status.podIP` and the like in the environment: a Pod has an address before its containers start.
pub(super) const ADDRESSES: bool = false;
