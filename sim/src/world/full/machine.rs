//! One machine from power on to its end: opens its disk, plugs in, and lets the real driver run the node.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::Duration;

use async_trait::async_trait;
use madsim::runtime::Handle;
use madsim::task::NodeId as Host;
use reknit::driver::{Clock, Ended, Letter, Observer, run_observed};
use reknit::model::{Instant, NodeId, Now, RequestId};
use reknit::node::{Input, Node, Output};
use reknit::protocol::wire::WireError;
use reknit::storage::StorageError;
use tokio::sync::mpsc;

use super::network::{Ether, Wires};
use super::world::{Client, World};
use crate::disks::{Powered, SimEngine};
use crate::panics::caught;
use crate::scenario::Boundary;
use crate::world::dies_after;
use crate::world::stage::Birth;

/// A machine whose power has just come on.
pub(super) struct Start {
    pub(super) node: usize,
    pub(super) host: Host,
    pub(super) birth: Birth,
    pub(super) powered: Powered,
    pub(super) letters: mpsc::Receiver<Letter>,
    pub(super) client: Client,
    pub(super) ether: Ether,
}

impl Start {
    /// Runs the node, and tells the world how it ended.
    pub(super) async fn run(self, world: World) {
        let (node, host) = (self.node, self.host);
        let end = until_panic(pin!(self.drive(&world))).await;
        let armed = world.state().machines[node].armed;
        match end {
            Ok(Ok(Ended::PowerFailed)) => world.power_failed(node, armed),
            Ok(Ok(Ended::Left)) => world.left(node),
            Ok(Ok(Ended::NoClients)) => world.broke(node, "the driver stopped by itself".to_owned()),
            // The disk went away under the node, as was ordered.
            Ok(Err(_)) if !world.state().machines[node].disk.is_on() => world.power_failed(node, armed),
            // The disk failed as was ordered, and the process ends of it.
            Ok(Err(_)) if matches!(armed, Boundary::IoError | Boundary::DiskFull) => {
                world.power_failed(node, armed);
            }
            Ok(Err(error)) => world.broke(node, error.to_string()),
            Err(panic) => world.broke(node, panic),
        }
        // Takes the receivers along.
        Handle::current().kill(host);
    }

    async fn drive(self, world: &World) -> Result<Ended, StorageError> {
        let Start { node, birth, powered, mut letters, client, ether, .. } = self;
        let mut wires = Wires::plug_in(node, ether).await;
        let clock = MachineTime { world: world.clone(), node };
        let takes = {
            let world = world.clone();
            move |writes| {
                let (at, stage) = (world.at(), &mut world.state().stage);
                let takes = stage.turn_takes(node, at, writes);
                stage.turn_lasts(node, at + takes);
                takes
            }
        };
        let store = SimEngine::open(&powered, takes)?;
        world.state().machines[node].reader = Some(store.engine().reader());
        let mut running = Node::open(store, birth.settings, birth.dice, clock.now())?;
        let mut watcher = Watcher { world: world.clone(), node, client, names: BTreeMap::new() };
        run_observed(&mut running, &clock, &mut wires, &mut letters, &mut watcher).await
    }
}

/// Waits for `work`; an error if it panics.
async fn until_panic<T>(mut work: Pin<&mut impl Future<Output = T>>) -> Result<T, String> {
    std::future::poll_fn(|context| match caught(|| work.as_mut().poll(context)) {
        Ok(Poll::Pending) => Poll::Pending,
        Ok(Poll::Ready(value)) => Poll::Ready(Ok(value)),
        Err(panic) => Poll::Ready(Err(panic)),
    })
    .await
}

/// A machine's clocks, over madsim's time.
struct MachineTime {
    world: World,
    node: usize,
}

#[async_trait]
impl Clock for MachineTime {
    fn now(&self) -> Now {
        let at = self.world.at();
        self.world.state().stage.now(self.node, at)
    }

    async fn sleep_until(&self, deadline: Option<Instant>) {
        let Some(deadline) = deadline else { return std::future::pending().await };
        let at = self.world.state().stage.when(self.node, deadline);
        self.world.sleep_until(at).await;
    }

    async fn wait(&self, duration: Duration) {
        if !duration.is_zero() {
            madsim::time::sleep(duration).await;
        }
    }
}

/// Tells the stage what a node does, and lets the power fail between two of its outputs.
struct Watcher {
    world: World,
    node: usize,
    client: Client,
    /// The stage's names of the driver's requests.
    names: BTreeMap<RequestId, u64>,
}

impl Observer for Watcher {
    fn turn(&mut self, _now: Now, inputs: &[Input]) {
        for input in inputs {
            if let Input::Request { id, .. } = input {
                self.names.insert(*id, self.client.next_letter());
            }
        }
    }

    fn before_outputs(&mut self, _now: Now, outputs: &[Output]) -> Option<usize> {
        let at = self.world.at();
        let state = &mut *self.world.state();
        let machine = &mut state.machines[self.node];
        if state.stage.turned(at, self.node) && machine.looked_at != machine.disk.syncs() {
            machine.looked_at = machine.disk.syncs();
            state.stage.holds(at, self.node, &machine.dump());
        }
        let dies = dies_after(machine.armed, outputs);
        let count = dies.unwrap_or(outputs.len());
        for output in &outputs[..count] {
            state.stage.said(at, self.node, output);
            if let Output::Reply { id, reply } = output {
                let name = self.names.remove(id).expect("the driver took it from a letter");
                machine.answers.insert(name, reply.clone());
                state.stage.answered(at, name, reply);
            }
        }
        if let Some((collector, news)) = state.stage.take_collecting() {
            let covered = state.machines.iter().map(super::world::Machine::covered).enumerate();
            let known = state.machines[collector].members();
            state.stage.judge_collection(at, (collector, &news), &known, covered);
        }
        if dies.is_some() {
            state.machines[self.node].disk.power_off();
        }
        dies
    }

    fn nonsense(&mut self, from: &NodeId, _error: &WireError) {
        let at = self.world.at();
        let state = &mut *self.world.state();
        let from = state.stage.names().iter().position(|name| name == from.as_str());
        state.stage.rejected(at, from.expect("frames come from machines"), self.node);
    }
}
