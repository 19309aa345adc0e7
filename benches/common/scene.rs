//! A place to run Pods in: state of its own, an image, a volume with the FIFOs, and the `podrun` to run.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use podrun_testkit::{BUSYBOX_REFERENCE, LeakCheck, TempRoot, busybox_image, own_network, podrun_bin};

use crate::signals::Signals;

/// The place. Whatever was made in it is removed at the end, and looked for.
#[derive(Debug)]
pub(crate) struct Scene {
    program: PathBuf,
    root: Option<TempRoot>,
    leaks: Option<LeakCheck>,
    /// What containers say.
    pub(crate) signals: Signals,
}

impl Scene {
    /// Makes the place and takes a busybox image into its store.
    pub(crate) fn new() -> io::Result<Self> {
        own_network();
        let root = TempRoot::new();
        let volume = root.path().join("v");
        fs::create_dir(&volume)?;
        let signals = Signals::new(&volume)?;
        // The FIFO stays open until the end of the bench.
        let leaks = LeakCheck::only(&marker(root.path()));
        let image = busybox_image(root.path());
        let scene = Self { program: podrun_bin(), root: Some(root), leaks: Some(leaks), signals };
        scene.podrun(["image".as_ref(), "load".as_ref(), image.as_os_str()])?;
        Ok(scene)
    }

    /// Returns the directory that holds everything.
    pub(crate) fn dir(&self) -> &Path {
        self.root.as_ref().expect("it is there until the end").path()
    }

    /// Returns the directory that containers see as `/v`.
    pub(crate) fn volume(&self) -> PathBuf {
        self.dir().join("v")
    }

    /// Writes the manifest of a Pod whose containers run these scripts.
    pub(crate) fn manifest(&self, pod: &str, containers: &[(&str, String)]) -> io::Result<PathBuf> {
        let mut text = format!(
            "apiVersion: v1\nkind: Pod\nmetadata:\n  name: {pod}\nspec:\n  restartPolicy: Never\n  containers:\n"
        );
        for (name, script) in containers {
            text += &format!(
                "  - name: {name}\n    image: {BUSYBOX_REFERENCE}\n    command: [/bin/sh, -c, \"{script}\"]\n    \
                 volumeMounts:\n    - name: v\n      mountPath: /v\n"
            );
        }
        let volume = self.volume();
        text += &format!(
            "  volumes:\n  - name: v\n    hostPath:\n      path: {}\n      type: Directory\n",
            volume.display()
        );
        let path = self.dir().join(format!("{pod}.yaml"));
        fs::write(&path, text)?;
        Ok(path)
    }

    /// Runs the Pod of a manifest in the background. Returns when the command was started, when so many lines had been
    /// said, and when it returned.
    pub(crate) fn run(&mut self, manifest: &Path, lines: usize) -> io::Result<[Instant; 3]> {
        let start = Instant::now();
        let child = self.spawn(["run".as_ref(), "-d".as_ref(), manifest.as_os_str()])?;
        let spoke = self.signals.wait(lines);
        // Its own words come first if it failed.
        self.finish(child)?;
        let returned = Instant::now();
        Ok([start, spoke?, returned])
    }

    /// Removes everything and fails if something is left.
    pub(crate) fn close(mut self) -> io::Result<()> {
        self.podrun(["delete", "--all", "--force"])?;
        // The directory last: the name of an open FIFO changes when it is deleted.
        self.leaks.take().expect("it is there until now").finish();
        self.root.take().expect("it is there until now").close();
        Ok(())
    }

    /// Runs `podrun` to its end and returns what it printed.
    pub(crate) fn podrun(
        &self,
        arguments: impl IntoIterator<Item = impl AsRef<OsStr>>,
    ) -> io::Result<String> {
        self.finish(self.spawn(arguments)?)
    }

    /// Starts `podrun`, which std does by posix_spawn(3).
    #[expect(clippy::disallowed_methods, reason = "the program is what is measured, from its start on")]
    fn spawn(&self, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> io::Result<Child> {
        Command::new(&self.program)
            .arg("--root")
            .arg(self.dir().join("state"))
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(File::create(self.dir().join("stdout"))?)
            .stderr(File::create(self.dir().join("stderr"))?)
            .spawn()
    }

    fn finish(&self, mut child: Child) -> io::Result<String> {
        let status = child.wait()?;
        if status.success() {
            return fs::read_to_string(self.dir().join("stdout"));
        }
        let said = fs::read_to_string(self.dir().join("stderr"))?;
        Err(io::Error::other(format!("podrun: {status}: {}", said.trim_end())))
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        if self.root.is_some() {
            // Only after a failure, which is what will be reported.
            drop(self.podrun(["delete", "--all", "--force"]));
        }
    }
}

/// Returns what all names made by a bench contain.
pub(crate) fn marker(root: &Path) -> String {
    root.file_name().expect("a temporary directory has a name").to_string_lossy().into_owned()
}
