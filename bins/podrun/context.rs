//! What every command starts from: the engine, the manifest, the way Pods are run here.

use std::path::{Path, PathBuf};

use podrun_engine::{Engine, NetworkOptions, Paths, PidsLimit, PodOptions, PodView};
use podrun_plan::facts::{PodNetwork, UnenforcedLimits};

use crate::cli::{Global, NodeArgs, PodNetworkArg, Unenforced};
use crate::exit_code::Code;
use crate::report::{self, CommandError};
use crate::selection::Selection;

/// Name of the init program, which is installed beside this one.
const INIT: &str = "podrun-init";

/// Annotation that names the container to take where none is named.
const DEFAULT_CONTAINER: &str = "kubectl.kubernetes.io/default-container";

/// Returns the engine of the state directories that the command line names.
pub(crate) fn engine(global: &Global) -> Result<Engine, CommandError> {
    let paths = match &global.root {
        Some(root) => {
            let root =
                std::path::absolute(root).map_err(|error| CommandError::io("resolve", root, &error))?;
            Paths::below(&root)
        }
        None => Paths::system(),
    };
    Ok(Engine::new(paths, init_program()?))
}

/// Returns the path of the init program: the sibling of this one.
fn init_program() -> Result<PathBuf, CommandError> {
    let own = std::env::current_exe()
        .map_err(|error| CommandError::io("find", Path::new("/proc/self/exe"), &error))?;
    Ok(own.with_file_name(INIT))
}

/// Gives each Pod whose supervisor was killed a new one: being looked at is enough.
///
/// A Pod for which that fails shows as Unknown, which is no reason not to show the others.
pub(crate) fn revive(engine: &Engine) {
    if nix::unistd::geteuid().is_root()
        && let Err(errors) = engine.revive()
    {
        errors.iter().for_each(|error| report::warning(&report::chain(error)));
    }
}

/// Returns all Pods that can be read, and tells of the others: a broken one hides nothing.
pub(crate) fn pods(engine: &Engine) -> Result<Vec<PodView>, CommandError> {
    let pods = engine.pods()?;
    for fault in &pods.faults {
        let way_out = match &fault.name {
            Some((namespace, name)) => format!("podrun delete pod {name} -n {namespace} --force"),
            None => format!("podrun delete pod {} --force", fault.uid),
        };
        report::warning(&format!("{}: `{way_out}` removes the pod", report::chain(&fault.error)));
    }
    Ok(pods.views)
}

/// Tells that there are no Pods of those that were asked about, which is no error.
pub(crate) fn tell_nothing_found(global: &Global, all_namespaces: bool) {
    let place = if all_namespaces { String::new() } else { format!(" in {} namespace", global.namespace()) };
    crate::print::eprintln!("No resources found{place}.");
}

/// Returns the Pods that are meant, and what is wrong with those that are named in vain; nothing said means all.
pub(crate) fn select(
    engine: &Engine,
    global: &Global,
    selection: &Selection,
    all_namespaces: bool,
) -> Result<(Vec<PodView>, Vec<CommandError>), CommandError> {
    let names = match selection {
        Selection::Named(names) => names.as_slice(),
        Selection::All | Selection::Filtered(_) => &[],
    };
    if names.is_empty() {
        let is_meant = |view: &PodView| matches!(selection, Selection::Named(_)) || selection.matches(view);
        let mut views = pods(engine)?;
        views.retain(|view| {
            (all_namespaces || view.pod.meta.namespace == global.namespace()) && is_meant(view)
        });
        return Ok((views, Vec::new()));
    }
    let (mut views, mut missing) = (Vec::new(), Vec::new());
    for name in names {
        match engine.pod(global.namespace(), name) {
            Ok(view) => views.push(view),
            Err(error) => missing.push(error.into()),
        }
    }
    Ok((views, missing))
}

/// Returns an error with the namespace where a Pod is that was looked for in another one.
pub(crate) fn seen_elsewhere(global: &Global, error: CommandError) -> CommandError {
    let CommandError::Engine(podrun_engine::Error::NotFound { name, .. }) = &error else { return error };
    // Whoever may not look has heard of that already.
    let Ok(pods) = engine(global).and_then(|engine| Ok(engine.pods()?)) else { return error };
    let namespaces: Vec<&str> = pods
        .views
        .iter()
        .filter(|view| view.pod.meta.name == *name && view.pod.meta.namespace != global.namespace())
        .map(|view| view.pod.meta.namespace.as_str())
        .collect();
    if namespaces.is_empty() {
        return error;
    }
    let hint = format!("there is one with -n {}", namespaces.join(" and one with -n "));
    CommandError::new(Code::NotFound, error.message()).with_hint(hint)
}

/// Returns how Pods are run here.
pub(crate) fn options(
    engine: &Engine,
    node: &NodeArgs,
    remove_when_finished: bool,
) -> Result<PodOptions, CommandError> {
    let node_name = match node.node_name.clone().or(engine.config()?.node.name) {
        Some(name) => name,
        None => nix::unistd::gethostname()
            .map_err(|errno| CommandError::new(Code::Engine, format!("read the host name: {errno}")))?
            .to_string_lossy()
            .to_lowercase(),
    };
    Ok(PodOptions {
        node_name,
        node_labels: node.node_labels.iter().cloned().collect(),
        unenforced_limits: match node.unenforced_limits {
            Unenforced::Refuse => UnenforcedLimits::Refuse,
            Unenforced::Warn => UnenforcedLimits::Warn,
        },
        pod_pids_limit: match node.pod_max_pids {
            None => PidsLimit::Default,
            Some(limit) => match u64::try_from(limit) {
                Ok(limit) if limit > 0 => PidsLimit::Limit(limit),
                _ => PidsLimit::Unlimited,
            },
        },
        memory_qos: node.memory_qos,
        remove_when_finished,
        network: network_options(node),
    })
}

fn network_options(node: &NodeArgs) -> NetworkOptions {
    let default = NetworkOptions::default();
    NetworkOptions {
        pod_network: match node.network {
            PodNetworkArg::Bridge => PodNetwork::Bridge,
            PodNetworkArg::None => PodNetwork::None,
        },
        pod_cidr: node.pod_cidr.clone(),
        resolv_conf: node.resolv_conf.clone().unwrap_or(default.resolv_conf),
        cluster_dns: node.cluster_dns.clone(),
        cluster_domain: node.cluster_domain.clone(),
    }
}

/// Returns the container that is meant: the one that is asked for, or the default one, as kubectl finds it.
pub(crate) fn container(view: &PodView, asked: Option<&str>, quiet: bool) -> Result<String, CommandError> {
    let (spec, pod) = (&view.pod.spec, &view.pod.meta.name);
    if let Some(name) = asked {
        return match spec.container(name) {
            Some(_) => Ok(name.to_owned()),
            None => {
                let names: Vec<&str> = spec.all_containers().map(|(_, c)| c.name.as_str()).collect();
                let message = format!("container \"{name}\" in pod \"{pod}\" is not available");
                Err(CommandError::new(Code::NotFound, message)
                    .with_hint(format!("it has {}", names.join(", "))))
            }
        };
    }
    let annotated =
        view.pod.meta.annotations.get(DEFAULT_CONTAINER).filter(|name| spec.container(name).is_some());
    let first = annotated.unwrap_or(&spec.containers[0].name).clone();
    if annotated.is_none() && spec.containers.len() > 1 && !quiet {
        let names: Vec<&str> = spec.containers.iter().map(|c| c.name.as_str()).collect();
        crate::print::eprintln!("Defaulted container \"{first}\" out of: {}", names.join(", "));
    }
    Ok(first)
}
