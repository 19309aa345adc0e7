//! Images are pulled from the real registry server, as a Pod's policy and Secrets say, and nothing is transferred twice.

mod common;

use std::fs;

use common::{Podrun, pod, sh, state, with};
use podrun_testkit::{
    Answered, REGISTRY_PASSWORD, REGISTRY_USER, Registry, TempRoot, busybox_config, busybox_layer,
    own_network, require,
};
use serde_json::{Value, json};

const TAR: &str = "application/vnd.oci.image.layer.v1.tar";

/// Puts busybox into the registry, with a label that makes another image of it; returns the manifest's digest.
fn push(registry: &Registry, repository: &str, tag: &str, label: &str) -> String {
    let layer = busybox_layer();
    let mut config: Value = serde_json::from_slice(&busybox_config(&layer)).expect("JSON");
    config["config"]["Labels"] = json!({ "label": label });
    registry.push(repository, tag, config.to_string().as_bytes(), &[(TAR, &layer)])
}

/// Makes a podrun that may speak to this registry without TLS.
fn podrun(registry: &Registry) -> Podrun {
    let podrun = Podrun::empty();
    let dir = podrun.state().join("etc");
    fs::create_dir_all(&dir).expect("mkdir");
    let text = format!("[registry.\"{}\"]\nplain-http = true\n", registry.name());
    fs::write(dir.join("registries.toml"), text).expect("write");
    podrun
}

/// Ends a test: the settings were the test's own.
fn finish(podrun: Podrun, registry: Registry, dir: TempRoot) {
    fs::remove_dir_all(podrun.state().join("etc")).expect("it is ours");
    podrun.finish();
    drop(registry);
    dir.close();
}

/// Returns why a Pod's container waits for its image.
fn waits_for(podrun: &Podrun, name: &str, image: &str) -> String {
    podrun.wait_for(name, &state("c", "waiting.reason"), "ImagePullBackOff");
    let message = podrun.get(name, &state("c", "waiting.message"));
    let expected = format!(
        "Back-off pulling image \"{image}\": ErrImagePull: failed to pull and unpack image \"{image}\": \
         failed to resolve image: "
    );
    let why = message.strip_prefix(&expected);
    why.unwrap_or_else(|| panic!("{name}: {message}")).to_owned()
}

/// Shortens requests to their method and what they are about.
fn shown(answered: &[Answered]) -> Vec<String> {
    let kind = |path: &str| if path.contains("/blobs/") { "blob" } else { "manifest" };
    answered.iter().map(|one| format!("{} {} {}", one.method, kind(&one.path), one.status)).collect()
}

/// Returns what `describe` says about a Pod's image, in one line.
fn events(podrun: &Podrun, name: &str) -> String {
    let text = podrun.podrun(&["describe", "pod", name]).ok();
    let about = |line: &&str| line.contains("mage ");
    text.lines().filter(about).map(|line| line.trim().to_owned()).collect::<Vec<_>>().join("\n")
}

fn container(image: &str, policy: &str) -> Value {
    with(sh("c", "echo ran"), json!({ "image": image, "imagePullPolicy": policy }))
}

/// Runs a Pod with this image to its end, and removes it; returns its events about images, and its image's ID.
fn run(podrun: &Podrun, name: &str, image: &str, policy: &str) -> (String, String) {
    podrun.run(&pod(name, &[container(image, policy)])).ok();
    let found = (events(podrun, name), podrun.get(name, &state_of_image()));
    podrun.podrun(&["delete", "pod", name]).ok();
    found
}

fn state_of_image() -> String {
    "{.status.containerStatuses[0].imageID}".to_owned()
}

