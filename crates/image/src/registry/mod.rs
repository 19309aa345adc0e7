//! A client for OCI registries, for pulling: [`Client`] with [`Registries`] and a [`Keyring`];
//! [`Store::pull`](crate::Store::pull) does the rest.
//!
//! # Why not `oci-client`
//!
//! `oci-client` 0.18 was weighed first. Its model of requests is sound, and it can begin a blob at any byte. But it reads
//! manifests, tokens and error texts whole into memory however long they are; it sends a user's password to whatever URL
//! a challenge names; it follows the `urls` of foreign layers; redirects, addresses and certificates are one policy for
//! all registries, that of a general HTTP client; and it has neither mirrors nor retries. Each of these is a
//! requirement here, and each is in the middle of it. It brings 150 crates with a TLS library in C; this client uses what
//! the workspace has for probes.
//!
//! # What is trusted how far
//!
//! - **Content** is what its digest says, or it is not used. Only a tag's meaning is the registry's word.
//! - **Credentials** go to the registry they are kept for, over TLS unless the administrator has named it in
//!   `registries.toml` as one without, and to its token server if that is of the same house (`auth-hosts` adds others).
//!   A redirect to another scheme, host or port goes without them, and nobody but the registry itself may ask for them.
//! - **Redirects** are followed five times, never from HTTPS to HTTP, and never to other schemes.
//! - **Addresses** that a server names, in a redirect or as its token server, have to reach as far as its own, or
//!   further: a registry on the Internet leads to the Internet, not to this machine, a private network or a cloud's
//!   metadata service. What is looked up is what is connected to. What the user names himself is his affair.
//! - **URLs in manifests** are never followed.
//! - **Sizes**: 4 MiB for a manifest or configuration, 256 KiB for a token, 64 KiB for an error, what the manifest says
//!   for a layer. Who sends less than 4 KiB in [`PATIENCE`] is left.
//! - **Certificates** are checked always; there is no switch. Revocation is not checked.
//!
//! [`registries.toml`](settings) is read where the caller says; the certificates of this machine come from
//! `rustls-native-certs`, which looks at `SSL_CERT_FILE` and `SSL_CERT_DIR`.

mod challenge;
mod client;
mod connection;
mod credentials;
mod error;
mod http;
mod reach;
pub mod settings;
mod token;
mod url;

pub(crate) use self::client::Repository;
pub use self::client::{Client, PATIENCE};
pub use self::credentials::{AuthFileError, Credential, Keyring};
pub use self::error::RegistryError;
pub use self::settings::{Registries, Registry, SettingsError};

/// Docker Hub in names of images.
const HUB: &str = "docker.io";
/// Docker Hub's registry.
const HUB_HOST: &str = "registry-1.docker.io";
