//! What an image says about the process to run: entrypoint, environment, user and the like.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::de::{IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The part of an image's configuration that matters to run it.
///
/// Everything is as the image says it, unchecked: `user` may name a user that the image's `/etc/passwd` lacks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ImageConfig {
    /// `ENTRYPOINT`.
    pub entrypoint: Vec<String>,
    /// `CMD`.
    pub cmd: Vec<String>,
    /// `ENV`, each `NAME=value`.
    pub env: Vec<String>,
    /// `USER`: a name or number, optionally `:` and a group; empty means root.
    pub user: String,
    /// `WORKDIR`; empty means `/`.
    pub working_dir: String,
    /// `STOPSIGNAL`: a name or number.
    pub stop_signal: Option<String>,
    /// `EXPOSE`, each `port/protocol`, sorted.
    pub exposed_ports: Vec<String>,
    /// `VOLUME`: paths, sorted.
    pub volumes: Vec<String>,
    /// `LABEL`.
    pub labels: BTreeMap<String, String>,
    /// Go's name of the architecture; may be empty in hand-made images.
    pub architecture: String,
    /// The operating system; may be empty in hand-made images.
    pub os: String,
}

/// An image configuration as it stands in a blob, with the fields that are read here.
#[derive(Debug, Default, Deserialize, Serialize)]
pub(crate) struct ConfigFile {
    #[serde(default, deserialize_with = "nullable")]
    pub(crate) architecture: String,
    #[serde(default, deserialize_with = "nullable")]
    pub(crate) os: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) created: Option<String>,
    #[serde(default, deserialize_with = "nullable")]
    pub(crate) config: Process,
    #[serde(default, deserialize_with = "nullable")]
    pub(crate) rootfs: RootFs,
}

#[derive(Debug, Default, Deserialize, Serialize)]
pub(crate) struct RootFs {
    #[serde(default, rename = "type", deserialize_with = "nullable")]
    pub(crate) kind: String,
    #[serde(default, deserialize_with = "nullable")]
    pub(crate) diff_ids: Vec<String>,
}

/// An object whose keys are a set: `{"80/tcp": {}}`. Values mean nothing and are not kept, however large they are.
#[derive(Debug, Default)]
struct Set(BTreeSet<String>);

impl Set {
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<'de> Deserialize<'de> for Set {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Keys;
        impl<'de> Visitor<'de> for Keys {
            type Value = Set;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Set, A::Error> {
                let mut keys = BTreeSet::new();
                while let Some((key, IgnoredAny)) = map.next_entry()? {
                    keys.insert(key);
                }
                Ok(Set(keys))
            }
        }
        deserializer.deserialize_map(Keys)
    }
}

impl Serialize for Set {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Empty {}
        serializer.collect_map(self.0.iter().map(|key| (key, Empty {})))
    }
}

#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct Process {
    #[serde(deserialize_with = "nullable", skip_serializing_if = "String::is_empty")]
    user: String,
    #[serde(deserialize_with = "nullable", skip_serializing_if = "Set::is_empty")]
    exposed_ports: Set,
    #[serde(deserialize_with = "nullable", skip_serializing_if = "Vec::is_empty")]
    env: Vec<String>,
    #[serde(deserialize_with = "nullable", skip_serializing_if = "Vec::is_empty")]
    entrypoint: Vec<String>,
    #[serde(deserialize_with = "nullable", skip_serializing_if = "Vec::is_empty")]
    cmd: Vec<String>,
    #[serde(deserialize_with = "nullable", skip_serializing_if = "Set::is_empty")]
    volumes: Set,
    #[serde(deserialize_with = "nullable", skip_serializing_if = "String::is_empty")]
    working_dir: String,
    #[serde(deserialize_with = "nullable", skip_serializing_if = "BTreeMap::is_empty")]
    labels: BTreeMap<String, String>,
    #[serde(deserialize_with = "nullable", skip_serializing_if = "String::is_empty")]
    stop_signal: String,
}