#[test]
fn each_policy_asks_for_what_it_needs_and_no_more() {
    require!(root, cgroup2, overlay, program("busybox"), program("docker-registry"));
    own_network();
    let dir = TempRoot::new();
    let mut registry = Registry::start(dir.path());
    let podrun = podrun(&registry);
    let first = push(&registry, "team/app", "1", "first");
    let image = format!("{}/team/app:1", registry.name());
    registry.answered();

    // Absent: the manifest, the configuration and the layer, each once.
    let (told, id) = run(&podrun, "absent", &image, "IfNotPresent");
    assert_eq!(shown(&registry.answered()), ["GET manifest 200", "GET blob 200", "GET blob 200"]);
    assert!(told.contains(&format!("Pulling image \"{image}\"")), "{told}");
    assert!(told.contains(&format!("Successfully pulled image \"{image}\" in ")), "{told}");
    assert!(told.contains(" including waiting). Image size: ") && told.ends_with(" bytes."), "{told}");
    assert_eq!(id, format!("{}/team/app@{first}", registry.name()));

    // Present, and that is enough.
    for policy in ["IfNotPresent", "Never"] {
        let (told, _) = run(&podrun, "present", &image, policy);
        assert!(told.contains(&format!("Container image \"{image}\" already present on machine")), "{told}");
    }
    // The same by its digest.
    let by_digest = format!("{}/team/app@{first}", registry.name());
    run(&podrun, "by-digest", &by_digest, "IfNotPresent");
    assert_eq!(registry.answered(), []);

    // `Always` asks what the tag means, and nothing is transferred.
    let (told, id) = run(&podrun, "always", &image, "Always");
    assert_eq!(shown(&registry.answered()), ["HEAD manifest 200"]);
    assert!(told.contains("Pulling image") && told.contains("Successfully pulled image"), "{told}");
    assert_eq!(id, by_digest);
    run(&podrun, "always-by-digest", &by_digest, "Always");
    assert_eq!(shown(&registry.answered()), ["HEAD manifest 200"]);

    // The tag means another image now, of which only the configuration is new.
    let second = push(&registry, "team/app", "1", "second");
    assert_ne!(first, second);
    registry.answered();
    let (_, id) = run(&podrun, "stale", &image, "IfNotPresent");
    assert_eq!((id.as_str(), registry.answered()), (by_digest.as_str(), Vec::new()));
    let (_, id) = run(&podrun, "fresh", &image, "Always");
    assert_eq!(shown(&registry.answered()), ["HEAD manifest 200", "GET manifest 200", "GET blob 200"]);
    assert_eq!(id, format!("{}/team/app@{second}", registry.name()));

    // The registry is down: what is here is here, and `Always` fails nevertheless.
    registry.stop();
    run(&podrun, "down-present", &image, "IfNotPresent");
    for (name, image, policy) in [
        ("down-always", image.clone(), "Always"),
        ("down-absent", format!("{}/team/other:1", registry.name()), "IfNotPresent"),
    ] {
        podrun.start(&pod(name, &[container(&image, policy)]));
        let why = waits_for(&podrun, name, &image);
        assert!(why.contains("connect: Connection refused"), "{why}");
        podrun.podrun(&["delete", "pod", name]).ok();
    }
    finish(podrun, registry, dir);
}

fn secret(registry: &Registry, name: &str, user: &str, password: &str) -> Value {
    let auths = json!({ "auths": { registry.name(): { "username": user, "password": password } } });
    json!({ "apiVersion": "v1", "kind": "Secret", "metadata": { "name": name },
        "type": "kubernetes.io/dockerconfigjson", "stringData": { ".dockerconfigjson": auths.to_string() } })
}

#[test]
fn secrets_open_registries_and_wrong_ones_are_told() {
    require!(root, cgroup2, overlay, program("busybox"), program("docker-registry"));
    own_network();
    let dir = TempRoot::new();
    let registry = Registry::with_users(dir.path());
    let podrun = podrun(&registry);
    push(&registry, "team/private", "1", "x");
    let image = format!("{}/team/private:1", registry.name());
    let with_secrets = |name: &str, secrets: &[Value], names: &[&str]| {
        let mut manifest = pod(name, &[container(&image, "Always")]);
        manifest["spec"]["imagePullSecrets"] = names.iter().map(|name| json!({ "name": name })).collect();
        let documents = secrets.iter().chain([&manifest]).map(|one| format!("{one:#}"));
        podrun.write_text(&documents.collect::<Vec<_>>().join("\n---\n"))
    };
    let right = secret(&registry, "right", REGISTRY_USER, REGISTRY_PASSWORD);
    let wrong = secret(&registry, "wrong", REGISTRY_USER, "hunter2-is-wrong");

    for (name, secrets, names, denied) in [
        ("nobody", vec![], vec![], true),
        ("wrong", vec![&wrong], vec!["wrong"], true),
        ("missing", vec![], vec!["no-such"], true),
        ("right", vec![&right], vec!["right"], false),
        // Each is tried, as by a kubelet.
        ("second", vec![&wrong, &right], vec!["wrong", "right"], false),
    ] {
        let secrets: Vec<Value> = secrets.into_iter().cloned().collect();
        let path = with_secrets(name, &secrets, &names);
        podrun.podrun(&["run", "-d", "--unenforced-limits=warn", &path]).ok();
        if denied {
            let why = waits_for(&podrun, name, &image);
            assert!(why.starts_with(&format!("{image}: 401 Unauthorized")), "{name}: {why}");
            let described = podrun.podrun(&["describe", "pod", name]).ok();
            assert!(described.contains(&format!("Failed to pull image \"{image}\"")), "{described}");
            assert!(!described.contains("hunter2"), "{described}");
            assert_eq!(
                described.contains("FailedToRetrieveImagePullSecret"),
                name == "missing",
                "{described}"
            );
        } else {
            podrun.wait_for(name, "{.status.phase}", "Succeeded");
        }
        podrun.podrun(&["delete", "pod", name]).ok();
    }
    finish(podrun, registry, dir);
}

