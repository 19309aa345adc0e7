//! Verifies a store against itself, and repairs it.
//!
//! Blobs have to have their digests. An unpacked layer is compared with what its blob unpacks to now, which also is its
//! replacement if the two differ. A blob that is damaged cannot be made again from files, so images that need it are
//! dropped, with all their names: they have to be loaded or pulled again.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use super::compare::{self, Difference};
use super::facts::{self, LayerFacts};
use super::index::{self, StoreIndex};
use super::intake::{self, Budget};
use super::session::{Expected, Session, make_layer_dir, remove};
use super::{Found, Parts, Store, join};
use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::limits::Limits;
use crate::reference::Reference;
use crate::stream::Hashing;

/// How to check.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CheckOptions {
    /// Changes nothing.
    pub dry_run: bool,
    /// Looks at blobs only and takes the files of layers as they are. Everything is read once then, instead of blobs being
    /// unpacked again.
    pub quick: bool,
}

/// What a check found.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct CheckReport {
    /// Images that were checked.
    pub images: u64,
    /// Blobs that were read.
    pub blobs: u64,
    /// Bytes of these blobs.
    pub bytes: u64,
    /// Unpacked layers that were compared with their blobs.
    pub layers: u64,
    /// What is not as it should be.
    pub findings: Vec<Finding>,
}

/// Something that is not as it should be.
#[derive(Debug)]
#[non_exhaustive]
pub struct Finding {
    /// `index.json`, `blob sha256:…`, `layer sha256:…`.
    pub subject: String,
    /// What is wrong with it.
    pub problem: String,
    /// What became of it.
    pub outcome: Outcome,
}

/// What became of a finding.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outcome {
    /// It is as it should be now.
    Repaired,
    /// These images are gone: names, or the digest of a manifest.
    Dropped(Vec<String>),
    /// It stays as it is, for this reason.
    Left(String),
}

impl CheckReport {
    /// Whether nothing is wrong now and nothing was lost.
    pub fn is_sound(&self) -> bool {
        self.findings.iter().all(|finding| finding.outcome == Outcome::Repaired)
    }
}

/// What is wrong and what could be done about it.
struct Fault {
    subject: String,
    problem: String,
    remedy: Remedy,
}

enum Remedy {
    /// Puts this in the place of a layer or a join; the paths are of directories.
    Replace { by: PathBuf, at: PathBuf, layer: Option<Digest> },
    /// Nothing can be done, for this reason.
    None(String),
    /// Drops the images whose manifests these are, and a file if there is one.
    Drop { images: BTreeSet<Digest>, file: Option<PathBuf> },
}

/// A check under way.
struct Check<'s> {
    store: &'s Store,
    session: Session,
    report: CheckReport,
    faults: Vec<Fault>,
    /// Whether each blob is as it should be.
    blobs: BTreeMap<Digest, bool>,
}

impl Store {
    /// Verifies every blob and every unpacked layer of the store's images, and repairs what can be repaired.
    ///
    /// Layers that are in use are not replaced under whoever uses them. `progress` is told what is looked at.
    ///
    /// # Errors
    ///
    /// [`Error::File`] if the store cannot be read, or has no room to unpack a layer. What is damaged is no error but a
    /// [`Finding`].
    pub fn check(&self, options: &CheckOptions, mut progress: impl FnMut(&str)) -> Result<CheckReport> {
        let session = Session::begin(&self.layout, Limits::default())?;
        let mut check = Check {
            store: self,
            session,
            report: CheckReport::default(),
            faults: Vec::new(),
            blobs: BTreeMap::new(),
        };
        let (index, mut findings) = match index::read(&self.layout) {
            Ok(index) => (index, Vec::new()),
            Err(error @ Error::Document { .. }) => {
                let restored = self.restored_index();
                let outcome = if options.dry_run {
                    Outcome::Left("dry run".to_owned())
                } else {
                    let _lock = self.layout.lock()?;
                    restored.write(&self.layout)?;
                    Outcome::Repaired
                };
                let problem = crate::error::chain(&error);
                (restored, vec![Finding { subject: "index.json".to_owned(), problem, outcome }])
            }
            Err(error) => return Err(error),
        };
        check.report.images = index.images().len() as u64;
        let mut layers: BTreeMap<Digest, Digest> = BTreeMap::new();
        let mut chains: BTreeMap<Digest, Vec<Digest>> = BTreeMap::new();
        for found in index.images() {
            progress(&name_of(&found));
            let Some(parts) = check.image(&found)? else { continue };
            let blobs = check.store.manifest(&found.manifest)?.layers;
            layers.extend(parts.layers.iter().copied().zip(blobs.iter().map(|blob| blob.digest)));
            chains.extend(parts.chain.map(|chain| (chain, parts.layers)));
        }
        if !options.quick {
            for (diff_id, blob) in &layers {
                progress(&format!("layer {diff_id}"));
                check.layer(diff_id, blob)?;
            }
            for (chain, diff_ids) in &chains {
                check.join(chain, diff_ids)?;
            }
        }
        let Check { session, mut report, faults, .. } = check;
        findings.extend(self.settle(&session, faults, options.dry_run)?);
        report.findings = findings;
        Ok(report)
    }

