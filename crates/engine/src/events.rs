//! The events of a Pod as they are kept: equal ones counted, the oldest dropped.

use podrun_lifecycle::{EventKind, PodEvent};
use podrun_spec::time::Timestamp;
use serde::{Deserialize, Serialize};

/// So many different events are kept for a Pod.
const KEPT: usize = 256;

/// An event and how often it happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EventRecord {
    /// Normal or Warning.
    #[serde(rename = "type")]
    pub kind: EventKind,
    /// A word: `Started`.
    pub reason: String,
    /// The reason in words.
    pub message: String,
    /// `spec.containers{web}` for an event about a container.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub field_path: Option<String>,
    /// How often.
    pub count: u32,
    /// The first time.
    pub first: Timestamp,
    /// The last time.
    pub last: Timestamp,
}

/// The events of one Pod, in the order in which they last happened.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct EventLog {
    events: Vec<EventRecord>,
}

impl EventLog {
    /// Adds an event and returns its record: a new one, or the equal one counted up and moved to the end.
    pub(crate) fn add(&mut self, event: PodEvent) -> &EventRecord {
        let same = |r: &EventRecord| {
            r.kind == event.kind
                && r.reason == event.reason
                && r.message == event.message
                && r.field_path == event.field_path
        };
        let record = match self.events.iter().position(same) {
            Some(index) => {
                let mut record = self.events.remove(index);
                record.count = record.count.saturating_add(1);
                record.last = event.at;
                record
            }
            None => EventRecord {
                kind: event.kind,
                reason: event.reason,
                message: event.message,
                field_path: event.field_path,
                count: 1,
                first: event.at,
                last: event.at,
            },
        };
        if self.events.len() >= KEPT {
            self.events.remove(0);
        }
        self.events.push(record);
        &self.events[self.events.len() - 1]
    }

    /// Takes up the records of an earlier supervisor.
    pub(crate) fn restore(&mut self, records: Vec<EventRecord>) {
        self.events = records;
    }

    /// Returns the records, the latest last.
    pub(crate) fn records(&self) -> &[EventRecord] {
        &self.events
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(message: &str, second: i64) -> PodEvent {
        PodEvent {
            kind: EventKind::Normal,
            reason: "Started".into(),
            message: message.into(),
            field_path: None,
            at: Timestamp::from_unix_seconds(second),
        }
    }

    #[test]
    fn equal_events_are_counted_and_move_to_the_end() {
        let mut log = EventLog::default();
        log.add(event("a", 1));
        log.add(event("b", 2));
        let again = log.add(event("a", 3));
        assert_eq!((again.count, again.first.unix_seconds(), again.last.unix_seconds()), (2, 1, 3));
        assert_eq!(log.records().iter().map(|r| r.message.as_str()).collect::<Vec<_>>(), ["b", "a"]);
    }

    #[test]
    fn the_number_of_kept_events_is_bounded() {
        let mut log = EventLog::default();
        for n in 0..1000 {
            log.add(event(&n.to_string(), n));
        }
        assert_eq!(log.records().len(), KEPT);
        assert_eq!(log.records()[KEPT - 1].message, "999");
    }
}
