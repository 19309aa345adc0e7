//! What a user reads when a manifest is wrong: one line per fault, all at once, with a place and a hint.

use podrun_spec::{Fault, parse, parse_all};

fn faults(text: &str) -> Vec<Fault> {
    match parse("pod.yaml", text) {
        Ok(_) => Vec::new(),
        Err(faults) => faults.into_iter().collect(),
    }
}

fn lines(text: &str) -> Vec<String> {
    faults(text).iter().map(Fault::to_string).collect()
}

/// A Pod with these lines below `spec`, which begin on line 7.
fn pod(spec: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata:\n  name: p\nspec:\n  containers: [{{name: c, image: 'i:1'}}]\n{spec}"
    )
}

/// A Pod whose container has these lines, which begin on line 9.
fn container(fields: &str) -> String {
    let head = "apiVersion: v1\nkind: Pod\nmetadata:\n  name: p\nspec:\n  containers:\n  - name: c\n    image: i:1\n";
    let fields = fields.replace('\n', "\n    ");
    format!("{head}    {fields}\n  volumes:\n  - name: v\n    emptyDir: {{}}\n")
}

#[test]
fn all_mistakes_are_named_at_once_in_the_order_of_the_text() {
    let text = "\
apiVersion: v1
kind: Pod
metadata:
  name: web
  lables: {a: b}
spec:
  containers:
  - name: c
    imgae: nginx
    Command: [x]
    securityContext:
      runAsUser: abc
    env:
    - {name: A, value: 1}
    - {name: B, value: yes}
    resources: {limits: {memory: 64mb}}
    tty: true
    image: a
    image: b
  restartPolicy: [Never]
";
    assert_eq!(
        lines(text),
        [
            "pod.yaml:5:3: metadata.lables: unknown field",
            "pod.yaml:9:5: spec.containers[0].imgae: unknown field",
            "pod.yaml:10:5: spec.containers[0].Command: unknown field",
            "pod.yaml:12:7: spec.containers[0].securityContext.runAsUser: expected integer, got string \"abc\"",
            "pod.yaml:14:17: spec.containers[0].env[0].value: expected string, got number 1",
            "pod.yaml:15:17: spec.containers[0].env[1].value: expected string, got boolean true",
            "pod.yaml:16:26: spec.containers[0].resources.limits[memory]: expected a quantity, got \"64mb\"",
            "pod.yaml:17:5: spec.containers[0].tty: not supported by this version of podrun",
            "pod.yaml:19:5: spec.containers[0].image: is already set on line 18",
            "pod.yaml:20:3: spec.restartPolicy: expected string, got a list",
        ]
    );
    let hints: Vec<_> = faults(text).into_iter().map(|fault| fault.hint.unwrap_or_default()).collect();
    assert_eq!(
        hints[..3],
        ["did you mean \"labels\"?", "did you mean \"image\"?", "did you mean \"command\"?"]
    );
    assert_eq!(hints[4], "put the value in quotes");
}

#[test]
fn invalid_values_and_unsupported_fields_come_together() {
    let text = container(
        "stdin: true\nlivenessProbe: {httpGet: {port: 0}}\nports:\n- containerPort: 70000\nvolumeMounts:\n- name: nowhere\n  mountPath: /v\n- {name: v, mountPath: /w, subPath: ../x}",
    );
    assert_eq!(
        lines(&text),
        [
            "pod.yaml:9:5: spec.containers[0].stdin: not supported by this version of podrun",
            "pod.yaml:10:31: spec.containers[0].livenessProbe.httpGet.port: Invalid value: 0: must be between 1 and 65535, \
         inclusive",
            "pod.yaml:12:7: spec.containers[0].ports[0].containerPort: Invalid value: 70000: must be between 1 and 65535, \
         inclusive",
            "pod.yaml:14:7: spec.containers[0].volumeMounts[0].name: Not found: \"nowhere\"",
            "pod.yaml:16:32: spec.containers[0].volumeMounts.subPath: Invalid value: \"../x\": must not contain '..'",
        ]
    );
}

