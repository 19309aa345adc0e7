//! The last step: a container's plan, its image and its environment put together.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use podrun_spec::env::{argv, expand};
use podrun_spec::model::Container;

use crate::facts::{ImageFacts, Images};
use crate::fault::ConfigFault;
use crate::model::{
    ContainerPlan, ContainerSetup, MountPlan, MountSource, NamespacePlan, Owner, Plan, SandboxPlan,
};
use crate::mounts::{absolute, private_file};
use crate::signal;

/// Where programs are looked for when nobody says.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// The highest user id that the Pod API takes.
const UID_MAX: i64 = i32::MAX as i64;

/// Returns a container ready to start: its plan, with what only its image and this start of it know.
///
/// `container` is the one that `planned` was made from, `env` the environment that its Pod gives it with all
/// references resolved and each name once, `attempt` 0 for the first start.
///
/// `HOME` is not among its environment unless the image or the Pod sets it: it is the user's, who is looked up in the
/// container's own /etc/passwd when the container is made.
///
/// # Errors
/// [`ConfigFault`], whose text and reason are those of the container's waiting state. It may be gone at the next
/// attempt, with another image.
pub fn complete(
    plan: &Plan,
    planned: &ContainerPlan,
    container: &Container,
    attempt: u32,
    images: Images<'_>,
    env: &[(String, String)],
    grace_period: Duration,
) -> Result<ContainerSetup, ConfigFault> {
    let image = images.own;
    let sandbox = &plan.sandbox;
    check_non_root(sandbox, planned, &image.user)?;
    let args = argv(&container.command, &container.args, &image.entrypoint, &image.cmd, env);
    if args.is_empty() {
        return Err(ConfigFault::NoCommand);
    }
    let dir = planned.dir.join(attempt.to_string());
    let mut mounts =
        planned.mounts.iter().map(|mount| expanded(mount, env)).collect::<Result<Vec<_>, _>>()?;
    mounts.iter_mut().try_for_each(|mount| fill(mount, images.volumes))?;
    mounts.push(private_file(dir.join("termination-log"), &planned.termination_message_path));
    let mut cgroup = planned.cgroup.clone();
    cgroup.path = format!("{}.{attempt}", cgroup.path);
    let own_cgroup_root = if planned.security.privileged { Owner::Host } else { Owner::Container };
    let cwd = container.working_dir.as_deref().filter(|dir| !dir.is_empty()).unwrap_or(&image.working_dir);
    Ok(ContainerSetup {
        id: format!("{}_{}_{attempt}", sandbox.uid, planned.name),
        name: planned.name.clone(),
        attempt,
        namespaces: NamespacePlan { cgroup: own_cgroup_root, ..sandbox.namespaces },
        cgroup,
        log_path: planned.log_dir.join(format!("{attempt}.log")),
        dir,
        layers: image.layers.clone(),
        args,
        env: environment(sandbox, image, env),
        cwd: absolute(cwd),
        image_user: image.user.clone(),
        mounts,
        security: planned.security.clone(),
        oom_score_adj: planned.oom_score_adj,
        shm_size: sandbox.shm_size,
        stop_signal: stop_signal(container, image)?,
        grace_period,
    })
}

/// Returns `NAME=value` entries: defaults, over them the image's, over them the Pod's.
fn environment(sandbox: &SandboxPlan, image: &ImageFacts, env: &[(String, String)]) -> Vec<String> {
    let host_name = sandbox.hostname.as_ref().unwrap_or(&sandbox.node_name);
    let mut all = vec![("PATH", PATH), ("HOSTNAME", host_name)];
    // An entry without `=` has no meaning in a process's environment.
    let of_image = image.env.iter().filter_map(|entry| entry.split_once('='));
    let of_pod = env.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    for (name, value) in of_image.chain(of_pod) {
        match all.iter_mut().find(|(known, _)| *known == name) {
            Some(entry) => entry.1 = value,
            None => all.push((name, value)),
        }
    }
    all.iter().map(|(name, value)| format!("{name}={value}")).collect()
}

/// Gives the mount of an image its layers.
fn fill(mount: &mut MountPlan, volumes: &BTreeMap<String, Vec<PathBuf>>) -> Result<(), ConfigFault> {
    let MountSource::Image { layers } = &mut mount.source else { return Ok(()) };
    let volume = mount.volume.clone().unwrap_or_default();
    match volumes.get(&volume) {
        Some(known) => layers.clone_from(known),
        None => return Err(ConfigFault::NoVolumeImage { volume }),
    }
    Ok(())
}

