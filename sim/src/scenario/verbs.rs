//! The verbs of the timeline and of the checks: one table that reads them, explains them and documents them.

use std::time::Duration;

use reknit::model::Ack;

use super::figures::{bandwidth, draw, duration, share, show_duration, signed_millis};
use super::line::{Complaint, Keys, Line, numbered};
use super::points::POINTS;
use super::{Boundary, Expectation, Found, Place, Point, Setting, Step, WriteOptions};

/// One verb of the timeline.
pub struct Verb {
    /// The word itself.
    pub word: &'static str,
    /// How it is written.
    pub forms: &'static [&'static str],
    /// What it does.
    pub meaning: &'static str,
    /// Steps that parse in a cluster of a, b, c and a later d.
    pub examples: &'static [&'static str],
    /// Reads what stands behind the word. Range puts and deletes are several steps.
    read: fn(Duration, &mut Line<'_>) -> Result<Vec<Step>, Complaint>,
}

/// Every verb of the timeline, in the order of the manual.
pub const VERBS: &[Verb] = &[
    Verb {
        word: "put",
        forms: &["put N KEY VALUE [OPTIONS]", "put N PREFIX1..9 [OPTIONS]"],
        meaning: "a client writes at node N; a range writes each key with a value of its own, `KEY@TIME@N`",
        examples: &["put b color red", "put a k/1..100", r#"put a motto "two words" ack=2 ttl=10s"#],
        read: |at, line| read_put(at, line),
    },
    Verb {
        word: "delete",
        forms: &["delete N KEY [OPTIONS]", "delete N PREFIX1..9 [OPTIONS]"],
        meaning: "a client deletes at node N",
        examples: &["delete b k/7", "delete a k/1..10 ack=majority"],
        read: |_, line| read_delete(line),
    },
    Verb {
        word: "get",
        forms: &["get N KEY [read=2 | read=majority]"],
        meaning: "a client reads at node N, and only the standing checks judge what it sees; with `read=` so many \
                  nodes are asked, and those that are behind are mended",
        examples: &["get c k/7", "get a color read=majority"],
        read: |_, line| {
            let (node, key) = (line.node()?, line.key()?);
            Ok(vec![Step::Get { node, key, asked: read_asked(line)? }])
        },
    },
    Verb {
        word: "expect",
        forms: &["expect get PLACE KEY is WHAT", "expect count PLACE PREFIX is NUMBER"],
        meaning: "checked at that very moment, in the words of the `check` section",
        examples: &["expect get a k/7 is absent", "expect count a k/ is 99"],
        read: |_, line| read_expect(line),
    },
    Verb {
        word: "crash",
        forms: &[
            "crash N [before-persist | after-persist | mid-send | io-error | disk-full]",
            "crash N on POINT",
        ],
        meaning: "power loss: between two turns, or within N's next turn that writes (or sends) at the named place; \
                  `on POINT` right after N has next said such a thing; if no such turn comes, right before N's next \
                  step of power or disk. With `io-error` a sync fails and does nothing, with `disk-full` a write, \
                  and the process ends of it",
        examples: &["crash c", "crash c before-persist", "crash c on step", "crash c io-error"],
        read: |_, line| Ok(vec![Step::Crash { node: line.node()?, boundary: read_boundary(line)? }]),
    },
    Verb {
        word: "restart",
        forms: &["restart N"],
        meaning: "power on",
        examples: &["restart c"],
        read: |_, line| one_node(line, Step::Restart),
    },
    Verb {
        word: "pause",
        forms: &["pause N"],
        meaning: "N stops with its memory kept",
        examples: &["pause c"],
        read: |_, line| one_node(line, Step::Pause),
    },
    Verb {
        word: "resume",
        forms: &["resume N"],
        meaning: "N goes on where it was paused",
        examples: &["resume c"],
        read: |_, line| one_node(line, Step::Resume),
    },
    Verb {
        word: "wipe",
        forms: &["wipe N"],
        meaning: "the disk of N, which is powered off, is empty",
        examples: &["wipe c"],
        read: |_, line| one_node(line, Step::Wipe),
    },
    Verb {
        word: "backup",
        forms: &["backup N"],
        meaning: "what is durable on N's disk is copied aside",
        examples: &["backup c"],
        read: |_, line| one_node(line, Step::Backup),
    },
    Verb {
        word: "restore",
        forms: &["restore N"],
        meaning: "the disk of N, which is powered off, is the last backup again; without one, the disk of an \
                  instant drawn from the seed",
        examples: &["restore c"],
        read: |_, line| one_node(line, Step::Restore),
    },
    Verb {
        word: "clone",
        forms: &["clone A N"],
        meaning: "A's disk is copied to N, which is powered off and keeps its own id and address",
        examples: &["clone a c"],
        read: |_, line| Ok(vec![Step::Clone { from: line.node()?, to: line.node()? }]),
    },
    Verb {
        word: "join",
        forms: &["join N"],
        meaning: "starts a node of `cluster.later`, or one that left",
        examples: &["join d"],
        read: |_, line| one_node(line, Step::Join),
    },
    Verb {
        word: "leave",
        forms: &["leave N"],
        meaning: "N says goodbye and its process ends",
        examples: &["leave c"],
        read: |_, line| one_node(line, Step::Leave),
    },
    Verb {
        word: "remove",
        forms: &["remove N"],
        meaning: "any live node is asked to forget N",
        examples: &["remove c"],
        read: |_, line| one_node(line, Step::Remove),
    },
    Verb {
        word: "partition",
        forms: &["partition A B | C D [| …]"],
        meaning: "only nodes on the same side reach each other. Replaces the partition before, lists every node that \
                  is up; one that is left out reaches everyone",
        examples: &["partition a b | c", "partition a | b | c"],
        read: |_, line| read_partition(line),
    },
    Verb {
        word: "isolate",
        forms: &["isolate N", "isolate N on POINT"],
        meaning: "cuts N from everyone, both ways, on top of what is cut already; `on POINT` at the moment in which \
                  N next says such a thing, which is then lost",
        examples: &["isolate a", "isolate a on durable"],
        read: |_, line| {
            let node = line.node()?;
            let point = read_point(line)?;
            Ok(vec![
                point.map_or_else(|| Step::Isolate(node.clone()), |at| Step::IsolateOn(node.clone(), at)),
            ])
        },
    },
    Verb {
        word: "cut",
        forms: &["cut A -> B"],
        meaning: "what A sends to B is lost; cuts add up",
        examples: &["cut a -> b"],
        read: |_, line| {
            let from = line.node()?;
            line.take_word("->")?;
            Ok(vec![Step::Cut { from, to: line.node()? }])
        },
    },
    Verb {
        word: "heal",
        forms: &["heal"],
        meaning: "undoes partitions, isolations and cuts",
        examples: &["heal"],
        read: |_, _| Ok(vec![Step::Heal]),
    },
    Verb {
        word: "clog",
        forms: &["clog N"],
        meaning: "what N sends or is sent from now on is held up; all of it arrives, in any order, at the `unclog`",
        examples: &["clog b"],
        read: |_, line| one_node(line, Step::Clog),
    },
    Verb {
        word: "unclog",
        forms: &["unclog N"],
        meaning: "lets N's messages through; what was held up arrives within ten milliseconds",
        examples: &["unclog b"],
        read: |_, line| one_node(line, Step::Unclog),
    },
    Verb {
        word: "slow",
        forms: &["slow N x20"],
        meaning: "every turn of N takes so many milliseconds, and every persist so many times as long; `x1` ends it",
        examples: &["slow b x20", "slow b x1"],
        read: |_, line| {
            let node = line.node()?;
            Ok(vec![Step::Slow(node, line.figure("a factor such as x20", factor)?)])
        },
    },
    Verb {
        word: "rot",
        forms: &["rot N [KEY]"],
        meaning: "a bit of that record on N's disk flips, without a key of one that is drawn (fast world only: redb \
                  does not open a file with a damaged page)",
        examples: &["rot b color", "rot b"],
        read: |_, line| {
            let node = line.node()?;
            let key = line.peek().is_some().then(|| line.key()).transpose()?;
            Ok(vec![Step::Rot(node, key)])
        },
    },
    Verb {
        word: "configure",
        forms: &["configure N TIMER TIME"],
        meaning: "one of N's timers has another length from its next start on",
        examples: &["configure b sync_interval 10s"],
        read: |_, line| {
            let node = line.node()?;
            let word = line.take("the name of a timer")?;
            let name = Setting::NAMES.into_iter().find(|name| word.is(name));
            let name = name.ok_or_else(|| word.unknown("timer", Setting::NAMES))?;
            let value = line.figure("a time such as 10s", duration)?;
            Ok(vec![Step::Configure(node, Setting { name, value })])
        },
    },
    Verb {
        word: "skew",
        forms: &["skew N +5s"],
        meaning: "sets how far N's wall clock is ahead of true time; timers do not notice",
        examples: &["skew b +5s", "skew b -1500ms"],
        read: |_, line| {
            Ok(vec![Step::Skew(line.node()?, line.figure("an offset such as +5s", signed_millis)?)])
        },
    },
    Verb {
        word: "jump",
        forms: &["jump N -10s"],
        meaning: "moves N's wall clock by that much",
        examples: &["jump b -10s"],
        read: |_, line| {
            Ok(vec![Step::Jump(line.node()?, line.figure("an offset such as -10s", signed_millis)?)])
        },
    },
    Verb {
        word: "freeze",
        forms: &["freeze N"],
        meaning: "N's wall clock stands still",
        examples: &["freeze b"],
        read: |_, line| one_node(line, Step::Freeze),
    },
    Verb {
        word: "thaw",
        forms: &["thaw N"],
        meaning: "N's wall clock runs again, from where it would be had it never stood",
        examples: &["thaw b"],
        read: |_, line| one_node(line, Step::Thaw),
    },
    Verb {
        word: "set",
        forms: &["set loss 20%", "set duplicate 5%", "set delay 5ms..1s", "set bandwidth 64000"],
        meaning: "a figure of the network from then on; bandwidth in bytes per second of each link, or `unlimited`",
        examples: &["set loss 20%", "set duplicate 0.5%", "set delay 5ms..1s", "set bandwidth unlimited"],
        read: |_, line| read_set(line),
    },
    Verb {
        word: "stop",
        forms: &["stop workload"],
        meaning: "the background load ends; without this step it ends with the timeline",
        examples: &["stop workload"],
        read: |_, line| {
            line.take_word("workload")?;
            Ok(vec![Step::StopWorkload])
        },
    },
];

/// One kind of check.
pub struct Check {
    /// The word that it begins with.
    pub word: &'static str,
    /// How it is written.
    pub form: &'static str,
    /// What must hold.
    pub meaning: &'static str,
    /// A check that parses in a cluster of a, b, c.
    pub example: &'static str,
}

/// Every kind of check, in the order of the manual.
pub const CHECKS: &[Check] = &[
    Check {
        word: "replicas",
        form: "replicas agree within TIME",
        meaning: "all nodes hold the same at most that long after the timeline's end, faults off",
        example: "replicas agree within 30s",
    },
    Check {
        word: "get",
        form: "get PLACE KEY is WHAT",
        meaning: "a read at PLACE (a node, or `everywhere`: each node that runs) shows WHAT: a value, `found`, \
                  `absent` or `siblings 2`",
        example: "get everywhere k/7 is absent",
    },
    Check {
        word: "count",
        form: "count PLACE PREFIX is NUMBER",
        meaning: "so many live keys begin with PREFIX",
        example: "count everywhere k/ is 149",
    },
];

/// The options behind a put or a delete: how they are written and what they mean.
pub const OPTIONS: &[(&str, &str)] = &[
    ("ack=2", "acknowledged once it is durable on so many nodes; also `ack=majority`, `ack=local`"),
    ("ttl=10s", "reads stop showing it after that time (put only)"),
    ("offset=4", "the value's bytes go there, into a key of policy history (put of a single key only)"),
    ("saw=last", "with the token of whoever read the key last, under policy siblings"),
    ("expect 503", "the answer's HTTP status must be this one"),
];

/// Greatest offset of a patch: stories are about how patches meet, not about large values.
pub const OFFSET_MAX: u64 = 4096;

/// Reads one step without its time; `at` is that time.
///
/// # Errors
/// Where it stops being a step, and what was expected.
pub fn read_step(at: Duration, line: &mut Line<'_>) -> Result<Vec<Step>, Complaint> {
    let word = line.take("a verb")?;
    let verb = VERBS.iter().find(|verb| word.is(verb.word));
    let verb = verb.ok_or_else(|| word.unknown("verb", VERBS.iter().map(|verb| verb.word)))?;
    let steps = (verb.read)(at, line).map_err(|complaint| with_form(complaint, verb, line))?;
    line.end()?;
    Ok(steps)
}

/// Reads one line of the `check` section.
///
/// # Errors
/// Where it stops being a check, and what was expected.
pub fn read_check(line: &mut Line<'_>) -> Result<Expectation, Complaint> {
    let word = line.take("a check")?;
    let expectation = match word.text.as_str() {
        "replicas" => {
            line.take_word("agree")?;
            line.take_word("within")?;
            Expectation::Agree { within: line.figure("a time such as 30s", duration)? }
        }
        "get" => read_get(line)?,
        "count" => read_count(line)?,
        _ => return Err(word.unknown("check", CHECKS.iter().map(|check| check.word))),
    };
    line.end()?;
    Ok(expectation)
}

// Where the line just stops, the whole form says more than the one thing missing next.
fn with_form(complaint: Complaint, verb: &Verb, line: &Line<'_>) -> Complaint {
    let stopped = line.peek().is_none() && complaint.message.starts_with("the line ends");
    let forms = verb.forms.join("' or '");
    let message =
        if stopped { format!("{}; it is written '{forms}'", complaint.message) } else { complaint.message };
    Complaint { message, ..complaint }
}

fn one_node(line: &mut Line<'_>, step: fn(String) -> Step) -> Result<Vec<Step>, Complaint> {
    Ok(vec![step(line.node()?)])
}

fn read_put(at: Duration, line: &mut Line<'_>) -> Result<Vec<Step>, Complaint> {
    let node = line.node()?;
    let word = line.peek().cloned();
    match line.keys()? {
        Keys::One(key) => {
            let value = line.take("a value (put of a single key needs one)")?;
            if !value.quoted && is_option(&value.text) {
                let text = &value.text;
                return Err(value.complain(format!(
                    "found the option '{text}' where a value was expected; quote it if it is the value"
                )));
            }
            let options = read_options(line, true)?;
            Ok(vec![Step::Put { node, key, value: value.text.clone(), options }])
        }
        Keys::Range(prefix, numbers) => {
            if let Some(value) = line.peek().filter(|value| value.quoted || !is_option(&value.text)) {
                let message = "found a value behind a range, whose keys get values of their own";
                return Err(value.complain(message));
            }
            let options = read_options(line, true)?;
            let word = word.expect("a range was read from a word");
            let put = |number| {
                let key = numbered(&word, &prefix, number)?;
                let value = format!("{prefix}{number}@{}@{node}", show_duration(at));
                Ok(Step::Put { node: node.clone(), key, value, options: options.clone() })
            };
            numbers.map(put).collect()
        }
    }
}

fn read_delete(line: &mut Line<'_>) -> Result<Vec<Step>, Complaint> {
    let node = line.node()?;
    let word = line.peek().cloned();
    let keys = line.keys()?;
    let options = read_options(line, false)?;
    let delete = |key| Step::Delete { node: node.clone(), key, options: options.clone() };
    match keys {
        Keys::One(key) => Ok(vec![delete(key)]),
        Keys::Range(prefix, numbers) => {
            let word = word.expect("a range was read from a word");
            numbers.map(|number| numbered(&word, &prefix, number).map(delete)).collect()
        }
    }
}

fn is_option(text: &str) -> bool {
    text == "expect" || ["ack=", "ttl=", "offset=", "saw="].iter().any(|option| text.starts_with(option))
}

fn read_options(line: &mut Line<'_>, with_ttl: bool) -> Result<WriteOptions, Complaint> {
    let mut options = WriteOptions::default();
    while let Some(word) = line.peek() {
        line.take("an option")?;
        let figure = |result: Result<_, String>| result.map_err(|message| word.complain(message));
        match word.text.split_once('=') {
            _ if word.is("expect") => {
                let status = line.number::<u16>("an HTTP status such as 503")?;
                if !(100..600).contains(&status) {
                    return Err(word.complain(format!("{status} is no HTTP status")));
                }
                options.expect = Some(status);
            }
            Some(("ack", many)) if !word.quoted => {
                options.ack = read_ack(many).map_err(|message| word.complain(message))?
            }
            Some(("ttl", time)) if !word.quoted && with_ttl => options.ttl = Some(figure(duration(time))?),
            Some(("offset", text)) if !word.quoted && with_ttl => {
                let offset = text.parse().ok().filter(|offset| *offset <= OFFSET_MAX);
                let bad = || word.complain(format!("'{text}' is no offset from 0 to {OFFSET_MAX}"));
                options.offset = Some(offset.ok_or_else(bad)?);
            }
            Some(("saw", "last")) if !word.quoted => options.saw = true,
            Some(("ttl", _)) if !word.quoted => return Err(word.complain("a delete has no ttl")),
            _ => {
                let known = OPTIONS.iter().map(|(option, _)| *option);
                let message = format!(
                    "found '{}'; {}; values of several words are quoted",
                    word.text,
                    crate::suggest::instead(&word.text, known)
                );
                return Err(word.complain(message));
            }
        }
    }
    Ok(options)
}

/// `read=2` or `read=majority` behind a read.
fn read_asked(line: &mut Line<'_>) -> Result<Ack, Complaint> {
    let Some(word) = line.peek().cloned() else { return Ok(Ack::Local) };
    line.take("an option")?;
    let many = word.text.strip_prefix("read=").filter(|_| !word.quoted);
    match (many, many.and_then(|many| many.parse().ok())) {
        (Some("majority"), _) => Ok(Ack::Majority),
        (_, Some(nodes)) if nodes > 0 => Ok(Ack::Nodes(nodes)),
        _ => Err(word.complain(format!("found '{}'; expected read=2 or read=majority", word.text))),
    }
}

fn read_ack(text: &str) -> Result<Ack, String> {
    match (text, text.parse()) {
        ("local", _) => Ok(Ack::Local),
        ("majority", _) => Ok(Ack::Majority),
        (_, Ok(nodes)) if nodes > 0 => Ok(Ack::Nodes(nodes)),
        _ => Err(format!(
            "'ack={text}' asks for no number of nodes; expected ack=2, ack=majority or ack=local"
        )),
    }
}

fn read_expect(line: &mut Line<'_>) -> Result<Vec<Step>, Complaint> {
    let word = line.take("'get' or 'count'")?;
    let expectation = match word.text.as_str() {
        "get" => read_get(line)?,
        "count" => read_count(line)?,
        "replicas" => {
            return Err(
                word.complain("agreement is checked after the timeline: move this to the check section")
            );
        }
        _ => return Err(word.unknown("expectation", ["get", "count"])),
    };
    Ok(vec![Step::Expect(expectation)])
}

fn read_place(line: &mut Line<'_>) -> Result<Place, Complaint> {
    let word = line.take("a node or 'everywhere'")?;
    match word.text.as_str() {
        "everywhere" => Ok(Place::Everywhere),
        name if line.names(name) => Ok(Place::Node(name.to_owned())),
        _ => Err(word.unknown("place", line.places())),
    }
}

fn read_get(line: &mut Line<'_>) -> Result<Expectation, Complaint> {
    let place = read_place(line)?;
    let key = line.key()?;
    line.take_word("is")?;
    let what = line.take("a value, 'found', 'absent' or 'siblings 2'")?;
    let is = match what.text.as_str() {
        "found" if !what.quoted => Found::Found,
        "absent" if !what.quoted => Found::Absent,
        "siblings" if !what.quoted => Found::Siblings(line.number("a number of siblings")?),
        value => Found::Value(value.to_owned()),
    };
    Ok(Expectation::Get { place, key, is })
}

fn read_count(line: &mut Line<'_>) -> Result<Expectation, Complaint> {
    let place = read_place(line)?;
    let prefix = line.prefix()?;
    line.take_word("is")?;
    Ok(Expectation::Count { place, prefix, is: line.number("a number of keys")? })
}

/// Where the power can fail within a turn, as written.
pub const BOUNDARIES: &[(&str, Boundary)] = &[
    ("before-persist", Boundary::BeforePersist),
    ("after-persist", Boundary::AfterPersist),
    ("mid-send", Boundary::MidSend),
    ("io-error", Boundary::IoError),
    ("disk-full", Boundary::DiskFull),
];

fn read_boundary(line: &mut Line<'_>) -> Result<Boundary, Complaint> {
    if line.peek().is_none() {
        return Ok(Boundary::BetweenTurns);
    }
    if line.peek().is_some_and(|word| word.is("on")) {
        let point = read_point(line)?;
        return Ok(point.map_or(Boundary::BetweenTurns, Boundary::On));
    }
    let word = line.take("a boundary")?;
    let known = BOUNDARIES.iter().find(|(name, _)| word.is(name));
    let known = known.ok_or_else(|| word.unknown("boundary", BOUNDARIES.iter().map(|(name, _)| *name)))?;
    Ok(known.1)
}

/// Reads `on POINT`, if there is more on the line.
fn read_point(line: &mut Line<'_>) -> Result<Option<Point>, Complaint> {
    if line.peek().is_none() {
        return Ok(None);
    }
    line.take_word("on")?;
    let word = line.take("a point")?;
    let unknown = || word.unknown("point", POINTS.iter().map(|(name, _)| *name));
    Point::named(&word.text).filter(|_| !word.quoted).map(Some).ok_or_else(unknown)
}

fn factor(text: &str) -> Result<u32, String> {
    const FACTOR_MAX: u32 = 1_000;
    let factor = text.strip_prefix('x').and_then(|digits| digits.parse().ok());
    let factor = factor.filter(|factor| (1..=FACTOR_MAX).contains(factor));
    factor.ok_or_else(|| format!("'{text}' is no factor; expected one from x1 to x{FACTOR_MAX}"))
}

fn read_partition(line: &mut Line<'_>) -> Result<Vec<Step>, Complaint> {
    let mut sides = vec![vec![line.node()?]];
    while let Some(word) = line.peek() {
        if word.is("|") {
            line.take_word("|")?;
            sides.push(vec![line.node()?]);
        } else {
            sides.last_mut().expect("it began with one side").push(line.node()?);
        }
    }
    if sides.len() < 2 {
        return Err(line.ends("'|' and the other side"));
    }
    Ok(vec![Step::Partition(sides)])
}

fn read_set(line: &mut Line<'_>) -> Result<Vec<Step>, Complaint> {
    let word = line.take("'loss', 'duplicate', 'delay' or 'bandwidth'")?;
    let step = match word.text.as_str() {
        "loss" => Step::SetLoss(line.figure("a share such as 20%", share)?),
        "duplicate" => Step::SetDuplicate(line.figure("a share such as 5%", share)?),
        "delay" => {
            let at = line.peek().cloned();
            let text = line.rest();
            let delay = draw(&text, duration);
            let complain = |message| {
                at.map_or_else(|| line.ends("a delay such as 5ms..1s"), |word| word.complain(message))
            };
            Step::SetDelay(delay.map_err(complain)?)
        }
        "bandwidth" => Step::SetBandwidth(line.figure("bytes per second, or unlimited", bandwidth)?),
        _ => return Err(word.unknown("figure", ["loss", "duplicate", "delay", "bandwidth"])),
    };
    Ok(vec![step])
}

#[cfg(test)]
#[path = "verbs_tests.rs"]
mod tests;
