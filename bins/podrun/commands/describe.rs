//! `podrun describe pod`: everything about a Pod, for people.

use std::fmt::Write as _;

use podrun_engine::{CgroupReadBack, NetworkView, PodView};
use podrun_plan::model::RatePlan;
use podrun_spec::model::{Container, ContainerPort, Medium, VolumeSource};
use podrun_spec::status::{ContainerState, ContainerStatus, Terminated};
use podrun_spec::time::Timestamp;

mod environment;
mod probes;

use super::events::{one_line, seen};
use super::get::summary;
use crate::cli::{DescribeArgs, Global};
use crate::context;
use crate::output::{bits, harmless, now, table};
use crate::print::print;
use crate::report::{self, CommandResult};
use crate::selection::Selection;

pub(crate) fn run(global: &Global, args: &DescribeArgs) -> CommandResult {
    let engine = context::engine(global)?;
    context::revive(&engine);
    let selection = Selection::read(&args.what, false, args.filter.filter())?;
    let (views, missing) = context::select(&engine, global, &selection, false)?;
    if views.is_empty() && missing.is_empty() {
        context::tell_nothing_found(global, false);
    }
    for (index, view) in views.iter().enumerate() {
        if index > 0 {
            print!("\n\n");
        }
        let cgroup = engine.cgroup_values(view);
        let network = engine.network_view(view);
        print!("{}", describe(view, &cgroup, &network, now()));
    }
    report::all(missing, global.json_errors())
}

/// Text in sections; writing to a string cannot fail, which is why results are not looked at.
struct Sheet(String);

impl Sheet {
    fn field(&mut self, indent: usize, name: &str, value: &str) {
        let name = format!("{:indent$}{name}:", "");
        // Further lines are indented: they must not pass for fields.
        let value = value.replace('\n', &format!("\n{:22}", ""));
        // Cannot fail.
        let _ = writeln!(self.0, "{name:<22}{value}");
    }

    fn line(&mut self, text: &str) {
        // Cannot fail.
        let _ = writeln!(self.0, "{text}");
    }

    fn map<'a>(&mut self, name: &str, entries: impl Iterator<Item = (&'a String, &'a String)>) {
        let lines: Vec<String> = entries.map(|(key, value)| format!("{key}={value}")).collect();
        match lines.split_first() {
            None => self.field(0, name, "<none>"),
            Some((first, rest)) => {
                self.field(0, name, first);
                rest.iter().for_each(|line| self.line(&format!("{:22}{line}", "")));
            }
        }
    }
}

fn describe(view: &PodView, cgroup: &[CgroupReadBack], network: &NetworkView, now: Timestamp) -> String {
    let mut sheet = Sheet(String::new());
    let (meta, spec, status) = (&view.pod.meta, &view.pod.spec, &view.published.status);
    sheet.field(0, "Name", &meta.name);
    sheet.field(0, "Namespace", &meta.namespace);
    sheet.field(0, "UID", &meta.uid);
    sheet.field(0, "Node", &view.options.node_name);
    sheet.field(0, "Start Time", &status.start_time.map(|t| t.to_string()).unwrap_or_default());
    sheet.map("Labels", meta.labels.iter());
    sheet.map("Annotations", meta.annotations.iter());
    let shown = summary(view, now).status;
    let phase = status.phase.as_str();
    sheet.field(0, "Status", &if shown == phase { shown } else { format!("{phase} ({shown})") });
    if let Some(deletion) = view.published.deletion {
        sheet.field(0, "Termination Grace", &format!("{}s, until {}", deletion.grace_seconds, deletion.at));
    }
    for (name, value) in [("Reason", &status.reason), ("Message", &status.message)] {
        if let Some(value) = value {
            sheet.field(0, name, value);
        }
    }
    sheet.field(0, "IP", status.pod_ips.first().map_or("<none>", String::as_str));
    if !status.pod_ips.is_empty() {
        sheet.line("IPs:");
        status.pod_ips.iter().for_each(|ip| sheet.field(2, "IP", ip));
    }
    sheet.field(0, "QoS Class", &format!("{:?}", status.qos_class));
    sheet.field(0, "Restart Policy", &format!("{:?}", spec.restart_policy));
    for (title, containers, statuses) in [
        ("Init Containers:", &spec.init_containers, &status.init_container_statuses),
        ("Containers:", &spec.containers, &status.container_statuses),
    ] {
        if !containers.is_empty() {
            sheet.line(title);
        }
        for container in containers {
            let status = statuses.iter().find(|s| s.name == container.name);
            describe_container(&mut sheet, view, container, status);
        }
    }
    describe_conditions(&mut sheet, view);
    describe_volumes(&mut sheet, view);
    describe_network(&mut sheet, network);
    if !cgroup.is_empty() {
        sheet.line("Cgroup:");
        for CgroupReadBack { path, values } in cgroup {
            sheet.line(&format!("  {path}"));
            values.iter().for_each(|(file, value)| sheet.field(4, file, value));
        }
    }
    describe_events(&mut sheet, view, now);
    trimmed(&sheet.0)
}

