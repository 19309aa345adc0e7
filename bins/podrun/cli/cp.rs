//! `podrun cp`.

use std::path::PathBuf;

use clap::Args;

use crate::selection::is_pod;

#[derive(Debug, Args)]
#[command(
    after_help = "What is copied into a directory that is there keeps its name; with /. at its end, only what is in a
directory is copied. Files keep modes and times. In the container they belong to the user of its first process, and
paths begin at its root. Nothing needs to be installed there. Links are copied into containers, not out of them: where
one leads may be anywhere. Devices, sockets and FIFOs are passed over.

Examples:
  podrun cp ./site web:/usr/share/nginx      a directory into a container
  podrun cp web:/var/log/app.log .           a file out of it
  podrun cp -c db ns/web:/data/. ./backup    what is in a directory, of another container, in a namespace"
)]
pub(crate) struct CpArgs {
    /// What is copied: a path of this machine, or `POD:PATH`, `NAMESPACE/POD:PATH`.
    #[arg(value_name = "SOURCE", value_parser = FileSpec::parse)]
    pub(crate) source: FileSpec,
    /// Where to: one of both is in a Pod.
    #[arg(value_name = "TARGET", value_parser = FileSpec::parse)]
    pub(crate) target: FileSpec,
    /// The container, if the Pod has several.
    #[arg(short, long, value_name = "NAME")]
    pub(crate) container: Option<String>,
}

/// A file here, or in a Pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum FileSpec {
    Here(PathBuf),
    InPod { namespace: Option<String>, pod: String, path: PathBuf },
}

impl FileSpec {
    fn parse(text: &str) -> Result<Self, String> {
        // As kubectl: a path with a colon needs a slash or a dot in front.
        let in_pod = text.split_once(':').filter(|_| !text.starts_with(['/', '.']));
        let Some((pod, path)) = in_pod else { return Ok(Self::Here(PathBuf::from(text))) };
        if pod.is_empty() || path.is_empty() {
            return Err("expected POD:PATH or a path of this machine".to_owned());
        }
        let (namespace, pod) = match pod.split_once('/') {
            Some((kind, pod)) if is_pod(kind) => (None, pod),
            Some((namespace, pod)) => (Some(namespace.to_owned()), pod),
            None => (None, pod),
        };
        Ok(Self::InPod { namespace, pod: pod.to_owned(), path: PathBuf::from(path) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_told_apart_as_by_kubectl() {
        let here = |path: &str| Ok(FileSpec::Here(PathBuf::from(path)));
        let there = |namespace: Option<&str>, pod: &str, path: &str| {
            let (namespace, pod) = (namespace.map(str::to_owned), pod.to_owned());
            Ok(FileSpec::InPod { namespace, pod, path: PathBuf::from(path) })
        };
        for (text, read) in [
            ("web:/etc", there(None, "web", "/etc")),
            ("pod/web:etc", there(None, "web", "etc")),
            ("ns/web:/a:b", there(Some("ns"), "web", "/a:b")),
            ("file", here("file")),
            ("./a:b", here("./a:b")),
            ("/a:b", here("/a:b")),
        ] {
            assert_eq!(FileSpec::parse(text), read, "{text}");
        }
        assert!(FileSpec::parse("web:").is_err() && FileSpec::parse(":/x").is_err());
    }
}
