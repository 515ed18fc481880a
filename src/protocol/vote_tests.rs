use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::*;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use super::*;
use crate::model::{Address, Member, MemberState, Mode, Now, WallTime};
use crate::protocol::outbox::Action;
use crate::protocol::timing::Timing;
use crate::storage::memory::{Memory, Tables};
use crate::storage::{Batch, Storage};

const VOTE_MAX: Duration = Duration::from_secs(5);
const OWN: Origin = Origin(1);

/// What can happen to the polls of a node that wrote one of up to four values of one stamp.
#[derive(Clone, Debug)]
enum Step {
    /// The row was the first of these values when the second came.
    Meet(u8, u8),
    /// A member answers the poll asked at this place in the order of asking, with one of the values or none.
    Answer { member: u8, poll: usize, first: u8 },
    /// So many milliseconds pass.
    Wait(u16),
    /// A later write replaces the row.
    Overtake,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (0_u8..4, 0_u8..4).prop_map(|(held, came)| Step::Meet(held, came)),
        4 => (0_u8..4, 0_usize..6, 0_u8..5)
            .prop_map(|(member, poll, first)| Step::Answer { member, poll, first }),
        3 => (0_u16..4000).prop_map(Step::Wait),
        1 => Just(Step::Overtake),
    ]
}

/// The value written by origin `1 + number`; the authors' ages follow the number.
fn value(number: u8) -> Version {
    Version {
        stamp: Stamp { millis: 1000, counter: 1 },
        dot: Dot { origin: Origin(1 + u64::from(number)), seq: 1 },
        author_joined: WallTime(10 * u64::from(number % 3)),
        ruling: 0,
        confirms: None,
        tombstone: false,
        expires_at: None,
        content_type: String::new(),
        value: vec![number].into(),
    }
}

fn later() -> Version {
    Version { stamp: Stamp { millis: 2000, counter: 0 }, dot: Dot { origin: OWN, seq: 2 }, ..value(0) }
}

fn key() -> Key {
    Key::from_path("k").unwrap()
}

fn member(name: &str) -> Member {
    Member {
        id: NodeId::new(name).unwrap(),
        address: Address::new(&format!("{name}:1")).unwrap(),
        life: 1,
        incarnation: 0,
        state: MemberState::Alive,
        joined: WallTime(0),
        mode: Mode::Normal,
        origin: None,
        policies: 0,
        protocol: crate::protocol::wire::PROTOCOL,
    }
}

fn members(count: u8) -> Membership {
    let mut dice = ChaCha8Rng::from_seed([1; 32]);
    let now = Now::default();
    let mut members =
        Membership::load(member("me"), Vec::new(), Vec::new(), Timing::default(), now, &mut dice);
    for number in 0..count {
        let peer = member(&format!("p{number}"));
        members.on_table(now, &peer.id.clone(), vec![peer], (false, 0), &mut Outbox::default());
    }
    members
}

struct World {
    now: Instant,
    votes: Votes,
    members: Membership,
    store: Memory,
    seen: DotSet,
    dice: ChaCha8Rng,
    out: Outbox,
    asked: Vec<(u64, [Dot; 2])>,
    verdicts: Vec<Verdict>,
    questions: usize,
}

impl World {
    fn new(peers: u8) -> World {
        World {
            now: Instant::default(),
            votes: Votes::new(CollisionRule::Majority, VOTE_MAX),
            members: members(peers),
            store: Memory::new(Tables::default()),
            seen: DotSet::default(),
            dice: ChaCha8Rng::from_seed([7; 32]),
            out: Outbox::default(),
            asked: Vec::new(),
            verdicts: Vec::new(),
            questions: 0,
        }
    }

    fn set_row(&mut self, version: Version) {
        let mut batch = Batch::default();
        self.seen.insert(version.dot);
        rows::put_row(&mut batch, &key(), &version.into(), &[]);
        self.store.apply(batch).unwrap();
    }

