//! What can go wrong, with the object it went wrong at.

use std::io;
use std::path::{Path, PathBuf};

use nix::errno::Errno;

use crate::digest::{Digest, DigestError};
use crate::reference::ReferenceError;

pub(crate) type Result<T, E = Error> = std::result::Result<T, E>;

/// Why an archive entry is not unpacked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// A path or a hard link's target has a `..` component.
    #[error("a path with .. would leave the layer")]
    ParentComponent,
    /// A name has a NUL byte.
    #[error("a name has a NUL byte")]
    Nul,
    /// A hard link or a file has an empty path.
    #[error("the path is empty")]
    EmptyPath,
    /// A parent is a file, or a link that leads nowhere in this layer.
    #[error("a parent of the path is not a directory")]
    ParentNotDirectory,
    /// A block or character device outside `dev/`.
    #[error("device nodes are refused outside dev/")]
    DeviceNode,
    /// A hard link whose target is absent from this layer, is a directory or is a device.
    #[error("the hard link's target is no file of this layer")]
    HardLinkTarget,
    /// A whiteout that would remove its own directory, its parent or nothing, or a directory with a whiteout's name.
    #[error("the whiteout names no file")]
    Whiteout,
    /// The layer's root is given as something else than a directory.
    #[error("the root of a layer must stay a directory")]
    Root,
    /// A user or group ID that the kernel does not know; as a smaller number it would be another user.
    #[error("the owner's id is out of range")]
    Owner,
    /// An entry type that is no file system object.
    #[error("unknown type of entry")]
    EntryType,
}

/// The errors of this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file system operation on the store or the source failed.
    #[error("{action} {}", path.display())]
    File {
        /// What was attempted: `open`, `rename`, `lock`, …
        action: &'static str,
        /// What it was attempted on.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The store was written by a version of this crate that lays it out differently.
    #[error("image store {} has layout {found:?}, only {supported:?} is known", path.display())]
    StoreVersion {
        /// The store.
        path: PathBuf,
        /// The layout that its `version` file names.
        found: String,
        /// The layout that this crate writes.
        supported: &'static str,
    },
    /// A document is not the JSON that it should be.
    #[error("parse {document}")]
    Document {
        /// A file name or a digest.
        document: String,
        /// Where and why.
        source: serde_json::Error,
    },
    /// A document is well-formed but contradicts itself or the archive.
    #[error("{document}: {reason}")]
    Contradiction {
        /// A file name or a digest.
        document: String,
        /// What does not fit.
        reason: &'static str,
    },
    /// An image name in an archive or a request is not a reference.
    #[error("parse image name {name:?}")]
    Name {
        /// The text.
        name: String,
        /// Why.
        source: ReferenceError,
    },
    /// A digest in a document is not valid.
    #[error("parse digest {digest:?}")]
    Digest {
        /// The text, shortened.
        digest: String,
        /// Why.
        source: DigestError,
    },
    /// Content does not have the digest that it is announced with.
    #[error("{what} has digest {actual} instead of {expected}")]
    DigestMismatch {
        /// `blob`, `layer after decompression`, …
        what: &'static str,
        /// The announced digest.
        expected: Digest,
        /// The digest of what was read.
        actual: Digest,
    },
    /// Content is longer or shorter than announced.
    #[error("{digest} has {actual} bytes instead of {expected}")]
    SizeMismatch {
        /// The announced digest.
        digest: Digest,
        /// The announced size.
        expected: u64,
        /// What was read; reading stops at the first byte too many.
        actual: u64,
    },
    /// The source is neither an OCI layout nor a docker archive.
    #[error("{} is neither an OCI image layout nor a docker archive", .0.display())]
    NotAnImage(PathBuf),
    /// A document refers to something that the source or the store does not have.
    #[error("{0} is missing")]
    Missing(String),
    /// A media type that is not an image's.
    #[error("{digest} has media type {media_type:?}, which is not supported")]
    MediaType {
        /// The descriptor's digest.
        digest: Digest,
        /// The media type.
        media_type: String,
    },
    /// No image for the wanted platform.
    #[error("no image for {wanted}, only for {available}")]
    Platform {
        /// `os/architecture`.
        wanted: String,
        /// What there is, separated by commas.
        available: String,
    },
    /// A bound of [`limits`](crate::limits) would be passed.
    #[error("{subject}: more than {max} {unit}")]
    Limit {
        /// An entry's path, a digest or a file name.
        subject: String,
        /// What is counted.
        unit: &'static str,
        /// The bound.
        max: u64,
    },
    /// Bytes of an archive cannot be read or decompressed; `UnexpectedEof` if it is cut off.
    #[error("read archive after entry {entry:?}")]
    Archive {
        /// The last entry seen; empty at the beginning.
        entry: String,
        /// The cause.
        source: io::Error,
    },
    /// An archive is not tar, or a header contradicts itself.
    #[error("malformed archive at entry {entry:?}: {reason}")]
    Malformed {
        /// The entry, or the one before it.
        entry: String,
        /// What is wrong.
        reason: &'static str,
    },
    /// An archive entry that must not be unpacked.
    #[error("refuse archive entry {entry:?}")]
    Refused {
        /// The entry's path as written.
        entry: String,
        /// The rule.
        source: Refusal,
    },
    /// The kernel refused to create what an entry describes.
    #[error("{action} for archive entry {entry:?}")]
    Unpack {
        /// The entry's path.
        entry: String,
        /// The system call.
        action: &'static str,
        /// Its error.
        source: Errno,
    },
    /// The name belongs to another image already, and replacing was not asked for.
    #[error("the name {name} is taken by image {id}")]
    NameTaken {
        /// The canonical name.
        name: String,
        /// The image that has it.
        id: Digest,
    },
    /// One name was given for an archive with several images.
    #[error("{} has {count} images, one name is not enough", path.display())]
    SeveralImages {
        /// The archive.
        path: PathBuf,
        /// How many.
        count: usize,
    },
    /// No image has this name or ID.
    #[error("no such image {0:?}")]
    NoSuchImage(String),
    /// More than one image's ID begins with this.
    #[error("several images have an id that begins with {0:?}")]
    AmbiguousId(String),
    /// The image is leased.
    #[error("image {id} is in use by {}", users.join(", "))]
    InUse {
        /// The image.
        id: Digest,
        /// Who uses it.
        users: Vec<String>,
    },
    /// A text that cannot be the name of a user of images: letters, digits, `.`, `_` and `-`, at most 200 of them.
    #[error("{0:?} cannot be the name of a user of images")]
    User(String),
}