/// Tells what of the machine leads to the Pod, and what went through its link, seen from the Pod.
fn describe_network(sheet: &mut Sheet, network: &NetworkView) {
    if network.ports.is_empty() && network.state.is_none() {
        return;
    }
    sheet.line("Network:");
    if !network.ports.is_empty() {
        let ports: Vec<String> =
            network.ports.iter().map(|port| format!("{port} -> {}", port.container_port)).collect();
        sheet.field(2, "Host Ports", &ports.join(", "));
    }
    let Some(state) = &network.state else { return };
    let rate = |plan: Option<RatePlan>| {
        #[expect(clippy::cast_precision_loss, reason = "a rate is told in three digits")]
        plan.map(|rate| format!(", limit {}", bits(rate.bits_per_second as f64))).unwrap_or_default()
    };
    let bandwidth = network.bandwidth.as_ref();
    for (name, direction, plan) in [
        ("Ingress", &state.ingress, bandwidth.and_then(|plan| plan.ingress)),
        ("Egress", &state.egress, bandwidth.and_then(|plan| plan.egress)),
    ] {
        let mut text = format!("{} bytes, {} packets{}", direction.bytes, direction.packets, rate(plan));
        match &direction.shaped {
            Some(shaped) => {
                // Cannot fail.
                let _ = write!(
                    text,
                    ": {} bytes passed, {} drops, {} overlimits, {} bytes of backlog",
                    shaped.bytes, shaped.drops, shaped.overlimits, shaped.backlog
                );
            }
            None => {
                // Cannot fail.
                let _ = write!(text, ", {} drops", direction.drops);
            }
        }
        sheet.field(2, name, &text);
    }
}

fn describe_container(
    sheet: &mut Sheet,
    view: &PodView,
    container: &Container,
    status: Option<&ContainerStatus>,
) {
    sheet.line(&format!("  {}:", container.name));
    if let Some(status) = status {
        sheet.field(4, "Container ID", &status.container_id);
    }
    sheet.field(4, "Image", &container.image);
    if let Some(status) = status {
        sheet.field(4, "Image ID", &status.image_id);
    }
    let port = |number: u16, port: &ContainerPort| format!("{number}/{:?}", port.protocol).to_uppercase();
    let name = |name: &Option<String>| name.as_ref().map(|name| format!(" ({name})")).unwrap_or_default();
    let ports: Vec<String> =
        container.ports.iter().map(|p| format!("{}{}", port(p.container_port, p), name(&p.name))).collect();
    sheet.field(4, "Ports", if ports.is_empty() { "<none>" } else { "" });
    ports.iter().for_each(|port| sheet.line(&format!("      {port}")));
    let host_ports = container.ports.iter().filter_map(|p| p.host_port.map(|number| port(number, p)));
    let host_ports = host_ports.collect::<Vec<_>>().join(", ");
    if !host_ports.is_empty() {
        sheet.field(4, "Host Ports", &host_ports);
    }
    for (name, words) in [("Command", &container.command), ("Args", &container.args)] {
        if !words.is_empty() {
            sheet.line(&format!("    {name}:"));
            words.iter().flat_map(|word| word.lines()).for_each(|line| sheet.line(&format!("      {line}")));
        }
    }
    if let Some(status) = status {
        describe_state(sheet, "State", &status.state);
        if let Some(last) = &status.last_state {
            describe_ended(sheet, "Last State", last);
        }
        sheet.field(4, "Ready", if status.ready { "True" } else { "False" });
        sheet.field(4, "Restart Count", &status.restart_count.to_string());
        if let Some(user) = &status.user {
            sheet.field(
                4,
                "User",
                &format!("{}:{} groups {:?}", user.uid, user.gid, user.supplemental_groups),
            );
        }
    }
    probes::probes(container).for_each(|(name, text)| sheet.field(4, name, &text));
    for (name, list) in [("Limits", &container.resources.limits), ("Requests", &container.resources.requests)]
    {
        if !list.is_empty() {
            sheet.line(&format!("    {name}:"));
            list.iter().for_each(|(key, quantity)| sheet.field(6, key, &quantity.to_string()));
        }
    }
    let objects = environment::objects(container);
    if !objects.is_empty() {
        sheet.line("    Environment Variables from:");
        objects.iter().for_each(|line| sheet.line(&format!("      {line}")));
    }
    let env = environment::variables(container, |field| environment::value(view, field));
    sheet.field(4, "Environment", if env.is_empty() { "<none>" } else { "" });
    // Further lines are indented: they must not pass for variables.
    env.iter().for_each(|line| sheet.line(&format!("      {}", line.replace('\n', "\n        "))));
    sheet.field(4, "Mounts", if container.volume_mounts.is_empty() { "<none>" } else { "" });
    for mount in &container.volume_mounts {
        let mode = if mount.read_only { "ro" } else { "rw" };
        let path = mount.sub_path.as_ref().map(|p| format!(",path=\"{p}\"")).unwrap_or_default();
        sheet.line(&format!("      {} from {} ({mode}{path})", mount.mount_path, mount.name));
    }
}

