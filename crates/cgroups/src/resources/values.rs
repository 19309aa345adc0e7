//! An ordered list of files and values.

use std::fmt;

/// Files of a cgroup and what is to be written to them, in the order of writing.
///
/// [`Display`](fmt::Display) prints one `FILE VALUE` line each.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Values(Vec<(String, String)>);

impl Values {
    /// Sets the value of `file`: in its place if it has one, otherwise at the end.
    pub fn set(&mut self, file: &str, value: impl Into<String>) {
        let value = value.into();
        match self.0.iter_mut().find(|(name, _)| name == file) {
            Some(entry) => entry.1 = value,
            None => self.0.push((file.to_owned(), value)),
        }
    }

    /// Returns the value of `file`.
    pub fn get(&self, file: &str) -> Option<&str> {
        self.iter().find(|(name, _)| *name == file).map(|(_, value)| value)
    }

    /// Returns an iterator over files and values in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(file, value)| (file.as_str(), value.as_str()))
    }

    /// Whether there is nothing to write.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<F: AsRef<str>, V: Into<String>> FromIterator<(F, V)> for Values {
    fn from_iter<I: IntoIterator<Item = (F, V)>>(pairs: I) -> Self {
        let mut values = Self::default();
        for (file, value) in pairs {
            values.set(file.as_ref(), value);
        }
        values
    }
}

impl fmt::Display for Values {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.iter().try_for_each(|(file, value)| writeln!(f, "{file} {value}"))
    }
}

impl Values {
    /// Returns the controllers whose files are listed: those a cgroup must have before the values can be written.
    pub fn controllers(&self) -> crate::Controllers {
        self.iter().filter_map(|(file, _)| crate::Controller::of_file(file)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Controller, Controllers};

    #[test]
    fn a_second_value_takes_the_place_of_the_first() {
        assert!(Values::default().is_empty());
        let mut values = Values::from_iter([("cpu.weight", "1"), ("pids.max", "5")]);
        values.set("cpu.weight", "2");
        assert_eq!(values.to_string(), "cpu.weight 2\npids.max 5\n");
        assert_eq!(values.get("memory.max"), None);
        assert_eq!(values.controllers(), Controllers::from([Controller::Cpu, Controller::Pids]));
    }
}
