//! A pull from its beginning to its end.

use std::collections::HashMap;
use std::io::{self, Read};
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Bytes;

use tokio::sync::{Semaphore, mpsc};
use tokio::task::{JoinError, JoinSet, spawn_blocking};

use super::download::{Ended, Wanted, download};
use super::progress::{Progress, Report};
use super::resolve::{Meaning, Resolved, Unresolved, diff_ids, resolve};
use crate::digest::Digest;
use crate::error::Error;
use crate::limits::{self, Limits};
use crate::load::Prepared;
use crate::manifest::{Descriptor, Manifest};
use crate::platform::Platform;
use crate::reference::Reference;
use crate::registry::{Client, Keyring, RegistryError, Repository};
use crate::store::incoming::Fetch;
use crate::store::session::Session;
use crate::store::{Hold, Image, Store};
use crate::unpack::Skipped;

/// Pieces of a layer that may wait to be unpacked; each has at most 128 KiB.
const PIECES: usize = 8;

/// How to pull.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct PullOptions {
    /// Credentials. Those for other registries are not looked at.
    pub keyring: Keyring,
    /// Which image of several for different machines; this machine's by default.
    pub platform: Platform,
    /// Bounds on what the image may need.
    pub limits: Limits,
    /// How many layers are fetched at the same time, from 1 to [`limits::MAX_PARALLEL`]; 3 by default, as by containerd.
    pub parallel: usize,
    /// How often the transfer of a layer that brings next to nothing is begun again; 5 by default.
    pub retries: u32,
    /// The pause before it is begun again for the first time, 0.2 s by default. Each further one is twice as long, up to
    /// 10 s; a registry that says how long it wants to be left alone is left alone for so long, up to a minute.
    pub retry_pause: Duration,
    /// Who is told of the steps.
    pub report: Report,
}

impl Default for PullOptions {
    fn default() -> Self {
        Self {
            keyring: Keyring::default(),
            platform: Platform::default(),
            limits: Limits::default(),
            parallel: 3,
            retries: 5,
            retry_pause: Duration::from_millis(200),
            report: Report::default(),
        }
    }
}

/// What a pull brought.
#[derive(Debug)]
#[non_exhaustive]
pub struct Pulled {
    /// The image.
    pub image: Image,
    /// What the name means at the registry: the digest of a manifest, or of an index of several.
    pub digest: Digest,
    /// The registry had nothing new: only the name's meaning was asked for.
    pub unchanged: bool,
    /// What the layers had that is not kept.
    pub skipped: Skipped,
    /// Keeps the image's layers from being deleted until they are mounted.
    pub hold: Hold,
}

