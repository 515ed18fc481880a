//! How scripts write things: versions, dots, members, requests; text to values and back.
//!
//! A version is `k=red @1000.1.b2`, `k deleted @1000.1.b2` or `k=red @1000.1.b2 until 2000`: millisecond,
//! counter, then the dot, the second write of b's origin `b`; origins of later runs are `b'`, `b''`. After them may
//! stand `joined 2000`, when the author joined if not at 0, and `ruling 2 of a1` for a ruling. A member is
//! `b/1.0` or `b/1.0-suspect`: life, incarnation, state.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;

use crate::model::{
    Ack, Address, Condition, Dot, Entry, Key, Member, MemberState, Mode, NodeId, Origin, Request, Stamp,
    Token, Version, WallTime,
};
use crate::protocol::{DotSet, siblings};

/// What the wall clock shows at millisecond 0 of a script.
pub(super) const WALL_AT_ZERO: WallTime = WallTime(999_000);

/// Short names for origins. Those that no script has named are the node's own, by first appearance.
#[derive(Default)]
pub(super) struct Names(BTreeMap<Origin, String>);

impl Names {
    fn show_origin(&mut self, origin: Origin) -> String {
        let own = self.0.values().filter(|name| name.starts_with('a')).count();
        self.0.entry(origin).or_insert_with(|| format!("a{}", "'".repeat(own))).clone()
    }

    fn origin(&mut self, name: &str) -> Origin {
        if let Some((origin, _)) = self.0.iter().find(|(_, known)| *known == name) {
            return *origin;
        }
        assert!(!name.starts_with('a'), "the node has not written as {name} yet");
        let origin = Origin(name.bytes().fold(0, |sum, byte| sum << 8 | u64::from(byte)));
        self.0.insert(origin, name.into());
        origin
    }

    /// `b2`, `b'2` or `b2..5`.
    fn run(&mut self, text: &str) -> (Origin, u64, u64) {
        let at = text.find(|char: char| char.is_ascii_digit()).expect("a dot ends in its number");
        let (name, numbers) = text.split_at(at);
        let (first, last) = numbers.split_once("..").unwrap_or((numbers, numbers));
        (self.origin(name), number(first), number(last))
    }

    /// `b2`.
    pub(super) fn dot(&mut self, text: &str) -> Dot {
        let (origin, seq, _) = self.run(text);
        Dot { origin, seq }
    }

    pub(super) fn show_dot(&mut self, dot: Dot) -> String {
        format!("{}{}", self.show_origin(dot.origin), dot.seq)
    }

    pub(super) fn dots(&mut self, texts: &[&str]) -> DotSet {
        let mut set = DotSet::default();
        for text in texts {
            let (origin, first, last) = self.run(text);
            set.insert_run(origin, first, last);
        }
        set
    }

    pub(super) fn show_dots(&mut self, set: &DotSet) -> String {
        let mut shown: Vec<String> = set
            .iter()
            .map(|(origin, first, last)| {
                let last = if first == last { String::new() } else { format!("..{last}") };
                format!("{}{first}{last}", self.show_origin(origin))
            })
            .collect();
        shown.sort();
        shown.join(" ")
    }

    /// Versions between commas: `k=red @1000.1.b2` or `k deleted @1000.1.b2`, and perhaps `until 2000`.
    pub(super) fn entries(&mut self, words: &[&str]) -> Vec<Entry> {
        let text = words.join(" ");
        text.split(", ").map(|version| self.entry(version)).collect()
    }

