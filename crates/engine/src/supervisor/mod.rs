//! One Pod's supervisor: feeds the state machine with facts, carries out what it wants, publishes its status.
//!
//! ```text
//!   sandbox events ─┐                            ┌─> carry out actions ──> new facts, at once or later
//!   init's pidfd  ──┤                            │
//!   deadline      ──┼─> Input ─> Machine::step ──┤
//!   requests      ──┤                            │
//!   slow work     ──┘                            └─> publish status and events
//! ```
//!
//! One task owns everything that changes. Between two waits it works off all inputs, then writes the state down,
//! then forgets exit records that init kept for it: a supervisor killed in between leaves them to the next one.

mod alarm;
mod async_fd;
mod carry_out;
mod close;
mod exec;
mod executors;
mod ground;
mod handlers;
mod hooks;
mod images;
mod journal;
mod lock;
mod look_ahead;
mod network;
mod probes;
mod publish;
mod room;
mod server;
mod take_over;
mod wishes;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::io;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use nix::errno::Errno;
use nix::unistd::write;
use podrun_image::Hold;
use podrun_lifecycle::{Action, Input, Machine, Now, State};
use podrun_plan::admission::Node;
use podrun_plan::facts::{HostFacts, ImageFacts};
use podrun_plan::model::Plan;
use podrun_sandbox::{InitProgram, Sandbox};
use podrun_spec::model::Pod;
use serde::{Deserialize, Serialize};
use tokio::io::unix::AsyncFd;
use tokio::sync::{broadcast, mpsc, oneshot, watch};

use self::alarm::Alarm;
use self::executors::Executors;
use self::ground::LOOK_EVERY;
use self::hooks::RunningHook;
use self::images::{PullDone, Pulls};
use self::journal::Journal;
pub(crate) use self::lock::SupervisorLock;
use self::look_ahead::Next;
use self::probes::{Probed, Probes};
use self::room::{Refused, Room, next_room};
use self::server::{BACKLOG, Hub, Wish};
use crate::claims::Claims;
use crate::clock;
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::events::EventLog;
use crate::facts::Host;
use crate::launch::{Order, log_to};
use crate::memory;
use crate::paths::Paths;
use crate::planning::{make_plan, plan_leniently, without_rejected};
use crate::protocol::Message;
use crate::record::{PodView, Published, Record, Records, read_json, remove_tree};

/// After so long without news the start is over, and memory that it needed can go. A probe that says the same as before is
/// no news.
const QUIET: Duration = Duration::from_secs(1);

/// What a supervisor that takes over needs to know.
#[derive(Debug, Serialize, Deserialize)]
struct Saved {
    boot_id: String,
    /// How far the machine's clock is ahead of the boot clock: it goes on over reboots, the boot clock begins anew.
    #[serde(default)]
    ahead: Duration,
    state: State,
    /// The signals that ask containers to end: images may lose their names while they are used.
    #[serde(default)]
    stop_signals: BTreeMap<String, i32>,
}

/// Waits for a Pod and runs its supervisor until the Pod has ended. Returns the exit code of the process.
pub(crate) fn run(engine: &Engine, order: Order, ready: OwnedFd) -> i32 {
    memory::share_arena();
    // What does not depend on the Pod is done while the caller still reads its manifest.
    let prepared = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        // Others wait for the next time; there would be room for 1024.
        .max_io_events_per_tick(32)
        .build()
        .map_err(|source| Error::Launch { source })
        .and_then(|runtime| Ok((runtime, engine.host()?)));
    let Some(uid) = order.wait() else { return 0 };
    let mut ready = Some(ready);
    // The pipe is closed after the reason is written: whoever waits for it reads the reason then.
    let ended = log_to(&engine.paths.supervisor_log(&uid)).and(prepared).and_then(|(runtime, host)| {
        let ended = runtime.block_on(supervise(&engine.paths, &engine.init, host, &uid, &mut ready));
        // A thread may wait for another process's pull, or for a name server: nobody needs its answer any more.
        runtime.shutdown_background();
        ended
    });
    match ended {
        Ok(()) => 0,
        Err(error) => fail(&error),
    }
}