/// Why an image was not pulled.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PullError {
    /// What the name means could not be found out.
    #[error("failed to resolve image")]
    Resolve(#[source] RegistryError),
    /// A configuration or layer could not be fetched.
    #[error("failed to fetch {digest}")]
    Fetch {
        /// Its digest.
        digest: Digest,
        /// Why.
        #[source]
        source: RegistryError,
    },
    /// The image is not what it says, is too large, or cannot be stored.
    #[error(transparent)]
    Image(#[from] Error),
    /// No registry serves names below `localhost/`.
    #[error("{0} is a local name, which no registry serves")]
    LocalOnly(String),
}

impl PullError {
    /// Returns the error of the registry, if it is one.
    pub fn registry(&self) -> Option<&RegistryError> {
        match self {
            Self::Resolve(source) | Self::Fetch { source, .. } => Some(source),
            Self::Image(_) | Self::LocalOnly(_) => None,
        }
    }
}

impl Store {
    /// Pulls an image, or finds that the registry has nothing new.
    ///
    /// If the store has the image, the registry is asked what the name means now, and nothing is transferred if that is the
    /// same. The name goes to what is pulled; an image that had it before stays without it. A name with a digest means
    /// that content; its tag is not looked at.
    ///
    /// Dropped, it stops. What has come of layers stays for the next pull.
    ///
    /// Needs a tokio runtime with time and network enabled; one with a single thread will do, since all work that blocks is
    /// done on threads beside it.
    ///
    /// # Errors
    /// [`PullError`]; the store has then no image that it had not before.
    pub async fn pull(
        &self,
        client: &Client,
        reference: &Reference,
        options: &PullOptions,
    ) -> Result<Pulled, PullError> {
        if reference.is_local_only() {
            return Err(PullError::LocalOnly(reference.to_string()));
        }
        let pull = Arc::new(Pull {
            store: self.clone(),
            client: client.clone(),
            reference: as_pulled(reference),
            options: options.clone(),
        });
        let begin = Arc::clone(&pull);
        let (hold, present) = blocking(move || begin.begin()).await?;
        let known = present.as_ref().map_or_else(Vec::new, |image| known_digests(image, reference));
        let (places, meaning) = pull.resolve(&known).await?;
        let resolved = match (meaning, present) {
            (Meaning::Image(resolved), _) => *resolved,
            (Meaning::Unchanged(digest), Some(image)) => {
                pull.tell(Progress::Resolved { digest });
                return Ok(Pulled { image, digest, unchanged: true, skipped: Skipped::default(), hold });
            }
            (Meaning::Unchanged(_), None) => unreachable!("nothing is known of an image that is not there"),
        };
        pull.tell(Progress::Resolved { digest: resolved.digest });
        let config = pull.config(&places, &resolved.manifest.config).await?;
        let diff_ids = diff_ids(&config, &resolved.manifest, &pull.options)?;
        let begin = Arc::clone(&pull);
        let session = blocking(move || Session::begin(&begin.store.layout, begin.options.limits)).await?;
        let session = pull.layers(places, &resolved.manifest, &diff_ids, session).await?;
        pull.tell(Progress::Committing);
        blocking(move || pull.commit(resolved, &config, diff_ids, session, hold)).await
    }

    /// Does the same as [`Store::pull`] for a caller without a runtime, and returns when it is done.
    ///
    /// # Errors
    /// [`PullError`], as from [`Store::pull`].
    ///
    /// # Panics
    /// If the kernel has no descriptors left for a runtime, or the caller has one.
    pub fn pull_blocking(
        &self,
        client: &Client,
        reference: &Reference,
        options: &PullOptions,
    ) -> Result<Pulled, PullError> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime needs three descriptors");
        let pulled = runtime.block_on(self.pull(client, reference, options));
        // A look-up of a name that nobody waits for any more is not waited for.
        runtime.shutdown_background();
        pulled
    }
}

/// Returns the name under which an image will be known. A tag beside a digest was not asked about, so it means nothing.
fn as_pulled(reference: &Reference) -> Reference {
    match reference.digest() {
        Some(digest) if reference.tag().is_some() => {
            Reference::parse(&format!("{}@{digest}", reference.repository()))
                .expect("parts of a valid reference")
        }
        _ => reference.clone(),
    }
}

/// Returns the digests in the name's repository that are known to mean this image.
fn known_digests(image: &Image, reference: &Reference) -> Vec<Digest> {
    let from_here = image.pulled.iter().filter(|one| one.repository() == reference.repository());
    from_here.filter_map(|one| one.digest()?.parse().ok()).collect()
}

/// Does on a thread what blocks.
async fn blocking<T: Send + 'static, E: From<Error> + Send + 'static>(
    work: impl FnOnce() -> Result<T, E> + Send + 'static,
) -> Result<T, E> {
    spawn_blocking(work).await.unwrap_or_else(|error| Err(ended(error).into()))
}

/// What it means that a task did not come to its end: a panic goes on here; else the runtime ends, and this with it.
fn ended(error: JoinError) -> Error {
    match error.try_into_panic() {
        Ok(panic) => std::panic::resume_unwind(panic),
        Err(_) => Error::Missing("the runtime of a pull".to_owned()),
    }
}

struct Pull {
    store: Store,
    client: Client,
    reference: Reference,
    options: PullOptions,
}

impl Pull {
    fn tell(&self, progress: Progress) {
        self.options.report.tell(progress);
    }