fn describe_state(sheet: &mut Sheet, title: &str, state: &ContainerState) {
    match state {
        ContainerState::Waiting { reason, message } => {
            sheet.field(4, title, "Waiting");
            sheet.field(6, "Reason", reason);
            if let Some(message) = message {
                sheet.field(6, "Message", message);
            }
        }
        ContainerState::Running { started_at } => {
            sheet.field(4, title, "Running");
            sheet.field(6, "Started", &started_at.to_string());
        }
        ContainerState::Terminated(ended) => describe_ended(sheet, title, ended),
    }
}

fn describe_ended(sheet: &mut Sheet, title: &str, ended: &Terminated) {
    sheet.field(4, title, "Terminated");
    sheet.field(6, "Reason", &ended.reason);
    if let Some(message) = &ended.message {
        sheet.field(6, "Message", message.trim_end());
    }
    sheet.field(6, "Exit Code", &ended.exit_code.to_string());
    for (name, time) in [("Started", ended.started_at), ("Finished", ended.finished_at)] {
        if let Some(time) = time {
            sheet.field(6, name, &time.to_string());
        }
    }
}

fn describe_conditions(sheet: &mut Sheet, view: &PodView) {
    let rows: Vec<Vec<String>> = view
        .published
        .status
        .conditions
        .iter()
        .map(|c| {
            let status = if c.status { "True" } else { "False" };
            vec![
                format!("  {}", c.kind),
                status.to_owned(),
                c.reason.clone().unwrap_or_default(),
                c.message.clone().unwrap_or_default(),
            ]
        })
        .collect();
    if !rows.is_empty() {
        sheet.line("Conditions:");
        sheet.0.push_str(&table(Some(&["  Type", "Status", "Reason", "Message"]), &rows));
    }
}

fn describe_volumes(sheet: &mut Sheet, view: &PodView) {
    if view.pod.spec.volumes.is_empty() {
        return;
    }
    sheet.line("Volumes:");
    for volume in &view.pod.spec.volumes {
        sheet.line(&format!("  {}:", volume.name));
        match &volume.source {
            VolumeSource::EmptyDir { medium, size_limit } => {
                sheet.field(4, "Type", "EmptyDir (lives as long as the Pod)");
                sheet.field(4, "Medium", if *medium == Medium::Memory { "Memory" } else { "" });
                let limit = size_limit.as_ref().map_or_else(|| "<unset>".to_owned(), ToString::to_string);
                sheet.field(4, "SizeLimit", &limit);
            }
            VolumeSource::HostPath { path, kind } => {
                sheet.field(4, "Type", "HostPath (a path of the host)");
                sheet.field(4, "Path", path);
                sheet.field(4, "HostPathType", &format!("{kind:?}"));
            }
            VolumeSource::Image { reference, pull_policy } => {
                sheet.field(4, "Type", "Image (the files of an image)");
                sheet.field(4, "Reference", reference);
                sheet.field(4, "PullPolicy", &format!("{pull_policy:?}"));
            }
        }
    }
}

fn describe_events(sheet: &mut Sheet, view: &PodView, now: Timestamp) {
    let rows: Vec<Vec<String>> = view
        .published
        .events
        .iter()
        .map(|event| {
            let about = event.field_path.clone().unwrap_or_default();
            let (kind, when) = (format!("  {:?}", event.kind), seen(event, now));
            vec![kind, event.reason.clone(), when, about, one_line(event)]
        })
        .collect();
    if rows.is_empty() {
        sheet.field(0, "Events", "<none>");
        return;
    }
    sheet.line("Events:");
    sheet.0.push_str(&table(Some(&["  Type", "Reason", "Age", "About", "Message"]), &rows));
}

/// Removes blanks at the ends of lines, and what could steer a terminal.
fn trimmed(text: &str) -> String {
    harmless(text).lines().map(|line| format!("{}\n", line.trim_end())).collect()
}
