//! A Pod made from a real distribution: Debian's redis answers the second container over localhost.

mod common;

use std::fs;
use std::path::Path;
use std::process::Command;

use common::{Podrun, pod, sh};
use podrun_testkit::require;
use serde_json::json;

/// Kept beside the build: making it takes a minute and a package mirror.
const ROOT_FILE_SYSTEM: &str = concat!(env!("CARGO_TARGET_TMPDIR"), "/debian-redis.tar");

/// Makes a Debian root file system with redis, unless there is one.
#[expect(clippy::disallowed_methods, reason = "makes what podrun is to run")]
fn make_root_file_system() -> Result<(), String> {
    if Path::new(ROOT_FILE_SYSTEM).exists() {
        return Ok(());
    }
    let release = fs::read_to_string("/etc/os-release").unwrap_or_default();
    let suite = release.lines().find_map(|line| line.strip_prefix("VERSION_CODENAME=")).unwrap_or("stable");
    let unfinished = format!("{ROOT_FILE_SYSTEM}.unfinished.tar");
    let made = Command::new("mmdebstrap")
        .args(["--quiet", "--variant=minbase", "--include=redis-server", suite, &unfinished])
        .output()
        .map_err(|error| format!("mmdebstrap: {error}"))?;
    if !made.status.success() {
        return Err(format!("mmdebstrap: {}", String::from_utf8_lossy(&made.stderr)));
    }
    fs::rename(&unfinished, ROOT_FILE_SYSTEM).map_err(|error| format!("{unfinished}: {error}"))
}

#[test]
fn redis_of_debian_answers_the_second_container() {
    require!(root, cgroup2, overlay, program("busybox"));
    if let Err(why) = make_root_file_system() {
        eprintln!("{why}");
    }
    require!(file(ROOT_FILE_SYSTEM));
    let podrun = Podrun::new();
    let entrypoint = r#"["redis-server", "--bind", "127.0.0.1", "--save", "", "--daemonize", "no"]"#;
    let config = ["--entrypoint", entrypoint, "--user", "redis", "--workdir", "/var/lib/redis"];
    podrun
        .podrun(&[&["image", "import", ROOT_FILE_SYSTEM, "localhost/redis:debian"][..], &config].concat())
        .ok();

    let client = "until printf 'SET key hello\\r\\nGET key\\r\\nQUIT\\r\\n' | nc 127.0.0.1 6379 2>/dev/null
        do sleep 0.1; done";
    let server = json!({ "name": "server", "image": "localhost/redis:debian" });
    podrun.start(&pod("redis", &[server, sh("client", client)]));
    assert_eq!(podrun.wait_exit("redis", "client"), 0);
    assert_eq!(podrun.logs("redis", "client").replace('\r', ""), "+OK\n$5\nhello\n+OK\n");
    podrun.wait_log_matching("redis", "server", |line| line.contains("Ready to accept connections"));
    let user = podrun.get("redis", "{.status.containerStatuses[?(@.name==\"server\")].user.linux.uid}");
    assert_ne!(user, "0", "the image's user is redis");

    let mut watch =
        podrun.watch("redis", "{.status.containerStatuses[?(@.name==\"server\")].state.terminated.exitCode}");
    podrun.delete("redis");
    while let Some(line) = watch.line() {
        assert!(line.is_empty() || line == "0", "redis ends well when it is told to: {line}");
    }
    watch.finish().ok();
    podrun.finish();
}
