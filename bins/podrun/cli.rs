//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use podrun_lifecycle::simulate::TimedFact;

use crate::commands::wait::{self, Wanted};
use crate::output;

mod cp;
mod image;
mod look;
mod node;
mod port_forward;
mod top;

pub(crate) use self::cp::*;
pub(crate) use self::image::*;
pub(crate) use self::look::*;
pub(crate) use self::node::*;
pub(crate) use self::port_forward::*;
pub(crate) use self::top::*;

/// Runs Kubernetes Pods on one Linux machine, without a cluster.
#[derive(Debug, Parser)]
#[command(
    name = "podrun",
    version,
    propagate_version = true,
    max_term_width = 100,
    arg_required_else_help = true
)]
#[command(after_help = "Examples:
  podrun image pull nginx:1.27       pull an image from its registry
  podrun image load nginx.tar        take an image archive into the store
  podrun run pod.yaml                run a Pod and follow it; Ctrl-C ends it gracefully
  podrun run -d pod.yaml             run a Pod in the background
  podrun get pods                    list Pods
  podrun logs web -c nginx -f        follow a container's log
  podrun exec -it web -- sh          run a command in a container
  podrun delete pod web              end a Pod and remove everything of it")]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Where help lists the options of every command.
const GLOBAL: &str = "Options of every command";

/// Options of every command.
#[derive(Clone, Debug, Args)]
pub(crate) struct Global {
    /// One directory for all state, in place of /run/podrun and /var/lib/podrun.
    #[arg(long, global = true, env = "PODRUN_ROOT", value_name = "DIR", help_heading = GLOBAL)]
    pub(crate) root: Option<PathBuf>,
    /// Namespace of the Pods. [default: default, and for a manifest what it says]
    #[arg(short, long, global = true, value_name = "NAME", help_heading = GLOBAL)]
    namespace: Option<String>,
    /// Print errors as JSON.
    #[arg(long = "error-format", global = true, value_enum, default_value_t = ErrorFormat::Text, value_name = "FORMAT", help_heading = GLOBAL)]
    pub(crate) error_format: ErrorFormat,
}

impl Global {
    /// Returns the namespace that was asked for; an empty one, as of a variable that is not set, is none.
    pub(crate) fn asked_namespace(&self) -> Option<&str> {
        self.namespace.as_deref().filter(|namespace| !namespace.is_empty())
    }

    pub(crate) fn namespace(&self) -> &str {
        self.asked_namespace().unwrap_or("default")
    }

    pub(crate) fn json_errors(&self) -> bool {
        self.error_format == ErrorFormat::Json
    }
}

/// How errors are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ErrorFormat {
    /// One line each.
    Text,
    /// One JSON object.
    Json,
}

/// The manifests of a command.
#[derive(Debug, Args)]
pub(crate) struct ManifestArgs {
    /// The manifests: YAML or JSON, one or many documents; a directory for all in it; - is standard input.
    #[arg(value_name = "FILE", required_unless_present = "filenames")]
    files: Vec<String>,
    /// The same, in kubectl's way.
    #[arg(short = 'f', long = "filename", value_name = "FILE")]
    filenames: Vec<String>,
}