impl Error {
    /// Returns whether what was named is not in the store.
    pub const fn is_not_found(&self) -> bool {
        matches!(self, Self::NoSuchImage(_))
    }

    /// Returns whether something else stands in the way: a container that uses the image, an image that has the name.
    pub const fn is_in_use(&self) -> bool {
        matches!(self, Self::InUse { .. } | Self::NameTaken { .. })
    }

    /// Makes the error of a file operation; for use in `map_err`.
    pub(crate) fn file<E: Into<io::Error>>(action: &'static str, path: &Path) -> impl FnOnce(E) -> Self {
        move |source| Self::File { action, path: path.to_owned(), source: source.into() }
    }

    /// Takes an error of ours out of an `io::Error` that a reader carried it in, or wraps a foreign one.
    pub(crate) fn from_reader(error: io::Error, entry: &[u8]) -> Self {
        match error.downcast::<Self>() {
            Ok(ours) => ours,
            Err(source) => Self::Archive { entry: lossy(entry), source },
        }
    }
}

impl From<Error> for io::Error {
    /// Lets an error of ours travel through a `Read` implementation; the reading side takes it out again.
    fn from(error: Error) -> Self {
        Self::other(error)
    }
}

/// Returns an error and its causes on one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

/// The text of a path from an archive, shortened: error messages must not be of the archive's length.
pub(crate) fn lossy(bytes: &[u8]) -> String {
    const SHOWN: usize = 300;
    let mut text = String::from_utf8_lossy(&bytes[..bytes.len().min(SHOWN)]).into_owned();
    if bytes.len() > SHOWN {
        text.push('…');
    }
    text
}
