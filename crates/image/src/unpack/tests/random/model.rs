//! What a layer has to look like, worked out in memory from the same entries by other means.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::generator::Item;

/// How many symbolic links the kernel follows in one path (`MAXSYMLINKS`).
const MAX_LINKS: usize = 40;

type Id = usize;

#[derive(Debug, Clone)]
enum Kind {
    Directory { entries: BTreeMap<Vec<u8>, Id>, opaque: bool },
    File(Vec<u8>),
    Link(Vec<u8>),
    Fifo,
    Whiteout,
}

#[derive(Debug, Clone)]
struct Node {
    kind: Kind,
    mode: u32,
    owner: (u32, u32),
    mtime: (i64, u32),
    xattrs: BTreeMap<String, Vec<u8>>,
}

/// A layer in memory.
#[derive(Debug, Clone)]
pub(super) struct Model {
    nodes: Vec<Node>,
    implied: HashMap<Id, Vec<u8>>,
    pub(super) opaque_root: bool,
}

/// The archive is refused.
#[derive(Debug)]
pub(super) struct Refused;

type Outcome<T = ()> = Result<T, Refused>;

const ROOT: Id = 0;
/// Makes overlayfs look for whiteouts.
const ORIGIN: &str = "trusted.overlay.origin";

impl Model {
    /// Returns the layer that these entries make.
    pub(super) fn of(items: &[Item]) -> Outcome<Self> {
        let mut model = Self { nodes: Vec::new(), implied: HashMap::new(), opaque_root: false };
        model.add(Kind::Directory { entries: BTreeMap::new(), opaque: false }, 0o755);
        model.implied.insert(ROOT, Vec::new());
        items.iter().try_for_each(|item| model.apply(item))?;
        model.finish();
        Ok(model)
    }

    fn add(&mut self, kind: Kind, mode: u32) -> Id {
        self.nodes.push(Node { kind, mode, owner: (0, 0), mtime: (0, 0), xattrs: BTreeMap::new() });
        self.nodes.len() - 1
    }

    fn entries(&self, id: Id) -> Option<&BTreeMap<Vec<u8>, Id>> {
        match &self.nodes[id].kind {
            Kind::Directory { entries, .. } => Some(entries),
            _ => None,
        }
    }

    fn child(&self, dir: Id, name: &[u8]) -> Option<Id> {
        self.entries(dir)?.get(name).copied()
    }

    fn put(&mut self, dir: Id, name: &[u8], child: Option<Id>) {
        let Kind::Directory { entries, .. } = &mut self.nodes[dir].kind else { panic!("not a directory") };
        match child {
            Some(child) => entries.insert(name.to_vec(), child),
            None => entries.remove(name),
        };
    }

    /// Resolves a directory's path as with the root for `/` and for what is above it.
    fn resolve(&self, parts: &[Vec<u8>]) -> Option<Id> {
        let mut way = vec![ROOT];
        let mut todo: Vec<Vec<u8>> = parts.iter().rev().cloned().collect();
        let mut links = 0;
        while let Some(part) = todo.pop() {
            let here = *way.last().expect("the root stays");
            self.entries(here)?;
            match part.as_slice() {
                b"" | b"." => {}
                b".." if way.len() > 1 => drop(way.pop()),
                b".." => {}
                name => {
                    let child = self.child(here, name)?;
                    if let Kind::Link(target) = &self.nodes[child].kind {
                        links += 1;
                        if links > MAX_LINKS {
                            return None;
                        }
                        if target.first() == Some(&b'/') {
                            way.truncate(1);
                        }
                        todo.extend(target.split(|&byte| byte == b'/').rev().map(<[u8]>::to_vec));
                    } else {
                        way.push(child);
                    }
                }
            }
        }
        let end = *way.last().expect("the root stays");
        self.entries(end).map(|_| end)
    }

    /// Finds a directory, or makes it and what is missing above it.
    fn parent(&mut self, parts: &[Vec<u8>]) -> Outcome<Id> {
        if let Some(found) = self.resolve(parts) {
            return Ok(found);
        }
        let mut parent = ROOT;
        for end in 1..=parts.len() {
            if let Some(found) = self.resolve(&parts[..end]) {
                parent = found;
                continue;
            }
            let name = &parts[end - 1];
            let removed = match self.child(parent, name).map(|id| &self.nodes[id].kind) {
                None => false,
                Some(Kind::Whiteout) => true,
                Some(_) => return Err(Refused),
            };
            let made = self.add(Kind::Directory { entries: BTreeMap::new(), opaque: removed }, 0o755);
            self.put(parent, name, Some(made));
            if !removed {
                self.implied.insert(made, parts[..end].join(&b'/'));
            }
            parent = made;
        }
        Ok(parent)
    }