#[test]
fn an_image_volume_says_which_image() {
    let table = [
        ("image: {}", "spec.volumes[1].image.reference: Required value"),
        (
            "image: {reference: i, pullPolicy: Once}",
            "spec.volumes[1].image.pullPolicy: Unsupported value: \"Once\": supported values: \"Always\", \
             \"IfNotPresent\", \"Never\"",
        ),
        (
            "image: {reference: i}, emptyDir: {}",
            "spec.volumes[1].image: Forbidden: may not specify more than 1 volume type",
        ),
    ];
    for (source, expected) in table {
        let text = container("tty: false") + &format!("  - {{name: i, {source}}}\n");
        let told = lines(&text);
        assert!(told.len() == 1 && told[0].ends_with(expected), "{source}: {told:?}");
    }
}

#[test]
fn what_is_valid_but_not_done_is_refused_by_name() {
    let spec = [
        ("hostUsers: false", "spec.hostUsers"),
        ("runtimeClassName: gvisor", "spec.runtimeClassName"),
        ("schedulingGates: [{name: a}]", "spec.schedulingGates"),
        ("securityContext: {seLinuxOptions: {level: s0}}", "spec.securityContext.seLinuxOptions"),
        (
            "securityContext: {appArmorProfile: {type: RuntimeDefault}}",
            "spec.securityContext.appArmorProfile.type",
        ),
        (
            "securityContext: {seccompProfile: {type: Localhost, localhostProfile: a}}",
            "spec.securityContext.seccompProfile.type",
        ),
        ("volumes: [{name: v, configMap: {name: m}}]", "spec.volumes[0].configMap"),
        ("volumes: [{name: v, emptyDir: {medium: HugePages}}]", "spec.volumes[0].emptyDir.medium"),
    ];
    let fields = [
        ("livenessProbe: {httpGet: {port: 80, protocol: HTTP2}}", "livenessProbe.httpGet.protocol"),
        ("livenessProbe: {grpc: {port: 80, mode: TLS}}", "livenessProbe.grpc.mode"),
        ("tty: true", "tty"),
        ("stdin: true", "stdin"),
        ("ports: [{containerPort: 80, hostPort: 80, hostIP: x}]", "ports[0].hostIP"),
        ("securityContext: {procMount: Unmasked}", "securityContext.procMount"),
        ("securityContext: {capabilities: {add: [NET_ADMIM]}}", "securityContext.capabilities.add"),
        ("resources: {limits: {ephemeral-storage: 1Gi}}", "resources.limits[ephemeral-storage]"),
        ("resources: {limits: {example.com/gpu: 1}}", "resources.limits[example.com/gpu]"),
        (
            "resizePolicy: [{resourceName: cpu, restartPolicy: RestartContainer}]",
            "resizePolicy[0].restartPolicy",
        ),
    ];
    let spec = spec.map(|(text, path)| (pod(&format!("  {text}\n")), path.to_owned()));
    let fields = fields.map(|(text, path)| (container(text), format!("spec.containers[0].{path}")));
    spec.iter().chain(&fields).for_each(|(text, path)| assert_refused(text, path));
}

fn assert_refused(text: &str, path: &str) {
    let faults = faults(text);
    let refused = |fault: &Fault| {
        fault.path == path
            && fault.message.ends_with("not supported by this version of podrun")
            && fault.line >= 5
            && fault.hint.is_some()
    };
    assert!(faults.iter().any(refused), "{text}{faults:#?}");
}

#[test]
fn a_host_port_is_at_an_address() {
    let ports = |address: &str| {
        container(&format!("ports: [{{containerPort: 80, hostPort: 80, hostIP: {address}}}]"))
    };
    assert_refused(&ports("here"), "spec.containers[0].ports[0].hostIP");
    assert!(podrun_spec::parse("pod.yaml", &ports("127.0.0.1")).is_ok());
}