/// Leaves the reason in the supervisor's log, which is its standard error.
fn fail(error: &dyn std::error::Error) -> i32 {
    let text = format!("{} {}\n", clock::wall(), crate::error::chain(error));
    // There is nowhere to report to if the log itself cannot be written.
    let _ = write(io::stderr(), text.as_bytes());
    1
}

async fn supervise(
    paths: &Paths,
    init: &Path,
    host: &Host,
    uid: &str,
    ready: &mut Option<OwnedFd>,
) -> Result<()> {
    let run_dir = paths.supervisor(uid);
    // Whoever started this process may be gone, which is no reason not to do the work.
    let mut tell = || match ready.take().map(|ready| write(&ready, b"!")) {
        None | Some(Ok(_) | Err(Errno::EPIPE)) => Ok(()),
        Some(Err(errno)) => Err(Error::Launch { source: errno.into() }),
    };
    let Some(mut lock) = SupervisorLock::acquire(&run_dir)? else {
        // Two looked after the Pod at the same time, and the other one was quicker.
        return tell();
    };
    let (supervisor, hub, mut wishes, mut done) = match Supervisor::load(paths, init, host, uid) {
        Err(error @ Error::Gone { .. }) => {
            remove_tree(&run_dir)?;
            return Err(error);
        }
        loaded => loaded?,
    };
    // What goes by value has a place in this future for each hand it goes through.
    let mut supervisor = Box::new(supervisor);
    server::serve(&run_dir, hub.clone()).map_err(|source| Error::io("bind socket in", &run_dir, source))?;
    let mut alarm = Alarm::new()?;
    let mut look_at = clock::boot() + LOOK_EVERY;
    supervisor.seek_room();
    if supervisor.is_held_back() {
        // Whoever waits for the Pod's start is to see that there will be none for now.
        supervisor.work_off();
    }
    tell()?;
    supervisor.take_up();
    let mut settle_at = Some(clock::boot() + QUIET);
    loop {
        if supervisor.work_off() {
            settle_at = settle_at.map(|_| clock::boot() + QUIET);
        }
        if supervisor.finished {
            break;
        }
        let wake_at = supervisor.deadline().into_iter().chain(settle_at).fold(look_at, Duration::min);
        tokio::select! {
            input = next_sandbox_input(&mut supervisor.connection) => supervisor.on_sandbox(input),
            rung = alarm.wait_until(wake_at) => {
                rung?;
                supervisor.on_time();
                let now = clock::boot();
                if settle_at.is_some_and(|at| at <= now) {
                    supervisor.settle();
                    settle_at = None;
                }
                if look_at <= now {
                    look_at = now + LOOK_EVERY;
                    match supervisor.look_at_ground(lock, &hub)? {
                        Some(kept) => lock = kept,
                        None => return Ok(()),
                    }
                }
            }
            () = next_room(supervisor.room.as_ref()) => supervisor.seek_room(),
            Some(wish) = wishes.recv() => supervisor.on_wish(wish),
            Some(done) = done.recv() => supervisor.on_done(done),
        }
    }
    supervisor.close(lock, wishes).await
}

/// What the sandbox's two fds may tell.
enum SandboxInput {
    /// Messages may be waiting.
    Readable,
    /// Init has died.
    Dead,
}

