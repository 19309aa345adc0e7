//! The events of a Pod as they are kept: equal ones counted, similar ones put together, the oldest dropped.
//!
//! That is what a kubelet's event correlator (`client-go/tools/record`) does, but for its last step: it throws away what
//! comes faster than one event in five minutes after a burst of 25, to spare the API server. There is none here.

use std::time::Duration;

use podrun_lifecycle::{EventKind, PodEvent};
use podrun_spec::time::Timestamp;
use serde::{Deserialize, Serialize};

/// So many different events are kept for a Pod.
const KEPT: usize = 256;
/// So many bytes of messages are kept: what probes say may be 10 KiB long.
const KEPT_BYTES: usize = 64 * 1024;
/// From so many events on that differ in their words alone, they are put together,
const SIMILAR: usize = 10;
/// if the others are not older than this.
const SIMILAR_FOR: Duration = Duration::from_secs(600);
/// How the words of such an event begin.
const COMBINED: &str = "(combined from similar events): ";

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
    /// Adds an event and returns its record: a new one, or the equal one counted up and moved to the end. Of many that
    /// differ in their words alone there is one record, with the words of the last one.
    pub(crate) fn add(&mut self, event: PodEvent) -> &EventRecord {
        let known = self.events.iter().position(|r| is_similar(r, &event) && r.message == event.message);
        let (event, known) = match known {
            None if self.has_many_like(&event) => {
                let combined = |r: &EventRecord| is_similar(r, &event) && r.message.starts_with(COMBINED);
                let known = self.events.iter().position(combined);
                (PodEvent { message: format!("{COMBINED}{}", event.message), ..event }, known)
            }
            known => (event, known),
        };
        let record = match known {
            Some(index) => {
                let record = self.events.remove(index);
                let count = record.count.saturating_add(1);
                EventRecord { count, last: event.at, message: event.message, ..record }
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
        self.events.push(record);
        self.drop_oldest();
        &self.events[self.events.len() - 1]
    }

    /// Returns whether an event would be one of too many that differ in their words alone.
    fn has_many_like(&self, event: &PodEvent) -> bool {
        let age = |r: &EventRecord| Duration::from_nanos(u64::try_from(event.at.0 - r.last.0).unwrap_or(0));
        let alike = self.events.iter().filter(|r| is_similar(r, event) && age(r) <= SIMILAR_FOR);
        // The combined one stands for some that are not kept.
        alike.filter(|r| !r.message.starts_with(COMBINED)).count() + 1 >= SIMILAR
    }

    fn drop_oldest(&mut self) {
        let bytes: usize = self.events.iter().map(|r| r.message.len()).sum();
        let mut excess = bytes.saturating_sub(KEPT_BYTES);
        let mut drop = self.events.len().saturating_sub(KEPT);
        // The newest one stays, whatever its size.
        for record in self.events.iter().take(self.events.len().saturating_sub(1)).skip(drop) {
            if excess == 0 {
                break;
            }
            excess = excess.saturating_sub(record.message.len());
            drop += 1;
        }
        self.events.drain(..drop);
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

fn is_similar(record: &EventRecord, event: &PodEvent) -> bool {
    record.kind == event.kind && record.reason == event.reason && record.field_path == event.field_path
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
            log.add(PodEvent { reason: format!("Reason{n}"), ..event("x", n) });
        }
        assert_eq!(log.records().len(), KEPT);
        assert_eq!(log.records()[KEPT - 1].reason, "Reason999");
    }

    #[test]
    fn the_size_of_kept_events_is_bounded() {
        let mut log = EventLog::default();
        let long = "x".repeat(10 * 1024);
        for n in 0..20 {
            log.add(PodEvent { reason: format!("Reason{n}"), ..event(&long, n) });
        }
        let bytes: usize = log.records().iter().map(|r| r.message.len()).sum();
        assert_eq!((bytes, log.records().len()), (60 * 1024, 6));
        log.add(event(&"y".repeat(100 * 1024), 21));
        assert_eq!(log.records().len(), 1, "the newest one stays");
    }

    #[test]
    fn events_that_differ_in_words_alone_are_put_together() {
        let mut log = EventLog::default();
        for n in 0..15 {
            log.add(event(&format!("try {n}"), n));
        }
        log.add(event("try 3", 15));
        let counted: Vec<_> = log.records().iter().map(|r| (r.count, r.message.as_str())).collect();
        assert_eq!(counted.len(), SIMILAR);
        assert_eq!(counted[SIMILAR - 2..], [(6, "(combined from similar events): try 14"), (2, "try 3")]);
        // Other reasons and other containers have their own.
        log.add(PodEvent { reason: "Killing".into(), ..event("try 99", 16) });
        log.add(PodEvent { field_path: Some("spec.containers{c}".into()), ..event("try 99", 16) });
        assert_eq!(log.records().len(), SIMILAR + 2);
        // After ten quiet minutes it begins anew.
        let later = log.add(event("try 100", 16 + 600)).message.clone();
        assert_eq!(later, "try 100");
    }
}