    fn entry(&mut self, text: &str) -> Entry {
        let (what, when) = text.split_once(" @").expect("a version has a stamp");
        let options = words(when);
        let when = options[0];
        let option = |name: &str| {
            let at = options.iter().position(|word| *word == name)?;
            Some(*options.get(at + 1).expect("an option has a value"))
        };
        let millis_of = |name: &str| option(name).map(|at| WallTime(WALL_AT_ZERO.0 + number::<u64>(at)));
        let (millis, rest) = when.split_once('.').expect("a stamp has a counter");
        let (counter, dot) = rest.split_once('.').expect("a stamp is followed by its dot");
        let (origin, seq, _) = self.run(dot);
        let value = what.split_once('=').map(|(_, value)| value);
        let key = value
            .map_or_else(|| what.trim_end_matches(" deleted"), |_| what.split('=').next().unwrap_or(what));
        let bytes = value.unwrap_or_default().as_bytes().to_vec().into();
        let replaced = option("replacing").map(|dots| self.dots(&dots.split('+').collect::<Vec<_>>()));
        let version = Version {
            stamp: Stamp { millis: WALL_AT_ZERO.0 + number::<u64>(millis), counter: number(counter) },
            dot: Dot { origin, seq },
            author_joined: millis_of("joined").unwrap_or(WALL_AT_ZERO),
            ruling: option("ruling").map_or(0, number),
            confirms: option("of").map(|dot| self.dot(dot)),
            tombstone: value.is_none(),
            expires_at: millis_of("until"),
            content_type: "text/plain".into(),
            value: replaced
                .map_or_else(|| Bytes::clone(&bytes), |replaced| siblings::value(&replaced, &bytes)),
        };
        Entry { key: self::key(key), version }
    }

    /// Live siblings and what their reader now knows.
    pub(super) fn show_siblings(&mut self, live: &[Version], token: &Token) -> String {
        let shown = live.iter().map(|version| {
            let value = String::from_utf8_lossy(&version.value);
            format!("{value} {}", self.show_stamp(version.stamp, version.dot))
        });
        let mut shown: Vec<String> = shown.collect();
        if shown.is_empty() {
            shown.push("absent".into());
        }
        format!("{}, knowing {}", shown.join(", "), self.show_dots(&token.context)).trim_end().to_owned()
    }

    pub(super) fn show_entries(&mut self, entries: &[Entry]) -> String {
        let shown: Vec<String> = entries.iter().map(|entry| self.show_entry(entry)).collect();
        shown.join(", ")
    }

    fn show_entry(&mut self, Entry { key, version }: &Entry) -> String {
        let stamp = self.show_stamp(version.stamp, version.dot);
        let until = version.expires_at.map(|at| format!(" until {}", at.0 - WALL_AT_ZERO.0));
        let mut until = until.unwrap_or_default();
        if let Some(confirmed) = version.confirms {
            until.push_str(&format!(" ruling {} of {}", version.ruling, self.show_dot(confirmed)));
        }
        // A script's values are plain, so what begins like a sibling is one.
        let replaced = siblings::replaces(version);
        if !replaced.is_empty() {
            until.push_str(&format!(" replacing {}", self.show_dots(&replaced)));
        }
        if version.tombstone {
            return format!("{key} deleted {stamp}{until}");
        }
        format!("{key}={} {stamp}{until}", String::from_utf8_lossy(&siblings::bare(version).value))
    }

    pub(super) fn show_stamp(&mut self, stamp: Stamp, dot: Dot) -> String {
        let origin = self.show_origin(dot.origin);
        format!("@{}.{}.{origin}{}", stamp.millis - WALL_AT_ZERO.0, stamp.counter, dot.seq)
    }
}