/// What slow work tells.
enum Done {
    /// It is done.
    Answer(Input),
    /// It could not be done and is tried again: a reason and its words.
    Trouble(&'static str, String),
    /// A probe has been made.
    Probed(Probed),
    /// It is time to look for room again.
    Room,
    /// An image was pulled, or could not be.
    Pulled(Box<PullDone>),
}

/// The two fds of a sandbox, registered with the runtime.
struct Connection {
    events: AsyncFd<OwnedFd>,
    process: AsyncFd<OwnedFd>,
}

async fn next_sandbox_input(connection: &mut Option<Connection>) -> SandboxInput {
    let Some(connection) = connection else { return std::future::pending().await };
    tokio::select! {
        // Messages first: what init said before it died counts.
        biased;
        Ok(mut guard) = connection.events.readable() => {
            guard.clear_ready();
            SandboxInput::Readable
        }
        Ok(_) = connection.process.readable() => SandboxInput::Dead,
        else => SandboxInput::Dead,
    }
}

/// Everything that one Pod's supervisor owns.
struct Supervisor {
    paths: Paths,
    records: Records,
    record: Record,
    pod: Pod,
    host: HostFacts,
    plan: Plan,
    /// The machine's own.
    host_addresses: Vec<IpAddr>,
    init: InitProgram,
    claims: Claims,
    node: Node,
    /// What a Pod listens to that waits for room.
    room: Option<Room>,
    /// Why it waits, as was told.
    refused: Option<Refused>,
    machine: Machine,
    journal: Journal,
    probes: Probes,
    executors: Executors,
    hooks: Vec<RunningHook>,
    boot_id: String,
    ahead: Duration,
    inputs: VecDeque<Input>,
    sandbox: Option<Sandbox>,
    connection: Option<Connection>,
    /// True from the wish to stop the sandbox on: then init's end is no loss.
    stopping: bool,
    images: HashMap<String, ImageFacts>,
    /// The signal that asks a container to end, by the container.
    stop_signals: BTreeMap<String, i32>,
    /// Layers of the images that are volumes, the lowest first, by the volume.
    volume_images: BTreeMap<String, Vec<PathBuf>>,
    pulls: Pulls,
    /// Keeps the layers of the image that is about to be mounted.
    hold: Option<Arc<Hold>>,
    /// The container that will be started next, prepared while the one before it starts.
    next: Option<Next>,
    /// Whether this supervisor is the Pod's first: then nothing of a container is there before it is made.
    first: bool,
    /// Exit records that init may forget once the state that knows them is written.
    forgettable: Vec<String>,
    events: EventLog,
    published: Published,
    /// Whether `published` is newer than the file.
    dirty: bool,
    messages: broadcast::Sender<Arc<Message>>,
    present: watch::Sender<Published>,
    done: mpsc::Sender<Done>,
    /// Who waits for what has come in to be written down.
    waiting: Vec<oneshot::Sender<std::result::Result<(), String>>>,
    /// Somebody has removed the Pod's record: nothing is written any more.
    unrecorded: bool,
    finished: bool,
    remove: bool,
}

impl Supervisor {
    fn load(
        paths: &Paths,
        init: &Path,
        host: &Host,
        uid: &str,
    ) -> Result<(Self, Hub, mpsc::Receiver<Wish>, mpsc::Receiver<Done>)> {
        let records = Records::new(paths.clone());
        let record = records.load(uid)?;
        let record_path = paths.pod_data(uid).join("record.json");
        let pod = record.to_pod(&record_path)?;
        let host_addresses = host.addresses().to_vec();
        let host = host.facts(&record.options)?;
        let plan = make_plan(&without_rejected(&pod), &host)?;
        let boot_id = clock::boot_id()?;
        let saved: Option<Saved> = read_json(&paths.pod_data(uid).join("state.json"))?;
        // What the file said follows from the state, but for events: it is written again.
        let (published, dirty) = match records.published(uid) {
            Err(error @ Error::Corrupt { .. }) => {
                fail(&error);
                (Published::default(), true)
            }
            published => (published?, false),
        };
        let first = saved.is_none();
        let stop_signals = saved.as_ref().map(|saved| saved.stop_signals.clone()).unwrap_or_default();
        let (machine, inputs, ahead) = match saved {
            Some(saved) if saved.boot_id == boot_id => {
                (Machine::restore(&pod, saved.state), VecDeque::new(), saved.ahead)
            }
            // After a reboot no process of the Pod can be alive.
            Some(saved) => {
                let ahead = saved.state.clock();
                (Machine::restore(&pod, saved.state), VecDeque::from([Input::SandboxLost]), ahead)
            }
            None => (Machine::new(&pod), VecDeque::new(), Duration::ZERO),
        };
        let mut events = EventLog::default();
        events.restore(published.events.clone());
        let (messages, _) = broadcast::channel(BACKLOG);
        let (present, present_rx) = watch::channel(published.clone());
        let (wishes_tx, wishes) = mpsc::channel(16);
        let (done, done_rx) = mpsc::channel(16);
        let hub = Hub { messages: messages.clone(), present: present_rx, wishes: wishes_tx };
        let mut journal = Journal::new(&paths.pod_data(uid));
        if !first {
            journal.resumed(&machine);
        }
        let known = (!first).then(|| machine.status());
        let probes = Probes::new(&pod, &machine, clock::boot() + ahead, known.as_ref());
        let supervisor = Self {
            paths: paths.clone(),
            records,
            record,
            pod,
            host,
            plan,
            host_addresses,
            init: InitProgram::new(init),
            claims: Claims::new(paths),
            node: Node::default(),
            room: None,
            refused: None,
            machine,
            journal,
            probes,
            executors: Executors::default(),
            hooks: Vec::new(),
            boot_id,
            ahead,
            inputs,
            sandbox: None,
            connection: None,
            stopping: false,
            images: HashMap::new(),
            stop_signals,
            volume_images: BTreeMap::new(),
            pulls: Pulls::default(),
            hold: None,
            next: None,
            first,
            forgettable: Vec::new(),
            events,
            published,
            dirty,
            messages,
            present,
            done,
            waiting: Vec::new(),
            unrecorded: false,
            finished: false,
            remove: false,
        };
        Ok((supervisor, hub, wishes, done_rx))
    }

