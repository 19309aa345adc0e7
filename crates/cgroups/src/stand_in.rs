//! A temporary directory that stands in for a cgroup in unit tests.

use std::fs;

use tempfile::TempDir;

use crate::cgroup::Cgroup;

pub(crate) struct StandIn {
    pub(crate) cgroup: Cgroup,
    dir: TempDir,
}

impl StandIn {
    /// Creates a directory with `files` (name, content).
    pub(crate) fn new(files: &[(&str, &str)]) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory can be created");
        for (name, content) in files {
            fs::write(dir.path().join(name), content).expect("a file in it can be written");
        }
        let cgroup = Cgroup::open_unchecked_fs(dir.path()).expect("it can be opened");
        Self { cgroup, dir }
    }

    pub(crate) fn content(&self, name: &str) -> String {
        fs::read_to_string(self.dir.path().join(name)).expect("the file is there")
    }
}
