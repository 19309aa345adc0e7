//! Runs test programs on this machine.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::build::{Program, selection};
use super::summary::{Lane, Row};
use crate::process::{Context as _, Result, Watched, cargo, command};
use crate::workspace::Workspace;

/// No test program may take longer; one that hangs must not take the whole run with it.
const LIMIT: Duration = Duration::from_secs(15 * 60);
/// Doctests are compiled as well.
const DOCTEST_LIMIT: Duration = Duration::from_secs(30 * 60);

/// The file in which tests note that they were skipped.
pub(super) struct SkipLog(PathBuf);

impl SkipLog {
    /// Chooses a file of our own, so that runs beside each other do not mix.
    pub(super) fn new(target: &Path) -> Self {
        Self(target.join(format!("skips-{}.log", std::process::id())))
    }

    /// Returns what was noted and forgets it.
    fn take(&self) -> Result<Vec<String>> {
        let text = match fs::read_to_string(&self.0) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            text => text.context(self.0.display())?,
        };
        fs::remove_file(&self.0).context(self.0.display())?;
        Ok(text.lines().map(str::to_owned).collect())
    }
}

/// Runs one program as cargo would.
pub(super) fn run(program: &Program, workspace: &Workspace, log: &SkipLog) -> Result<Row> {
    eprintln!("+ {}", program.label);
    let mut run = command(&program.path);
    run.current_dir(&program.dir).envs(program.environment(workspace)).env("PODRUN_SKIP_LOG", &log.0);
    let outcome = Watched::start(&mut run, LIMIT)?.finish()?;
    let code = outcome.status.and_then(|status| status.code());
    Ok(Row::read(Lane::Here, &program.label, &program.crate_name, code, &outcome.output, log.take()?))
}

/// Runs the examples in the documentation; absent if no chosen package has a library.
pub(super) fn doctests(workspace: &Workspace, packages: &[String], log: &SkipLog) -> Result<Option<Row>> {
    let has_library = |name: &String| workspace.packages.iter().any(|p| p.name == *name && p.has_library);
    let libraries: Vec<String> = packages.iter().filter(|name| has_library(name)).cloned().collect();
    if libraries.is_empty() && !packages.is_empty() {
        return Ok(None);
    }
    eprintln!("+ documentation");
    let mut run = cargo();
    run.args(["test", "--doc"]).args(selection(&libraries)).env("PODRUN_SKIP_LOG", &log.0);
    let outcome = Watched::start(&mut run, DOCTEST_LIMIT)?.finish()?;
    let code = outcome.status.and_then(|status| status.code());
    Ok(Some(Row::read(Lane::Here, "documentation", "", code, &outcome.output, log.take()?)))
}
