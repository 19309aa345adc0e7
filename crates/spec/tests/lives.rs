//! Probes, hooks, restarts, sidecars and placement: from a manifest to the domain, and back.

use std::time::Duration;

use podrun_spec::model::{
    ContainerKind, Hook, HookKind, HttpGet, NodeOperator, Pod, Port, Probe, ProbeHandler, ProbeKind,
    RestartAction, RestartPolicy, TcpSocket,
};
use podrun_spec::resources::effective_requests;
use podrun_spec::{Fault, decode_strict, from_json, parse};

const FULL: &str = r#"
apiVersion: v1
kind: Pod
metadata:
  name: full
  annotations: {podrun.io/probe-period-ms: "c/liveness=250, side/startup=100"}
spec:
  activeDeadlineSeconds: 600
  nodeName: here
  nodeSelector: {disk: ssd}
  os: {name: linux}
  readinessGates: [{conditionType: example.com/ready}]
  affinity:
    nodeAffinity:
      requiredDuringSchedulingIgnoredDuringExecution:
        nodeSelectorTerms:
        - matchExpressions:
          - {key: zone, operator: In, values: [a, b]}
          - {key: cores, operator: Gt, values: ["3"]}
          - {key: gone, operator: DoesNotExist}
        - matchFields: [{key: metadata.name, operator: NotIn, values: [there]}]
  initContainers:
  - {name: first, image: "i:1", resources: {requests: {cpu: 2}}}
  - name: side
    image: i:1
    restartPolicy: Always
    resources: {requests: {cpu: 1}}
    startupProbe: {exec: {command: [check, $(PORT)]}}
    lifecycle: {preStop: {sleep: {seconds: 3}}}
  - {name: last, image: "i:1", restartPolicy: OnFailure, resources: {requests: {cpu: 2500m}}}
  containers:
  - name: c
    image: i:1
    restartPolicy: Never
    restartPolicyRules:
    - {action: Restart, exitCodes: {operator: In, values: [3, 4]}}
    - {action: RestartAllContainers, exitCodes: {operator: NotIn, values: [0]}}
    ports: [{name: http, containerPort: 8080}]
    startupProbe:
      tcpSocket: {port: http, host: 127.0.0.1}
      failureThreshold: 30
    livenessProbe:
      httpGet: {path: /live?x=1, port: http, scheme: HTTPS, httpHeaders: [{name: A, value: b}, {name: A, value: c}]}
      initialDelaySeconds: 5
      periodSeconds: 7
      timeoutSeconds: 2
      failureThreshold: 4
      terminationGracePeriodSeconds: 9
    readinessProbe:
      grpc: {port: 9000, service: s}
      successThreshold: 2
    lifecycle:
      stopSignal: SIGUSR1
      postStart: {httpGet: {port: 8080}}
      preStop: {tcpSocket: {port: 1}}
  - {name: plain, image: "i:1", restartPolicy: Always}
"#;

fn read(text: &str) -> Pod {
    parse("pod.yaml", text).unwrap_or_else(|faults| panic!("{faults}")).pods.remove(0).pod
}