/// Returns the mount with its `subPathExpr` made into a path.
fn expanded(mount: &MountPlan, env: &[(String, String)]) -> Result<MountPlan, ConfigFault> {
    let Some(expression) = &mount.sub_path_expr else { return Ok(mount.clone()) };
    let missing = std::cell::RefCell::new(std::collections::BTreeSet::new());
    let sub_path = expand(expression, |name| {
        let value = env.iter().find(|(known, value)| known == name && !value.is_empty());
        if value.is_none() {
            missing.borrow_mut().insert(name.to_owned());
        }
        value.map(|(_, value)| value.clone())
    });
    let missing = missing.into_inner();
    if !missing.is_empty() {
        return Err(ConfigFault::SubPathVariables { names: missing.into_iter().collect() });
    }
    if sub_path.starts_with('/') {
        return Err(ConfigFault::SubPathAbsolute { sub_path });
    }
    if sub_path.split('/').any(|part| part == "..") {
        return Err(ConfigFault::SubPathBacksteps { sub_path });
    }
    Ok(MountPlan { sub_path: Some(sub_path), sub_path_expr: None, ..mount.clone() })
}

/// Refuses what `runAsNonRoot` forbids, as far as numbers tell. An image's user by name cannot be told from root
/// without its /etc/passwd, so that is refused too.
fn check_non_root(
    sandbox: &SandboxPlan,
    planned: &ContainerPlan,
    image_user: &str,
) -> Result<(), ConfigFault> {
    if !planned.security.run_as_non_root {
        return Ok(());
    }
    let pod = format!("{}_{}({})", sandbox.name, sandbox.namespace, sandbox.uid);
    let container = planned.name.clone();
    match planned.security.run_as_user {
        Some(0) => return Err(ConfigFault::RunAsRoot { pod, container }),
        Some(_) => return Ok(()),
        None => {}
    }
    let user = image_user.split(':').next().unwrap_or_default();
    if user.is_empty() {
        return Err(ConfigFault::ImageRunsAsRoot { pod, container });
    }
    match user.parse::<i64>() {
        Ok(0) => Err(ConfigFault::ImageRunsAsRoot { pod, container }),
        Ok(1..=UID_MAX) => Ok(()),
        Ok(user) => Err(ConfigFault::ImageUserOutOfRange { user, pod, container }),
        Err(_) => Err(ConfigFault::ImageUserIsName { user: user.to_owned(), pod, container }),
    }
}

/// Returns the number of the signal that asks a container to end: the Pod's, else the image's, else SIGTERM.
///
/// # Errors
/// [`ConfigFault::StopSignal`] for an image that names none that there is.
pub fn stop_signal(container: &Container, image: &ImageFacts) -> Result<i32, ConfigFault> {
    let own = container.life.stop_signal.as_deref();
    let Some(name) = own.or(Some(&*image.stop_signal)).filter(|name| !name.is_empty()) else {
        return Ok(signal::TERM);
    };
    // What a Pod may say has been checked, so that a wrong one is the image's.
    signal::number_of(name).ok_or_else(|| ConfigFault::StopSignal { signal: name.to_owned() })
}

#[cfg(test)]
mod tests {
    use podrun_spec::model::{Pod, Volume, VolumeSource};

    use super::*;
    use crate::plan;
    use crate::test_support::{host, mount, pod};

    fn image() -> ImageFacts {
        ImageFacts {
            entrypoint: vec!["/entry".into()],
            cmd: vec!["-v".into()],
            layers: vec!["/l/1".into(), "/l/2".into()],
            ..ImageFacts::default()
        }
    }

    fn completed(pod: &Pod, image: &ImageFacts, env: &[(&str, &str)]) -> Result<ContainerSetup, ConfigFault> {
        let env: Vec<_> = env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let plan = plan(pod, &host()).unwrap();
        let planned = plan.container("c").unwrap();
        let volumes = BTreeMap::from([("files".to_owned(), vec![PathBuf::from("/l/3")])]);
        let images = Images { own: image, volumes: &volumes };
        complete(&plan, planned, &pod.spec.containers[0], 2, images, &env, Duration::from_secs(30))
    }

    #[test]
    fn names_carry_the_attempt() {
        let setup = completed(&pod("web"), &image(), &[]).unwrap();
        assert_eq!(setup.id, "7f3c_c_2");
        assert_eq!(setup.cgroup.path, "podrun/pod7f3c/c.2");
        assert_eq!(setup.dir.to_str(), Some("/var/lib/podrun/pods/7f3c/containers/c/2"));
        assert_eq!(setup.log_path.to_str(), Some("/var/lib/podrun/logs/default_web_7f3c/c/2.log"));
        assert_eq!((setup.cwd.as_str(), setup.stop_signal), ("/", 15));
        assert_eq!(setup.layers.len(), 2);
    }

