//! Any tables and rumours to a node: no panic, bounded answers, a bounded table in which a member only ever gets later,
//! and the node stays a member of itself.

use std::collections::BTreeMap;
use std::time::Duration;

use arbitrary::{Result, Unstructured};
use reknit::model::{
    Address, Instant, Member, MemberState, Mode, NodeId, Now, Origin, ProtocolRange, Reply, Request,
    RequestId, WallTime,
};
use reknit::node::{Input, Node, Output, Settings};
use reknit::protocol::Message;
use reknit::storage::memory::Memory;

/// Most inputs of one story.
const INPUTS_MAX: usize = 60;
/// Most outputs of one turn: far more than any table of this size explains.
const OUTPUTS_MAX: usize = 1_000;
const IDS: [&str; 5] = ["self", "a", "b", "c", "d"];

pub fn run(bytes: &[u8]) {
    // What is left of the bytes when a story runs out of them is its end.
    let _ = story(&mut Unstructured::new(bytes));
}

/// Life, incarnation and state: what a member's record is merged by.
type Rank = (u64, u32, MemberState);

fn story(input: &mut Unstructured<'_>) -> Result<()> {
    let settings = Settings::new(id("self"), Address::new("self:1").expect("an address"), Vec::new());
    let mut at = Instant(Duration::ZERO);
    let mut node =
        Node::open(Memory::default(), settings, [7; 32], time(at)).expect("a memory disk does not break");
    let mut known: BTreeMap<NodeId, Rank> = BTreeMap::new();
    for number in 0..input.int_in_range(1..=INPUTS_MAX)? {
        at = Instant(at.0 + Duration::from_millis(input.int_in_range(0..=3000)?));
        let what = one(input)?;
        node.handle(time(at), what).expect("a memory disk does not break");
        let request = Input::Request { id: RequestId(number as u64), request: Request::Members };
        node.handle(time(at), request).expect("a memory disk does not break");
        let outputs = node.flush(time(at)).expect("a memory disk does not break").outputs;
        assert!(outputs.len() <= OUTPUTS_MAX, "{} outputs of one turn", outputs.len());
        check(&outputs, &mut known);
    }
    Ok(())
}

fn check(outputs: &[Output], known: &mut BTreeMap<NodeId, Rank>) {
    let members = outputs.iter().find_map(|output| match output {
        Output::Reply { reply: Reply::Members(members), .. } => Some(members),
        _ => None,
    });
    let members = members.expect("exactly one reply to each request");
    assert!(members.len() <= IDS.len(), "more members than there are names");
    assert!(members.iter().any(|view| view.member.id == id("self")), "a node that is no member of itself");
    for view in members {
        let member = &view.member;
        let rank = (member.life, member.incarnation, member.state);
        if let Some(before) = known.insert(member.id.clone(), rank) {
            assert!(before <= rank, "{} went from {before:?} back to {rank:?}", member.id);
        }
    }
    // Who is forgotten may come back as anything.
    known.retain(|id, _| members.iter().any(|view| view.member.id == *id));
}

fn one(input: &mut Unstructured<'_>) -> Result<Input> {
    let from = id(input.choose(&IDS)?);
    let message = match input.int_in_range(0..=7_u8)? {
        0 => return Ok(Input::Tick),
        1 => Message::Table { members: members(input)?, answer: input.arbitrary()? },
        2 | 3 => Message::News { rumours: members(input)?, unreached: ids(input)? },
        4 => Message::Ping {
            nonce: input.int_in_range(0..=9)?,
            seen: input.arbitrary()?,
            table: input.arbitrary()?,
            rumours: members(input)?,
        },
        5 => Message::Pong {
            nonce: input.int_in_range(0..=9)?,
            seen: input.arbitrary()?,
            table: input.arbitrary()?,
            rumours: members(input)?,
        },
        6 => Message::Reach { nonce: input.int_in_range(0..=9)?, target: id(input.choose(&IDS)?) },
        _ => Message::Reached {
            nonce: input.int_in_range(0..=9)?,
            target: id(input.choose(&IDS)?),
            answered: input.arbitrary()?,
        },
    };
    Ok(Input::Message { from, message })
}

fn members(input: &mut Unstructured<'_>) -> Result<Vec<Member>> {
    (0..input.int_in_range(0..=6)?).map(|_| member(input)).collect()
}

fn ids(input: &mut Unstructured<'_>) -> Result<Vec<NodeId>> {
    (0..input.int_in_range(0..=3)?).map(|_| Ok(id(input.choose(&IDS)?))).collect()
}

fn member(input: &mut Unstructured<'_>) -> Result<Member> {
    let states = [MemberState::Alive, MemberState::Suspect, MemberState::Down, MemberState::Left];
    let modes = [Mode::Normal, Mode::ReadOnly, Mode::Syncing, Mode::Draining];
    let number = |input: &mut Unstructured<'_>| {
        Ok(if input.ratio(1, 10)? { input.arbitrary::<u64>()? } else { input.int_in_range(0..=4)? })
    };
    Ok(Member {
        id: id(input.choose(&IDS)?),
        address: Address::new(&format!("{}:1", input.choose(&IDS)?)).expect("an address"),
        life: number(input)?,
        incarnation: number(input)? as u32,
        state: *input.choose(&states)?,
        joined: WallTime(number(input)?),
        mode: *input.choose(&modes)?,
        origin: input.arbitrary::<Option<u8>>()?.map(|origin| Origin(u64::from(origin))),
        policies: number(input)?,
        protocol: ProtocolRange { min: 1, max: input.int_in_range(1..=2)? },
    })
}

fn id(name: &str) -> NodeId {
    NodeId::new(name).expect("a word is a node id")
}

fn time(mono: Instant) -> Now {
    Now { mono, wall: WallTime(1_000_000).after(mono.0) }
}
