//! Arbitrary values for property tests: mostly small ones that meet each other, now and then an extreme one.

use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

use crate::model::{
    Address, Dot, DotSet, Entry, Key, Member, MemberState, Mode, NodeId, Origin, Stamp, Version, WallTime,
};
use crate::protocol::Message;
use crate::protocol::flight::Flight;
use crate::protocol::message::Scope;
use crate::protocol::outline::{Outline, Part, Which};
use crate::protocol::rebase::{Fate, Held};

/// A few origins, so that dots collide.
pub fn origin() -> impl Strategy<Value = Origin> {
    (1_u64..=3).prop_map(Origin)
}

/// A dot with a small number.
pub fn dot() -> impl Strategy<Value = Dot> {
    (origin(), 1_u64..=12).prop_map(|(origin, seq)| Dot { origin, seq })
}

/// A set of small dots.
pub fn dot_set() -> impl Strategy<Value = DotSet> {
    vec(dot(), 0..24).prop_map(|dots| dots.into_iter().collect())
}

/// Any set that the wire lets in, with runs that reach far.
pub fn wild_dot_set() -> impl Strategy<Value = DotSet> {
    let number = prop_oneof![4 => 1_u64..20, 1 => Just(Dot::SEQ_MAX - 2), 1 => Just(Dot::SEQ_MAX)];
    let runs = vec((number.clone(), number), 1..4);
    btree_map(origin(), runs, 0..4).prop_map(|origins| {
        let mut set = DotSet::default();
        for (origin, runs) in origins {
            for (first, last) in runs {
                set.insert_run(origin, first.min(last), first.max(last));
            }
        }
        set
    })
}

/// One of a few keys.
pub fn key() -> impl Strategy<Value = Key> {
    select(vec!["k", "l", "home/room/socks"]).prop_map(|key| Key::from_path(key).expect("a test's key"))
}

fn stamp() -> impl Strategy<Value = Stamp> {
    (1_000_000_u64..1_000_003, 0_u16..2).prop_map(|(millis, counter)| Stamp { millis, counter })
}

/// A version as a node may have written it, with fields that often tie.
pub fn version() -> impl Strategy<Value = Version> {
    let stamp = stamp();
    let names = (dot(), option::weighted(0.2, dot()), 0_u16..2);
    let value = prop_oneof![Just(None), "[a-b]{0,2}".prop_map(Some)];
    let times = (0_u64..2, option::weighted(0.2, 0_u64..2));
    (stamp, names, value, times).prop_map(|(stamp, (dot, confirms, ruling), value, (joined, expires_at))| {
        Version {
            stamp,
            dot,
            author_joined: WallTime(joined),
            ruling,
            confirms,
            tombstone: value.is_none(),
            expires_at: expires_at.map(WallTime),
            content_type: if value.is_some() { "text/plain".into() } else { String::new() },
            value: value.unwrap_or_default().into_bytes().into(),
        }
    })
}

/// A version that no node may have written: at the edges of what its fields can hold.
pub fn wild_version() -> impl Strategy<Value = Version> {
    let edges = vec![0, 1, 1_000_000, Stamp::MILLIS_MAX, Stamp::MILLIS_MAX + 1, u64::MAX];
    let millis = select(edges.clone());
    let counter = select(vec![0, 1, u16::MAX]);
    let seq = select(vec![0, 1, 2, 9, Dot::SEQ_MAX, u64::MAX]);
    let rest = (select(edges.clone()), option::of(select(edges)), any::<bool>(), any::<u16>());
    (version(), millis, counter, seq, rest).prop_map(
        |(version, millis, counter, seq, (joined, expires_at, tombstone, ruling))| Version {
            stamp: Stamp { millis, counter },
            dot: Dot { seq, ..version.dot },
            author_joined: WallTime(joined),
            expires_at: expires_at.map(WallTime),
            tombstone,
            ruling,
            ..version
        },
    )
}