    /// Whether a part of the path is a whiteout or a file, so that nothing below it can be hidden.
    fn is_hidden(&self, parts: &[Vec<u8>]) -> bool {
        if self.resolve(parts).is_some() {
            return false;
        }
        for end in 1..=parts.len() {
            let Some(parent) = self.resolve(&parts[..end - 1]) else { return false };
            match self.child(parent, &parts[end - 1]).map(|id| &self.nodes[id].kind) {
                Some(Kind::File(_) | Kind::Fifo | Kind::Whiteout) => return true,
                Some(Kind::Directory { .. } | Kind::Link(_)) | None => {}
            }
        }
        false
    }

    fn apply(&mut self, item: &Item) -> Outcome {
        let parts = clean(&item.path)?;
        let is_directory = item.flag == b'5' || item.flag == 0 && item.path.ends_with(b"/");
        let Some((name, above)) = parts.split_last() else {
            if !is_directory {
                return Err(Refused);
            }
            self.describe(ROOT, item);
            return Ok(());
        };
        let is_opaque = name == b".wh..wh..opq";
        if !is_opaque && parts.iter().any(|part| part.starts_with(b".wh..wh.")) {
            return Ok(());
        }
        if above.iter().any(|part| part.starts_with(b".wh.")) {
            return Err(Refused);
        }
        if is_opaque {
            return self.opaque(above);
        }
        if let Some(hidden) = name.strip_prefix(b".wh.") {
            if matches!(hidden, b"" | b"." | b"..") {
                return Err(Refused);
            }
            return self.whiteout(above, hidden);
        }
        match item.flag {
            _ if is_directory => self.directory(item, &parts),
            b'0' | 0 => {
                let mut content = vec![0; item.sparse.map_or(item.data.len(), |(_, size)| size)];
                let at = item.sparse.map_or(0, |(offset, _)| offset);
                content[at..at + item.data.len()].copy_from_slice(&item.data);
                let file = self.object(item, Kind::File(content), above, name)?;
                for (name, value) in &item.xattrs {
                    if *name == "security.capability" || *name == "user.x" {
                        self.nodes[file].xattrs.insert((*name).to_owned(), value.clone());
                    }
                }
                Ok(())
            }
            b'1' => self.hard_link(item, above, name),
            b'2' if item.link.is_empty() => Err(Refused),
            b'2' => self.object(item, Kind::Link(item.link.clone()), above, name).map(drop),
            b'3' | b'4' if parts[0] == b"dev" && parts.len() > 1 => Ok(()),
            b'6' => self.object(item, Kind::Fifo, above, name).map(drop),
            _ => Err(Refused),
        }
    }

    /// Puts something that is no directory in its place.
    fn object(&mut self, item: &Item, kind: Kind, above: &[Vec<u8>], name: &[u8]) -> Outcome<Id> {
        let parent = self.parent(above)?;
        let mode = if matches!(kind, Kind::Link(_)) { 0o777 } else { item.mode };
        let made = self.add(kind, mode);
        self.nodes[made].owner = item.owner;
        self.nodes[made].mtime = item.mtime;
        self.put(parent, name, Some(made));
        Ok(made)
    }

    fn hard_link(&mut self, item: &Item, above: &[Vec<u8>], name: &[u8]) -> Outcome {
        let target = clean(&item.link)?;
        let (target_name, target_above) = target.split_last().ok_or(Refused)?;
        let target_parent = self.resolve(target_above).ok_or(Refused)?;
        let linked = self.child(target_parent, target_name).ok_or(Refused)?;
        if matches!(self.nodes[linked].kind, Kind::Directory { .. } | Kind::Whiteout) {
            return Err(Refused);
        }
        let parent = self.parent(above)?;
        if self.child(parent, name) == Some(linked) {
            return Ok(());
        }
        // What is replaced may be the directory that the target is in.
        if let Some(replaced) = self.child(parent, name)
            && self.is_below(replaced, target_parent)
        {
            return Err(Refused);
        }
        self.put(parent, name, Some(linked));
        Ok(())
    }

    fn is_below(&self, top: Id, wanted: Id) -> bool {
        top == wanted
            || self
                .entries(top)
                .is_some_and(|entries| entries.values().any(|&child| self.is_below(child, wanted)))
    }

