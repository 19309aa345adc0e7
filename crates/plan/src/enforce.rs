//! What this host can enforce, and what becomes of the rest.

use std::collections::BTreeMap;

use crate::facts::{CgroupFacts, ControllerFact, UnenforcedLimits};
use crate::fault::PlanFault;
use crate::model::{FileValue, Unenforced};

/// Where a value comes from, which decides what happens when it cannot be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// A limit that somebody wrote: the Pod is refused, or runs without it and says so.
    Limit,
    /// A request that somebody wrote. It decides who gets how much under contention and nothing when there is none,
    /// so the Pod runs without it and says so.
    Request,
    /// A ceiling that podrun puts on every Pod. The Pod did not ask for it, so it runs without it and says so.
    Ceiling,
    /// It follows from other values: nobody will miss it by name.
    Derived,
}

/// A value to write, and where it comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wanted {
    file: String,
    value: String,
    origin: Origin,
}

impl Wanted {
    pub(crate) fn new(file: impl Into<String>, value: impl Into<String>, origin: Origin) -> Self {
        Self { file: file.into(), value: value.into(), origin }
    }

    /// The controller whose file it is: what stands before the first dot.
    fn controller(&self) -> &str {
        self.file.split('.').next().unwrap_or_default()
    }
}

/// Sorts values into those that can be written and those that cannot.
pub(crate) struct Enforcement<'a> {
    cgroup: &'a CgroupFacts,
    limits: Vec<Unenforced>,
    others: Vec<Unenforced>,
}

impl<'a> Enforcement<'a> {
    pub(crate) fn new(cgroup: &'a CgroupFacts) -> Self {
        Self { cgroup, limits: Vec::new(), others: Vec::new() }
    }

    /// Returns those of `names` that this host can hand out.
    pub(crate) fn available(&self, names: &[&str]) -> Vec<String> {
        names.iter().filter(|name| self.missing(name).is_none()).map(|name| (*name).to_owned()).collect()
    }

    /// Returns what can be written, and remembers the rest as a shortfall of `object`.
    pub(crate) fn writable(&mut self, object: &str, wanted: Vec<Wanted>) -> Vec<FileValue> {
        let mut values = Vec::new();
        for one in wanted {
            let controller = one.controller().to_owned();
            let Some(why) = self.missing(&controller) else {
                values.push(FileValue { file: one.file, value: one.value });
                continue;
            };
            let value = format!("{} = {}", one.file, one.value);
            let object = object.to_owned();
            match one.origin {
                Origin::Limit => self.limits.push(Unenforced { object, controller, value, why }),
                Origin::Request => {
                    let why = format!("{why}; the request has no effect under contention");
                    self.others.push(Unenforced { object, controller, value, why });
                }
                Origin::Ceiling => self.others.push(Unenforced { object, controller, value, why }),
                Origin::Derived => {}
            }
        }
        values
    }

    /// Returns what is not enforced, or the faults where that must not be.
    pub(crate) fn conclude(self, policy: UnenforcedLimits) -> Result<Vec<Unenforced>, Vec<PlanFault>> {
        if policy == UnenforcedLimits::Warn || self.limits.is_empty() {
            return Ok([self.limits, self.others].concat());
        }
        // One fault per controller: the way out is the same for all of its limits.
        let mut by_controller: BTreeMap<(String, String), Vec<String>> = BTreeMap::new();
        for limit in self.limits {
            let text = format!("{} ({})", limit.value, limit.object);
            by_controller.entry((limit.controller, limit.why)).or_default().push(text);
        }
        let fault = |((controller, why), limits)| PlanFault::Unenforceable { controller, why, limits };
        Err(by_controller.into_iter().map(fault).collect())
    }

    /// Returns why a controller cannot be used; nothing if it can.
    fn missing(&self, controller: &str) -> Option<String> {
        match self.cgroup.controllers.get(controller) {
            Some(ControllerFact::Available) => None,
            Some(ControllerFact::Missing(why)) => Some(why.clone()),
            None => Some("this kernel does not have".to_owned()),
        }
    }
}