/// A version under a key.
pub fn entry() -> impl Strategy<Value = Entry> {
    let version = prop_oneof![5 => version().boxed(), 1 => wild_version().boxed()];
    (key(), version).prop_map(|(key, version)| Entry { key, version })
}

/// One of the nodes a, b, c and d.
pub fn node_id() -> impl Strategy<Value = NodeId> {
    select(vec!["a", "b", "c", "d"]).prop_map(|name| NodeId::new(name).expect("a letter is a node id"))
}

/// A record of a member, with lives and incarnations that may be at their end.
pub fn member() -> impl Strategy<Value = Member> {
    let state = select(vec![
        MemberState::Alive,
        MemberState::Suspect,
        MemberState::Down,
        MemberState::Left,
        MemberState::Forgotten,
    ]);
    let mode = select(vec![Mode::Normal, Mode::ReadOnly, Mode::Draining, Mode::Syncing]);
    let life = select(vec![0, 1, 1, 2, 3, u64::MAX / 2, u64::MAX]);
    let incarnation = select(vec![0, 0, 1, 2, u32::MAX - 1, u32::MAX]);
    let joined = select(vec![0, 1_000_000, u64::MAX]);
    let rest = (joined, mode, option::of(origin()), any::<bool>());
    (node_id(), state, life, incarnation, rest).prop_map(
        |(id, state, life, incarnation, (joined, mode, origin, moved))| Member {
            address: Address::new(&format!("{id}:{}", if moved { 7001 } else { 7000 })).expect("an address"),
            id,
            life,
            incarnation,
            state,
            joined: WallTime(joined),
            mode,
            origin,
            policies: 0,
            protocol: crate::protocol::wire::PROTOCOL,
        },
    )
}

