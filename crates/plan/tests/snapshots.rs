//! Whole plans as `podrun plan` shows them. A change here is a change of what Pods get.

use podrun_plan::facts::{CgroupFacts, ControllerFact, HostFacts, NetworkFacts, UnenforcedLimits};
use podrun_plan::{Plan, PlanFault, plan};

fn host() -> HostFacts {
    let available = |name: &str| (name.to_owned(), ControllerFact::Available);
    HostFacts {
        run_dir: "/run/podrun".into(),
        data_dir: "/var/lib/podrun".into(),
        node_name: "node".to_owned(),
        cgroup: CgroupFacts {
            mount: "/sys/fs/cgroup".into(),
            parent: "podrun".to_owned(),
            controllers: ["cpu", "memory", "pids", "hugetlb"].map(available).into(),
        },
        memory_bytes: 8 << 30,
        huge_page_sizes: vec!["2MB".to_owned()],
        last_capability: 40,
        pod_pids_limit: None,
        unenforced_limits: UnenforcedLimits::Refuse,
        memory_qos: false,
        sys_resource: true,
        nofile_hard: 1 << 20,
        network: NetworkFacts {
            resolv_conf: Some("nameserver 192.0.2.53\nsearch example.org\n".to_owned()),
            hosts: "127.0.0.1 localhost\n".to_owned(),
            cluster_domain: "cluster.local".to_owned(),
            ..NetworkFacts::default()
        },
    }
}

/// A machine whose controllers are bound to cgroup v1, except for huge pages, and whose root may not do everything.
fn hybrid(policy: UnenforcedLimits) -> HostFacts {
    let mut host =
        HostFacts { sys_resource: false, nofile_hard: 20_000, unenforced_limits: policy, ..host() };
    host.cgroup.mount = "/sys/fs/cgroup/unified".into();
    for name in ["cpu", "memory", "pids"] {
        let why = format!("is bound to the cgroup v1 mount /sys/fs/cgroup/{name}");
        host.cgroup.controllers.insert(name.to_owned(), ControllerFact::Missing(why));
    }
    host
}

/// Returns the plan of a Pod whose `spec` is written in block style.
fn planned(spec: &str, host: &HostFacts) -> Result<Plan, Vec<PlanFault>> {
    let text = format!("apiVersion: v1\nkind: Pod\nmetadata:\n  name: web\nspec:{spec}");
    let manifest = podrun_spec::parse("pod.yaml", &text).unwrap_or_else(|faults| panic!("{faults}"));
    let mut pod = manifest.pods[0].pod.clone();
    "7f3c".clone_into(&mut pod.meta.uid);
    let plan = plan(&pod, host)?;
    // What is printed can be read back, so a plan may also be kept.
    let json = serde_json::to_string(&plan).unwrap();
    assert_eq!(serde_json::from_str::<Plan>(&json).unwrap(), plan);
    Ok(plan)
}

fn texts(faults: &[PlanFault]) -> Vec<String> {
    faults.iter().map(ToString::to_string).collect()
}

const LIMITED: &str = "
  containers:
  - name: server
    image: nginx:1.29
    resources:
      limits: {cpu: 500m, memory: 128Mi}
  - name: helper
    image: busybox:1.36
    resources:
      requests: {cpu: 100m, memory: 1Gi}
      limits: {memory: 2Gi, hugepages-2Mi: 64Mi}
";

#[test]
fn minimal() {
    let spec = "
  containers:
  - name: c
    image: busybox:1.36
";
    insta::assert_yaml_snapshot!(planned(spec, &host()).unwrap());
}

#[test]
fn two_containers_with_limits() {
    insta::assert_yaml_snapshot!(planned(LIMITED, &host()).unwrap());
}

