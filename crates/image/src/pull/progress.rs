//! What a pull tells while it goes on.

use std::fmt;
use std::sync::Arc;

use crate::digest::Digest;

/// A step of a pull.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Progress {
    /// The name means this manifest or index.
    Resolved {
        /// Its digest.
        digest: Digest,
    },
    /// The image that will be pulled has these layers, the lowest first, each with its bytes in the registry.
    Layers {
        /// Digest and size of each.
        layers: Vec<(Digest, u64)>,
    },
    /// The layer is here already.
    Present {
        /// Its digest.
        layer: Digest,
    },
    /// Somebody else is pulling this layer: it is waited for.
    Waiting {
        /// Its digest.
        layer: Digest,
    },
    /// So much of the layer is here.
    Received {
        /// Its digest.
        layer: Digest,
        /// Bytes in all, those of an earlier pull that broke off included.
        bytes: u64,
    },
    /// The layer's transfer broke off and will go on.
    Retrying {
        /// Its digest.
        layer: Digest,
        /// Why it broke off.
        reason: String,
    },
    /// The layer is verified and unpacked.
    Done {
        /// Its digest.
        layer: Digest,
    },
    /// All layers are there; the image is being made to last and given its name.
    Committing,
}

/// Somebody who is told of each step, from several threads.
#[derive(Clone)]
pub struct Report(Arc<dyn Fn(Progress) + Send + Sync>);

impl Report {
    /// Makes a report of a function, which must not block.
    pub fn new(tell: impl Fn(Progress) + Send + Sync + 'static) -> Self {
        Self(Arc::new(tell))
    }

    pub(super) fn tell(&self, progress: Progress) {
        (self.0)(progress);
    }
}

impl Default for Report {
    /// Tells nobody.
    fn default() -> Self {
        Self::new(drop)
    }
}

impl fmt::Debug for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Report")
    }
}