    #[test]
    fn the_termination_log_is_mounted_last_and_writable() {
        let mut pod = pod("web");
        pod.spec.containers[0].termination_message_path = "last/words".into();
        let setup = completed(&pod, &image(), &[]).unwrap();
        let mount = setup.mounts.last().unwrap();
        assert_eq!(mount.target, "/last/words");
        assert_eq!(mount.source, crate::model::MountSource::Path(setup.dir.join("termination-log")));
        assert!(!mount.read_only && mount.restricted);
    }

    #[test]
    fn the_command_line_is_expanded_with_the_pods_environment_only() {
        let mut pod = pod("web");
        pod.spec.containers[0].args = vec!["$(A) $(B) $$(A)".into()];
        let image = ImageFacts { env: vec!["B=image".into()], ..image() };
        let setup = completed(&pod, &image, &[("A", "1")]).unwrap();
        assert_eq!(setup.args, ["/entry", "1 $(B) $(A)"]);
    }

    #[test]
    fn nothing_to_run_is_a_fault() {
        let fault = completed(&pod("web"), &ImageFacts::default(), &[]).unwrap_err();
        assert_eq!(
            (fault.reason(), fault.to_string().as_str()),
            ("CreateContainerError", "no command specified")
        );
    }

    #[test]
    fn environment_of_the_pod_wins_over_the_images_over_defaults() {
        let env = |pod: &Pod, image_env: &[&str], env: &[(&str, &str)]| {
            let env_of_image = image_env.iter().map(|entry| (*entry).to_owned()).collect();
            completed(pod, &ImageFacts { env: env_of_image, ..image() }, env).unwrap().env
        };
        let default = format!("PATH={PATH}");
        assert_eq!(env(&pod("web"), &[], &[]), [default.as_str(), "HOSTNAME=web"]);
        assert_eq!(
            env(
                &pod("web"),
                &["PATH=/bin", "A=1", "B=x=y", "none"],
                &[("A", "2"), ("HOSTNAME", "h"), ("E", "")]
            ),
            ["PATH=/bin", "HOSTNAME=h", "A=2", "B=x=y", "E="]
        );
        let mut of_host = pod("web");
        of_host.spec.host_network = true;
        assert_eq!(env(&of_host, &[], &[])[1], "HOSTNAME=node");
    }

    #[test]
    fn working_directory() {
        let cwd = |own: Option<&str>, of_image: &str| {
            let mut pod = pod("web");
            pod.spec.containers[0].working_dir = own.map(str::to_owned);
            completed(&pod, &ImageFacts { working_dir: of_image.into(), ..image() }, &[]).unwrap().cwd
        };
        assert_eq!(cwd(None, ""), "/");
        assert_eq!(cwd(None, "/srv"), "/srv");
        assert_eq!(cwd(Some("/own"), "/srv"), "/own");
        assert_eq!(cwd(Some(""), "/srv"), "/srv");
        assert_eq!(cwd(None, "srv/"), "/srv");
    }

    #[test]
    fn run_as_non_root() {
        let tail = "(pod: \"web_default(7f3c)\", container: c)";
        let root = format!("container has runAsNonRoot and image will run as root {tail}");
        let name = |name: &str| {
            format!(
                "container has runAsNonRoot and image has non-numeric user ({name}), cannot verify user is non-root \
                 {tail}"
            )
        };
        let range = |uid: i64| {
            format!(
                "container has runAsNonRoot and image has an invalid user id ({uid}). (Must be 1-(2147483647)): must \
                 be between 0 and 2147483647, inclusive {tail}"
            )
        };
        for (run_as_user, image_user, expected) in [
            (None, "", Some(root.clone())),
            (None, "0", Some(root.clone())),
            (None, "00:1000", Some(root.clone())),
            (None, ":1000", Some(root)),
            (None, "root", Some(name("root"))),
            (None, "app:app", Some(name("app"))),
            (None, "0x0", Some(name("0x0"))),
            (None, "1000", None),
            (None, "1000:0", None),
            (None, "2147483647", None),
            (None, "2147483648", Some(range(2_147_483_648))),
            (None, "4294967296", Some(range(4_294_967_296))),
            (None, "-1", Some(range(-1))),
            (Some(1000), "root", None),
            (Some(0), "1000", Some(format!("container's runAsUser breaks non-root policy {tail}"))),
        ] {
            let mut pod = pod("web");
            pod.spec.security.run_as_non_root = Some(true);
            pod.spec.security.run_as_user = run_as_user;
            let result = completed(&pod, &ImageFacts { user: image_user.into(), ..image() }, &[]);
            let fault = result.err();
            assert_eq!(fault.as_ref().map(ToString::to_string), expected, "{run_as_user:?} {image_user:?}");
            assert!(fault.is_none_or(|fault| fault.reason() == "CreateContainerConfigError"));
        }
        // Without runAsNonRoot nobody asks.
        assert!(completed(&pod("web"), &ImageFacts { user: "root".into(), ..image() }, &[]).is_ok());
    }