/// Docker writes `null` for what is empty.
pub(crate) fn nullable<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

impl From<ConfigFile> for ImageConfig {
    fn from(file: ConfigFile) -> Self {
        let process = file.config;
        Self {
            entrypoint: process.entrypoint,
            cmd: process.cmd,
            env: process.env,
            user: process.user,
            working_dir: process.working_dir,
            stop_signal: Some(process.stop_signal).filter(|signal| !signal.is_empty()),
            exposed_ports: process.exposed_ports.0.into_iter().collect(),
            volumes: process.volumes.0.into_iter().collect(),
            labels: process.labels,
            architecture: file.architecture,
            os: file.os,
        }
    }
}

impl ConfigFile {
    /// Makes the configuration of a new image with one layer.
    pub(crate) fn new(config: &ImageConfig, created: Option<String>, diff_id: String) -> Self {
        let set = |keys: &[String]| Set(keys.iter().cloned().collect());
        Self {
            architecture: config.architecture.clone(),
            os: config.os.clone(),
            created,
            config: Process {
                user: config.user.clone(),
                exposed_ports: set(&config.exposed_ports),
                env: config.env.clone(),
                entrypoint: config.entrypoint.clone(),
                cmd: config.cmd.clone(),
                volumes: set(&config.volumes),
                working_dir: config.working_dir.clone(),
                labels: config.labels.clone(),
                stop_signal: config.stop_signal.clone().unwrap_or_default(),
            },
            rootfs: RootFs { kind: "layers".to_owned(), diff_ids: vec![diff_id] },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nulls_and_absent_fields_are_empty() {
        for text in [
            "{}",
            r#"{"config": null, "rootfs": null}"#,
            r#"{"config": {"Entrypoint": null, "Cmd": null, "Env": null, "Volumes": null, "Labels": null, "User": null}}"#,
        ] {
            let file: ConfigFile = serde_json::from_str(text).expect(text);
            assert_eq!(ImageConfig::from(file), ImageConfig::default(), "{text}");
        }
    }

    #[test]
    fn a_docker_configuration_is_read() {
        // Shortened from `docker image save` of nginx.
        let text = r#"{"architecture":"amd64","os":"linux","created":"2025-01-01T00:00:00Z","config":{
            "ExposedPorts":{"80/tcp":{},"443/tcp":{}},"Env":["PATH=/bin","X=1"],"User":"101:101","Healthcheck":{},
            "Entrypoint":["/docker-entrypoint.sh"],"Cmd":["nginx","-g","daemon off;"],"WorkingDir":"/srv",
            "Labels":{"maintainer":"m"},"StopSignal":"SIGQUIT","Volumes":{"/data":{}},"ArgsEscaped":true},
            "rootfs":{"type":"layers","diff_ids":["sha256:x"]},"history":[{"created":"x"}]}"#;
        let file: ConfigFile = serde_json::from_str(text).expect("valid");
        let config = ImageConfig::from(file);
        assert_eq!(config.entrypoint, ["/docker-entrypoint.sh"]);
        assert_eq!(config.cmd, ["nginx", "-g", "daemon off;"]);
        assert_eq!(config.exposed_ports, ["443/tcp", "80/tcp"]);
        assert_eq!(config.volumes, ["/data"]);
        assert_eq!(config.stop_signal.as_deref(), Some("SIGQUIT"));
        assert_eq!((config.user.as_str(), config.working_dir.as_str()), ("101:101", "/srv"));
        assert_eq!(config.labels["maintainer"], "m");
        let again = ConfigFile::new(&config, None, "sha256:x".to_owned());
        let text = serde_json::to_string(&again).expect("serialisable");
        assert_eq!(ImageConfig::from(serde_json::from_str::<ConfigFile>(&text).expect("valid")), config);
    }
}