#[test]
fn init_and_volumes() {
    let spec = "
  securityContext:
    fsGroup: 2000
  initContainers:
  - name: fill
    image: busybox:1.36
    volumeMounts:
    - {name: data, mountPath: /data}
  containers:
  - name: server
    image: nginx:1.29
    terminationMessagePolicy: FallbackToLogsOnError
    volumeMounts:
    - {name: data, mountPath: /srv/data, readOnly: true, recursiveReadOnly: Enabled}
    - {name: cache, mountPath: /cache}
    - {name: logs, mountPath: logs, subPathExpr: $(POD), mountPropagation: HostToContainer}
    env:
    - {name: POD, value: web}
  volumes:
  - name: data
    emptyDir: {}
  - name: cache
    emptyDir: {medium: Memory, sizeLimit: 16Mi}
  - name: logs
    hostPath: {path: /var/log/web, type: DirectoryOrCreate}
";
    let plan = planned(spec, &host()).unwrap();
    assert_eq!(plan.start_order(), [["fill"], ["server"]]);
    assert_eq!(plan.stop_order(), [["fill", "server"]]);
    insta::assert_yaml_snapshot!(plan);
}

#[test]
fn host_namespaces() {
    let spec = "
  hostNetwork: true
  hostPID: true
  hostIPC: true
  containers:
  - name: agent
    image: busybox:1.36
";
    insta::assert_yaml_snapshot!(planned(spec, &host()).unwrap());
}

#[test]
fn shared_processes() {
    let spec = "
  shareProcessNamespace: true
  hostname: front
  subdomain: shop
  setHostnameAsFQDN: true
  securityContext:
    sysctls:
    - {name: net.ipv4.ip_unprivileged_port_start, value: '0'}
  containers:
  - name: c
    image: busybox:1.36
";
    let plan = planned(spec, &host()).unwrap();
    insta::assert_yaml_snapshot!(plan.sandbox);
}

#[test]
fn privileged() {
    let spec = "
  containers:
  - name: c
    image: busybox:1.36
    securityContext: {privileged: true}
";
    let plan = planned(spec, &host()).unwrap();
    insta::assert_yaml_snapshot!(plan.container("c").unwrap().security);
}

#[test]
fn restricted() {
    let spec = "
  securityContext:
    runAsNonRoot: true
    runAsUser: 1000
    runAsGroup: 3000
    fsGroup: 2000
    supplementalGroups: [4000]
    seccompProfile: {type: RuntimeDefault}
  containers:
  - name: c
    image: busybox:1.36
    securityContext:
      allowPrivilegeEscalation: false
      readOnlyRootFilesystem: true
      capabilities: {drop: [ALL], add: [NET_BIND_SERVICE]}
";
    let plan = planned(spec, &host()).unwrap();
    insta::assert_yaml_snapshot!(plan.container("c").unwrap().security);
}

#[test]
fn hybrid_host_refuses() {
    let faults = planned(LIMITED, &hybrid(UnenforcedLimits::Refuse)).unwrap_err();
    insta::assert_yaml_snapshot!(texts(&faults));
}

#[test]
fn hybrid_host_warns() {
    let plan = planned(LIMITED, &hybrid(UnenforcedLimits::Warn)).unwrap();
    let values = |name: &str| plan.container(name).unwrap().cgroup.clone();
    let cgroups = [plan.sandbox.cgroup.clone(), values("server"), values("helper")];
    insta::assert_yaml_snapshot!((&plan.unenforced, cgroups));
}

#[test]
fn resources_of_the_pod() {
    let spec = "
  resources:
    requests: {cpu: '1', memory: 1Gi}
    limits: {cpu: '2', memory: 2Gi}
  containers:
  - name: a
    image: busybox:1.36
    resources:
      requests: {cpu: 500m, memory: 512Mi}
      limits: {memory: 1Gi}
  - name: b
    image: busybox:1.36
";
    let plan = planned(spec, &host()).unwrap();
    let of = |name: &str| {
        let container = plan.container(name).unwrap();
        (container.oom_score_adj, container.cgroup.clone())
    };
    insta::assert_yaml_snapshot!((&plan.sandbox.cgroup, of("a"), of("b")));
}

#[test]
fn all_faults_are_told_at_once() {
    let spec = "
  subdomain: a-rather-long-name-of-a-domain-below-others
  setHostnameAsFQDN: true
  containers:
  - name: c
    image: busybox:1.36
    volumeMounts:
    - {name: v, mountPath: /proc}
    resources:
      limits: {memory: 64Mi, hugepages-1Gi: 1Gi}
  volumes:
  - name: v
    emptyDir: {}
";
    let faults = planned(spec, &hybrid(UnenforcedLimits::Refuse)).unwrap_err();
    insta::assert_yaml_snapshot!(texts(&faults));
}