    #[test]
    fn sub_paths_are_expanded() {
        let sub_path = |expression: &str| {
            let mut pod = pod("web");
            let source =
                VolumeSource::EmptyDir { medium: podrun_spec::model::Medium::Disk, size_limit: None };
            pod.spec.volumes = vec![Volume { name: "v".into(), source }];
            let expression = Some(expression.to_owned());
            pod.spec.containers[0].volume_mounts =
                vec![podrun_spec::model::VolumeMount { sub_path_expr: expression, ..mount("v", "/v") }];
            let env = [("POD", "web"), ("UP", "../etc"), ("ABS", "/etc"), ("EMPTY", "")];
            let setup = completed(&pod, &image(), &env).map_err(|fault| fault.to_string())?;
            let mount = setup.mounts.into_iter().find(|mount| mount.target == "/v").unwrap();
            assert_eq!(mount.sub_path_expr, None);
            Ok(mount.sub_path.unwrap())
        };
        assert_eq!(sub_path("logs/$(POD)"), Ok("logs/web".to_owned()));
        assert_eq!(
            sub_path("$(UP)"),
            Err("unable to provision SubPath `../etc`: must not contain '..'".to_owned())
        );
        assert_eq!(
            sub_path("a/$(UP)"),
            Err("unable to provision SubPath `a/../etc`: must not contain '..'".to_owned())
        );
        assert_eq!(sub_path("$(ABS)"), Err("error SubPath `/etc` must not be an absolute path".to_owned()));
        assert_eq!(sub_path("$(NONE)/$(EMPTY)"), Err("missing value for EMPTY, NONE".to_owned()));
    }

    #[test]
    fn image_volumes_get_their_layers() {
        let setup = |volume: &str| {
            let mut pod = pod("web");
            let pull_policy = podrun_spec::model::PullPolicy::Never;
            let source = VolumeSource::Image { reference: "data:1".into(), pull_policy };
            pod.spec.volumes = vec![Volume { name: volume.into(), source }];
            pod.spec.containers[0].volume_mounts = vec![mount(volume, "/v")];
            completed(&pod, &image(), &[])
        };
        let mounts = setup("files").unwrap().mounts;
        let mount = mounts.iter().find(|mount| mount.target == "/v").unwrap();
        assert_eq!(mount.source, MountSource::Image { layers: vec!["/l/3".into()] });
        let fault = setup("other").unwrap_err();
        let text = "the image of volume \"other\" is not here";
        assert_eq!((fault.reason(), fault.to_string().as_str()), ("CreateContainerError", text));
    }

    #[test]
    fn privileged_containers_keep_the_hosts_cgroup_namespace() {
        let mut pod = pod("web");
        assert_eq!(completed(&pod, &image(), &[]).unwrap().namespaces.cgroup, Owner::Container);
        pod.spec.containers[0].security.privileged = true;
        assert_eq!(completed(&pod, &image(), &[]).unwrap().namespaces.cgroup, Owner::Host);
    }

    #[test]
    fn the_pods_stop_signal_wins_over_the_images() {
        let mut pod = pod("web");
        pod.spec.containers[0].life.stop_signal = Some("SIGUSR1".to_owned());
        let image = ImageFacts { stop_signal: "SIGQUIT".into(), ..image() };
        assert_eq!(completed(&pod, &image, &[]).unwrap().stop_signal, 10);
        pod.spec.containers[0].life.stop_signal = None;
        assert_eq!(completed(&pod, &image, &[]).unwrap().stop_signal, 3);
    }

    #[test]
    fn stop_signals_of_images() {
        let signal =
            |text: &str| completed(&pod("web"), &ImageFacts { stop_signal: text.into(), ..image() }, &[]);
        assert_eq!(signal("SIGRTMIN+3").unwrap().stop_signal, 37);
        let fault = signal("SIGNOPE").unwrap_err();
        assert_eq!(fault.to_string(), "the image's stop signal \"SIGNOPE\" does not exist");
    }
}
