//! What the end-to-end tests share: a podrun with a state directory of its own, and Pods in few words.

#![allow(dead_code, reason = "each test program uses a part of this")]

pub(crate) mod cgroup;
pub(crate) mod health;
mod pods;
pub(crate) mod processes;
mod running;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use podrun_testkit::{LeakCheck, TempRoot, busybox_image, links, own_network, podrun_bin};
use serde_json::Value;

pub(crate) use pods::*;
pub(crate) use running::{Output, Running};

/// podrun with a state directory of its own. What is in there is gone after [`Podrun::finish`], and nothing else is
/// left on the host either, or the test fails.
pub(crate) struct Podrun {
    root: Option<TempRoot>,
    leaks: Option<LeakCheck>,
    uids: Mutex<Vec<String>>,
    manifests: AtomicUsize,
}

impl Podrun {
    /// Makes one with an empty state directory.
    pub(crate) fn empty() -> Self {
        Self::with(|root| LeakCheck::only(&root.path().file_name().expect("a name").to_string_lossy()))
    }

    /// Makes one with the busybox image of the test kit.
    pub(crate) fn new() -> Self {
        Self::empty().with_busybox()
    }

    /// Makes one that compares the whole host; for tests that take turns.
    pub(crate) fn watching_the_host() -> Self {
        Self::with(|_| LeakCheck::start()).with_busybox()
    }

    fn with(leaks: impl FnOnce(&TempRoot) -> LeakCheck) -> Self {
        // What podrun does to the network it does to this one. Tests that need no root have no Pods either.
        if nix::unistd::geteuid().is_root() {
            own_network();
        }
        let root = TempRoot::new();
        let leaks = leaks(&root);
        Self { root: Some(root), leaks: Some(leaks), uids: Mutex::default(), manifests: AtomicUsize::new(0) }
    }

    /// Loads the busybox image of the test kit.
    pub(crate) fn with_busybox(self) -> Self {
        let archive = busybox_image(self.dir());
        self.podrun(&["image", "load", &archive.display().to_string()]).ok();
        fs::remove_file(archive).expect("the archive is ours");
        self
    }

    /// Returns a directory for the test's own files.
    pub(crate) fn dir(&self) -> &Path {
        self.root.as_ref().expect("not finished").path()
    }

    /// Returns podrun's state directory.
    pub(crate) fn state(&self) -> PathBuf {
        self.dir().join("state")
    }