    /// Makes an index from the copy of the last one, or from the manifests that there are, without names.
    fn restored_index(&self) -> StoreIndex {
        if let Some(copy) = index::read_copy(&self.layout) {
            return copy;
        }
        let mut restored = StoreIndex::empty();
        for entry in fs::read_dir(self.layout.blobs()).into_iter().flatten().flatten() {
            let digest = entry.file_name().to_str().and_then(Digest::from_hex);
            let size = entry.metadata().map_or(u64::MAX, |meta| meta.len());
            if size > crate::limits::MAX_DOCUMENT_BYTES {
                continue;
            }
            if let Some(digest) = digest
                && let Ok(manifest) = self.manifest(&digest)
            {
                restored.add(crate::manifest::Descriptor::new(&manifest.media_type, digest, size));
            }
        }
        restored
    }

    /// Applies the remedies, and says what came of each.
    fn settle(&self, session: &Session, faults: Vec<Fault>, dry_run: bool) -> Result<Vec<Finding>> {
        let mut findings = Vec::new();
        if faults.is_empty() {
            return Ok(findings);
        }
        let _lock = self.layout.lock()?;
        let leases = self.leases()?;
        let user_of = |test: &dyn Fn(&super::Lease) -> bool| {
            leases.iter().find(|lease| test(lease)).map(|lease| format!("in use by {}", lease.user))
        };
        let exclusive = session.alone()?;
        let mut index = index::read(&self.layout)?;
        let names: BTreeMap<Digest, String> =
            index.images().iter().map(|found| (found.manifest, name_of(found))).collect();
        for Fault { subject, problem, remedy } in faults {
            let outcome = match remedy {
                Remedy::None(reason) => Outcome::Left(reason),
                _ if dry_run => Outcome::Left("dry run".to_owned()),
                _ if exclusive.is_none() => Outcome::Left("the store is in use; check again".to_owned()),
                Remedy::Replace { by, at, layer } => {
                    let holds = |lease: &super::Lease| {
                        layer.is_some_and(|layer| {
                            lease.parts.iter().any(|parts| parts.layers.contains(&layer))
                        })
                    };
                    match user_of(&holds) {
                        Some(user) => Outcome::Left(user),
                        None => {
                            self.replace(&by, &at)?;
                            Outcome::Repaired
                        }
                    }
                }
                Remedy::Drop { images, file } => {
                    let uses = |lease: &super::Lease| !lease.manifests.is_disjoint(&images);
                    match user_of(&uses) {
                        Some(user) => Outcome::Left(user),
                        None => {
                            let gone = images.iter().filter_map(|image| names.get(image)).cloned().collect();
                            images.iter().for_each(|manifest| index.remove_image(manifest));
                            index.write(&self.layout)?;
                            if let Some(file) = file {
                                super::lease::remove_file(&file)?;
                            }
                            Outcome::Dropped(gone)
                        }
                    }
                }
            };
            findings.push(Finding { subject, problem, outcome });
        }
        Ok(findings)
    }

