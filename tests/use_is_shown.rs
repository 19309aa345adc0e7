//! `podrun top` shows what containers use, and says where this host does not tell.

mod common;

use common::{Podrun, pod, sh, with};
use podrun_testkit::require;
use serde_json::{Value, json};

const BUSY: &str = "while :; do :; done";
const IDLE: &str = "sleep 1000";

/// Returns the words of each line of a table.
fn cells(table: &str) -> Vec<Vec<String>> {
    table.lines().map(|line| line.split_whitespace().map(str::to_owned).collect()).collect()
}

/// Returns the number before a unit.
fn number(cell: &str, unit: &str) -> u64 {
    cell.strip_suffix(unit)
        .and_then(|number| number.parse().ok())
        .unwrap_or_else(|| panic!("{cell} in {unit}"))
}

#[test]
fn who_uses_the_most_comes_first() {
    require!(root, cgroup2, overlay, program("busybox"));
    let podrun = Podrun::new();
    let top = podrun.podrun(&["top"]);
    assert_eq!((top.code, top.stderr.as_str()), (0, "No resources found in default namespace.\n"));

    podrun.start(&pod("idle", &[sh("only", IDLE)]));
    podrun.start(&pod("mixed", &[sh("idle", IDLE), sh("busy", BUSY)]));
    podrun.run(&pod("ended", &[sh("c", "true")]));
    podrun.wait_running("idle", "only");
    podrun.wait_running("mixed", "busy");

    let table = cells(&podrun.podrun(&["top", "pods", "--sort-by=cpu", "--window=500ms"]).ok());
    assert_eq!(table[0], ["NAME", "CPU(cores)", "MEMORY(bytes)"]);
    let names: Vec<_> = table[1..].iter().map(|row| row[0].as_str()).collect();
    assert_eq!(names, ["mixed", "idle"], "one that has ended uses nothing");
    assert!(number(&table[1][1], "m") > number(&table[2][1], "m"), "{table:?}");

    let wanted = ["top", "pod/mixed", "-A", "--containers", "--sort-by=cpu", "--sum", "--window=500ms"];
    let table = cells(&podrun.podrun(&wanted).ok());
    assert_eq!(table[0], ["NAMESPACE", "POD", "NAME", "CPU(cores)", "MEMORY(bytes)"]);
    assert_eq!((&table[1][..3], &table[2][..3]), (&row("mixed", "busy")[..], &row("mixed", "idle")[..]));
    let [busy, idle, sum] = [&table[1][3], &table[2][3], &table[4][0]].map(|cell| number(cell, "m"));
    assert!(busy > 0 && idle == 0 && sum.abs_diff(busy) <= 1, "{table:?}");

    let document = podrun.podrun(&["top", "mixed", "-o", "json", "--window=100ms"]).ok();
    let document: Value = serde_json::from_str(&document).expect("JSON");
    assert_eq!(
        (&document["kind"], &document["items"][0]["metadata"]["name"]),
        (&json!("PodMetricsList"), &json!("mixed"))
    );
    assert_eq!(document["items"][0]["containers"].as_array().expect("a list").len(), 2);

    let ended = podrun.podrun(&["top", "ended"]);
    assert_eq!(
        (ended.code, ended.stderr.as_str()),
        (1, "error: pod \"ended\" runs no container (Succeeded)\n")
    );
    assert_eq!(podrun.podrun(&["top", "nobody"]).code, 4);
    podrun.finish();
}

fn row(pod: &str, container: &str) -> [String; 3] {
    ["default", pod, container].map(str::to_owned)
}

#[test]
fn limits_are_seen_at_work() {
    require!(
        root,
        cgroup2,
        overlay,
        controller("cpu"),
        controller("memory"),
        controller("pids"),
        program("busybox")
    );
    let podrun = Podrun::new();
    let limits = json!({ "resources": { "limits": { "cpu": "100m", "memory": "64Mi" } } });
    podrun.start(&pod("held", &[with(sh("c", BUSY), limits)]));
    podrun.wait_running("held", "c");
    let table = cells(&podrun.podrun(&["top", "-o", "wide", "--window=2s"]).ok());
    let row: Vec<&str> = table[1].iter().map(String::as_str).collect();
    let [_, cpu, memory, processes, throttled, oom_kills, cpu_wait, ..] = row.as_slice() else {
        panic!("{table:?}")
    };
    // A period more than there should be may be in the window.
    assert!((50..=150).contains(&number(cpu, "m")), "{table:?}");
    assert!(number(memory, "Mi") < 64, "{table:?}");
    assert!(number(throttled, "%") > 50, "{table:?}");
    assert_eq!((*processes, *oom_kills), ("1", "0"), "{table:?}");
    assert!(cpu_wait.ends_with('%') || *cpu_wait == "<unknown>", "{table:?}");
    podrun.finish();
}
