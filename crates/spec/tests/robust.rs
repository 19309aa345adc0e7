//! Whatever is typed, reading it ends in a manifest or in faults with a place.

use podrun_spec::parse;
use proptest::prelude::*;

const POD: &str = r#"apiVersion: v1
kind: Pod
metadata: {name: p, labels: {a: b}}
spec:
  restartPolicy: Never
  containers:
  - name: c
    image: "i:1"
    command: [sh, -c, 'echo $(A)']
    env: [{name: A, value: "1"}, {name: B, valueFrom: {resourceFieldRef: {resource: limits.cpu, divisor: 1m}}}]
    resources: {limits: {cpu: 100m, memory: 64Mi}}
    ports: [{containerPort: 80}]
    volumeMounts: [{name: v, mountPath: /v, subPath: a}]
    securityContext: {runAsUser: 1, capabilities: {drop: [ALL]}}
  volumes:
  - name: v
    emptyDir: {medium: Memory, sizeLimit: 1Mi}
"#;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn damaged_manifests_do_not_break_the_reader(
        edits in prop::collection::vec((0..POD.len(), prop::char::any(), 0..3_u8), 1..6)
    ) {
        let mut text: Vec<char> = POD.chars().collect();
        for (at, character, edit) in edits {
            let at = at.min(text.len() - 1);
            match edit {
                0 => text[at] = character,
                1 => text.insert(at, character),
                _ => drop(text.remove(at)),
            }
        }
        let text: String = text.into_iter().collect();
        if let Err(faults) = parse("p", &text) {
            prop_assert!(faults.len() > 0);
            let lines = u32::try_from(text.lines().count()).unwrap() + 1;
            for fault in &faults {
                prop_assert!(fault.line <= lines && !fault.message.is_empty(), "{}", fault);
            }
        }
    }

    #[test]
    fn any_value_may_stand_anywhere(value in "[a-z0-9{}\\[\\]:,'\"~.-]{0,12}", line in 0..17_usize) {
        let mut lines: Vec<String> = POD.lines().map(str::to_owned).collect();
        if let Some((key, _)) = lines[line].clone().split_once(": ") {
            lines[line] = format!("{key}: {value}");
        }
        drop(parse("p", &lines.join("\n")));
    }
}
