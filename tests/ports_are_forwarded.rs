//! `podrun port-forward` lets connections to this machine arrive inside a Pod, and ends with it.

mod common;

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::time::Duration;

use common::{Podrun, Running, WAIT_FOR_TERM, container, pod, sh, with};
use podrun_testkit::require;
use serde_json::json;

/// Answers at port 7 with what it is told, until it is told no more; and HTTP where nobody from outside reaches it.
fn echo() -> serde_json::Value {
    let script = format!("httpd -p 127.0.0.1:80 -h /; nc -ll -p 7 -e cat & {WAIT_FOR_TERM}");
    with(sh("echo", &script), json!({ "ports": [{ "name": "echo", "containerPort": 7 }] }))
}

/// Returns the port of this machine that a line tells.
fn local(line: &str) -> u16 {
    let port = line.strip_prefix("Forwarding from 127.0.0.1:").and_then(|rest| rest.strip_suffix(" -> 7"));
    port.and_then(|port| port.parse().ok()).unwrap_or_else(|| panic!("{line}"))
}

/// Says something, then that this was all, and returns the answer.
fn say(port: u16, text: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(Duration::from_secs(30)))?;
    let mut writer = stream.try_clone()?;
    std::thread::scope(|scope| {
        scope.spawn(move || writer.write_all(text).and_then(|()| writer.shutdown(Shutdown::Write)));
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).map(|_| answer)
    })
}

#[expect(clippy::disallowed_methods, reason = "a server in a container tells nobody when it listens")]
fn answered(port: u16, forward: &mut Running) {
    while say(port, b"?").unwrap_or_default() != b"?" {
        let error = forward.error_line().expect("it goes on");
        assert!(error.ends_with("Connection refused (os error 111)"), "{error}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn connections_arrive_inside_and_end_with_the_pod() {
    require!(root, cgroup2, overlay, program("busybox"));
    let podrun = Podrun::new();
    podrun.start(&pod("talk", &[echo()]));
    podrun.wait_ready("talk");
    let mut forward = podrun.spawn(&["port-forward", "pod/talk", ":echo", "0:7", "--address", "127.0.0.1"]);
    let ports = [(); 2].map(|()| local(&forward.line().expect("a line for each port")));
    assert_ne!(ports[0], ports[1]);
    ports.iter().for_each(|port| answered(*port, &mut forward));
    // More than all buffers on the way hold, in both directions at once, and side by side.
    let text: Vec<u8> = (0..3_000_000_u32).map(|n| (n % 251) as u8).collect();
    std::thread::scope(|scope| {
        let text = &text;
        let talks = ports.map(|port| scope.spawn(move || say(port, text)));
        for talk in talks {
            assert!(talk.join().expect("no panic").expect("an answer") == *text);
        }
    });
    let mut web = podrun.spawn(&["port-forward", "talk", ":80"]);
    let line = web.line().expect("a line for each port");
    let port = line.strip_prefix("Forwarding from 127.0.0.1:").and_then(|rest| rest.strip_suffix(" -> 80"));
    let answer = say(port.expect("a port").parse().expect("a number"), b"GET / HTTP/1.0\r\n\r\n");
    assert!(answer.expect("an answer").starts_with(b"HTTP/1."));
    web.kill();
    forward.wait_line(|line| line == format!("Handling connection for {}", ports[1]));
    podrun.podrun(&["delete", "pod", "talk", "--now"]).ok();
    let end = forward.finish();
    assert_eq!((end.code, end.stderr.as_str()), (1, "error: lost connection to pod\n"));
    podrun.finish();
}

#[test]
fn what_cannot_be_forwarded_is_told_at_once() {
    require!(root, cgroup2, overlay, program("busybox"));
    let podrun = Podrun::new();
    podrun.start(&pod("talk", &[echo()]));
    podrun.run(&pod("done", &[container("c", &["true"])]));
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let taken = listener.local_addr().expect("an address").port();
    for (arguments, code, words) in [
        (["talk", ":nothing"], 4, "pod \"talk\" has no port named \"nothing\"".to_owned()),
        (
            ["done", "7"],
            1,
            "unable to forward port because pod is not running. Current status=Succeeded".to_owned(),
        ),
        (["nobody", "7"], 4, "pod \"default/nobody\" not found".to_owned()),
        (
            ["talk", &format!("{taken}:7")],
            1,
            format!("listen at 127.0.0.1:{taken}: Address already in use (os error 98)"),
        ),
    ] {
        let failed = podrun.podrun(&["port-forward", arguments[0], arguments[1]]).fails(code);
        assert_eq!(failed.lines().next(), Some(format!("error: {words}").as_str()));
    }
    podrun.finish();
}
