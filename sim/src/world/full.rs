//! The full world: the real driver on madsim's tasks, time and sockets, with redb on simulated disks.
//!
//! One thread per run, one madsim node per machine, and one for what is under way between them. A loss of power
//! kills the machine's tasks and takes from its disk what was not synced. What madsim has none of (links, disks,
//! clocks of each machine) is the stage's, so that both worlds live the same story.

mod machine;
mod network;
mod world;

use std::time::Duration;

use madsim::runtime::{Handle, Runtime};
use madsim::task::NodeId as Host;
use reknit::driver;
use reknit::model::Request;

use self::network::Ether;
use self::world::{Client, World};
use super::{Order, Played, Stage, State};
use crate::disks::{AtSync, Fails, Image};
use crate::scenario::Boundary;

/// Lives the stage's story to its end.
///
/// # Panics
/// The simulator itself is at fault.
pub fn play(stage: Stage) -> Played {
    // What madsim seeds per thread is then the same whatever ran before.
    let run = std::thread::Builder::new().name("run".to_owned()).spawn(move || live(stage));
    let run = run.expect("one more thread").join();
    run.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

fn live(stage: Stage) -> Played {
    let mut config = madsim::Config::default();
    // The stage draws how long a frame takes; madsim adds the 2 ms of its own that `network` allows for.
    config.net.send_latency = Duration::ZERO..Duration::from_nanos(1);
    let runtime = Runtime::with_seed_and_config(stage.seed(), config);
    let world = World::new(stage);
    let (at, states) = runtime.block_on(Conductor::conduct(world.clone()));
    drop(runtime);
    Played { stage: world.into_stage(), at, states }
}

/// Carries out the stage's orders.
struct Conductor {
    world: World,
    madsim: Handle,
    hosts: Vec<Host>,
    ether: Ether,
}

impl Conductor {
    async fn conduct(world: World) -> (Duration, Vec<State>) {
        let madsim = Handle::current();
        let count = world.state().machines.len();
        let host = |machine| madsim.create_node().ip(network::ip(machine)).build().id();
        let hosts: Vec<Host> = (0..count).map(host).collect();
        let ether = Ether::new(&madsim, world.clone()).await;
        let mut conductor = Conductor { world, madsim, hosts, ether };
        let at = loop {
            let at = conductor.world.at();
            let order = conductor.world.state().stage.next(at);
            match order {
                Order::Over => break at,
                Order::Until(until) => conductor.world.pass(until).await,
                order => conductor.obey(order).await,
            }
        };
        let states = conductor.world.states();
        conductor.end().await;
        (at, states)
    }

    async fn obey(&mut self, order: Order) {
        let (world, at) = (&self.world, self.world.at());
        match order {
            Order::Start(node) => self.start(node),
            Order::Crash(node, boundary) => self.crash(node, boundary),
            Order::Disarm(node) => {
                let machine = &mut world.state().machines[node];
                machine.armed = Boundary::BetweenTurns;
                machine.disk.disarm();
            }
            // A damaged page is one that redb does not open: it has no part in this world.
            Order::Rot(..) => {}
            Order::Pause(node) => self.madsim.pause(self.hosts[node]),
            Order::Resume(node) => self.madsim.resume(self.hosts[node]),
            Order::Wipe(node) => world.replace_disk(node, Image::default()),
            Order::Backup(node) => {
                let machine = &mut world.state().machines[node];
                machine.backup = Some(machine.disk.image());
            }
            Order::Restore(node) => {
                let backup = world.state().machines[node].backup.clone();
                if let Some(backup) = backup {
                    world.replace_disk(node, backup);
                }
            }
            Order::Clone { from, to } => {
                let image = world.state().machines[from].disk.image();
                world.replace_disk(to, image);
            }
            Order::Ask { node, id, request } => self.ask(node, id, request).await,
            Order::Compare => {
                let state = &mut *world.state();
                let agree = state.agree(&state.stage.core());
                state.stage.compared(at, agree);
            }
            Order::Look => {
                let state = &mut *world.state();
                for node in state.stage.core() {
                    let wrong = state.machines[node].inspect();
                    state.stage.inspected(at, node, wrong);
                    let table = state.machines[node].member_table();
                    state.stage.believes(node, table);
                }
                let dumps = state.stage.core().into_iter().map(|node| (node, state.machines[node].dump()));
                let dumps = dumps.collect();
                state.stage.looked(at, &dumps);
            }
            Order::Until(_) | Order::Over => unreachable!("the caller's business"),
        }
    }

    fn start(&self, node: usize) {
        let (world, at) = (&self.world, self.world.at());
        let state = &mut *world.state();
        let birth = state.stage.birth(at, node);
        let machine = &mut state.machines[node];
        let powered = machine.disk.power_on();
        let (mailbox, letters) = driver::mailbox();
        let client = Client::new(mailbox);
        machine.client = Some(client.clone());
        self.madsim.restart(self.hosts[node]);
        let host = self.madsim.get_node(self.hosts[node]).expect("every machine has a host");
        let (host_id, ether) = (self.hosts[node], self.ether.clone());
        let machine = machine::Start { node, host: host_id, birth, powered, letters, client, ether };
        // Nobody waits for it: how it ends it tells the world itself.
        drop(host.spawn(machine.run(world.clone())));
    }

    fn crash(&self, node: usize, boundary: Boundary) {
        if boundary == Boundary::BetweenTurns {
            self.madsim.kill(self.hosts[node]);
            self.world.power_failed(node, boundary);
            return;
        }
        let machine = &mut self.world.state().machines[node];
        machine.armed = boundary;
        match boundary {
            Boundary::BeforePersist => machine.disk.die_at_sync(1, AtSync::Before),
            Boundary::AfterPersist => machine.disk.die_at_sync(1, AtSync::After),
            // The watcher of its turns sees to it.
            Boundary::MidSend | Boundary::On(_) | Boundary::BetweenTurns => {}
            Boundary::IoError => machine.disk.fail(Fails::AtSync),
            Boundary::DiskFull => machine.disk.fail(Fails::AtWrite),
        }
    }

    /// Puts a request into the node's mailbox at once, so that requests of one instant keep their order.
    async fn ask(&self, node: usize, id: u64, request: Request) {
        let client = self.world.state().machines[node].client.clone();
        let client = client.expect("only nodes that are on are asked");
        let world = self.world.clone();
        let mut asking = Box::pin(async move { client.ask(&world, node, id, request).await });
        let sent = std::future::poll_fn(|context| std::task::Poll::Ready(asking.as_mut().poll(context)));
        if sent.await.is_pending() {
            drop(madsim::task::spawn(asking));
        }
    }

    /// Ends every task, so that nothing of the run is left in memory after it.
    async fn end(self) {
        self.world.state().machines.iter().for_each(|machine| machine.disk.power_off());
        self.hosts.iter().for_each(|host| self.madsim.kill(*host));
        self.ether.end(&self.madsim);
        drop(self);
        madsim::time::sleep(Duration::from_millis(1)).await;
    }
}

#[cfg(test)]
#[path = "full_tests.rs"]
mod tests;
