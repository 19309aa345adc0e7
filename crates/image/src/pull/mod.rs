//! When an image has to be pulled, how the kubelet words the outcome, and pulling itself.
//!
//! [`decide`] and what belongs to it are pure: the caller finds out whether the image is present
//! ([`Store::resolve`](crate::Store::resolve)) and acts on the [`Decision`].
//!
//! [`Store::pull`](crate::Store::pull) (feature `registry`) fetches layers side by side. Each is hashed, decompressed,
//! hashed again and unpacked while its bytes come in, once; one that comes to an end early goes on where it ended, after a
//! crash too; and one that another pull fetches already, in this process or another, is waited for. The image is seen when
//! everything is there and verified, whole.

#[cfg(feature = "registry")]
mod download;
mod policy;
#[cfg(feature = "registry")]
mod progress;
#[cfg(feature = "registry")]
mod resolve;
#[cfg(feature = "registry")]
mod run;

pub use self::policy::*;
#[cfg(feature = "registry")]
pub use self::progress::{Progress, Report};
#[cfg(feature = "registry")]
pub use self::run::{PullError, PullOptions, Pulled};

#[cfg(all(test, feature = "registry"))]
mod tests;