    /// Returns podrun's command line with `arguments`.
    #[expect(clippy::disallowed_methods, reason = "the program under test")]
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(podrun_bin());
        command.arg("--root").arg(self.state()).args(arguments).stdin(Stdio::null());
        command.env_remove("PODRUN_UNENFORCED_LIMITS").env_remove("PODRUN_ROOT");
        command
    }

    /// Starts podrun.
    pub(crate) fn spawn(&self, arguments: &[&str]) -> Running {
        Running::start(self.command(arguments))
    }

    /// Runs podrun to its end.
    pub(crate) fn podrun(&self, arguments: &[&str]) -> Output {
        self.spawn(arguments).finish()
    }

    /// Writes a manifest and returns its path.
    pub(crate) fn write(&self, manifest: &Value) -> String {
        self.write_text(&format!("{manifest:#}"))
    }

    /// Writes a manifest as it stands and returns its path.
    pub(crate) fn write_text(&self, manifest: &str) -> String {
        let number = self.manifests.fetch_add(1, Ordering::Relaxed);
        let path = self.dir().join(format!("{number}.yaml"));
        fs::write(&path, manifest).expect("a writable directory");
        path.display().to_string()
    }

    /// Starts a Pod in the background and returns its UID.
    pub(crate) fn start(&self, manifest: &Value) -> String {
        let path = self.write(manifest);
        self.podrun(&["run", "-d", "--unenforced-limits=warn", &path]).ok();
        let name = manifest["metadata"]["name"].as_str().expect("the Pod has a name");
        let uid = self.get(name, "{.metadata.uid}");
        self.uids.lock().expect("no panic").push(uid.clone());
        uid
    }

    /// Runs a Pod in the foreground to its end.
    pub(crate) fn run(&self, manifest: &Value) -> Output {
        let path = self.write(manifest);
        self.podrun(&["run", &path])
    }

    /// Returns what a JSONPath template gives for a Pod.
    pub(crate) fn get(&self, pod: &str, template: &str) -> String {
        self.podrun(&["get", "pod", pod, "-o", &format!("jsonpath={template}")]).ok().trim_end().to_owned()
    }

    /// Returns a Pod as JSON.
    pub(crate) fn json(&self, pod: &str) -> Value {
        let text = self.podrun(&["get", "pod", pod, "-o", "json"]).ok();
        serde_json::from_str(&text).expect("podrun prints JSON")
    }

    /// Returns the log of a container.
    pub(crate) fn logs(&self, pod: &str, container: &str) -> String {
        self.podrun(&["logs", pod, "-c", container]).ok()
    }

    /// Returns a watch that prints what a template gives, a line for each change of the Pod.
    pub(crate) fn watch(&self, pod: &str, template: &str) -> Running {
        let output = format!("jsonpath={template}{{\"\\n\"}}");
        self.spawn(&["get", "pod", pod, "-w", "-o", &output])
    }

    /// Waits until a template gives a value, and fails with the Pod's description if that never comes.
    pub(crate) fn wait_for(&self, pod: &str, template: &str, value: &str) {
        self.wait_until(pod, template, |text| text == value);
    }

    /// Waits until a template gives something that pleases.
    pub(crate) fn wait_until(
        &self,
        pod: &str,
        template: &str,
        mut pleases: impl FnMut(&str) -> bool,
    ) -> String {
        let mut seen = Vec::new();
        let mut watch = self.watch(pod, template);
        while let Some(line) = watch.line() {
            if pleases(&line) {
                watch.kill();
                return line;
            }
            seen.push(line);
        }
        let described = self.podrun(&["describe", "pod", pod]);
        panic!("{template} was {seen:?}\n{}{}{}", watch.finish().stderr, described.stdout, described.stderr);
    }

    /// Waits until a Pod is ready.
    pub(crate) fn wait_ready(&self, pod: &str) {
        self.wait_for(pod, "{.status.conditions[?(@.type==\"Ready\")].status}", "True");
    }

    /// Waits until a container runs.
    pub(crate) fn wait_running(&self, pod: &str, container: &str) {
        self.wait_until(pod, &state(container, "running.startedAt"), |text| !text.is_empty());
    }

    /// Waits until a container has ended and returns its exit code.
    pub(crate) fn wait_exit(&self, pod: &str, container: &str) -> i32 {
        let code = self.wait_until(pod, &state(container, "terminated.exitCode"), |text| !text.is_empty());
        code.parse().expect("a number")
    }

    /// Waits until the log of a container has a line.
    pub(crate) fn wait_log(&self, pod: &str, container: &str, wanted: &str) {
        self.wait_log_matching(pod, container, |line| line == wanted);
    }

    /// Waits until the log of a container has a line that pleases.
    pub(crate) fn wait_log_matching(&self, pod: &str, container: &str, pleases: impl FnMut(&str) -> bool) {
        self.wait_until(pod, &status(container, "containerID"), |text| !text.is_empty());
        let mut logs = self.spawn(&["logs", pod, "-c", container, "-f"]);
        logs.wait_line(pleases);
        logs.kill();
    }

    /// Returns the events of a Pod: `LAST TYPE REASON OBJECT MESSAGE`.
    pub(crate) fn events(&self, pod: &str) -> String {
        self.podrun(&["events", pod, "--no-headers"]).ok()
    }

    /// Waits until a Pod has an event with these words.
    pub(crate) fn wait_event(&self, pod: &str, words: &str) {
        let mut events = self.spawn(&["events", pod, "--no-headers", "-w"]);
        events.wait_line(|line| line.contains(words));
        events.kill();
    }

    /// Removes a Pod gracefully.
    pub(crate) fn delete(&self, pod: &str) {
        self.podrun(&["delete", "pod", pod]).ok();
    }

    /// Removes all Pods and sees that nothing is left of them.
    pub(crate) fn finish(mut self) {
        let mut uids = self.uids.lock().expect("no panic").clone();
        let pods = fs::read_dir(self.state().join("data/pods")).into_iter().flatten().filter_map(Result::ok);
        uids.extend(pods.map(|entry| entry.file_name().to_string_lossy().into_owned()));
        self.podrun(&["delete", "--all", "--force", "--grace-period=0"]).ok();
        no_network_is_left(&self.state());
        let mut left = files_below(&self.state(), &self.state().join("data/images"));
        // What commands take turns with stays: whoever removed it would lock out nobody.
        left.retain(|path| *path != self.state().join("data/lock"));
        assert!(left.is_empty(), "left in the state directory: {left:#?}");
        for uid in uids {
            assert_eq!(cgroup::of_pod(&uid), None, "the cgroup of Pod {uid}");
        }
        self.root.take().expect("once").close();
        self.leaks.take().expect("once").finish();
    }
}

impl Drop for Podrun {
    #[expect(clippy::print_stderr, reason = "shown with the test's failure")]
    fn drop(&mut self) {
        if self.root.is_some() {
            assert!(std::thread::panicking(), "finish() was not called");
            // The test has failed; what its Pods were doing is of interest, and they must not disturb the others.
            eprintln!("{}", self.podrun(&["describe", "pod"]).stdout);
            for log in supervisor_logs(&self.state()) {
                eprintln!("{log}");
            }
            let removed = self.podrun(&["delete", "--all", "--force", "--grace-period=0"]);
            if removed.code != 0 {
                eprintln!("{}", removed.stderr);
            }
        }
    }
}

/// Waits for the bridge and the Pods' links to go: nobody is made to wait for the kernel when a Pod is deleted.
#[expect(clippy::disallowed_methods, reason = "the kernel tells nobody here")]
fn no_network_is_left(state: &Path) {
    let left = || {
        [
            links(),
            files_below(&state.join("run/network"), Path::new(""))
                .iter()
                .map(|path| path.display().to_string())
                .collect(),
        ]
        .concat()
    };
    let deadline = Instant::now() + Duration::from_secs(10);
    while !left().is_empty() {
        assert!(Instant::now() < deadline, "left in the network: {:?}", left());
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Returns all that is no directory below `dir`, except below `except`.
fn files_below(dir: &Path, except: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut pending = vec![dir.to_owned()];
    while let Some(dir) = pending.pop() {
        for entry in fs::read_dir(&dir).into_iter().flatten().filter_map(Result::ok) {
            match entry.file_type() {
                _ if entry.path() == except => {}
                Ok(kind) if kind.is_dir() => pending.push(entry.path()),
                _ => found.push(entry.path()),
            }
        }
    }
    found
}

fn supervisor_logs(state: &Path) -> Vec<String> {
    let logs = files_below(state, &state.join("data/images"));
    let logs = logs.into_iter().filter(|path| path.file_name().is_some_and(|name| name == "supervisor.log"));
    logs.filter_map(|path| fs::read_to_string(path).ok()).collect()
}
