//! What stands between a hostile archive and this machine, by name.
//!
//! Each is always on. Only a test can take one away, on its own thread, to prove that the test of that protection notices:
//! a test that stays green without what it tests is none.

/// One protection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Protection {
    /// Paths are resolved below the layer's root.
    ResolveInRoot,
    /// A `..` in a path is refused.
    ParentComponent,
    /// A NUL in a name is refused.
    Nul,
    /// Files are made, never opened by a name that may be a link.
    CreateExclusively,
    /// A hard link to a symbolic link is a link to the link.
    LinkNotFollowed,
    /// Only files, links and FIFOs can be linked to.
    HardLinkTarget,
    /// The root of a layer stays a directory.
    Root,
    /// A whiteout cannot name its own directory or that one's parent.
    WhiteoutName,
    /// Device nodes are not made.
    DeviceNode,
    /// Attributes that steer overlayfs or belong to the host are not set.
    Attributes,
    /// Owners that the kernel does not know are refused.
    Owner,
    /// A file is not left where a directory has to be.
    ParentNotDirectory,
    /// Bounds: uncompressed bytes, holes of sparse files, entries, extended headers, directories that are not listed in a session
    /// and in all layers of an image.
    UnpackedBytes,
    FileBytes,
    Entries,
    ExtendedHeaders,
    ImpliedDirectories,
    ImpliedInAll,
    /// Bounds: lengths of a path, a name and a header, depth, parts of a sparse file, memory of a decoder and of all.
    PathBytes,
    NameBytes,
    HeaderBytes,
    Depth,
    DepthThroughLinks,
    SparseSegments,
    ZstdWindow,
    DecoderMemory,
    /// Bounds of what is around layers.
    DocumentBytes,
    DocumentItems,
    ArchiveMembers,
    Images,
    Layers,
    IndexDepth,
    BlobBytes,
    /// A document is a manifest or an index.
    OneKind,
    /// A media type is what is said of it elsewhere.
    MediaType,
    /// A digest is one before it becomes a file's name.
    DigestSyntax,
    /// Content is what its digest says.
    BlobDigest,
    DiffId,
    ConfigDigest,
    /// Names in a directory or archive lead to its own files.
    SourceBelow,
    /// What is no file is not opened for reading.
    SourceIsFile,
    /// An archive does not take a name from an image that has it.
    NameTaken,
}

impl Protection {
    /// Whether it is on, which it always is outside of tests of it.
    #[cfg(not(test))]
    #[inline(always)]
    #[expect(clippy::unused_self, reason = "tests ask for each")]
    #[expect(clippy::inline_always, reason = "so that nothing of it is left in a program")]
    pub(crate) const fn is_on(self) -> bool {
        true
    }

    /// Whether it is on.
    #[cfg(test)]
    pub(crate) fn is_on(self) -> bool {
        weak::OFF.get() != Some(self)
    }
}

/// What another thread inherits.
#[derive(Clone, Copy)]
pub(crate) struct Inherited(#[cfg(test)] Option<Protection>);

/// Takes along what is off on this thread.
pub(crate) fn inherit() -> Inherited {
    Inherited(
        #[cfg(test)]
        weak::OFF.get(),
    )
}

impl Inherited {
    /// Takes the same away on this thread.
    #[cfg_attr(not(test), expect(clippy::unused_self, reason = "nothing can be off"))]
    pub(crate) fn apply(self) {
        #[cfg(test)]
        weak::OFF.set(self.0);
    }
}

#[cfg(test)]
pub(crate) mod weak {
    use std::cell::Cell;

    use super::Protection;

    thread_local! {
        pub(super) static OFF: Cell<Option<Protection>> = const { Cell::new(None) };
    }

    /// Runs `body` without a protection.
    pub(crate) fn without<T>(protection: Protection, body: impl FnOnce() -> T) -> T {
        struct Restore(Option<Protection>);
        impl Drop for Restore {
            fn drop(&mut self) {
                OFF.set(self.0);
            }
        }
        let _restore = Restore(OFF.replace(Some(protection)));
        body()
    }
}
