//! Container images: names, the decision to pull, registries, and a store of unpacked layers for overlayfs.
//!
//! - [`Reference`] is an image's name, parsed and normalised as Docker and Kubernetes do it.
//! - [`PullPolicy`], [`default_pull_policy`] and [`decide`] say when an image has to be pulled, in the kubelet's way.
//! - [`Store`] holds images: it loads OCI layouts and docker archives, imports root file systems, verifies every digest
//!   while the bytes pass once, and unpacks each layer into a directory that overlayfs can stack.
//! - [`registry`] speaks to OCI registries, and [`Store::pull`] brings images from there.
//!
//! It does not mount anything, run anything, or know what a Pod is. The store is synchronous; pulling is async on tokio,
//! and is the feature `registry`, which is on by default. It starts no external program unless `registries.toml` allows
//! credential helpers, and reads no environment variable but for certificates (see [`registry`]). Archives are taken to be hostile: see [`limits`] for the bounds
//! and [`Refusal`] for what is not unpacked.
//!
//! ```no_run
//! use std::path::Path;
//!
//! use podrun_image::{Decision, LoadOptions, Store, decide, default_pull_policy, pull};
//!
//! let store = Store::open(Path::new("/var/lib/podrun/images"))?;
//! store.load(Path::new("busybox.tar"), &LoadOptions::default())?;
//!
//! let (text, reference) = pull::image_to_pull("busybox:1.36")?;
//! let image = store.resolve(&reference)?;
//! match decide(default_pull_policy("busybox:1.36"), &reference, image.is_some()) {
//!     Decision::UsePresent | Decision::UseLocalOnly => println!("{}", pull::already_present(&text)),
//!     Decision::Pull => println!("Store::pull brings {reference}"),
//!     _ => println!("{}", pull::never_and_absent(&text)),
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod ahead;
#[cfg(test)]
mod attacks;
mod config;
mod digest;
mod error;
mod frames;
pub mod limits;
mod load;
mod manifest;
mod memory;
mod platform;
mod protection;
pub mod pull;
mod reference;
#[cfg(feature = "registry")]
pub mod registry;
mod store;
mod stream;
mod sys;
mod tar_stream;
#[cfg(test)]
mod testing;
mod unpack;

pub use config::ImageConfig;
pub use digest::{Digest, DigestError};
pub use error::{Error, Refusal};
pub use limits::Limits;
pub use load::{ImportOptions, LoadOptions};
pub use platform::Platform;
pub use pull::{Decision, PullPolicy, decide, default_pull_policy};
#[cfg(feature = "registry")]
pub use pull::{PullError, PullOptions, Pulled};
pub use reference::{DEFAULT_TAG, Reference, ReferenceError, apply_default_tag};
pub use store::{
    ArchiveFormat, Candidate, CheckOptions, CheckReport, Collection, Damaged, DiskThresholds, DiskUse,
    Finding, Hold, Image, Images, Lease, Loaded, Outcome, PruneOptions, Pruned, Removed, Store, collect,
};
pub use unpack::Skipped;

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