    fn directory(&mut self, item: &Item, parts: &[Vec<u8>]) -> Outcome {
        let (name, above) = parts.split_last().expect("not the root");
        let parent = self.parent(above)?;
        let id = match self.child(parent, name) {
            Some(there) if self.entries(there).is_some() => there,
            there => {
                let opaque = there.is_some();
                let made = self.add(Kind::Directory { entries: BTreeMap::new(), opaque }, 0o700);
                self.put(parent, name, Some(made));
                made
            }
        };
        self.describe(id, item);
        Ok(())
    }

    /// Gives a directory what its entry says.
    fn describe(&mut self, id: Id, item: &Item) {
        self.implied.remove(&id);
        let node = &mut self.nodes[id];
        (node.mode, node.owner, node.mtime) = (item.mode, item.owner, item.mtime);
        for (name, value) in item.xattrs.iter().filter(|(name, _)| *name == "user.x") {
            node.xattrs.insert((*name).to_owned(), value.clone());
        }
    }

    fn whiteout(&mut self, above: &[Vec<u8>], name: &[u8]) -> Outcome {
        if self.is_hidden(above) {
            return Ok(());
        }
        let parent = self.parent(above)?;
        match self.child(parent, name) {
            None => {
                let made = self.add(Kind::Whiteout, 0);
                self.put(parent, name, Some(made));
                if parent != ROOT {
                    self.nodes[parent].xattrs.insert(ORIGIN.to_owned(), Vec::new());
                }
            }
            Some(there) => {
                if let Kind::Directory { opaque, .. } = &mut self.nodes[there].kind {
                    *opaque = true;
                }
            }
        }
        Ok(())
    }

    fn opaque(&mut self, dir: &[Vec<u8>]) -> Outcome {
        if !self.is_hidden(dir) {
            let dir = self.parent(dir)?;
            if dir == ROOT {
                self.opaque_root = true;
            } else if let Kind::Directory { opaque, .. } = &mut self.nodes[dir].kind {
                *opaque = true;
            }
        }
        Ok(())
    }

    /// Does what comes last: in an opaque directory there are no whiteouts, and a path that leads elsewhere is none.
    fn finish(&mut self) {
        for id in 0..self.nodes.len() {
            let Kind::Directory { entries, opaque: true } = &self.nodes[id].kind else { continue };
            let mut entries = entries.clone();
            entries.retain(|_, child| !matches!(self.nodes[*child].kind, Kind::Whiteout));
            self.nodes[id].kind = Kind::Directory { entries, opaque: true };
            self.nodes[id].xattrs.remove(ORIGIN);
        }
        let parts = |path: &[u8]| path.split(|&byte| byte == b'/').map(<[u8]>::to_vec).collect::<Vec<_>>();
        for (id, path) in self.implied.clone() {
            if id != ROOT && self.resolve(&parts(&path)) != Some(id) {
                self.implied.remove(&id);
            }
        }
    }

    /// Returns the paths of directories that are not listed, sorted.
    pub(super) fn implied(&self) -> Vec<Vec<u8>> {
        let sorted: BTreeSet<_> = self.implied.values().cloned().collect();
        sorted.into_iter().collect()
    }

    /// Returns what is in the layer.
    pub(super) fn listing(&self) -> Listing {
        let mut listing = Listing::default();
        self.list(ROOT, &mut Vec::new(), &mut listing, &mut HashMap::new());
        listing
    }

    fn list(&self, id: Id, path: &mut Vec<u8>, listing: &mut Listing, first: &mut HashMap<Id, Vec<u8>>) {
        listing.0.insert(path.clone(), self.line(id, path, first));
        for (name, &child) in self.entries(id).into_iter().flatten() {
            let length = path.len();
            path.push(b'/');
            path.extend_from_slice(name);
            self.list(child, path, listing, first);
            path.truncate(length);
        }
    }

    fn line(&self, id: Id, path: &[u8], first: &mut HashMap<Id, Vec<u8>>) -> Line {
        let Node { kind, mode, owner, mtime, xattrs } = &self.nodes[id];
        let mut xattrs = xattrs.clone();
        let (kind, content) = match kind {
            Kind::Directory { opaque, .. } => {
                if *opaque {
                    xattrs.insert("trusted.overlay.opaque".to_owned(), b"y".to_vec());
                }
                ('d', Vec::new())
            }
            Kind::File(content) => ('f', content.clone()),
            Kind::Link(target) => ('l', target.clone()),
            Kind::Fifo => ('p', Vec::new()),
            Kind::Whiteout => ('w', Vec::new()),
        };
        // Of several names the first one stands for the object.
        let same = first.entry(id).or_insert_with(|| path.to_vec()).clone();
        let mtime = if kind == 'w' { None } else { Some(*mtime) };
        Line { kind, mode: *mode, owner: *owner, mtime, content, xattrs, same }
    }
}