    /// Tells of limits that the Pod has to live without, once, when it is new.
    fn admit(&mut self) {
        for limit in self.plan.unenforced.clone() {
            let message = format!(
                "{}: {} is not enforced: the {} controller {}",
                limit.object, limit.value, limit.controller, limit.why
            );
            self.warn("Unenforced", message, None);
        }
        for notice in self.plan.sandbox.notices.clone() {
            self.warn(&notice.reason, notice.message, None);
        }
    }

    /// Returns the time since boot, as the machine counts it.
    fn boot(&self) -> Duration {
        clock::boot() + self.ahead
    }

    /// Returns the boot time at which something is due next.
    fn deadline(&self) -> Option<Duration> {
        let due = [self.machine.deadline(), self.probes.next()].into_iter().flatten().min();
        due.map(|at| at.saturating_sub(self.ahead))
    }

    fn on_time(&mut self) {
        if self.machine.deadline().is_some_and(|at| at <= self.boot()) {
            self.inputs.push_back(Input::Tick);
        }
        self.on_probe_time();
    }

    /// Returns whether the Pod is not started now, or never.
    fn is_held_back(&self) -> bool {
        self.inputs.iter().any(|i| matches!(i, Input::Unschedulable { .. } | Input::Rejected { .. }))
    }

    /// Works off all inputs and their consequences, then writes down where things stand. Returns whether there was news.
    ///
    /// Nothing is written where nothing has happened: a probe that says the same as before leaves no trace.
    fn work_off(&mut self) -> bool {
        let news = !self.inputs.is_empty() || !self.waiting.is_empty() || !self.forgettable.is_empty();
        if !news && !self.dirty {
            return false;
        }
        self.publish();
        while let Some(input) = self.inputs.pop_front() {
            self.take_in(input);
        }
        self.save();
        true
    }

    fn take_in(&mut self, input: Input) {
        if input == Input::Created {
            self.admit();
        }
        self.end_hooks(&input);
        let now = clock::now();
        let now = Now { boot: now.boot + self.ahead, ..now };
        let actions = self.machine.step(now, input.clone());
        self.journal.step(now, &input, &actions);
        self.probes.observe(&self.machine, now.boot);
        // What makes processes is written down before it is done: the supervisor after this one finds what was asked
        // for among the things that are outstanding, and whether it was done with init.
        if actions.iter().any(|a| matches!(a, Action::CreateSandbox | Action::Start { .. })) {
            Self::warn_on_error(self.save_state(false));
        }
        for action in actions {
            self.carry_out(action);
        }
        self.publish();
    }
}

/// Removes whatever a Pod may have left in the kernel. Its names are all that is needed.
pub(crate) fn remove_kernel_objects(host: &Host, view: &PodView) -> Result<()> {
    let (plan, host) = plan_leniently(host, view)?;
    podrun_sandbox::remove(&plan.sandbox, &host.cgroup.mount).map_err(Error::Remove)?;
    let (uid, plan) = (&plan.sandbox.uid, &plan.sandbox.network);
    network::leave(&host.run_dir, uid, plan).map_err(|errors| Error::Leave { errors })?;
    network::settle(&host.run_dir, uid, plan).map_err(Error::Network)
}
