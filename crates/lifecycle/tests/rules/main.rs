//! The rules of a kubelet, section by section, in a simulated world in which nothing takes time by itself.
//!
//! Each module stands for one subject; tables hold one case a line, and where a rule is arithmetic the cases are generated
//! and compared with the rule written down a second time.

mod admission;
mod conditions;
mod deadline;
mod grace;
mod hooks;
mod probes;
mod restarts;
mod sandbox;
mod sidecars;
mod story;
mod takeover;
mod terminated;