#[test]
fn annotations_of_a_pod_that_exists_are_checked_too() {
    let parsed = podrun_spec::parse("pod.yaml", &pod("")).unwrap();
    let wire = &parsed.pods[0].wire;
    let changed = |key: &str, value: Option<&str>| {
        let changes = [(key.to_owned(), value.map(str::to_owned))].into();
        wire.with_annotations(&changes).map(|wire| wire.to_json()["metadata"]["annotations"].clone())
    };
    let rate = "kubernetes.io/egress-bandwidth";
    assert_eq!(changed(rate, Some("10M")).unwrap()[rate], "10M");
    assert!(changed(rate, None).unwrap()[rate].is_null());
    for (key, value, expected) in [
        (rate, "1", "resource is unreasonably small (< 1kbit)"),
        ("no key", "x", "metadata.annotations: Invalid value"),
        ("podrun.io/egress-brust", "1", "unknown annotation of podrun"),
        ("podrun.io/probe-period-ms", "100", "is read when the Pod is created"),
    ] {
        let faults = changed(key, Some(value)).unwrap_err();
        assert!(faults.iter().any(|fault| fault.contains(expected)), "{key}: {faults:?}");
    }
}

#[test]
fn bandwidth_that_cannot_be_meant_has_a_place() {
    let annotated = |annotations: &str, spec: &str| {
        lines(&pod(spec).replace("name: p", &format!("name: p\n  annotations:\n    {annotations}")))
    };
    for (annotations, spec, expected) in [
        (
            "kubernetes.io/ingress-bandwidth: 10Mbit",
            "",
            "pod.yaml:6:5: metadata.annotations[kubernetes.io/ingress-bandwidth]: Invalid value: \"10Mbit\": quantities must \
             match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'",
        ),
        (
            "kubernetes.io/egress-bandwidth: '1'",
            "",
            "pod.yaml:6:5: metadata.annotations[kubernetes.io/egress-bandwidth]: Invalid value: \"1\": resource is \
             unreasonably small (< 1kbit)",
        ),
        (
            "podrun.io/egress-burst: 10k",
            "",
            "pod.yaml:6:5: metadata.annotations[podrun.io/egress-burst]: Invalid value: \"10k\": needs \
             kubernetes.io/egress-bandwidth",
        ),
        (
            "kubernetes.io/egress-bandwidth: 1M",
            "  hostNetwork: true\n",
            "pod.yaml:6:5: metadata.annotations[kubernetes.io/egress-bandwidth]: Invalid value: \"1M\": may not be set when \
             `hostNetwork` is true",
        ),
        (
            "podrun.io/ingres-burst: 10k",
            "",
            "pod.yaml:6:5: metadata.annotations[podrun.io/ingres-burst]: unknown annotation of podrun",
        ),
    ] {
        let lines = annotated(annotations, spec);
        assert!(lines.iter().any(|line| line == expected), "{expected}\n{lines:#?}");
    }
}

#[test]
fn values_that_say_nothing_are_accepted() {
    let text = container(
        "tty: false\nstdin: false\nports: [{containerPort: 80, hostPort: 0}]\nvolumeDevices: []\nlivenessProbe:\nsecurityContext: {procMount: Default, appArmorProfile: {type: Unconfined}}",
    );
    assert_eq!(lines(&text), Vec::<String>::new());
}

#[test]
fn documents_of_other_kinds_and_broken_texts_are_refused() {
    let table: &[(&str, &[&str])] = &[
        ("", &["pod.yaml: the text has no document"]),
        ("[]", &["pod.yaml:1:1: expected an object with apiVersion and kind, got a list"]),
        ("a: 1", &["pod.yaml:1:1: apiVersion: Required value", "pod.yaml:1:1: kind: Required value"]),
        (
            "apiVersion: apps/v1\nkind: Deployment",
            &["pod.yaml:2:1: kind: podrun does not run apps/v1 Deployment"],
        ),
        ("apiVersion: v1\nkind: List\nitems: {}", &["pod.yaml:3:1: items: expected a list"]),
        (
            "apiVersion: v1\nkind: List\nitems:\n- {apiVersion: v1, kind: ConfigMap, metadata: {}}",
            &["pod.yaml:4:37: items[0].metadata.name: Required value: name or generateName is required"],
        ),
        (
            "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\ndata: {a: '***'}",
            &["pod.yaml:4:8: data[a]: expected base64 text"],
        ),
    ];
    for (text, expected) in table {
        assert_eq!(lines(text), *expected, "{text}");
    }
    let broken = lines("apiVersion: v1\nkind: [Pod\n");
    assert!(broken.len() == 1 && broken[0].starts_with("pod.yaml:"), "{broken:?}");
    let twice = format!("{}---\n{}", pod(""), pod(""));
    assert_eq!(lines(&twice), ["pod.yaml:11:3: metadata.name: the manifest has Pod default/p twice"]);
}

