//! Connections to origins: looking up, dialling, TLS.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, crypto};

use super::error::RegistryError;
use super::reach::{Reach, reach};
use super::url::Origin;

/// How long one address may take to answer, and the handshake after it.
const CONNECT_WITHIN: Duration = Duration::from_secs(10);
/// How many addresses of a host are tried.
const MAX_ADDRESSES: usize = 8;
/// How many header lines an answer may have.
const MAX_HEADERS: usize = 128;
/// Bytes that are read at once, and that the headers of an answer may have together.
const BUFFER: usize = 128 << 10;

/// Who has chosen where to connect to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ChosenBy {
    /// The user or the administrator: an image's name, `registries.toml`. Any address is right.
    User,
    /// A server that is itself reached over this: only addresses that reach as far, or further.
    Server(Reach),
}

impl ChosenBy {
    /// Returns whether an address may be connected to.
    pub(super) fn permits(self, address: IpAddr) -> bool {
        match self {
            Self::User => true,
            Self::Server(from) => reach(address).is_some_and(|to| to >= from),
        }
    }
}

/// An open connection that waits for a request.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) sender: SendRequest<Full<Bytes>>,
    pub(super) address: IpAddr,
}

impl Connection {
    /// Returns how far its address reaches; the nearest for one that has no business to be a registry's.
    pub(super) fn reach(&self) -> Reach {
        reach(self.address).unwrap_or(Reach::Loopback)
    }
}

/// TLS configurations, made when the first connection needs them.
#[derive(Default)]
pub(super) struct Trust {
    made: Mutex<HashMap<Option<PathBuf>, Arc<ClientConfig>>>,
}

impl Trust {
    /// Returns the configuration that trusts the certificates in `ca`, or those that this machine trusts.
    fn config(&self, ca: Option<&Path>) -> Result<Arc<ClientConfig>, RegistryError> {
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(config) = made.get(&ca.map(Path::to_owned)) {
            return Ok(Arc::clone(config));
        }
        let roots = match ca {
            Some(path) => of_file(path)?,
            None => of_host()?,
        };
        let config = ClientConfig::builder_with_provider(Arc::new(crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("the provider supports the versions of TLS it was built for")
            .with_root_certificates(roots)
            .with_no_client_auth();
        let config = Arc::new(config);
        made.insert(ca.map(Path::to_owned), Arc::clone(&config));
        Ok(config)
    }
}

fn of_file(path: &Path) -> Result<RootCertStore, RegistryError> {
    let failed = |source| RegistryError::Certificates { path: path.display().to_string(), source };
    let pem = std::fs::read(path).map_err(failed)?;
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        let added =
            certificate.map_err(io::Error::other).and_then(|one| roots.add(one).map_err(io::Error::other));
        added.map_err(failed)?;
    }
    if roots.is_empty() {
        return Err(failed(io::Error::other("the file has no certificate")));
    }
    Ok(roots)
}

fn of_host() -> Result<RootCertStore, RegistryError> {
    let loaded = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    // Stores have certificates that are too old or odd to be of use; the others serve.
    roots.add_parsable_certificates(loaded.certs);
    if roots.is_empty() {
        let source = match loaded.errors.into_iter().next() {
            Some(error) => io::Error::other(error),
            None => io::Error::other("there are none: install ca-certificates or set ca in registries.toml"),
        };
        return Err(RegistryError::Certificates { path: "of this host".to_owned(), source });
    }
    Ok(roots)
}

/// Connects to an origin. The connection ends when its [`SendRequest`] is dropped.
pub(super) async fn connect(
    origin: &Origin,
    chosen_by: ChosenBy,
    trust: &Trust,
    ca: Option<&Path>,
) -> Result<Connection, RegistryError> {
    let (stream, address) = dial(origin, chosen_by).await?;
    // Requests are small and answers are what is waited for.
    let _ = stream.set_nodelay(true);
    let sender = if origin.https {
        let config = trust.config(ca)?;
        let tls = |source| RegistryError::Tls { host: origin.authority(), source };
        let name = ServerName::try_from(origin.host.clone())
            .map_err(|_| tls(io::Error::new(io::ErrorKind::InvalidInput, "not a name for a certificate")))?;
        let handshake = TlsConnector::from(config).connect(name, stream);
        let stream = timeout(CONNECT_WITHIN, handshake)
            .await
            .map_err(|_| stalled(origin, "has not finished the TLS handshake"))?
            .map_err(tls)?;
        handshake_http(origin, stream).await?
    } else {
        handshake_http(origin, stream).await?
    };
    Ok(Connection { sender, address })
}

fn stalled(origin: &Origin, what: &'static str) -> RegistryError {
    RegistryError::Stalled { host: origin.authority(), what, after: CONNECT_WITHIN }
}

async fn handshake_http<S>(origin: &Origin, stream: S) -> Result<SendRequest<Full<Bytes>>, RegistryError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (sender, connection) = http1::Builder::new()
        .max_buf_size(BUFFER)
        .max_headers(MAX_HEADERS)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(|source| RegistryError::Http { host: origin.authority(), source })?;
    // What breaks it is told to whoever waits for an answer.
    tokio::spawn(async move { drop(connection.await) });
    Ok(sender)
}

async fn dial(origin: &Origin, chosen_by: ChosenBy) -> Result<(TcpStream, IpAddr), RegistryError> {
    let mut refused = None;
    let mut failed = None;
    for address in look_up(origin).await?.into_iter().take(MAX_ADDRESSES) {
        // What is checked is what is connected to: the name is not looked up again.
        if !chosen_by.permits(address.ip()) {
            refused = Some(RegistryError::Address { host: origin.host.clone(), address: address.ip() });
            continue;
        }
        failed = Some(match timeout(CONNECT_WITHIN, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => return Ok((stream, address.ip())),
            Ok(Err(source)) => RegistryError::Connect { address, source },
            Err(_) => {
                let source = io::Error::from_raw_os_error(libc::ETIMEDOUT);
                RegistryError::Connect { address, source }
            }
        });
    }
    let nothing = || RegistryError::Lookup {
        host: origin.host.clone(),
        source: io::Error::new(io::ErrorKind::NotFound, "the name has no address"),
    };
    Err(failed.or(refused).unwrap_or_else(nothing))
}

async fn look_up(origin: &Origin) -> Result<Vec<SocketAddr>, RegistryError> {
    if let Ok(address) = origin.host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(address, origin.port)]);
    }
    let lookup = tokio::net::lookup_host((origin.host.as_str(), origin.port));
    let found = timeout(CONNECT_WITHIN * 2, lookup).await;
    let found = found.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
    found.map(Iterator::collect).map_err(|source| RegistryError::Lookup { host: origin.host.clone(), source })
}