    /// Keeps layers from being deleted from now on, and looks for the image. One that is damaged is pulled anew.
    fn begin(&self) -> Result<(Hold, Option<Image>), PullError> {
        let hold = self.store.hold()?;
        match self.store.resolve(&self.reference) {
            Ok(image) => Ok((hold, image)),
            Err(Error::File { source, .. }) if source.kind() != std::io::ErrorKind::NotFound => {
                Err(Error::File { action: "look for image in", path: self.store.path().to_owned(), source }
                    .into())
            }
            Err(_) => Ok((hold, None)),
        }
    }

    /// Asks one place after the other what the name means. Returns the places that may have its parts, the one that
    /// answered first.
    async fn resolve(&self, known: &[Digest]) -> Result<(Vec<Repository>, Meaning), PullError> {
        let (client, reference, keyring) =
            (self.client.clone(), self.reference.clone(), self.options.keyring.clone());
        let mut places: Vec<Repository> = spawn_blocking(move || client.repositories(&reference, &keyring))
            .await
            .map_err(ended)?
            .map_err(PullError::Resolve)?;
        let mut last = None;
        for index in 0..places.len() {
            match resolve(&self.client, &places[index], &self.reference, known, &self.options).await {
                Ok(meaning) => {
                    // Those before it do not have it, or not for us.
                    places.drain(..index);
                    return Ok((places, meaning));
                }
                Err(Unresolved::Image(error)) => return Err(error.into()),
                Err(Unresolved::Registry(error)) => last = Some(error),
            }
        }
        let nowhere = || RegistryError::NotFound { what: self.reference.to_string() };
        Err(PullError::Resolve(last.unwrap_or_else(nowhere)))
    }

    async fn config(
        self: &Arc<Self>,
        places: &[Repository],
        config: &Descriptor,
    ) -> Result<Vec<u8>, PullError> {
        let (pull, descriptor) = (Arc::clone(self), config.clone());
        let stored = blocking(move || Ok::<_, Error>(pull.store.document(&descriptor).ok())).await?;
        if let Some(bytes) = stored {
            return Ok(bytes);
        }
        let mut last = None;
        for place in places {
            match self.client.small_blob(place, &config.digest, config.size).await {
                Ok(bytes) => return Ok(bytes),
                Err(error) => last = Some(error),
            }
        }
        let nowhere = || RegistryError::NotFound { what: config.digest.to_string() };
        Err(PullError::Fetch { digest: config.digest, source: last.unwrap_or_else(nowhere) })
    }

    /// Brings all layers here, several at a time.
    async fn layers(
        self: &Arc<Self>,
        places: Vec<Repository>,
        manifest: &Manifest,
        diff_ids: &[Digest],
        session: Session,
    ) -> Result<Session, PullError> {
        self.tell(Progress::Layers {
            layers: manifest.layers.iter().map(|one| (one.digest, one.size)).collect(),
        });
        let (places, session): (Arc<[Repository]>, _) = (places.into(), Arc::new(session));
        let turns = Arc::new(Semaphore::new(self.options.parallel.clamp(1, limits::MAX_PARALLEL.into())));
        // Dropped, it ends all tasks in it.
        let mut tasks = JoinSet::new();
        let mut seen: HashMap<Digest, Digest> = HashMap::new();
        for (layer, &diff_id) in manifest.layers.iter().zip(diff_ids) {
            // Images have the same empty layer many times.
            match seen.insert(layer.digest, diff_id) {
                Some(expected) if expected != diff_id => {
                    let what = "layer after decompression";
                    return Err(Error::DigestMismatch { what, expected, actual: diff_id }.into());
                }
                Some(_) => continue,
                None => {}
            }
            let wanted = Wanted { blob: layer.digest, size: layer.size };
            let (pull, places, turns, session) =
                (Arc::clone(self), Arc::clone(&places), Arc::clone(&turns), Arc::clone(&session));
            tasks.spawn(async move {
                let _turn = turns.acquire_owned().await;
                pull.layer(&places, wanted, diff_id, session).await
            });
        }
        while let Some(done) = tasks.join_next().await {
            match done {
                Ok(layer) => layer?,
                Err(error) => return Err(ended(error).into()),
            }
        }
        Arc::into_inner(session).ok_or_else(|| Error::Missing("the session of a pull".to_owned()).into())
    }

