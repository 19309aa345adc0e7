//! Pulls from servers that do everything right, and from those that do not.

mod addresses;
mod auth;
mod hostile;
mod server;
mod tls;
mod transfer;

use std::fs;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use self::server::{Answer, Seen, Server, registry};
use super::{Progress, PullError, PullOptions, Pulled, Report};
use crate::digest::Digest;
use crate::error::Error;
use crate::reference::Reference;
use crate::registry::{Client, Credential, Keyring, Registries, RegistryError};
use crate::store::Store;
use crate::testing::{TarFile, TestImage};

/// How long servers of these tests may be silent: longer than a busy machine lets them be.
const PATIENCE: Duration = Duration::from_secs(20);
/// The same where a server is silent on purpose.
const LITTLE: Duration = Duration::from_millis(700);

/// A store, and a client that knows one server.
struct Bench {
    dir: tempfile::TempDir,
    store: Store,
    options: PullOptions,
    patience: Duration,
    told: Arc<Mutex<Vec<Progress>>>,
}

impl Bench {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("temporary directory");
        let store = Store::open(&dir.path().join("store")).expect("open");
        let told = Arc::new(Mutex::new(Vec::new()));
        let tell = Arc::clone(&told);
        let report = Report::new(move |progress| tell.lock().expect("no panic").push(progress));
        let retry_pause = Duration::from_millis(5);
        let options = PullOptions { retry_pause, report, ..PullOptions::default() };
        Self { dir, store, options, patience: PATIENCE, told }
    }

    fn with_little_patience() -> Self {
        Self { patience: LITTLE, ..Self::new() }
    }

    fn with_password(mut self, registry: &str) -> Self {
        self.options.keyring = Keyring::default().with(registry, password());
        self
    }

    /// Pulls `team/app:1` from a server that speaks HTTP.
    fn pull(&self, server: &Server) -> Result<Pulled, PullError> {
        self.pull_named(server, "team/app:1")
    }

    fn pull_named(&self, server: &Server, name: &str) -> Result<Pulled, PullError> {
        let client = Client::with_patience(plain(&[server]), self.patience);
        self.pull_with(&client, &format!("{}/{name}", server.name()))
    }

    fn pull_with(&self, client: &Client, name: &str) -> Result<Pulled, PullError> {
        let reference: Reference = name.parse().expect(name);
        let pulled = self.store.pull_blocking(client, &reference, &self.options);
        // Whatever comes of a pull, the store can be read and has the image whole or not at all.
        let found = self.store.resolve(&reference).expect("readable");
        match &pulled {
            Ok(pulled) => assert_eq!(found.as_ref().map(|image| image.id), Some(pulled.image.id)),
            Err(_) => assert!(found.is_none(), "{found:?}"),
        }
        pulled
    }

    /// Bytes of blobs that are on their way.
    fn partial(&self) -> u64 {
        let entries = fs::read_dir(self.store.path().join("incoming")).expect("readable");
        entries.map(|entry| entry.expect("entry").metadata().expect("stat").len()).sum()
    }

    /// The same of one.
    fn partial_of(&self, blob: &str) -> u64 {
        let hex = blob.strip_prefix("sha256:").expect("a digest");
        fs::metadata(self.store.path().join("incoming").join(hex)).map_or(0, |partial| partial.len())
    }

    fn told(&self) -> Vec<Progress> {
        std::mem::take(&mut *self.told.lock().expect("no panic"))
    }
}

/// Settings in which these servers speak HTTP without TLS.
fn plain(servers: &[&Server]) -> Registries {
    servers.iter().fold(Registries::default(), |all, server| all.with_plain_http(&server.name()))
}

fn password() -> Credential {
    Credential::Password { username: "me".to_owned(), password: "s3cret".to_owned() }
}

/// `me:s3cret`
const BASIC: &str = "Basic bWU6czNjcmV0";

/// An image with one layer of incompressible data, and a small one above it.
fn image() -> TestImage {
    let mut state = 1_u64;
    let data: Vec<u8> = std::iter::repeat_with(|| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        state.to_be_bytes()[0]
    })
    .take(900_000)
    .collect();
    let mut first = TarFile::new();
    first.entry(b'0', "data", "", 0o644, &data);
    let mut second = TarFile::new();
    second.file("name", "second");
    TestImage::new(&[first.finish(), second.finish()])
}

/// Returns the digest of the image's large layer.
fn large(image: &TestImage) -> String {
    Digest::of(&image.layers[0].0).to_string()
}

/// Returns the cause of a failed pull that is the registry's.
fn cause(error: &PullError) -> &RegistryError {
    let mut cause = error.registry().unwrap_or_else(|| panic!("not the registry's: {error:?}"));
    while let RegistryError::Request { source, .. } | RegistryError::Token { source, .. } = cause {
        cause = source;
    }
    cause
}
