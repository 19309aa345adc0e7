//! Pods of all kinds.

use std::time::Duration;

use podrun_spec::model::{
    Container, Hook, Pod, Port, Probe, ProbeHandler, RestartAction, RestartPolicy, RestartRule, TcpSocket,
};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::common;

/// Names of containers among the init containers, and of regular ones.
pub(crate) const INIT: [&str; 3] = ["i1", "i2", "i3"];
pub(crate) const REGULAR: [&str; 2] = ["a", "b"];

fn any_policy() -> impl Strategy<Value = RestartPolicy> {
    prop_oneof![Just(RestartPolicy::Always), Just(RestartPolicy::OnFailure), Just(RestartPolicy::Never)]
}

fn probe(grace: Option<u64>) -> Probe {
    Probe {
        handler: ProbeHandler::TcpSocket(TcpSocket { port: Port::Number(1), host: None }),
        initial_delay: Duration::ZERO,
        period: Duration::from_secs(1),
        timeout: Duration::from_secs(1),
        success_threshold: 1,
        failure_threshold: 1,
        termination_grace_period: grace.map(Duration::from_secs),
    }
}

fn any_hook() -> impl Strategy<Value = Option<Hook>> {
    prop_oneof![
        3 => Just(None),
        1 => Just(Some(Hook::Exec(vec!["x".to_owned()]))),
        1 => Just(Some(Hook::Sleep(Duration::from_secs(1)))),
    ]
}

fn any_rules() -> impl Strategy<Value = Vec<RestartRule>> {
    let rule = (any::<bool>(), prop_oneof![Just(0), Just(1), Just(137)], prop::bool::weighted(0.3));
    vec(
        rule.prop_map(|(is_in, code, all)| RestartRule {
            action: if all { RestartAction::RestartAllContainers } else { RestartAction::Restart },
            is_in,
            exit_codes: vec![code],
        }),
        0..2,
    )
}

/// Returns a container; one that is for the init containers has probes and hooks only as a sidecar.
fn any_container(name: &'static str, is_init: bool) -> impl Strategy<Value = Container> {
    let own = prop_oneof![2 => Just(None), 1 => any_policy().prop_map(Some)];
    let probes = (any::<bool>(), any::<bool>(), any::<bool>(), prop::option::of(1..20_u64));
    (own, any_rules(), probes, any_hook(), any_hook()).prop_map(
        move |(own, rules, probes, post_start, pre_stop)| {
            let mut container = common::container(name);
            let (startup, liveness, readiness, grace) = probes;
            let life = &mut container.life;
            life.restart.policy = own;
            if own.is_some() {
                life.restart.rules = rules;
            }
            if !is_init || own == Some(RestartPolicy::Always) {
                life.startup = startup.then(|| probe(grace));
                life.liveness = liveness.then(|| probe(grace));
                life.readiness = readiness.then(|| probe(None));
                life.post_start = post_start;
                life.pre_stop = pre_stop;
            }
            container
        },
    )
}

pub(crate) fn any_pod() -> impl Strategy<Value = Pod> {
    let init = (0..=INIT.len()).prop_flat_map(|n| {
        INIT[..n].iter().map(|name| any_container(name, true).boxed()).collect::<Vec<_>>()
    });
    let regular = (1..=REGULAR.len()).prop_flat_map(|n| {
        REGULAR[..n].iter().map(|name| any_container(name, false).boxed()).collect::<Vec<_>>()
    });
    let deadline = prop::option::weighted(0.2, 1..600_u64);
    let gates = prop::bool::weighted(0.3);
    let images = (prop::bool::weighted(0.2), prop::bool::weighted(0.2));
    (any_policy(), init, regular, 0..4_u64, deadline, gates, images).prop_map(
        |(policy, init, regular, grace, deadline, has_gate, (of_init, of_regular))| {
            let mut pod = common::pod(policy, &[], &[]);
            pod.spec.init_containers = init;
            pod.spec.containers = regular;
            pod.spec.termination_grace_period = Duration::from_secs(grace * 10);
            pod.spec.active_deadline = deadline.map(Duration::from_secs);
            pod.spec.readiness_gates = has_gate.then(|| "x/gate".to_owned()).into_iter().collect();
            pod.spec.volumes = vec![common::image_volume("v", "data:1"), common::image_volume("w", "data:2")];
            if of_init && let Some(container) = pod.spec.init_containers.first_mut() {
                container.volume_mounts = vec![common::mount("v", "/v")];
            }
            if of_regular {
                pod.spec.containers[0].volume_mounts =
                    vec![common::mount("v", "/v"), common::mount("w", "/w")];
            }
            pod
        },
    )
}
