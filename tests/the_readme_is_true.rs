//! The Pod and the commands of README.md do what it says.

mod common;

use std::fs;
use std::process::Command;

use common::{Podrun, Running};
use podrun_testkit::{busybox_image_named, cgroup2_mount, podrun_bin, require};

const README: &str = include_str!("../README.md");
const IMAGE: &str = "localhost/busybox:demo";

/// Returns what stands in the blocks of a language.
fn blocks(language: &str) -> Vec<&'static str> {
    let opening = format!("```{language}\n");
    let blocks = README.split(opening.as_str()).skip(1);
    blocks.map(|rest| rest.split("```").next().unwrap_or_default()).collect()
}

/// Returns the arguments of every command `podrun`, in order.
fn commands() -> Vec<Vec<&'static str>> {
    let lines = blocks("console").into_iter().flat_map(str::lines);
    let commands = lines.filter_map(|line| line.strip_prefix("# ")).flat_map(|line| {
        let (commands, _comment) = line.split_once("  #").unwrap_or((line, ""));
        commands.split("; ")
    });
    commands
        .filter_map(|command| Some(command.strip_prefix("podrun ")?.split_whitespace().collect()))
        .collect()
}

/// Returns the lines of the console as columns, of which the last one differs from time to time.
fn shown() -> Vec<Vec<&'static str>> {
    blocks("console").into_iter().flat_map(str::lines).map(without_age).collect()
}

fn without_age(row: &str) -> Vec<&str> {
    let mut columns: Vec<_> = row.split_whitespace().collect();
    columns.pop();
    columns
}

fn pod() -> &'static str {
    let [pod] = blocks("yaml")[..] else { panic!("one Pod") };
    pod
}

#[test]
fn the_pod_is_valid() {
    let manifest = podrun_spec::parse("web.yaml", pod()).expect("a valid Pod");
    let [parsed] = &manifest.pods[..] else { panic!("one Pod") };
    assert_eq!(parsed.pod.meta.name, "web");
    assert!(parsed.pod.spec.all_containers().all(|(_, container)| container.image == IMAGE));
}

#[test]
#[expect(clippy::disallowed_methods, reason = "the program under test")]
fn a_plan_needs_neither_rights_nor_a_state_directory() {
    // To be readable is enough here, so `cgroup2` would ask for too much.
    let mount = cgroup2_mount().unwrap_or_else(|| "a cgroup2 mount".into());
    require!(file(&mount.display().to_string()));
    let path = concat!(env!("CARGO_TARGET_TMPDIR"), "/readme.yaml");
    fs::write(path, pod()).expect("a writable directory");
    let mut command = Command::new(podrun_bin());
    let plan = command.args(["--root", "/nonexistent", "plan", path]).output().expect("podrun is built");
    let text = String::from_utf8_lossy(&plan.stdout);
    assert!(text.contains("target: /www"), "{text}{}", String::from_utf8_lossy(&plan.stderr));
    assert!(!fs::exists("/nonexistent").expect("readable"));
}

#[test]
#[expect(clippy::disallowed_methods, reason = "the program under test")]
fn the_commands_exist_with_their_options() {
    let commands = commands();
    assert!(commands.len() >= 8, "{commands:?}");
    for arguments in commands {
        // What comes before `--help` is checked first. What follows `--` is another program's.
        let own = arguments.iter().take_while(|argument| **argument != "--");
        let help = Command::new(podrun_bin()).args(own).arg("--help").output().expect("podrun is built");
        assert!(help.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&help.stderr));
    }
}

#[test]
fn following_it_from_top_to_bottom_works() {
    require!(root, cgroup2, overlay, program("busybox"));
    let podrun = Podrun::empty();
    busybox_image_named(podrun.dir(), IMAGE);
    fs::write(podrun.dir().join("web.yaml"), pod()).expect("a writable directory");
    let start = |arguments: &[&str]| {
        let mut command = podrun.command(arguments);
        command.current_dir(podrun.dir());
        Running::start(command)
    };

    for arguments in commands() {
        match arguments[..] {
            // In the foreground it goes on for as long as the server does.
            ["run", "web.yaml"] => {
                let mut run = start(&arguments);
                run.wait_line(|line| line == "[client] hello from web");
                run.kill();
                start(&["delete", "pod", "web", "--grace-period=0", "--force"]).finish().ok();
            }
            // It goes on until it is interrupted.
            ["port-forward", .., port] => {
                let mut forward = start(&arguments);
                forward.wait_line(|line| line.ends_with(&format!(" -> {port}")));
                forward.kill();
            }
            ["get", "pods"] => {
                podrun.wait_exit("web", "client");
                let table = start(&arguments).finish().ok();
                for row in table.lines().map(without_age) {
                    assert!(shown().contains(&row), "{row:?}");
                }
            }
            ["cp", ..] => {
                start(&arguments).finish().ok();
                let page = fs::read_to_string(podrun.dir().join("www/index.html")).expect("it was copied");
                assert!(page.starts_with("hello from"), "{page}");
            }
            ["logs", .., "-f"] => assert_eq!(start(&arguments).finish().ok(), "hello from web\n"),
            _ => {
                start(&arguments).finish().ok();
            }
        }
    }
    fs::remove_file(podrun.dir().join("busybox.tar")).expect("the archive is ours");
    podrun.finish();
}