/// Returns a Pod with an image as its volume at /v.
fn with_volume(name: &str, script: &str, image: &str, policy: &str) -> Value {
    let mounts = json!({ "volumeMounts": [{ "name": "v", "mountPath": "/v" }] });
    let mut manifest = pod(name, &[with(sh("c", script), mounts)]);
    manifest["spec"]["volumes"] =
        json!([{ "name": "v", "image": { "reference": image, "pullPolicy": policy } }]);
    manifest
}

#[test]
fn an_image_that_is_a_volume_is_pulled_like_any_other() {
    require!(root, cgroup2, overlay, program("busybox"), program("docker-registry"));
    own_network();
    let dir = TempRoot::new();
    let mut registry = Registry::start(dir.path());
    let podrun = podrun(&registry).with_busybox();
    push(&registry, "team/files", "1", "x");
    let image = format!("{}/team/files:1", registry.name());
    registry.answered();

    let script = "ls -d /v/etc/passwd /v/bin/sh; touch /v/new";
    podrun.run(&with_volume("pulls", script, &image, "IfNotPresent"));
    assert_eq!(podrun.json("pulls")["status"]["containerStatuses"][0]["state"]["terminated"]["exitCode"], 1);
    let log = podrun.logs("pulls", "c");
    assert!(log.contains("/v/bin/sh\n/v/etc/passwd\n"), "{log}");
    assert!(log.contains("touch: /v/new: Read-only file system\n"), "{log}");
    // The layer is that of the container's own image, and here already.
    assert_eq!(shown(&registry.answered()), ["GET manifest 200", "GET blob 200"]);
    // It is the Pod that has a volume, and the container that runs an image.
    let told = podrun.podrun(&["describe", "pod", "pulls"]).ok();
    let about = |words: &str| told.lines().find(|line| line.contains(words)).unwrap_or_default().to_owned();
    let pulled = about(&format!("Successfully pulled image \"{image}\" in "));
    assert!(!pulled.is_empty() && !pulled.contains("spec.containers"), "{told}");
    assert!(about("Container image \"localhost/busybox:test\"").contains("spec.containers{c}"), "{told}");
    podrun.delete("pulls");
    podrun.run(&with_volume("present", "true", &image, "IfNotPresent"));
    podrun.delete("present");
    assert_eq!(registry.answered(), []);
    podrun.run(&with_volume("always", "true", &image, "Always"));
    podrun.delete("always");
    assert_eq!(shown(&registry.answered()), ["HEAD manifest 200"]);

    // A container and a volume that it does not mount want the same image at the same time, and share the pull.
    push(&registry, "team/both", "1", "both");
    let both = format!("{}/team/both:1", registry.name());
    let mut manifest = pod("both", &[container(&both, "IfNotPresent")]);
    manifest["spec"]["volumes"] = json!([{ "name": "v", "image": { "reference": both } }]);
    registry.answered();
    podrun.run(&manifest).ok();
    assert_eq!(shown(&registry.answered()), ["GET manifest 200", "GET blob 200"]);
    let told = events(&podrun, "both");
    let pulled =
        told.lines().filter(|line| line.contains(&format!("Successfully pulled image \"{both}\" in ")));
    let mut about: Vec<_> = pulled.map(|line| line.contains("spec.containers{c}")).collect();
    about.sort_unstable();
    assert_eq!(about, [false, true], "{told}");
    podrun.delete("both");

    let absent = image.replace("files:1", "none:1");
    podrun.start(&with_volume("absent", "true", &absent, "IfNotPresent"));
    let why = waits_for(&podrun, "absent", &absent);
    assert!(why.starts_with(&format!("{absent}: not found")), "{why}");
    let told = podrun.events("absent");
    for line in [
        format!("Failed to pull image \"{absent}\": "),
        format!("Back-off pulling image \"{absent}\""),
        "Error: ErrImagePull".to_owned(),
        "Error: ImagePullBackOff".to_owned(),
    ] {
        assert!(told.contains(&line), "{line}: {told}");
    }
    podrun.delete("absent");
    finish(podrun, registry, dir);
}