#[test]
fn probes_reach_the_domain_with_their_defaults() {
    let pod = read(FULL);
    let seconds = Duration::from_secs;
    let life = &pod.spec.containers[0].life;
    assert_eq!(
        life.probe(ProbeKind::Liveness),
        Some(&Probe {
            handler: ProbeHandler::HttpGet(HttpGet {
                path: "/live?x=1".to_owned(),
                port: Port::Name("http".to_owned()),
                host: None,
                https: true,
                headers: [("A", "b"), ("A", "c")].map(|(n, v)| (n.to_owned(), v.to_owned())).to_vec(),
            }),
            initial_delay: seconds(5),
            period: Duration::from_millis(250),
            timeout: seconds(2),
            success_threshold: 1,
            failure_threshold: 4,
            termination_grace_period: Some(seconds(9)),
        })
    );
    let startup = life.probe(ProbeKind::Startup).unwrap();
    let socket = TcpSocket { port: Port::Name("http".to_owned()), host: Some("127.0.0.1".to_owned()) };
    assert_eq!(startup.handler, ProbeHandler::TcpSocket(socket));
    assert_eq!((startup.failure_threshold, startup.period, startup.timeout), (30, seconds(10), seconds(1)));
    let readiness = life.probe(ProbeKind::Readiness).unwrap();
    assert_eq!(readiness.handler, ProbeHandler::Grpc { port: 9000, service: "s".to_owned() });
    assert_eq!((readiness.success_threshold, readiness.failure_threshold), (2, 3));
    let (_, side) = pod.spec.container("side").unwrap();
    let startup = side.life.startup.as_ref().unwrap();
    assert_eq!(startup.handler, ProbeHandler::Exec(vec!["check".to_owned(), "$(PORT)".to_owned()]));
    assert_eq!(startup.period, Duration::from_millis(100));
}

#[test]
fn hooks_signals_and_restarts_reach_the_domain() {
    let pod = read(FULL);
    let life = &pod.spec.containers[0].life;
    let Some(Hook::HttpGet(get)) = life.hook(HookKind::PostStart) else { panic!("{life:?}") };
    assert_eq!((get.path.as_str(), &get.port, get.https), ("/", &Port::Number(8080), false));
    assert_eq!(
        life.hook(HookKind::PreStop),
        Some(&Hook::TcpSocket(TcpSocket { port: Port::Number(1), host: None }))
    );
    assert_eq!(life.stop_signal.as_deref(), Some("SIGUSR1"));
    assert_eq!(life.restart.policy, Some(RestartPolicy::Never));
    let rules: Vec<_> =
        life.restart.rules.iter().map(|r| (r.action, r.is_in, r.exit_codes.as_slice())).collect();
    assert_eq!(
        rules,
        [(RestartAction::Restart, true, &[3, 4][..]), (RestartAction::RestartAllContainers, false, &[0][..])]
    );
    let (_, side) = pod.spec.container("side").unwrap();
    assert_eq!(side.life.pre_stop, Some(Hook::Sleep(Duration::from_secs(3))));
    assert_eq!(pod.spec.containers[1].life.restart.policy, Some(RestartPolicy::Always));
}

#[test]
fn init_containers_that_always_restart_are_sidecars_and_count_as_such() {
    let pod = read(FULL);
    let kinds: Vec<_> = pod.spec.all_containers().map(|(kind, c)| (c.name.as_str(), kind)).collect();
    assert_eq!(
        kinds,
        [
            ("first", ContainerKind::Init),
            ("side", ContainerKind::Sidecar),
            ("last", ContainerKind::Init),
            ("c", ContainerKind::Regular),
            ("plain", ContainerKind::Regular),
        ]
    );
    assert_eq!(effective_requests(&pod.spec)["cpu"].to_string(), "3500m", "the last one beside the sidecar");
}

#[test]
fn placement_and_deadline_reach_the_domain() {
    let spec = read(FULL).spec;
    assert_eq!(spec.active_deadline, Some(Duration::from_secs(600)));
    assert_eq!((spec.node_name.as_deref(), spec.os.as_deref()), (Some("here"), Some("linux")));
    assert_eq!(spec.node_selector["disk"], "ssd");
    assert_eq!(spec.readiness_gates, ["example.com/ready"]);
    let terms = spec.node_affinity.unwrap();
    let of = |list: &[podrun_spec::model::NodeRequirement]| -> Vec<_> {
        list.iter().map(|r| (r.key.clone(), r.operator, r.values.join(" "))).collect()
    };
    let owned = |key: &str, operator, values: &str| (key.to_owned(), operator, values.to_owned());
    assert_eq!(
        of(&terms[0].expressions),
        [
            owned("zone", NodeOperator::In, "a b"),
            owned("cores", NodeOperator::Gt, "3"),
            owned("gone", NodeOperator::DoesNotExist, ""),
        ]
    );
    assert_eq!(of(&terms[1].fields), [owned("metadata.name", NodeOperator::NotIn, "there")]);
    assert!(terms[1].expressions.is_empty() && terms.len() == 2);
}

