//! What this machine knows of registries: `registries.toml`, and the credentials of the machine itself.

use podrun_image::registry::{Keyring, Registries};

use crate::error::{Error, Result};
use crate::paths::Paths;

/// Reads `registries.toml`; one that is not there says nothing.
pub(crate) fn registries(paths: &Paths) -> Result<Registries> {
    Ok(Registries::read(&paths.config.join("registries.toml"))?)
}

/// Reads the credentials that all Pods may use: those in `auth-files`, or in `auth.json` beside `registries.toml`.
pub(crate) fn credentials(paths: &Paths, registries: &Registries) -> Result<Keyring> {
    let default = [paths.config.join("auth.json")];
    let files = if registries.auth_files().is_empty() { &default } else { registries.auth_files() };
    let mut keyring = Keyring::default();
    for path in files {
        let read = Keyring::read(path);
        let read = read.map_err(|source| Error::Credentials { path: path.clone(), source })?;
        keyring.extend(read.unwrap_or_default());
    }
    Ok(keyring)
}