impl ManifestArgs {
    pub(crate) fn names(&self) -> impl Iterator<Item = &String> {
        self.files.iter().chain(&self.filenames)
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the Pods of a manifest and follow them.
    Run(RunArgs),
    /// List Pods.
    Get(GetArgs),
    /// Show a Pod in detail.
    Describe(DescribeArgs),
    /// Print what has happened to Pods.
    Events(EventsArgs),
    /// Print the log of a container.
    Logs(LogsArgs),
    /// Show what Pods use: CPU, memory, and what they wait for.
    Top(TopArgs),
    /// Run a command in a container.
    Exec(ExecArgs),
    /// Copy files to and from a container.
    Cp(CpArgs),
    /// Let connections to this machine arrive inside a Pod.
    PortForward(PortForwardArgs),
    /// Wait until Pods have a condition, a value, or are gone.
    Wait(WaitArgs),
    /// Set a condition of a Pod, such as that of a readiness gate.
    Condition(ConditionArgs),
    /// End Pods and remove everything of them.
    Delete(DeleteArgs),
    /// Print what would be done for a manifest. Needs no root.
    Plan(PlanArgs),
    /// Print what would become of a Pod if things went as said, running nothing. Needs no root.
    Simulate(SimulateArgs),
    /// Derive every decision about a Pod anew from its journal, and tell where it was another one.
    Replay(ReplayArgs),
    /// Manage images.
    Image(ImageArgs),
    /// Set or remove annotations of a Pod; its bandwidth follows at once.
    Annotate(AnnotateArgs),
    /// Look at the network of Pods.
    Net(NetArgs),
    /// Remove what belongs to no Pod any more.
    Gc,
    /// Tell what this host can do and cannot.
    Doctor(DoctorArgs),
    /// Print the version.
    Version(VersionArgs),
    /// Print a completion script for a shell.
    Completion(CompletionArgs),
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  podrun run web.yaml                        run a Pod and follow it
  podrun run -d -f web.yaml -f db.yaml       leave two in the background
  podrun run -d -n shop manifests/           all manifests of a directory, in a namespace
  kubectl get pod web -o yaml | podrun run -d -      one that runs elsewhere

Exit code: 0 when the Pod succeeded, else the code of the first container that failed;
130 after Ctrl-C; 3 for a manifest that is refused; 125 where podrun or the host failed.")]
pub(crate) struct RunArgs {
    #[command(flatten)]
    pub(crate) manifests: ManifestArgs,
    /// Leave the Pod running in the background.
    #[arg(short, long)]
    pub(crate) detach: bool,
    /// Remove the Pod when it has ended.
    #[arg(long)]
    pub(crate) rm: bool,
    /// Print no events, only logs.
    #[arg(short, long)]
    pub(crate) quiet: bool,
    #[command(flatten)]
    pub(crate) node: NodeArgs,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  podrun wait pod/web --for=condition=Ready --timeout=60s
  podrun wait pod/web --for=jsonpath='{.status.phase}'=Running
  podrun wait pod/web --for=delete")]
pub(crate) struct WaitArgs {
    /// `pod NAME...`, `pod/NAME` or just names.
    #[arg(value_name = "POD", required_unless_present_any = ["all", "selector"])]
    pub(crate) what: Vec<String>,
    /// condition=TYPE[=STATUS], jsonpath=TEMPLATE[=VALUE], create or delete.
    #[arg(long = "for", value_parser = Wanted::parse, value_name = "WHAT")]
    pub(crate) wanted: Wanted,
    /// Stop waiting after this time: 30s, 5m. 0 looks once, a negative one waits for a week.
    #[arg(long, value_parser = wait::timeout, allow_hyphen_values = true, default_value = "30s", value_name = "DURATION")]
    pub(crate) timeout: std::time::Duration,
    /// All Pods of the namespace.
    #[arg(long)]
    pub(crate) all: bool,
    #[command(flatten)]
    pub(crate) filter: FilterArgs,
}

#[derive(Debug, Args)]
#[command(
    after_help = "A Pod with readiness gates is Ready when the condition of each is True. Somebody has to set it:
  podrun condition web example.com/in-rotation=True --reason=Registered

Conditions that follow from what the Pod does (Ready, Initialized, ...) cannot be set."
)]
pub(crate) struct ConditionArgs {
    /// `NAME` or `pod/NAME`.
    #[arg(value_name = "POD")]
    pub(crate) pod: String,
    /// The condition and its status.
    #[arg(value_parser = crate::commands::condition::parse, value_name = "TYPE=True|False")]
    pub(crate) condition: (String, bool),
    /// Why, in one word.
    #[arg(long, value_name = "WORD")]
    pub(crate) reason: Option<String>,
    /// Why, in words.
    #[arg(long, value_name = "TEXT")]
    pub(crate) message: Option<String>,
}

#[derive(Debug, Args)]
#[command(
    after_help = "Exit code: that of the command, 128 + n for signal n; 126 if it cannot be executed, 127 if it is not there;
125 where podrun or the host failed.

What the command leaves running in the background lives as long as the container. If podrun is killed, the command
is killed with everything that it has started."
)]
pub(crate) struct ExecArgs {
    /// `NAME` or `NAME/CONTAINER`.
    #[arg(value_name = "POD")]
    pub(crate) pod: String,
    /// The container, if the Pod has several.
    #[arg(short, long, value_name = "NAME")]
    pub(crate) container: Option<String>,
    /// Pass standard input on to the command.
    #[arg(short = 'i', long)]
    pub(crate) stdin: bool,
    /// Run the command on a terminal. Needs -i.
    #[arg(short = 't', long)]
    pub(crate) tty: bool,
    /// Print nothing of podrun's own.
    #[arg(short, long)]
    pub(crate) quiet: bool,
    /// The command and its arguments. No shell is involved.
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true, value_name = "COMMAND")]
    pub(crate) command: Vec<String>,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  podrun delete pod web db                   end two Pods, each with its own grace period
  podrun delete -f web.yaml                  end the Pods of a manifest
  podrun delete pods -l app=web --now        end those with a label, a second after the stop signal
  podrun delete pods --field-selector=status.phase=Succeeded
  podrun delete pod web --force              do not wait for the containers")]
