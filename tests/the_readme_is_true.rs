//! The Pod and the commands of README.md do what it says.

mod common;

use std::fs;
use std::process::Command;

use common::{Podrun, Running};
use podrun_testkit::{busybox_image_named, podrun_bin, require};

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
fn the_commands_exist_with_their_options() {
    let commands = commands();
    assert!(commands.len() >= 8, "{commands:?}");
    for arguments in commands {
        // What comes before `--help` is checked first.
        let help =
            Command::new(podrun_bin()).args(&arguments).arg("--help").output().expect("podrun is built");
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
            ["logs", .., "-f"] => {
                let text = start(&arguments).finish().ok();
                assert_eq!(text, "hello from web\n");
            }
            _ => {
                let text = start(&arguments).finish().ok();
                match arguments[..] {
                    ["get", "pods"] => {
                        let header: Vec<_> =
                            text.lines().next().unwrap_or_default().split_whitespace().collect();
                        assert_eq!(header, ["NAME", "READY", "STATUS", "RESTARTS", "AGE"]);
                    }
                    ["plan", ..] => assert!(text.contains("web"), "{text}"),
                    _ => {}
                }
            }
        }
    }
    fs::remove_file(podrun.dir().join("busybox.tar")).expect("the archive is ours");
    podrun.finish();
}
