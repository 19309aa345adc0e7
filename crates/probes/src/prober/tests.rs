//! The rules one by one, and against a second implementation that is written as the kubelet's loop is.

#[path = "tests/reference.rs"]
mod reference;
#[path = "tests/rules.rs"]
mod rules;
#[path = "tests/schedules.rs"]
mod schedules;

use std::time::Duration;

use super::{Container, Observation, Pod, Run};

pub(crate) const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

pub(crate) const fn running(id: u32, since: u64, started: bool) -> Observation<u32> {
    let run = Run::Running { since: ms(since), started };
    Observation { pod: Pod::Active, container: Some(Container { id, run }) }
}

pub(crate) const fn stopped(id: u32, comes_back: bool) -> Observation<u32> {
    Observation { pod: Pod::Active, container: Some(Container { id, run: Run::Stopped { comes_back } }) }
}
