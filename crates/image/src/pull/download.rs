//! Getting the bytes of one blob, whatever happens on the way.

use std::time::Duration;

use hyper::StatusCode;
use hyper::body::Bytes;
use tokio::sync::mpsc;

use super::progress::Progress;
use super::run::PullOptions;
use crate::digest::Digest;
use crate::error::chain;
use crate::registry::{Client, RegistryError, Repository};

/// A transfer that has brought so much since it last broke off is not failing: it is counted anew.
const PROGRESS: u64 = 256 << 10;
/// Each pause is twice as long as the one before, up to this.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// A blob.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wanted {
    pub(super) blob: Digest,
    pub(super) size: u64,
}

/// Why there are no more bytes.
#[derive(Debug)]
pub(super) enum Ended {
    /// The registry does not give them.
    Registry(RegistryError),
    /// Whoever wants them has gone, and knows why.
    Unwanted,
}

impl From<RegistryError> for Ended {
    fn from(error: RegistryError) -> Self {
        Self::Registry(error)
    }
}

/// Sends the bytes of a blob from `have` on, in order and each once. One place after the other is tried.
pub(super) async fn download(
    client: &Client,
    places: &[Repository],
    wanted: Wanted,
    have: u64,
    to: mpsc::Sender<Bytes>,
    options: &PullOptions,
) -> Result<(), Ended> {
    let mut transfer = Transfer { client, wanted, at: have, to, options };
    let mut result = Ok(());
    for place in places {
        result = transfer.from(place).await;
        match &result {
            Err(Ended::Registry(_)) => {}
            Ok(()) | Err(Ended::Unwanted) => break,
        }
    }
    result
}

struct Transfer<'a> {
    client: &'a Client,
    wanted: Wanted,
    /// Bytes that have been sent on, or were there before.
    at: u64,
    to: mpsc::Sender<Bytes>,
    options: &'a PullOptions,
}

impl Transfer<'_> {
    async fn from(&mut self, place: &Repository) -> Result<(), Ended> {
        let (mut failures, mut pause, mut ranges) = (0, self.options.retry_pause, true);
        loop {
            let before = self.at;
            let error = match self.attempt(place, ranges).await {
                Err(Ended::Registry(error)) => error,
                ended => return ended,
            };
            // A server that answers ranges wrongly, or not, is asked for all of it.
            if ranges && before > 0 && is_about_range(&error) {
                ranges = false;
            } else if !error.is_transient() {
                return Err(error.into());
            }
            if self.at - before >= PROGRESS {
                (failures, pause) = (0, self.options.retry_pause);
            }
            failures += 1;
            if failures > self.options.retries {
                return Err(error.into());
            }
            self.options.report.tell(Progress::Retrying { layer: self.wanted.blob, reason: chain(&error) });
            tokio::time::sleep(error.retry_after().unwrap_or(pause)).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    async fn attempt(&mut self, place: &Repository, ranges: bool) -> Result<(), Ended> {
        let Wanted { blob, size } = self.wanted;
        if self.at == size {
            return Ok(());
        }
        let offset = if ranges { self.at } else { 0 };
        let (mut body, begins) = self.client.blob(place, &blob, size, offset).await?;
        let mut skip = self.at - begins;
        while let Some(mut data) = body.chunk().await? {
            let skipped = skip.min(data.len() as u64);
            drop(data.split_to(usize::try_from(skipped).unwrap_or(data.len())));
            skip -= skipped;
            if data.is_empty() {
                continue;
            }
            let length = data.len() as u64;
            if length > size - self.at {
                let reason = format!("{blob} has more bytes than the {size} that it should have");
                return Err(RegistryError::Answer { what: "blob", reason }.into());
            }
            self.to.send(data).await.map_err(|_| Ended::Unwanted)?;
            self.at += length;
            self.options.report.tell(Progress::Received { layer: blob, bytes: self.at });
        }
        if self.at < size {
            return Err(RegistryError::Cut { actual: self.at, expected: size }.into());
        }
        Ok(())
    }
}

fn is_about_range(error: &RegistryError) -> bool {
    match error {
        RegistryError::Answer { .. } => true,
        RegistryError::Status { status, .. } => *status == StatusCode::RANGE_NOT_SATISFIABLE,
        _ => false,
    }
}