    /// Brings one layer here, or waits until somebody else has.
    async fn layer(
        self: &Arc<Self>,
        places: &[Repository],
        wanted: Wanted,
        diff_id: Digest,
        session: Arc<Session>,
    ) -> Result<(), PullError> {
        let layer = wanted.blob;
        // The second time without what was there before.
        for last in [false, true] {
            let opened = Arc::clone(&session);
            let incoming = match blocking(move || opened.fetch((layer, wanted.size), diff_id)).await? {
                Fetch::Here(here) => {
                    debug_assert_eq!(here.diff_id, diff_id, "the store was asked for this layer");
                    self.tell(Progress::Present { layer });
                    return Ok(());
                }
                Fetch::Wanted(incoming) => incoming,
            };
            let have = incoming.have();
            if have > 0 {
                self.tell(Progress::Received { layer, bytes: have });
            }
            let (sender, receiver) = mpsc::channel(PIECES);
            let taking = Arc::clone(&session);
            let taking = spawn_blocking(move || {
                taking.complete(incoming, FromNetwork::new(receiver, wanted.size - have))
            });
            let fetched = download(&self.client, places, wanted, have, sender, &self.options).await;
            let taken = taking.await.unwrap_or_else(|error| Err(ended(error)));
            match (taken, fetched) {
                (Ok(_), _) => {
                    self.tell(Progress::Done { layer });
                    return Ok(());
                }
                (Err(_), Err(Ended::Registry(source))) => {
                    return Err(PullError::Fetch { digest: layer, source });
                }
                // A machine that crashed may have left anything, and the store has thrown it away.
                (Err(Error::DigestMismatch { .. } | Error::Archive { .. } | Error::Malformed { .. }), _)
                    if have > 0 && !last => {}
                (Err(error), _) => return Err(error.into()),
            }
        }
        unreachable!("the second time is the last")
    }

    /// Makes everything last and gives the image its name.
    fn commit(
        &self,
        resolved: Resolved,
        config: &[u8],
        diff_ids: Vec<Digest>,
        session: Session,
        hold: Hold,
    ) -> Result<Pulled, PullError> {
        let Resolved { digest, descriptor, manifest_bytes, .. } = resolved;
        session.document(config)?;
        session.document(&manifest_bytes)?;
        let pulled_as = format!("{}@{digest}", self.reference.repository());
        let pulled_as = Reference::parse(&pulled_as).expect("a repository and a digest");
        let (names, pulled) = (vec![self.reference.clone()], vec![pulled_as]);
        let prepared = Prepared { manifest: descriptor, names, diff_ids, pulled };
        let mut loaded = self.store.publish(session, vec![prepared], true)?;
        let loaded = loaded.pop().ok_or_else(|| Error::NoSuchImage(self.reference.to_string()))?;
        Ok(Pulled { image: loaded.image, digest, unchanged: false, skipped: loaded.skipped, hold })
    }
}

/// The rest of a blob, as it comes.
struct FromNetwork {
    pieces: mpsc::Receiver<Bytes>,
    piece: Bytes,
    missing: u64,
}

impl FromNetwork {
    fn new(pieces: mpsc::Receiver<Bytes>, missing: u64) -> Self {
        Self { pieces, piece: Bytes::new(), missing }
    }
}

impl Read for FromNetwork {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.missing == 0 {
            return Ok(0);
        }
        if self.piece.is_empty() {
            // The sender is dropped early only when it has given up, and says why itself.
            self.piece = self.pieces.blocking_recv().ok_or(io::ErrorKind::ConnectionAborted)?;
        }
        let taken = self.piece.split_to(self.piece.len().min(buffer.len()));
        buffer[..taken.len()].copy_from_slice(&taken);
        self.missing -= taken.len() as u64;
        Ok(taken.len())
    }
}