pub(crate) struct DeleteArgs {
    /// `pod NAME...`, `pod/NAME` or just names.
    #[arg(value_name = "pod NAME", required_unless_present_any = ["files", "all", "selector"])]
    pub(crate) what: Vec<String>,
    /// The Pods of a manifest, or of all manifests in a directory; - is standard input.
    #[arg(short, long = "filename", value_name = "FILE", conflicts_with_all = ["what", "all", "selector"])]
    pub(crate) files: Vec<String>,
    /// All Pods of the namespace.
    #[arg(long)]
    pub(crate) all: bool,
    #[command(flatten)]
    pub(crate) filter: FilterArgs,
    /// Seconds between the stop signal and the end; without it, and with -1, the Pod's own.
    #[arg(long, allow_negative_numbers = true, value_name = "SECONDS")]
    pub(crate) grace_period: Option<i64>,
    /// Do not wait for the containers to end in their own time: the same as a grace period of 0.
    #[arg(long)]
    pub(crate) force: bool,
    /// A grace period of one second.
    #[arg(long, conflicts_with_all = ["grace_period", "force"])]
    pub(crate) now: bool,
    /// Wait until everything is gone.
    #[arg(long, default_value_t = true, action = clap::ArgAction::Set, num_args = 0..=1, default_missing_value = "true", value_name = "BOOL")]
    pub(crate) wait: bool,
    /// Stop waiting after this time: 30s, 5m.
    #[arg(long, value_parser = output::duration, value_name = "DURATION")]
    pub(crate) timeout: Option<std::time::Duration>,
    /// It is fine if a Pod is not there.
    #[arg(long)]
    pub(crate) ignore_not_found: bool,
}

#[derive(Debug, Args)]
pub(crate) struct PlanArgs {
    #[command(flatten)]
    pub(crate) manifests: ManifestArgs,
    /// yaml or json.
    #[arg(short, long, value_enum, default_value_t = PlanFormat::Yaml, value_name = "FORMAT")]
    pub(crate) output: PlanFormat,
    #[command(flatten)]
    pub(crate) node: NodeArgs,
}

#[derive(Debug, Args)]
#[command(
    after_help = "Without --at everything goes well: containers start and run on, probes and hooks succeed. Facts are, for a
container C, a time D, a code N:
  exit:C=N  oom:C  run:C=D/N  term:C=N|D  ignore-term:C  start:C=ok|fail|error|D  pull:C=ok|fail|absent|D
  probe:C/startup|liveness|readiness=ok|fail  hook:C/postStart|preStop=ok|fail|hang|D
  volumes=ok|fail  sandbox=ok|fail  sandbox-lost  condition:TYPE=True|False  unschedulable=TEXT  admit
  reject:REASON=TEXT  evict=TEXT  delete  delete=SECONDS

Example:
  podrun simulate web.yaml --at 30s:exit:server=137 --at 2m:delete"
)]
pub(crate) struct SimulateArgs {
    #[command(flatten)]
    pub(crate) manifests: ManifestArgs,
    /// What happens, and when; may be given several times.
    #[arg(long, num_args = 1.., value_name = "TIME:FACT")]
    pub(crate) at: Vec<TimedFact>,
    /// How long to go on after the last fact.
    #[arg(long = "for", value_parser = output::duration, default_value = "10m", value_name = "DURATION")]
    pub(crate) after: std::time::Duration,
}

#[derive(Debug, Args)]
#[command(
    after_help = "Every Pod has a bounded journal of what happened last. `podrun replay web --raw > web.jsonl` keeps it beyond the
end of the Pod, and `podrun replay web.jsonl` reads it, also elsewhere and without root.

Exit code: 0 where every decision is the same, 1 where one is not."
)]
pub(crate) struct ReplayArgs {
    /// A Pod, or a file that holds a journal; - is standard input.
    #[arg(value_name = "POD|FILE")]
    pub(crate) what: String,
    /// Print the journal itself.
    #[arg(long)]
    pub(crate) raw: bool,
    /// Print only what is different, and the summary.
    #[arg(short, long, conflicts_with = "raw")]
    pub(crate) quiet: bool,
}

