//! All handlers behind one door.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use crate::exec::{self, Spawner};
use crate::grpc::{self, Grpc};
use crate::hook::{self, Hook, HookDone, HookError};
use crate::http::{self, HttpGet};
use crate::tcp::{self, TcpSocket};
use crate::{Error, Network, Outcome, Result};

/// How often a probe is tried that cannot be made: `maxProbeRetries` of the kubelet.
pub const MAX_ATTEMPTS: usize = 3;

/// What a probe does. Equal handlers do the same.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Handler {
    /// Runs a command in the container.
    Exec(Vec<String>),
    /// Makes an HTTP request.
    HttpGet(HttpGet),
    /// Makes a connection.
    TcpSocket(TcpSocket),
    /// Makes a gRPC health check.
    Grpc(Grpc),
}

/// Makes the probes and runs the hooks of one container. Clones share what is under way.
#[derive(Debug)]
pub struct Executor<S> {
    spawner: Arc<S>,
    network: Network,
    pod: Arc<str>,
    version: Arc<str>,
    under_way: Arc<Mutex<HashMap<(Handler, Duration), Sender>>>,
}

/// Tells what a probe that several wait for came to. Its receivers are those who wait.
type Sender = watch::Sender<Option<Result<Outcome, Arc<Error>>>>;
type Receiver = watch::Receiver<Option<Result<Outcome, Arc<Error>>>>;

impl<S> Clone for Executor<S> {
    fn clone(&self) -> Self {
        Self {
            spawner: Arc::clone(&self.spawner),
            network: self.network.clone(),
            pod: Arc::clone(&self.pod),
            version: Arc::clone(&self.version),
            under_way: Arc::clone(&self.under_way),
        }
    }
}

impl<S: Spawner> Executor<S> {
    /// Returns an executor that starts commands with `spawner` and connections in `network`.
    ///
    /// `pod` is the address of the Pod, to which handlers without a host go; `version` the version of Kubernetes that
    /// the user agent tells, as `1.36`.
    pub fn new(spawner: S, network: Network, pod: &str, version: &str) -> Self {
        Self {
            spawner: Arc::new(spawner),
            network,
            pod: pod.into(),
            version: version.into(),
            under_way: Arc::default(),
        }
    }

    /// Makes a probe once.
    ///
    /// # Errors
    ///
    /// That the probe could not be made, which says nothing about the container.
    pub async fn attempt(&self, handler: &Handler, timeout: Duration) -> Result<Outcome> {
        match handler {
            Handler::Exec(command) => exec::probe(&*self.spawner, command, timeout).await,
            Handler::HttpGet(get) => http::probe(&self.network, get, &self.pod, &self.version, timeout).await,
            Handler::TcpSocket(socket) => tcp::probe(&self.network, socket, &self.pod, timeout).await,
            Handler::Grpc(service) => {
                grpc::probe(&self.network, service, &self.pod, &self.version, timeout).await
            }
        }
    }

    /// Makes a probe, again at once up to [`MAX_ATTEMPTS`] times if it cannot be made.
    ///
    /// # Errors
    ///
    /// That of the last attempt.
    pub async fn probe(&self, handler: &Handler, timeout: Duration) -> Result<Outcome> {
        let mut result = self.attempt(handler, timeout).await;
        for _ in 1..MAX_ATTEMPTS {
            if result.is_ok() {
                break;
            }
            result = self.attempt(handler, timeout).await;
        }
        result
    }

    /// Runs a hook to its end. It has no timeout.
    ///
    /// Dropping the future kills a command and ends a request. To abandon a hook instead, as a kubelet does at the end of
    /// the grace period, leave the future in a task of its own.
    ///
    /// # Errors
    ///
    /// Why it failed.
    pub async fn hook(&self, hook: &Hook) -> Result<HookDone, HookError> {
        hook::run(&*self.spawner, &self.network, &self.pod, &self.version, hook).await
    }
}

impl<S: Spawner + 'static> Executor<S> {
    /// Makes a probe as [`probe`](Self::probe), unless the same handler with the same timeout is being probed at this
    /// moment: then it waits for that result. So a liveness and a readiness probe that are identical, periods included,
    /// run once.
    ///
    /// The probe runs in a task of its own, and ends early only when nobody waits for it any more.
    ///
    /// # Errors
    ///
    /// As [`probe`](Self::probe).
    pub async fn probe_shared(&self, handler: &Handler, timeout: Duration) -> Result<Outcome, Arc<Error>> {
        loop {
            let mut result = self.join(handler, timeout);
            let told = result.wait_for(Option::is_some).await.ok().and_then(|result| result.clone());
            if let Some(result) = told {
                return result;
            }
            // Its task came to an end with the last one who waited, just before we did: begin anew.
        }
    }

    fn join(&self, handler: &Handler, timeout: Duration) -> Receiver {
        let key = (handler.clone(), timeout);
        let mut under_way = self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(sender) = under_way.get(&key) {
            return sender.subscribe();
        }
        let sender = Sender::new(None);
        let receiver = sender.subscribe();
        under_way.insert(key.clone(), sender.clone());
        let executor = self.clone();
        tokio::spawn(async move {
            let result = tokio::select! {
                result = executor.probe(&key.0, timeout) => Some(result.map_err(Arc::new)),
                () = sender.closed() => None,
            };
            // First out of the map, so that nobody joins what is over.
            executor.under_way.lock().unwrap_or_else(PoisonError::into_inner).remove(&key);
            if let Some(result) = result {
                sender.send_replace(Some(result));
            }
        });
        receiver
    }
}