/// `put k red ack=2 ttl=10s`, `delete k`, `get k`, `status`, `leave`.
pub(super) fn request(line: &str, names: &mut Names) -> Request {
    let (options, words): (Vec<&str>, Vec<&str>) =
        words(line).into_iter().partition(|word| word.contains('='));
    let option = |name: &str| options.iter().find_map(|option| option.strip_prefix(name)?.strip_prefix('='));
    let condition = match (option("saw"), option("if")) {
        (Some(dots), _) => {
            let context = names.dots(&dots.split('+').collect::<Vec<_>>());
            Condition::Saw(Token { context, stamp: Stamp::default() })
        }
        (None, Some("exists")) => Condition::Exists,
        (None, Some("absent")) => Condition::Absent,
        (None, _) => Condition::None,
    };
    let timeout = option("timeout").map_or(Duration::from_secs(1), duration);
    let ack = match option("ack") {
        None => Ack::Local,
        Some("majority") => Ack::Majority,
        Some(nodes) => Ack::Nodes(number(nodes)),
    };
    match words[..] {
        ["put", at, value] => {
            let (value, content_type) = (value.as_bytes().to_vec().into(), "text/plain".into());
            Request::Put {
                key: key(at),
                value,
                content_type,
                ttl: option("ttl").map(duration),
                condition,
                ack,
                timeout,
            }
        }
        ["delete", at] => Request::Delete { key: key(at), condition, ack, timeout },
        ["get", at] => Request::Get { key: key(at) },
        ["status"] => Request::Status,
        ["leave"] => Request::Leave { force: false },
        ["leave", "force"] => Request::Leave { force: true },
        _ => panic!("no line of a script: {line}"),
    }
}

/// Members such as `b/1.0` or `b/1.0-suspect`, the sender's own record first.
pub(super) fn records(sender: &str, texts: &[&str]) -> Vec<Member> {
    let (own, others): (Vec<Member>, Vec<Member>) =
        texts.iter().map(|text| record(text)).partition(|member| member.id.as_str() == sender);
    let own = own.into_iter().next().unwrap_or_else(|| record(&format!("{sender}/1.0")));
    [own].into_iter().chain(others).collect()
}

const STATES: [(&str, MemberState); 5] = [
    ("alive", MemberState::Alive),
    ("suspect", MemberState::Suspect),
    ("down", MemberState::Down),
    ("left", MemberState::Left),
    ("forgotten", MemberState::Forgotten),
];

fn record(text: &str) -> Member {
    let (text, state) = text.split_once('-').unwrap_or((text, "alive"));
    let (name, rest) = text.split_once('/').expect("a member has a life");
    let (life, incarnation) = rest.split_once('.').expect("a member has an incarnation");
    let state = STATES.iter().find(|(word, _)| *word == state).expect("a member's state").1;
    Member {
        id: id(name),
        address: address(name),
        life: number(life),
        incarnation: number(incarnation),
        state,
        joined: WALL_AT_ZERO,
        mode: Mode::Normal,
        origin: None,
        policies: 0,
        protocol: crate::protocol::wire::PROTOCOL,
    }
}

pub(super) fn show_members(members: &[Member]) -> String {
    let show = |member: &Member| {
        let (word, _) = STATES.iter().find(|(_, state)| *state == member.state).expect("all are listed");
        let state = if member.state == MemberState::Alive { String::new() } else { format!("-{word}") };
        format!("{}/{}.{}{state}", member.id, member.life, member.incarnation)
    };
    members.iter().map(show).collect::<Vec<_>>().join(" ")
}

pub(super) fn key(path: &str) -> Key {
    Key::from_path(path).expect("a script's key")
}

pub(super) fn id(name: &str) -> NodeId {
    NodeId::new(name).expect("a letter is a node id")
}

pub(super) fn address(name: &str) -> Address {
    Address::new(&format!("{name}:7000")).expect("a letter is a host")
}

pub(super) fn words(line: &str) -> Vec<&str> {
    line.split_whitespace().collect()
}

pub(super) fn number<T: std::str::FromStr>(text: &str) -> T {
    text.parse().unwrap_or_else(|_| panic!("no number: {text}"))
}

/// `500ms` or `10s`.
pub(super) fn duration(text: &str) -> Duration {
    match text.strip_suffix("ms") {
        Some(millis) => Duration::from_millis(number(millis)),
        None => Duration::from_secs(number(text.trim_end_matches('s'))),
    }
}
