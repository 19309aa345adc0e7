//! The configuration file: what is the same for all Pods of this machine.
//!
//! ```toml
//! # /etc/podrun/config.toml, or etc/config.toml below --root
//! [node]
//! name = "edge-7"                      # in place of the host name
//! labels = { "example.com/disk" = "ssd" }
//! max-pods = 110
//! reserved = { cpu = "250m", memory = "512Mi" }   # what Pods may not request
//! ```

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;

use podrun_spec::model::ResourceList;
use serde::Deserialize;

use crate::error::{Error, Result};

/// So many Pods run on a node unless its configuration says otherwise, as with a kubelet.
const MAX_PODS: u32 = 110;

/// What the file says. Every key may be left out, and an unknown one is an error.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Config {
    /// This machine as a node.
    pub node: NodeConfig,
}

/// The table `[node]`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct NodeConfig {
    /// Its name; none takes the host name.
    pub name: Option<String>,
    /// Labels beside the well-known ones.
    pub labels: BTreeMap<String, String>,
    /// So many Pods may run here at the same time.
    pub max_pods: u32,
    /// What of its resources Pods may not request.
    pub reserved: ResourceList,
}

impl Default for NodeConfig {
    fn default() -> Self {
        Self { name: None, labels: BTreeMap::new(), max_pods: MAX_PODS, reserved: ResourceList::new() }
    }
}

impl Config {
    /// Reads the file; one that is not there says nothing.
    ///
    /// # Errors
    /// Any errno of reading it; [`Error::Config`] with the place of what is wrong.
    pub(crate) fn load(path: &Path) -> Result<Self> {
        match fs::read_to_string(path) {
            Ok(text) => Self::parse(path, &text),
            Err(source) if source.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            Err(source) => Err(Error::io("read", path, source)),
        }
    }

    fn parse(path: &Path, text: &str) -> Result<Self> {
        let wrong = |offset: Option<usize>, message: String| {
            let before = text.get(..offset.unwrap_or(0)).unwrap_or_default();
            let line = before.matches('\n').count() + 1;
            let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
            Error::Config { path: path.to_owned(), line, column, message }
        };
        let config: Self = toml::from_str(text)
            .map_err(|error| wrong(error.span().map(|span| span.start), error.message().to_owned()))?;
        for (key, value) in &config.node.labels {
            if let Some(why) = podrun_spec::label_faults(key, value).into_iter().next() {
                return Err(wrong(text.find(key.as_str()), format!("label {key}={value}: {why}")));
            }
        }
        Ok(config)
    }
}

#[cfg(test)]
mod tests {
    use podrun_spec::quantity::Quantity;

    use super::*;

    fn parse(text: &str) -> std::result::Result<Config, String> {
        Config::parse(Path::new("config.toml"), text).map_err(|error| error.to_string())
    }

    #[test]
    fn what_is_not_said_has_a_default() {
        assert_eq!(parse("").unwrap().node.max_pods, 110);
        let config = parse(
            "[node]\nlabels = { zone = 'a', \"example.com/disk\" = 'ssd' }\nreserved = { cpu = '250m' }",
        );
        let node = config.unwrap().node;
        assert_eq!(node.labels["example.com/disk"], "ssd");
        assert_eq!(node.reserved["cpu"], Quantity::from_millis(250));
        assert_eq!((node.name, node.max_pods), (None, 110));
    }

    #[test]
    fn mistakes_are_told_with_their_place() {
        for (text, place, message) in [
            ("[node]\nlables = {}", "config.toml:2:1: ", "unknown field `lables`"),
            ("[node]\nmax-pods = 'many'", "config.toml:2:12: ", "invalid type"),
            ("[node]\nreserved = { cpu = 'much' }", "config.toml:2:20: ", "much"),
            ("[node]\nlabels = { 'a b' = 'c' }", "config.toml:2:13: ", "name part must consist"),
            ("[node\n", "config.toml:1:6: ", ""),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.starts_with(place) && error.contains(message), "{text:?}: {error}");
            assert!(!error.contains('\n'), "{error}");
        }
    }

    #[test]
    fn a_file_that_is_not_there_says_nothing() {
        assert_eq!(Config::load(Path::new("/nonexistent/config.toml")).unwrap(), Config::default());
    }
}