/// Any message.
pub fn message() -> impl Strategy<Value = Message> {
    let members = || vec(member(), 0..5);
    let entries = || vec(entry(), 0..4);
    let seen = || prop_oneof![Just(0), any::<u64>()];
    let step = || (0_u64..3, 0_u32..3);
    let dots = || prop_oneof![4 => dot_set().boxed(), 1 => wild_dot_set().boxed()];
    prop_oneof![
        (members(), any::<bool>()).prop_map(|(members, answer)| Message::Table { members, answer }),
        (0_u64..3, seen(), members()).prop_map(|(nonce, seen, rumours)| Message::Ping {
            nonce,
            seen,
            table: seen ^ nonce,
            rumours
        }),
        (0_u64..3, seen(), members()).prop_map(|(nonce, seen, rumours)| Message::Pong {
            nonce,
            seen,
            table: seen ^ nonce,
            rumours
        }),
        entries().prop_map(|entries| Message::Push { entries }),
        dots().prop_map(|dots| Message::Durable { dots }),
        (0_u64..3, dots(), select(vec![0, 1, 300, u32::MAX]), 0_u64..3).prop_map(
            |(session, seen, credit, since)| Message::Pull {
                session,
                seen: Outline::Whole(seen),
                credit,
                since
            }
        ),
        (step(), 0_u16..3, entries()).prop_map(|((session, step), part, entries)| Message::Step {
            session,
            step,
            part,
            entries
        }),
        (step(), 0_u16..3, option::of(dots()), any::<bool>()).prop_map(
            |((session, step), parts, cover, recent_in)| Message::StepEnd {
                session,
                step,
                parts,
                cover,
                recent_in
            }
        ),
        step().prop_map(|(session, step)| Message::StepDone { session, step }),
        "[a-z ]{0,20}".prop_map(|reason| Message::Refuse { reason }),
        (0_u64..3, key(), [dot(), dot()]).prop_map(|(poll, key, pair)| Message::Ask { poll, key, pair }),
        (0_u64..3, option::of(dot())).prop_map(|(poll, first)| Message::Answer { poll, first }),
        (members(), vec(node_id(), 0..3))
            .prop_map(|(rumours, unreached)| Message::News { rumours, unreached }),
        (0_u64..3, node_id()).prop_map(|(nonce, target)| Message::Reach { nonce, target }),
        (0_u64..3, node_id(), any::<bool>()).prop_map(|(nonce, target, answered)| Message::Reached {
            nonce,
            target,
            answered
        }),
        meet(),
        (0_u64..3, which(), vec(any::<u64>(), 0..3), any::<u8>())
            .prop_map(|(fence, which, digests, first)| Message::AskDots { fence, which, digests, first }),
        (any::<u32>(), any::<u64>(), option::of(("[a-z]{0,4}", any::<bool>()))).prop_map(
            |(session, print, scope)| {
                let scope = scope.map(|(prefix, dry_run)| Box::new(Scope { prefix: prefix.into(), dry_run }));
                Message::SyncOpen { session, print, scope }
            }
        ),
        any::<u32>().prop_map(|session| Message::SyncSame { session }),
        (
            any::<u32>(),
            0_u32..4,
            any::<u32>(),
            any::<u16>(),
            any::<bool>(),
            vec(any::<u8>(), 0..20),
            entries()
        )
            .prop_map(|(session, step, credit, room, more, parts, entries)| {
                let parts = parts.into();
                Message::SyncFlight(Box::new(Flight { session, step, credit, room, more, parts, entries }))
            }),
        (0_u64..3, key()).prop_map(|(poll, key)| Message::ReadAsk { poll, key }),
        (0_u64..3, entries()).prop_map(|(poll, entries)| Message::ReadTell { poll, entries }),
        entries().prop_map(|entries| Message::Repair { entries }),
        (0_u64..3, 0_u64..3, option::of(any::<u16>()))
            .prop_map(|(fence, nonce, after)| Message::AskHorizons { fence, nonce, after }),
        (0_u64..3, vec((any::<u16>(), stamp()), 0..3), any::<bool>())
            .prop_map(|(nonce, chunks, is_last)| Message::Horizons { nonce, chunks, is_last }),
        (0_u64..3, 0_u64..3, vec(held(), 0..3)).prop_map(|(fence, nonce, held)| Message::AskHeld {
            fence,
            nonce,
            held
        }),
        (0_u64..3, vec(select(vec![Fate::Stays, Fate::Goes, Fate::Aside]), 0..3))
            .prop_map(|(nonce, fates)| Message::Judged { nonce, fates }),
        (0_u64..3, which(), part()).prop_map(|(fence, which, part)| Message::Dots { fence, which, part }),
    ]
}

fn held() -> impl Strategy<Value = Held> {
    (dot(), key(), stamp(), any::<bool>()).prop_map(|(dot, key, stamp, tombstone)| Held {
        dot,
        key,
        stamp,
        tombstone,
    })
}

fn outline() -> impl Strategy<Value = Outline> {
    prop_oneof![
        4 => dot_set().prop_map(Outline::Whole),
        1 => (dot_set(), any::<u64>()).prop_map(|(open, closed)| Outline::Parted { open, closed }),
    ]
}

fn which() -> impl Strategy<Value = Which> {
    select(vec![Which::Seen, Which::Collected])
}

fn part() -> impl Strategy<Value = Part> {
    let range = select(vec![0, 0, 1, 255]);
    (range.clone(), range, vec(any::<u8>(), 0..3), dot_set())
        .prop_map(|(first, last, differing, dots)| Part { first, last, differing, dots })
}

/// The opening of a meeting. Most are of a first life, so that the meeting stands for a while.
fn meet() -> impl Strategy<Value = Message> {
    let life = (select(vec![1, 1, 1, 2, u64::MAX]), 0_u64..2, 0_u32..2, 0_u64..2);
    let collected = prop_oneof![3 => Just(Outline::Whole(DotSet::default())).boxed(), 1 => outline().boxed()];
    (life, 0_u64..2, outline(), collected, any::<bool>()).prop_map(
        |((life, run, draws, fence), policies, seen, collected, answer)| Message::Meet {
            life,
            run,
            draws,
            fence,
            roster: 0,
            policies,
            seen,
            collected,
            answer,
        },
    )
}