/// How a plan is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum PlanFormat {
    /// YAML.
    Yaml,
    /// JSON.
    Json,
}

/// How a list is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ListFormat {
    /// JSON.
    Json,
}

#[derive(Debug, Args)]
pub(crate) struct AnnotateArgs {
    /// `pod NAME KEY=VALUE...`; `KEY-` removes one.
    #[arg(required = true, num_args = 2.., value_name = "pod NAME KEY=VALUE")]
    pub(crate) what: Vec<String>,
    /// Give annotations that are there another value.
    #[arg(long)]
    pub(crate) overwrite: bool,
}

#[derive(Debug, Args)]
#[command(arg_required_else_help = true)]
pub(crate) struct NetArgs {
    #[command(subcommand)]
    pub(crate) command: NetCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum NetCommand {
    /// Compare the kernel's state with what it should be, field by field.
    #[command(after_help = "Exit code: 0 where all is as it should be, 1 otherwise.")]
    Verify {
        /// Only this Pod; all Pods of the namespace without one.
        #[arg(value_name = "POD")]
        pod: Option<String>,
        /// Send traffic to each Pod and from it for so many seconds each, and compare what goes through with its limits.
        #[arg(long, num_args = 0..=1, default_missing_value = "3", value_parser = clap::value_parser!(u64).range(1..=60), value_name = "SECONDS")]
        probe: Option<u64>,
        /// json, or nothing for text.
        #[arg(short, long, value_enum, value_name = "FORMAT")]
        output: Option<ListFormat>,
    },
    /// Make the kernel's state what it should be, as after nft flush ruleset; connections go on.
    #[command(after_help = "Exit code: 0 where all is as it should be then, 1 otherwise.")]
    Repair {
        /// Only this Pod, and what all share; all Pods of the namespace without one.
        #[arg(value_name = "POD")]
        pod: Option<String>,
        /// json, or nothing for text.
        #[arg(short, long, value_enum, value_name = "FORMAT")]
        output: Option<ListFormat>,
    },
}

#[derive(Debug, Args)]
pub(crate) struct DoctorArgs {
    /// json, or nothing for text.
    #[arg(short, long, value_enum, value_name = "FORMAT")]
    pub(crate) output: Option<ListFormat>,
}

#[derive(Debug, Args)]
pub(crate) struct VersionArgs {
    /// json or yaml, or nothing for text.
    #[arg(short, long, value_enum, value_name = "FORMAT")]
    pub(crate) output: Option<PlanFormat>,
    /// There is no server whose version could be told too.
    #[arg(long, hide = true)]
    client: bool,
}

#[derive(Debug, Args)]
pub(crate) struct CompletionArgs {
    /// The shell.
    pub(crate) shell: clap_complete::Shell,
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory as _, Parser as _};

    #[test]
    fn a_command_keeps_its_own_options() {
        for line in [
            "exec -it web -c app -- sh -c -x",
            "exec web -c app -i -t -- sh -c -x",
            "exec -c app -ti web -- sh -c -x",
            "exec -it -c app web sh -c -x",
        ] {
            let cli = super::Cli::parse_from(std::iter::once("podrun").chain(line.split(' ')));
            let super::Command::Exec(args) = cli.command else { panic!("{line}") };
            assert_eq!((args.pod.as_str(), args.container.as_deref()), ("web", Some("app")), "{line}");
            assert_eq!(
                (args.stdin, args.tty, args.command),
                (true, true, vec!["sh".into(), "-c".into(), "-x".into()]),
                "{line}"
            );
        }
        assert!(super::Cli::try_parse_from(["podrun", "exec", "web"]).is_err());
    }

    #[test]
    fn who_says_nothing_is_told_what_there_is() {
        for line in ["podrun", "podrun image", "podrun net"] {
            let error = super::Cli::try_parse_from(line.split(' ')).unwrap_err();
            assert!(error.to_string().contains("Commands:"), "{line}: {error}");
            assert!(error.use_stderr(), "it is a mistake all the same: {line}");
        }
    }

    #[test]
    fn an_empty_namespace_is_none() {
        for (line, asked) in [("gc", None), ("gc -n=", None), ("-n shop gc", Some("shop"))] {
            let cli = super::Cli::parse_from(std::iter::once("podrun").chain(line.split(' ')));
            assert_eq!(cli.global.asked_namespace(), asked, "{line}");
            assert_eq!(cli.global.namespace(), asked.unwrap_or("default"), "{line}");
        }
    }

    #[test]
    fn the_command_line_is_consistent() {
        super::Cli::command().debug_assert();
    }
}