#[test]
fn what_was_read_can_be_stored_and_printed() {
    let parsed = parse("pod.yaml", FULL).unwrap().pods.remove(0);
    let (pod, wire) = from_json(parsed.wire.to_json()).unwrap();
    assert_eq!((&pod, &wire), (&parsed.pod, &parsed.wire));
    let printed = wire.to_yaml();
    assert_eq!(read(&printed), pod, "{printed}");
    assert_eq!(decode_strict("printed", &printed).unwrap(), wire, "{printed}");
}

/// Replaces a text that is there once.
fn with(from: &str, to: &str) -> Vec<String> {
    assert_eq!(FULL.matches(from).count(), 1, "{from}");
    match parse("pod.yaml", &FULL.replace(from, to)) {
        Ok(_) => Vec::new(),
        Err(faults) => faults.iter().map(Fault::to_string).collect(),
    }
}

#[test]
fn mistakes_in_them_have_a_place_and_the_words_of_the_api() {
    let affinity =
        "spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms[0]";
    let table: &[(&str, &str, &str)] = &[
        (
            "c/liveness=250",
            "c/liveness=9",
            "6:17: metadata.annotations[podrun.io/probe-period-ms]: Invalid value: \"c/liveness=9, side/startup=100\": \
             \"9\" must be a number of milliseconds between 10 and 2147483647, inclusive",
        ),
        (
            "c/liveness=250",
            "plain/liveness=250",
            "6:17: metadata.annotations[podrun.io/probe-period-ms]: Invalid value: \"plain/liveness=250, \
             side/startup=100\": there is no probe \"plain/liveness\"",
        ),
        (
            "podrun.io/probe-period-ms",
            "podrun.io/probe-period",
            "6:17: metadata.annotations[podrun.io/probe-period]: unknown annotation of podrun",
        ),
        (
            "SIGUSR1",
            "USR1",
            "53:7: spec.containers[0].lifecycle.stopSignal: Unsupported value: \"USR1\": supported values: \"SIGABRT\"",
        ),
        (
            "{disk: ssd}",
            "{disk: a!}",
            "10:18: spec.nodeSelector: Invalid value: \"a!\": a valid label must be",
        ),
        (
            "key: zone",
            "key: a!",
            &format!("18:14: {affinity}.matchExpressions[0].key: Invalid value: \"a!\": name part"),
        ),
        (
            "operator: In, values: [a, b]",
            "operator: In",
            &format!(
                "18:13: {affinity}.matchExpressions[0].values: Required value: must be specified when `operator` is 'In' or 'NotIn'"
            ),
        ),
        (
            "operator: In, values: [a, b]",
            "operator: Is, values: [a]",
            &format!(
                "18:25: {affinity}.matchExpressions[0].operator: Invalid value: \"Is\": not a valid selector operator"
            ),
        ),
        (
            "values: [\"3\"]",
            "values: [\"3\", \"4\"]",
            &format!(
                "19:40: {affinity}.matchExpressions[1].values: Required value: must be specified single value when `operator` is 'Lt' or 'Gt'"
            ),
        ),
        (
            "operator: DoesNotExist",
            "operator: Exists, values: [a]",
            &format!(
                "20:43: {affinity}.matchExpressions[2].values: Forbidden: may not be specified when `operator` is 'Exists' or 'DoesNotExist'"
            ),
        ),
    ];
    let mut wrong = Vec::new();
    for (from, to, expected) in table {
        let lines = with(from, to);
        if lines.len() != 1 || !lines[0].starts_with(&format!("pod.yaml:{expected}")) {
            wrong.push(format!("expected {expected}\ngot {lines:#?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
