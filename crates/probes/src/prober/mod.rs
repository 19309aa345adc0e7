//! When to probe, and what the results mean: one probe of one container as a state machine.

mod machine;
mod settings;
#[cfg(test)]
mod tests;

pub use machine::{Attempt, Container, Observation, Pod, Prober, Run, Step, Tick, Verdict};
pub use settings::{MIN_PERIOD, Settings, start_jitter};