    /// Puts one directory in the place of another, which may be absent.
    fn replace(&self, by: &Path, at: &Path) -> Result<()> {
        let aside = self.layout.tmp().join("garbage-replaced");
        remove(&aside)?;
        if at.exists() {
            fs::rename(at, &aside).map_err(Error::file("rename", at))?;
        }
        fs::rename(by, at).map_err(Error::file("rename", by))?;
        super::layout::sync_dir(at.parent().expect("a layer has a directory"))?;
        remove(&aside)
    }
}

impl Check<'_> {
    /// Verifies an image's documents and blobs; returns its parts if all are sound.
    fn image(&mut self, found: &Found) -> Result<Option<Parts>> {
        let manifest_only = || BTreeSet::from([found.manifest]);
        if !self.blob(&found.manifest, manifest_only())? {
            return Ok(None);
        }
        let manifest = match self.store.manifest(&found.manifest) {
            Ok(manifest) => manifest,
            Err(error) => return Ok(self.unusable(found, &error)),
        };
        let mut sound = true;
        for part in manifest.layers.iter().chain([&manifest.config]) {
            sound &= self.blob(&part.digest, manifest_only())?;
        }
        if !sound {
            return Ok(None);
        }
        match self.store.parts_of(found) {
            Ok(parts) if parts.layers.len() == manifest.layers.len() => Ok(Some(parts)),
            Ok(_) => {
                let reason = "has another number of layers than its manifest";
                let document = manifest.config.digest.to_string();
                Ok(self.unusable(found, &Error::Contradiction { document, reason }))
            }
            Err(error) => Ok(self.unusable(found, &error)),
        }
    }

    fn unusable(&mut self, found: &Found, error: &Error) -> Option<Parts> {
        let remedy = Remedy::Drop { images: BTreeSet::from([found.manifest]), file: None };
        let (subject, problem) = (format!("image {}", name_of(found)), crate::error::chain(error));
        self.faults.push(Fault { subject, problem, remedy });
        None
    }

    /// Verifies a blob, once; `images` need it.
    fn blob(&mut self, digest: &Digest, images: BTreeSet<Digest>) -> Result<bool> {
        let path = self.store.layout.blob(digest);
        if let Some(&sound) = self.blobs.get(digest) {
            if !sound {
                // Another image needs it as well.
                let subject = format!("blob {digest}");
                let fault = self.faults.iter_mut().find(|fault| fault.subject == subject);
                if let Some(Fault { remedy: Remedy::Drop { images: all, .. }, .. }) = fault {
                    all.extend(images);
                }
            }
            return Ok(sound);
        }
        let problem = match File::open(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Some("is missing".to_owned()),
            Err(error) => return Err(Error::file("open", &path)(error)),
            Ok(file) => match Hashing::new(file, u64::MAX, "bytes of blob").finish() {
                Ok((actual, bytes)) => {
                    self.report.blobs += 1;
                    self.report.bytes += bytes;
                    actual.filter(|actual| actual != digest).map(|actual| format!("has digest {actual}"))
                }
                // A sector that cannot be read.
                Err(error) => Some(format!("cannot be read: {error}")),
            },
        };
        self.blobs.insert(*digest, problem.is_none());
        if let Some(problem) = problem {
            let remedy = Remedy::Drop { images, file: Some(path) };
            self.faults.push(Fault { subject: format!("blob {digest}"), problem, remedy });
            return Ok(false);
        }
        Ok(true)
    }

    /// Unpacks a layer anew and compares the two.
    fn layer(&mut self, diff_id: &Digest, blob: &Digest) -> Result<()> {
        let by = self.session.scratch().join("layers").join(diff_id.hex());
        let at = self.store.layout.layer(diff_id);
        let source = self.store.layout.blob(blob);
        let file = File::open(&source).map_err(Error::file("open", &source))?;
        let nowhere = Path::new("/dev/null");
        let null = File::options().write(true).open(nowhere).map_err(Error::file("open", nowhere))?;
        let expected = Expected { blob: None, diff_id: Some(*diff_id) };
        // Whoever loaded it has decided how large it may be.
        let limits = Limits::default().with_unpacked_bytes(u64::MAX).with_layer_entries(u64::MAX);
        let dir = make_layer_dir(&by)?;
        let taken = match intake::take_in(file, &null, Some(dir), expected, &Budget::new(u64::MAX), limits) {
            Ok(taken) => taken,
            Err(error) => {
                remove(&by)?;
                let (subject, problem) = (format!("layer {diff_id}"), "cannot be verified".to_owned());
                self.faults.push(Fault {
                    subject,
                    problem,
                    remedy: Remedy::None(crate::error::chain(&error)),
                });
                return Ok(());
            }
        };
        let stats = taken.stats.clone().unwrap_or_default();
        let fresh = LayerFacts::of(&taken, &stats);
        fresh.write(&by, &stats.implied)?;
        self.report.layers += 1;
        let Some(problem) = self.compare_layers(diff_id, &fresh, &stats.implied) else { return remove(&by) };
        let remedy = Remedy::Replace { by, at, layer: Some(*diff_id) };
        self.faults.push(Fault { subject: format!("layer {diff_id}"), problem, remedy });
        Ok(())
    }

    /// Says what is wrong with a layer of the store.
    fn compare_layers(&self, diff_id: &Digest, fresh: &LayerFacts, implied: &[Vec<u8>]) -> Option<String> {
        let at = self.store.layout.layer(diff_id);
        if !at.exists() {
            return Some("is missing".to_owned());
        }
        let known = match LayerFacts::read(&self.store.layout, diff_id) {
            Ok(known) => known,
            Err(error) => return Some(crate::error::chain(&error)),
        };
        // The same layer may have come from another blob.
        let of_files = |facts: &LayerFacts| {
            (facts.diff_id, facts.entries, facts.bytes, facts.opaque_root, facts.implied)
        };
        if of_files(&known) != of_files(fresh) || facts::implied(&at).ok().as_deref() != Some(implied) {
            return Some("what is known about it is wrong".to_owned());
        }
        let by = self.session.scratch().join("layers").join(diff_id.hex());
        let open = |path: PathBuf| File::open(path.join("diff")).map(Into::into);
        let compared = open(at).and_then(|left| compare::difference(left, open(by)?));
        match compared {
            Ok(None) => None,
            Ok(Some(Difference { path, what })) => Some(format!("{what} of {path} is not as in the blob")),
            Err(error) => Some(format!("cannot be read: {error}")),
        }
    }

    /// Makes what joins the layers anew, if all of them are sound, and compares the two.
    fn join(&mut self, chain: &Digest, diff_ids: &[Digest]) -> Result<()> {
        let layers: Vec<PathBuf> = diff_ids
            .iter()
            .map(|diff_id| {
                let fresh = self.session.scratch().join("layers").join(diff_id.hex());
                if fresh.exists() { fresh } else { self.store.layout.layer(diff_id) }
            })
            .collect();
        let by = self.session.scratch().join("joins").join(chain.hex());
        let at = self.store.layout.join(chain);
        join::make(&layers, &by)?;
        let open = |path: &PathBuf| -> std::io::Result<std::os::fd::OwnedFd> {
            Ok(File::open(path.join("diff"))?.into())
        };
        let problem = match (by.join("diff").exists(), at.join("diff").exists()) {
            (false, false) if at.exists() => None,
            (true, true) => match open(&at).and_then(|left| compare::difference(left, open(&by)?)) {
                Ok(None) => None,
                Ok(Some(Difference { path, what })) => Some(format!("{what} of {path} is wrong")),
                Err(error) => Some(format!("cannot be read: {error}")),
            },
            _ => Some("is missing".to_owned()),
        };
        match problem {
            None => remove(&by),
            Some(problem) => {
                let remedy = Remedy::Replace { by, at, layer: diff_ids.last().copied() };
                self.faults.push(Fault {
                    subject: format!("what joins the layers {chain}"),
                    problem,
                    remedy,
                });
                Ok(())
            }
        }
    }
}

/// What to call an image.
fn name_of(found: &Found) -> String {
    match found.references.as_slice() {
        [] => found.manifest.to_string(),
        names => names.iter().map(Reference::familiar).collect::<Vec<_>>().join(", "),
    }
}