/// An object of a tree: what has to be equal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Line {
    pub(crate) kind: char,
    pub(crate) mode: u32,
    pub(crate) owner: (u32, u32),
    pub(crate) mtime: Option<(i64, u32)>,
    pub(crate) content: Vec<u8>,
    pub(crate) xattrs: BTreeMap<String, Vec<u8>>,
    /// The first path of the same object.
    pub(crate) same: Vec<u8>,
}

/// A tree, by path.
#[derive(Debug, Default)]
pub(crate) struct Listing(pub(crate) BTreeMap<Vec<u8>, Line>);

impl Listing {
    /// Returns the first difference. What this one leaves open fits anything.
    pub(crate) fn difference(&self, found: &Self) -> Option<String> {
        let paths: BTreeSet<_> = self.0.keys().chain(found.0.keys()).collect();
        for path in paths {
            let (wanted, mut there) = (self.0.get(path).cloned(), found.0.get(path).cloned());
            if let (Some(Line { mtime: None, .. }), Some(there)) = (&wanted, &mut there) {
                there.mtime = None;
            }
            if wanted != there {
                let path = String::from_utf8_lossy(path);
                return Some(format!("{path:?}:\n expected {wanted:?}\n    found {there:?}"));
            }
        }
        None
    }
}

/// Splits a path into its names.
fn clean(path: &[u8]) -> Outcome<Vec<Vec<u8>>> {
    let parts: Vec<_> = path
        .split(|&byte| byte == b'/')
        .filter(|part| !part.is_empty() && *part != b".")
        .map(<[u8]>::to_vec)
        .collect();
    let bad = parts.iter().any(|part| part == b".." || part.len() > 255);
    if bad || path.len() > 4095 { Err(Refused) } else { Ok(parts) }
}

/// Returns what containers see of layers on top of each other, the lowest first.
pub(crate) fn merged(layers: &[Model]) -> Listing {
    // One with an opaque root hides all below it.
    let first = layers.iter().rposition(|layer| layer.opaque_root).unwrap_or(0);
    let stack: Vec<(&Model, Id)> = layers[first..].iter().rev().map(|layer| (layer, ROOT)).collect();
    let mut listing = Listing::default();
    merge(&stack, &stack, &mut Vec::new(), &mut listing, &mut HashMap::new());
    listing
}

/// The topmost comes first. `looks` are all directories that may say how this one looks.
fn merge(
    stack: &[(&Model, Id)],
    looks: &[(&Model, Id)],
    path: &mut Vec<u8>,
    listing: &mut Listing,
    first: &mut HashMap<(*const Model, Id), Vec<u8>>,
) {
    let &(layer, id) = looks.iter().find(|(layer, id)| !layer.implied.contains_key(id)).unwrap_or(&stack[0]);
    let mut line = layer.line(id, path, &mut HashMap::new());
    line.xattrs.retain(|name, _| !name.starts_with("trusted.overlay."));
    if path.is_empty() {
        // The time of the root alone is not worth a layer more.
        line.mtime = None;
    }
    line.same = path.clone();
    listing.0.insert(path.clone(), line);
    let names: BTreeSet<&Vec<u8>> =
        stack.iter().filter_map(|(layer, id)| layer.entries(*id)).flat_map(BTreeMap::keys).collect();
    for name in names {
        let length = path.len();
        path.push(b'/');
        path.extend_from_slice(name);
        let there: Vec<(&Model, Id)> =
            stack.iter().filter_map(|(layer, id)| Some((*layer, layer.child(*id, name)?))).collect();
        let (top, id) = there[0];
        match &top.nodes[id].kind {
            Kind::Whiteout => {}
            Kind::Directory { .. } => {
                let directories: Vec<_> =
                    there.into_iter().take_while(|(layer, id)| layer.entries(*id).is_some()).collect();
                let is_opaque = |(layer, id): &(&Model, Id)| {
                    matches!(layer.nodes[*id].kind, Kind::Directory { opaque: true, .. })
                };
                let end = directories.iter().position(is_opaque).map_or(directories.len(), |at| at + 1);
                merge(&directories[..end], &directories, path, listing, first);
            }
            _ => {
                let same = first.entry((std::ptr::from_ref(top), id)).or_insert_with(|| path.clone()).clone();
                let line = Line { same, ..top.line(id, path, &mut HashMap::new()) };
                listing.0.insert(path.clone(), line);
            }
        }
        path.truncate(length);
    }
}