    fn meet(&mut self, held: Version, came: Version) {
        let winner = if order::beats(&came, &held) { came.clone() } else { held.clone() };
        self.set_row(winner);
        let collision = Collision { key: key(), held, came };
        self.votes.on_collision(self.now, Some(OWN), collision, &mut self.dice, &mut self.out);
        self.turn();
    }

    fn turn(&mut self) {
        if self.votes.next_wakeup().is_some_and(|at| at <= self.now) {
            let store = (&self.store, &self.seen);
            self.votes.on_tick(self.now, store, &self.members, &mut self.out).unwrap();
        }
        for action in self.out.take() {
            if let Action::Send(_, Message::Ask { poll, pair, .. }) = action {
                self.questions += 1;
                if !self.asked.contains(&(poll, pair)) {
                    self.asked.push((poll, pair));
                }
            }
        }
        self.verdicts.extend(self.votes.take_verdicts());
    }

    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(at) = self.votes.next_wakeup().filter(|at| *at <= end) {
            self.now = self.now.max(at);
            self.turn();
        }
        self.now = end;
    }
}

proptest! {
    #[test]
    fn every_pair_is_asked_about_once_and_every_poll_ends_in_time(
        peers in 0_u8..4,
        steps in vec(step(), 0..40),
    ) {
        let mut world = World::new(peers);

        for step in steps {
            match step {
                Step::Meet(held, came) if held != came => world.meet(value(held), value(came)),
                Step::Meet(..) => {}
                Step::Answer { member, poll, first } => {
                    let from = NodeId::new(&format!("p{member}")).unwrap();
                    if let Some((poll, _)) = world.asked.get(poll).copied() {
                        let first = (first < 4).then(|| value(first).dot);
                        world.votes.on_answer(&from, poll, first, &mut world.out);
                        world.turn();
                    }
                }
                Step::Wait(millis) => world.pass(Duration::from_millis(millis.into())),
                Step::Overtake => world.set_row(later()),
            }
        }
        world.pass(VOTE_MAX + loser_wait(VOTE_MAX));

        prop_assert_eq!(world.votes.next_wakeup(), None, "no poll outlives its time");
        prop_assert_eq!(world.votes.bytes, 0);
        let mut pairs: Vec<_> = world.asked.iter().map(|(_, [a, b])| (a.min(b), a.max(b))).collect();
        pairs.sort();
        pairs.dedup();
        prop_assert_eq!(pairs.len(), world.asked.len(), "once per pair");
        prop_assert_eq!(world.questions, world.asked.len() * usize::from(peers), "one question per member");
        prop_assert!(world.asked.iter().all(|(_, pair)| pair.iter().any(|dot| dot.origin == OWN)));
        for verdict in &world.verdicts {
            prop_assert!((1..=u16::from(peers) + 1).contains(&verdict.votes));
            prop_assert!(verdict.pair.contains(&verdict.confirmed.dot));
        }
    }

}

#[test]
fn what_is_remembered_and_what_waits_stays_within_its_bounds() {
    let mut votes = Votes::new(CollisionRule::Majority, VOTE_MAX);
    let mut out = Outbox::default();
    let mut dice = ChaCha8Rng::from_seed([7; 32]);

    for number in 0..ARRIVALS_MAX + 10 {
        for other in 1..30 {
            let key = Key::from_path(&format!("k/{number}")).unwrap();
            let collision = Collision { key, held: value(0), came: value(other) };
            votes.on_collision(Instant::default(), Some(OWN), collision, &mut dice, &mut out);
        }
    }

    assert_eq!((votes.arrivals.len(), votes.by_use.len()), (ARRIVALS_MAX, ARRIVALS_MAX));
    assert_eq!(votes.polls.len(), POLLS_MAX);
    assert!(votes.arrivals.values().all(|arrivals| arrivals.dots.len() == ARRIVALS_OF_KEY_MAX));
}

#[test]
fn a_node_without_peers_confirms_what_it_held_first() {
    let mut world = World::new(0);

    world.meet(value(0), value(1));

    let [verdict] = &world.verdicts[..] else { panic!("one verdict: {:?}", world.verdicts) };
    assert_eq!((verdict.confirmed.dot, verdict.votes), (value(0).dot, 1));
}
