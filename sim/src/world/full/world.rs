//! What the tasks of a run share: the stage, and each machine as the stage and its own tasks see it.
//!
//! One thread runs all of them, and nobody holds the lock while it waits, so nobody ever waits for the lock.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use madsim::time::TimeHandle;
use reknit::driver::{Mailbox, NoAnswer};
use reknit::model::DotSet;
use reknit::model::{Reply, Request};
use reknit::storage::engine::Reader;
use reknit::storage::{Read, Row, StorageError, Table};
use tokio::sync::Notify;
use xxhash_rust::xxh3::Xxh3Default;

use crate::check::{self, Dump};
use crate::disks::{Image, SimDisk};
use crate::scenario::Boundary;
use crate::world::{Stage, State};

/// The handle that every task has.
#[derive(Clone)]
pub(super) struct World(Arc<Shared>);

struct Shared {
    everything: Mutex<Everything>,
    /// A node broke: the run is over before its time.
    is_broken: Notify,
}

/// The stage and the machines.
pub(super) struct Everything {
    pub(super) stage: Stage,
    pub(super) machines: Vec<Machine>,
}

/// One machine.
pub(super) struct Machine {
    pub(super) disk: SimDisk,
    pub(super) backup: Option<Image>,
    /// Where its next turns are to end.
    pub(super) armed: Boundary,
    /// Who asks it, while it is on.
    pub(super) client: Option<Client>,
    /// Shows what is durable, once its engine runs.
    pub(super) reader: Option<Reader>,
    /// The answers that its driver was about to give, until the clients have them.
    pub(super) answers: BTreeMap<u64, Reply>,
    /// Its disk's syncs when somebody looked at its records.
    pub(super) looked_at: u64,
}

impl World {
    pub(super) fn new(stage: Stage) -> World {
        let disk = |name: &String| SimDisk::new(stage.seed(), name, stage.on_crash());
        let machine = |name: &String| Machine {
            disk: disk(name),
            backup: None,
            armed: Boundary::BetweenTurns,
            client: None,
            reader: None,
            answers: BTreeMap::new(),
            looked_at: 0,
        };
        let machines = stage.names().iter().map(machine).collect();
        let everything = Mutex::new(Everything { stage, machines });
        World(Arc::new(Shared { everything, is_broken: Notify::new() }))
    }

    /// The stage, when every task is gone.
    pub(super) fn into_stage(self) -> Stage {
        let shared = Arc::into_inner(self.0).expect("no task outlives the run");
        shared.everything.into_inner().expect("nobody panics with the lock").stage
    }

    /// The stage and the machines. Not to be held while anything waits.
    pub(super) fn state(&self) -> MutexGuard<'_, Everything> {
        self.0.everything.lock().expect("nobody panics with the lock")
    }

    /// Virtual time.
    pub(super) fn at(&self) -> Duration {
        TimeHandle::current().elapsed()
    }

    /// Lets virtual time pass until then, or until a node breaks.
    pub(super) async fn pass(&self, until: Duration) {
        tokio::select! {
            biased;
            () = self.0.is_broken.notified() => {}
            () = self.sleep_until(until) => {}
        }
    }

    /// Waits until then.
    pub(super) async fn sleep_until(&self, at: Duration) {
        let left = at.saturating_sub(self.at());
        if !left.is_zero() {
            madsim::time::sleep(left).await;
        }
    }

    /// A node's power has failed: what is left of it is on its disk.
    pub(super) fn power_failed(&self, node: usize, boundary: Boundary) {
        let at = self.at();
        let state = &mut *self.state();
        let machine = &mut state.machines[node];
        machine.disk.power_off();
        machine.stop();
        let left = machine.dump();
        state.stage.crashed(at, node, boundary, &left);
    }

    /// A node has left, and its process has ended.
    pub(super) fn left(&self, node: usize) {
        let at = self.at();
        let state = &mut *self.state();
        let machine = &mut state.machines[node];
        machine.disk.power_off();
        machine.stop();
        state.stage.left(at, node);
    }

    /// A node ended as none may.
    pub(super) fn broke(&self, node: usize, text: String) {
        let at = self.at();
        self.state().stage.broke(at, node, text);
        self.0.is_broken.notify_one();
    }

    /// Puts `image` on the disk of a node that is off.
    pub(super) fn replace_disk(&self, node: usize, image: Image) {
        let at = self.at();
        let state = &mut *self.state();
        state.machines[node].disk.replace(image);
        let others = (0..state.machines.len()).filter(|&other| other != node);
        let others = others.map(|other| (other, state.machines[other].dump())).collect();
        let records = state.machines[node].dump();
        state.stage.disk_replaced(at, node, &records, others);
    }

    /// Every machine, as far as a report tells of it.
    pub(super) fn states(&self) -> Vec<State> {
        let state = &*self.state();
        let of = |(node, machine): (usize, &Machine)| {
            machine.durable(|rows| {
                Ok(State {
                    node: state.stage.names()[node].clone(),
                    state: state.stage.state(node),
                    records: all(rows, Table::Records)?.len(),
                    root: hash(&all(rows, Table::Records)?),
                    seen: hash(&all(rows, Table::Seen)?),
                })
            })
        };
        state.machines.iter().enumerate().map(of).collect()
    }
}