#[test]
fn deep_and_large_texts_are_refused() {
    assert_eq!(faults(&format!("{}{}", "[".repeat(60), "]".repeat(60))).len(), 1);
    assert_eq!(faults(&format!("{}1{}", "{a: ".repeat(31), "}".repeat(31))).len(), 2, "31 levels are read");
    assert_eq!(faults(&"#".repeat(9 << 20)).len(), 1);
}

#[test]
fn other_kinds_are_told_what_to_write_instead() {
    for (version, kind, hint) in [
        (
            "apps/v1",
            "Deployment",
            "there are no controllers: write its spec.template as a v1 Pod with a name",
        ),
        ("v1", "pod", "did you mean v1 Pod?"),
        ("core/v1", "Pod", "did you mean v1 Pod?"),
        ("v1", "Service", "it reads v1 Pod, ConfigMap, Secret and List"),
    ] {
        let faults = faults(&format!("apiVersion: {version}\nkind: {kind}"));
        assert_eq!(faults[0].hint.as_deref(), Some(hint), "{version} {kind}");
    }
}

#[test]
fn another_namespace_than_the_one_asked_for_is_refused() {
    let pod = |meta: &str| {
        format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{{meta}}}\nspec: {{containers: [{{name: c, image: i}}]}}"
        )
    };
    let (own, none) = (pod("name: a, namespace: shop"), pod("name: b"));
    let sources = [("a.yaml", own.as_str()), ("b.yaml", none.as_str())];
    let namespaces = |asked| {
        let manifest = parse_all(sources, asked).unwrap();
        manifest.pods.into_iter().map(|parsed| parsed.pod.meta.namespace).collect::<Vec<_>>()
    };
    assert_eq!(namespaces(None), ["shop", "default"]);
    assert_eq!(namespaces(Some("shop")), ["shop", "shop"]);
    let faults: Vec<Fault> = parse_all(sources, Some("test")).unwrap_err().into_iter().collect();
    assert_eq!(faults.len(), 1);
    let message = "the namespace from the provided object \"shop\" does not match the namespace \"test\"";
    assert_eq!(faults[0].to_string(), format!("a.yaml:3:21: metadata.namespace: {message}"));
}

#[test]
fn what_several_files_have_twice_is_told_once_with_its_file() {
    let pod = pod("");
    let faults: Vec<Fault> = parse_all([("a.yaml", pod.as_str()), ("b.yaml", pod.as_str())], None)
        .unwrap_err()
        .into_iter()
        .collect();
    let lines: Vec<String> = faults.iter().map(Fault::to_string).collect();
    assert_eq!(lines, ["b.yaml:4:3: metadata.name: the manifest has Pod default/p twice"]);
}

#[test]
fn what_is_indented_or_quoted_wrongly_is_led_back() {
    let hint = |text: &str| faults(text)[0].hint.clone().unwrap_or_default();
    let indented = |owner: &str| format!("{owner} has such a field: is it indented as it should be?");
    for (text, expected) in [
        (pod("  image: i:2"), indented("\"containers\"")),
        (container("volumes: []"), indented("the PodSpec around it")),
        (
            container("command: echo hello"),
            "a list is written as [a, b], or with a dash before each item".to_owned(),
        ),
        (container("ports: {containerPort: 80}"), "each item of a list begins with a dash".to_owned()),
        (pod("  hostNetwork: 'true'"), "take the quotes away".to_owned()),
        (pod("  terminationGracePeriodSeconds: '30'"), "take the quotes away".to_owned()),
        (pod("  hostNetwork: 'yes'"), String::new()),
        (pod("  nonsense: 1"), String::new()),
        (
            "kind: Pod\nmetadata: {name: {{ .Values.name }}}".to_owned(),
            "a template has to be rendered first, as by helm template".to_owned(),
        ),
    ] {
        assert_eq!(hint(&text), expected, "{text}");
    }
}
