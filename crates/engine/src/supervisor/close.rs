//! The end of a supervisor: the last message, then the records if the Pod is to go.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use super::lock::SupervisorLock;
use super::server::Wish;
use super::{Supervisor, fail, network};
use crate::engine::release_images;
use crate::error::Result;
use crate::protocol::{Message, Request};

impl Supervisor {
    /// Ends the supervisor.
    pub(super) async fn close(
        self: Box<Self>,
        lock: SupervisorLock,
        wishes: mpsc::Receiver<Wish>,
    ) -> Result<()> {
        let removed = self.remove || self.record.options.remove_when_finished;
        // No container will be started any more.
        Self::warn_on_error(release_images(&self.paths, &self.pod.meta.uid));
        if removed {
            self.let_watchers_drain(wishes).await;
            self.records.remove(&self.pod)?;
        }
        drop(lock);
        // No watcher is not an error.
        let _ = self.messages.send(Arc::new(Message::Finished { removed }));
        // Each watcher's task ends when it has passed the last message on; one that does not read is not waited for.
        let passed_on = async {
            while self.messages.receiver_count() > 0 {
                tokio::task::yield_now().await;
            }
        };
        // Running out of time is the answer for a watcher that does not read.
        let _ = tokio::time::timeout(Duration::from_secs(1), passed_on).await;
        // Nobody waits for this. Whoever comes after a supervisor that was killed here does it.
        let plan = &self.plan.sandbox;
        if let Err(error) = network::settle(&self.paths.run, &plan.uid, &plan.network) {
            fail(&error);
        }
        Ok(())
    }

    /// Gives watchers time to read the logs to their ends before they are removed; not for ever.
    async fn let_watchers_drain(&self, mut wishes: mpsc::Receiver<Wish>) {
        const PATIENCE: Duration = Duration::from_secs(2);
        let Ok(watchers) = self.messages.send(Arc::new(Message::Ended)) else { return };
        let all = async {
            let mut drained = 0;
            // A watcher that goes away takes its receiver along and is not waited for.
            while drained < watchers.min(drained + self.messages.receiver_count()) {
                tokio::select! {
                    wish = wishes.recv() => match wish {
                        Some(Wish { request: Request::Drained, .. }) => drained += 1,
                        Some(_) => {}
                        None => return,
                    },
                    () = tokio::time::sleep(Duration::from_millis(50)) => {}
                }
            }
        };
        // Running out of patience is the answer for a watcher that does not read.
        let _ = tokio::time::timeout(PATIENCE, all).await;
    }
}
