//! What is read, checked and converted, but not carried out yet.
//!
//! The commit that makes the engine carry one of these out sets its constant; the rows of the table follow. A constant
//! that is set has done its work: then the row takes its place.

/// The annotations about bandwidth: a Pod is shaped.
pub(super) const BANDWIDTH: bool = false;
