//! What an image contains does not lead podrun out of it.

mod common;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use common::{Podrun, pod, sh, with, with_spec};
use podrun_testkit::require;
use serde_json::json;

#[test]
fn links_do_not_lead_to_the_host() {
    require!(root, cgroup2, overlay, program("busybox"));
    let podrun = Podrun::new();
    let canary = podrun.dir().join("canary");
    fs::create_dir(&canary).expect("mkdir");
    let busybox = ["/bin/busybox", "/usr/bin/busybox"].into_iter().find(|path| Path::new(path).is_file());
    // Mounts of the runtime refuse a link; what is meant for the link's target lands inside the root file system.
    for (name, code) in [("proc", 128), ("sys", 128), ("dev", 128), ("etc", 0), ("tmp", 128), ("data", 0)] {
        let image = podrun.dir().join(format!("image-{name}"));
        fs::create_dir_all(image.join("bin")).expect("mkdir");
        fs::copy(busybox.expect("required"), image.join("bin/sh")).expect("copy");
        symlink(&canary, image.join(name)).expect("symlink");
        let reference = format!("localhost/hostile-{name}:1");
        podrun.podrun(&["image", "import", &image.display().to_string(), &reference]).ok();
        let hostile = json!({
            "image": reference,
            "workingDir": "/tmp/work",
            "volumeMounts": [{ "name": "v", "mountPath": "/data/deep" }],
        });
        let manifest = with_spec(
            pod(&format!("hostile-{name}"), &[with(sh("c", "echo inside"), hostile)]),
            json!({ "volumes": [{ "name": "v", "emptyDir": {} }] }),
        );
        let run = podrun.run(&manifest);
        assert_eq!(run.code, code, "{name}: {}", run.stderr);
        let left: Vec<_> = fs::read_dir(&canary).expect("it is there").collect();
        assert!(left.is_empty(), "{name}: {left:?}");
        fs::remove_dir_all(&image).expect("it is ours");
    }
    podrun.finish();
}