#[test]
fn a_pull_is_told_in_the_way_that_is_wanted() {
    require!(root, program("busybox"), program("docker-registry"));
    own_network();
    let dir = TempRoot::new();
    let registry = Registry::with_users(dir.path());
    let podrun = podrun(&registry);
    let digest = push(&registry, "team/app", "1", "x");
    let image = format!("{}/team/app:1", registry.name());
    let authfile = dir.path().join("auth.json");
    let auths = json!({ "auths": { format!("{}/team", registry.name()): { "auth": "dXNlcjpzZWNyZXQ=" } } });
    fs::write(&authfile, auths.to_string()).expect("write");
    let authfile = authfile.display().to_string();

    let denied = podrun.podrun(&["image", "pull", "--authfile", "/dev/null", &image]).fails(1);
    assert!(denied.contains("credentials"), "{denied}");
    let quiet = podrun.podrun(&["image", "pull", "-q", "--authfile", &authfile, &image]);
    assert_eq!(quiet.stdout.trim(), digest);
    assert_eq!(quiet.stderr, "");

    let plain = podrun.podrun(&["image", "pull", "--authfile", &authfile, &image]);
    assert!(plain.stdout.contains("Image is up to date"), "{}", plain.stdout);
    podrun.podrun(&["image", "rm", &image]).ok();
    let told = podrun.podrun(&["image", "pull", "--progress=json", "--authfile", &authfile, &image]);
    let steps: Vec<Value> =
        told.stderr.lines().map(|line| serde_json::from_str(line).expect("a JSON object")).collect();
    let names: Vec<_> = steps.iter().filter_map(|step| step["step"].as_str()).collect();
    assert_eq!(names.first(), Some(&"resolved"), "{names:?}");
    assert!(names.contains(&"layers") && names.contains(&"received"), "{names:?}");
    assert_eq!(&names[names.len() - 2..], ["done", "committing"], "{names:?}");

    let absent = podrun.podrun(&["image", "pull", "--authfile", &authfile, &image.replace("app", "none")]);
    assert!(absent.fails(4).contains("not found"));
    finish(podrun, registry, dir);
}

#[test]
fn a_registry_without_tls_is_told_how_to_be_allowed() {
    require!(root, program("busybox"), program("docker-registry"));
    own_network();
    let dir = TempRoot::new();
    let registry = Registry::start(dir.path());
    push(&registry, "plain", "1", "l");
    let image = format!("{}/plain:1", registry.name());
    let podrun = podrun(&registry);
    let settings = podrun.state().join("etc/registries.toml");
    let allowed = fs::read_to_string(&settings).expect("it was written");
    fs::remove_file(&settings).expect("it is ours");
    let errors = podrun.podrun(&["image", "pull", &image]).fails(1);
    for line in allowed.lines() {
        assert!(errors.contains(line), "{line}: {errors}");
    }
    fs::write(&settings, "x = 1\n").expect("it is ours");
    let errors = podrun.podrun(&["image", "pull", &image]).fails(125);
    assert_eq!(errors.matches("unknown field `x`").count(), 1, "{errors}");
    fs::write(&settings, allowed).expect("it is ours");
    podrun.podrun(&["image", "pull", "-q", &image]).ok();
    podrun.podrun(&["image", "rm", &image]).ok();
    finish(podrun, registry, dir);
}
