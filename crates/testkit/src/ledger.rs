//! What exists on the host and may be a test's doing.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use crate::proc_file::{Stat, cgroup_of, cgroup2_mount, mounts, parse_links, processes};

/// Which objects count.
#[derive(Debug, Clone)]
pub(crate) enum Scope {
    /// All that podrun or this process may have made.
    Host,
    /// Only what has this text in its path, name, command line or cgroup.
    Marked(String),
}

impl Scope {
    fn covers(&self, text: &str) -> bool {
        match self {
            Self::Host => true,
            Self::Marked(marker) => text.contains(marker),
        }
    }
}

/// A count of kernel objects: kind, then identity, then a description for people.
#[derive(Debug, Default)]
pub(crate) struct Ledger(BTreeMap<(&'static str, String), String>);

impl Ledger {
    /// Counts what there is now. With `everything` namespaces of all processes are included, as is
    /// right for the count before, so that one which existed is never taken for new.
    pub(crate) fn count(scope: &Scope, everything: bool) -> Self {
        let mut ledger = Self::default();
        ledger.count_processes(scope, everything);
        ledger.count_mounts(scope);
        ledger.count_links(scope);
        ledger.count_cgroups(scope);
        ledger.count_fds(scope);
        ledger
    }

    /// Returns what is here and was not in `before`, one line each; empty means nothing.
    pub(crate) fn added_since(&self, before: &Self) -> String {
        let mut text = String::new();
        for ((kind, key), description) in &self.0 {
            if !before.0.contains_key(&(*kind, key.clone())) {
                writeln!(text, "  {kind:<10} {description}").expect("writing to a string");
            }
        }
        text
    }

    fn add(&mut self, kind: &'static str, key: impl Into<String>, description: impl Into<String>) {
        self.0.insert((kind, key.into()), description.into());
    }

    fn count_processes(&mut self, scope: &Scope, everything: bool) {
        let all = processes();
        let ours = attributable(&all, scope);
        for process in &all {
            let dir = PathBuf::from(format!("/proc/{}", process.pid));
            let is_ours = ours.contains(&process.pid);
            if is_ours {
                let description = format!(
                    "{} ({}) state {} parent {} cgroup {}",
                    process.pid,
                    process.comm,
                    process.state,
                    process.parent,
                    cgroup_of(&dir)
                );
                self.add("process", format!("{} {}", process.pid, process.start), description);
            }
            if is_ours || everything {
                self.count_namespaces(&dir);
            }
        }
        // A thread of the test itself that entered a namespace and stayed there.
        if let (Scope::Host, Ok(tasks)) = (scope, fs::read_dir("/proc/self/task")) {
            tasks.filter_map(Result::ok).for_each(|task| self.count_namespaces(&task.path()));
        }
    }

    fn count_namespaces(&mut self, process: &Path) {
        let Ok(entries) = fs::read_dir(process.join("ns")) else { return };
        for entry in entries.filter_map(Result::ok) {
            // `net:[4026531840]`; pid_for_children and pid name the same namespaces.
            if let Ok(id) = fs::read_link(entry.path()) {
                let id = id.to_string_lossy().into_owned();
                let description = format!("{id} held by {}", process.display());
                self.add("namespace", id, description);
            }
        }
    }

    fn count_mounts(&mut self, scope: &Scope) {
        for mount in mounts().into_iter().filter(|mount| scope.covers(&mount.line)) {
            self.add("mount", mount.line.clone(), mount.line);
        }
    }

    fn count_links(&mut self, scope: &Scope) {
        // The links of the leader's network namespace, wherever this thread may be.
        let text = fs::read_to_string("/proc/self/net/dev").unwrap_or_default();
        for link in parse_links(&text).into_iter().filter(|link| scope.covers(link)) {
            self.add("link", link.clone(), link);
        }
    }

    fn count_cgroups(&mut self, scope: &Scope) {
        let Some(root) = cgroup2_mount() else { return };
        let mut pending = vec![root.clone()];
        while let Some(dir) = pending.pop() {
            // A cgroup may be removed while we walk.
            let Ok(entries) = fs::read_dir(&dir) else { continue };
            let dirs =
                entries.filter_map(Result::ok).filter(|e| e.file_type().is_ok_and(|kind| kind.is_dir()));
            pending.extend(dirs.map(|entry| entry.path()));
            let path = dir.strip_prefix(&root).expect("below its root").to_string_lossy().into_owned();
            if path.contains("podrun") && scope.covers(&path) {
                self.add("cgroup", path.clone(), path);
            }
        }
    }

    fn count_fds(&mut self, scope: &Scope) {
        let Ok(entries) = fs::read_dir("/proc/self/fd") else { return };
        for entry in entries.filter_map(Result::ok) {
            // The descriptor of this very listing is gone when its link is read from another one.
            let Ok(target) = fs::read_link(entry.path()) else { continue };
            let target = target.to_string_lossy().into_owned();
            let is_listing = target.starts_with("/proc/") && target.ends_with("/fd");
            if !is_listing && scope.covers(&target) {
                let fd = format!("{} -> {target}", entry.file_name().to_string_lossy());
                self.add("fd", fd.clone(), fd);
            }
        }
    }
}

/// Returns the pids that podrun or this process is answerable for.
fn attributable(all: &[Stat], scope: &Scope) -> BTreeSet<i32> {
    let me = i32::try_from(std::process::id()).expect("a pid is an int");
    let by_pid: HashMap<i32, &Stat> = all.iter().map(|process| (process.pid, process)).collect();
    let session = by_pid.get(&me).map_or(0, |process| process.session);
    let descends = |mut pid: i32| {
        // Bounded, because the pids were not read at one instant.
        for _ in 0..64 {
            match by_pid.get(&pid) {
                Some(process) if process.parent == me => return true,
                Some(process) => pid = process.parent,
                None => return false,
            }
        }
        false
    };
    let counts = |process: &&Stat| {
        let dir = PathBuf::from(format!("/proc/{}", process.pid));
        match scope {
            Scope::Host => {
                descends(process.pid)
                    || (process.parent == 1 && process.session == session)
                    || is_program(&process.comm)
                    || is_program(&exe_name(&dir))
                    || cgroup_of(&dir).contains("podrun")
            }
            Scope::Marked(marker) => {
                let command = fs::read(dir.join("cmdline")).unwrap_or_default();
                let link = |name| fs::read_link(dir.join(name)).unwrap_or_default();
                String::from_utf8_lossy(&command).contains(marker)
                    || cgroup_of(&dir).contains(marker)
                    || link("cwd").to_string_lossy().contains(marker)
                    || link("root").to_string_lossy().contains(marker)
            }
        }
    };
    all.iter().filter(|process| process.pid != me).filter(counts).map(|process| process.pid).collect()
}

fn is_program(name: &str) -> bool {
    name == "podrun" || name == "podrun-init"
}

fn exe_name(process: &Path) -> String {
    let exe = fs::read_link(process.join("exe")).unwrap_or_default();
    let name = exe.file_name().unwrap_or_default().to_string_lossy().into_owned();
    // What the kernel appends when the program was rebuilt while it ran.
    name.trim_end_matches(" (deleted)").to_owned()
}