impl Everything {
    /// Whether these nodes hold equal records.
    pub(super) fn agree(&self, nodes: &[usize]) -> bool {
        let dump = |&node: &usize| (self.stage.names()[node].clone(), self.machines[node].dump());
        check::conv::agree(&nodes.iter().map(dump).collect())
    }
}

impl Machine {
    /// All its durable records.
    pub(super) fn dump(&self) -> Dump {
        self.durable(|rows| check::dump(rows))
    }

    /// What is wrong within its disk.
    pub(super) fn inspect(&self) -> Vec<(&'static str, String)> {
        self.durable(|rows| Ok(check::inspect(rows)))
    }

    /// Its durable member table.
    pub(super) fn member_table(&self) -> check::memb::Table {
        self.durable(|rows| check::memb::table(rows))
    }

    /// The dots that its disk covers, or was held against.
    pub(super) fn covered(&self) -> DotSet {
        self.durable(|rows| check::covered(rows))
    }

    /// The names of those that its disk knows as members.
    pub(super) fn members(&self) -> BTreeSet<String> {
        self.durable(|rows| check::members(rows))
    }

    /// Shows `look` what a loss of power would leave.
    fn durable<T>(&self, mut look: impl FnMut(&dyn Read) -> Result<T, StorageError>) -> T {
        if let Some(reader) = &self.reader
            && let Ok(seen) = reader.snapshot(&mut look)
        {
            return seen;
        }
        let engine = self.disk.image().open().expect("a disk that lost its power opens again");
        let seen = match &engine {
            Some(engine) => look(engine),
            None => look(&reknit::storage::memory::Tables::default()),
        };
        seen.expect("a whole disk")
    }

    /// Forgets what went with the process.
    fn stop(&mut self) {
        self.armed = Boundary::BetweenTurns;
        self.client = None;
        self.reader = None;
        self.answers.clear();
    }
}

fn all(rows: &dyn Read, table: Table) -> Result<Vec<Row>, StorageError> {
    rows.scan(table, (Bound::Unbounded, Bound::Unbounded), usize::MAX, false)
}

fn hash(rows: &[Row]) -> u64 {
    let mut hasher = Xxh3Default::new();
    for bytes in rows.iter().flat_map(|(key, value)| [key, value]) {
        hasher.update(&(bytes.len() as u64).to_le_bytes());
        hasher.update(bytes);
    }
    hasher.digest()
}

/// Whoever asks one run of a node.
#[derive(Clone)]
pub(super) struct Client {
    mailbox: Mailbox,
    /// The stage's names of the requests in the mailbox, in the mailbox's order.
    letters: Arc<Mutex<VecDeque<u64>>>,
}

impl Client {
    pub(super) fn new(mailbox: Mailbox) -> Client {
        Client { mailbox, letters: Arc::default() }
    }

    /// Asks, and sees to it that the answer is the one that the driver was about to give.
    pub(super) async fn ask(&self, world: &World, node: usize, id: u64, request: Request) {
        self.letters().push_back(id);
        let answer = self.mailbox.ask(request).await;
        match answer {
            Ok(reply) => {
                let given = world.state().machines[node].answers.remove(&id);
                // Without one the power failed in the instant in which the answer was under way.
                if given.is_some_and(|given| given != reply) {
                    world.broke(node, format!("request {id} got another request's answer"));
                }
            }
            // It went nowhere, so nothing was put behind it either.
            Err(NoAnswer::Busy) => drop(self.letters().pop_back()),
            // The stage knows what became of the node.
            Err(NoAnswer::Stopped) => {}
        }
    }

    /// The stage's name of the request that comes out of the mailbox next.
    pub(super) fn next_letter(&self) -> u64 {
        self.letters().pop_front().expect("every letter has a name")
    }

    fn letters(&self) -> MutexGuard<'_, VecDeque<u64>> {
        self.letters.lock().expect("nobody panics with the lock")
    }
}
