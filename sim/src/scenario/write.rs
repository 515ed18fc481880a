//! Writes a scenario as the YAML that [`parse`](super::parse) reads, and steps as the lines of traces.
//!
//! Promises that what is written parses back to an equal scenario.

use std::fmt;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};
use reknit::model::Ack;

use super::figures::{show_bandwidth, show_draw, show_duration, show_offset, show_policies, show_share};
use super::line::{range_of, show_word};
use super::verbs::BOUNDARIES;
use super::{
    Boundary, ClockModel, Expectation, Found, NodeConfig, OnCrash, Place, Scenario, Setting, Step, Timed,
    Workload, WriteOptions,
};

/// The YAML of this scenario.
pub fn to_yaml(scenario: &Scenario) -> String {
    let mut yaml = String::new();
    yaml += &format!("about: {}\n", show_about(&scenario.about));
    yaml += &format!("name: {}\n", quoted(&scenario.name));
    if let Some(seed) = scenario.seed {
        yaml += &format!("seed: {seed}\n");
    }
    yaml += &format!("\ncluster:\n  nodes: [{}]\n", scenario.nodes.join(", "));
    if !scenario.later.is_empty() {
        yaml += &format!("  later: [{}]\n", scenario.later.join(", "));
    }
    yaml += &config(&scenario.config);
    yaml += &surroundings(scenario);
    if let Some(load) = &scenario.workload {
        yaml += &workload(load);
    }
    yaml += &list("timeline", scenario.timeline.iter().map(Timed::to_string));
    yaml += &list("check", scenario.check.iter().map(Expectation::to_string));
    yaml
}

fn config(config: &NodeConfig) -> String {
    let keys = [
        ("probe_interval", config.probe_interval),
        ("suspect_timeout", config.suspect_timeout),
        ("forget_after", config.forget_after),
        ("gossip_interval_min", config.gossip_interval_min),
        ("gossip_interval_max", config.gossip_interval_max),
        ("sync_interval", config.sync_interval),
        ("catchup_interval", config.catchup_interval),
        ("max_clock_drift", config.max_clock_drift),
        ("tombstone_grace", config.tombstone_grace),
        ("bootstrap_window", config.bootstrap_window),
    ];
    let set =
        keys.into_iter().filter_map(|(key, value)| Some(format!("    {key}: {}\n", show_duration(value?))));
    let mut set: String = set.collect();
    if !config.policies.is_empty() {
        set += &format!("    policies: {}\n", show_policies(&config.policies));
    }
    if let Some(rule) = config.collision {
        set += &format!("    collision: {}\n", rule.word());
    }
    if let Some(credit) = config.stream_credit {
        set += &format!("    stream_credit: {credit}\n");
    }
    if !config.quirks.is_empty() {
        let names: Vec<&str> = config.quirks.iter().map(|quirk| quirk.name()).collect();
        set += &format!("    quirks: {}\n", names.join(" "));
    }
    if set.is_empty() { set } else { format!("  config:\n{set}") }
}

fn surroundings(scenario: &Scenario) -> String {
    let network = &scenario.network;
    let mut yaml = format!(
        "\nnetwork: {{ delay: {}, loss: {}, duplicate: {}, corrupt: {}, tail: {}, burst: {}, bandwidth: {} }}\n",
        show_draw(&network.delay, |delay| show_duration(*delay)),
        show_share(network.loss),
        show_share(network.duplicate),
        show_share(network.corrupt),
        show_share(network.tail),
        network.burst,
        show_bandwidth(network.bandwidth),
    );
    yaml += &format!("clocks:\n{}", clock("  ", &scenario.clocks.all, "\n"));
    for (node, model) in &scenario.clocks.nodes {
        yaml += &format!("  {node}: {{ {} }}\n", clock("", model, ", ").trim_end_matches(", "));
    }
    let persist = show_draw(&scenario.disks.persist, |time| show_duration(*time));
    let on_crash = match scenario.disks.on_crash {
        OnCrash::LoseUnpersisted => "lose unpersisted",
        OnCrash::TearUnpersisted => "tear unpersisted",
    };
    let spikes = show_share(scenario.disks.spikes);
    yaml + &format!("disks: {{ persist: {persist}, on_crash: {on_crash}, spikes: {spikes} }}\n")
}

fn clock(before: &str, model: &ClockModel, after: &str) -> String {
    let skew = show_draw(&model.skew, |skew| show_offset(*skew));
    let granularity = show_duration(model.granularity);
    let drift = model.drift_ppm;
    format!(
        "{before}skew: {skew}{after}{before}granularity: {granularity}{after}{before}drift: {drift}ppm{after}"
    )
}

fn workload(load: &Workload) -> String {
    let Workload { clients, keys, rate, mix } = load;
    format!(
        "\nworkload: {{ clients: {clients}, keys: {keys}, rate: {rate}/s, mix: put {} get {} delete {} }}\n",
        mix.put, mix.get, mix.delete
    )
}

fn list(name: &str, lines: impl Iterator<Item = String>) -> String {
    let lines: String = lines.map(|line| format!("  - {}\n", show_line(&line))).collect();
    if lines.is_empty() { lines } else { format!("\n{name}:\n{lines}") }
}

/// A line of the timeline is ASCII; the only trouble it can make in YAML is to look like something else.
fn show_line(line: &str) -> String {
    if line.contains(": ") || line.contains(" #") || line.ends_with(':') {
        return format!("'{}'", line.replace('\'', "''"));
    }
    line.to_owned()
}

fn show_about(about: &str) -> String {
    const WIDTH: usize = 108;
    let words: Vec<&str> = about.split(' ').collect();
    // Only what folds and unfolds to itself is folded.
    if about.is_empty() || !about.chars().all(|c| (' '..='~').contains(&c)) || words.contains(&"") {
        return quoted(about);
    }
    let mut lines = vec![String::new()];
    for word in words {
        let line = lines.last_mut().expect("there is a first line");
        if !line.is_empty() && line.len() + 1 + word.len() > WIDTH {
            lines.push(word.to_owned());
        } else {
            let gap = if line.is_empty() { "" } else { " " };
            *line += &format!("{gap}{word}");
        }
    }
    format!(">\n  {}", lines.join("\n  "))
}

fn quoted(text: &str) -> String {
    let mut yaml = String::from('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => yaml.extend(['\\', c]),
            ' '..='~' => yaml.push(c),
            _ => yaml += &format!("\\U{:08X}", u32::from(c)),
        }
    }
    yaml + "\""
}

/// A key in the form that the language reads: percent-encoded, and never taken for a range.
pub fn show_key(key: &[u8]) -> String {
    const PLAIN: &AsciiSet =
        &NON_ALPHANUMERIC.remove(b'/').remove(b'-').remove(b'_').remove(b'.').remove(b'~');
    if key.is_empty() {
        return "\"\"".to_owned();
    }
    let text = percent_encode(key, PLAIN).to_string();
    if range_of(&text).is_some() { text.replace('.', "%2E") } else { text }
}

impl fmt::Display for Timed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", show_duration(self.at), self.step)
    }
}

impl fmt::Display for WriteOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.ack {
            Ack::Local => {}
            Ack::Nodes(nodes) => write!(f, " ack={nodes}")?,
            Ack::Majority => write!(f, " ack=majority")?,
        }
        if let Some(offset) = self.offset {
            write!(f, " offset={offset}")?;
        }
        if self.saw {
            f.write_str(" saw=last")?;
        }
        if let Some(ttl) = self.ttl {
            write!(f, " ttl={}", show_duration(ttl))?;
        }
        self.expect.map_or(Ok(()), |status| write!(f, " expect {status}"))
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Step::Put { node, key, value, options } => {
                write!(f, "put {node} {} {}{options}", show_key(key), show_word(value))
            }
            Step::Delete { node, key, options } => write!(f, "delete {node} {}{options}", show_key(key)),
            Step::Get { node, key, asked } => {
                write!(f, "get {node} {}", show_key(key))?;
                match asked {
                    Ack::Local => Ok(()),
                    Ack::Nodes(nodes) => write!(f, " read={nodes}"),
                    Ack::Majority => f.write_str(" read=majority"),
                }
            }
            Step::Expect(expectation) => write!(f, "expect {expectation}"),
            Step::Crash { node, boundary: Boundary::BetweenTurns } => write!(f, "crash {node}"),
            Step::Crash { node, boundary: Boundary::On(point) } => write!(f, "crash {node} on {point}"),
            Step::Crash { node, boundary } => {
                let name = BOUNDARIES.iter().find(|(_, known)| known == boundary);
                write!(f, "crash {node} {}", name.expect("every boundary within a turn has a name").0)
            }
            Step::Restart(node) => write!(f, "restart {node}"),
            Step::Pause(node) => write!(f, "pause {node}"),
            Step::Resume(node) => write!(f, "resume {node}"),
            Step::Wipe(node) => write!(f, "wipe {node}"),
            Step::Backup(node) => write!(f, "backup {node}"),
            Step::Restore(node) => write!(f, "restore {node}"),
            Step::Clone { from, to } => write!(f, "clone {from} {to}"),
            Step::Join(node) => write!(f, "join {node}"),
            Step::Leave(node) => write!(f, "leave {node}"),
            Step::Remove(node) => write!(f, "remove {node}"),
            Step::Partition(sides) => {
                let sides: Vec<String> = sides.iter().map(|side| side.join(" ")).collect();
                write!(f, "partition {}", sides.join(" | "))
            }
            Step::Isolate(node) => write!(f, "isolate {node}"),
            Step::Cut { from, to } => write!(f, "cut {from} -> {to}"),
            Step::Heal => write!(f, "heal"),
            Step::Skew(node, offset) => write!(f, "skew {node} {}", show_offset(*offset)),
            Step::Jump(node, offset) => write!(f, "jump {node} {}", show_offset(*offset)),
            Step::Freeze(node) => write!(f, "freeze {node}"),
            Step::Thaw(node) => write!(f, "thaw {node}"),
            Step::SetLoss(loss) => write!(f, "set loss {}", show_share(*loss)),
            Step::SetDuplicate(duplicate) => write!(f, "set duplicate {}", show_share(*duplicate)),
            Step::SetDelay(delay) => {
                write!(f, "set delay {}", show_draw(delay, |delay| show_duration(*delay)))
            }
            Step::SetBandwidth(bandwidth) => write!(f, "set bandwidth {}", show_bandwidth(*bandwidth)),
            Step::Clog(node) => write!(f, "clog {node}"),
            Step::Unclog(node) => write!(f, "unclog {node}"),
            Step::Slow(node, factor) => write!(f, "slow {node} x{factor}"),
            Step::Rot(node, None) => write!(f, "rot {node}"),
            Step::Rot(node, Some(key)) => write!(f, "rot {node} {}", show_key(key)),
            Step::IsolateOn(node, point) => write!(f, "isolate {node} on {point}"),
            Step::Configure(node, Setting { name, value }) => {
                write!(f, "configure {node} {name} {}", show_duration(*value))
            }
            Step::StopWorkload => write!(f, "stop workload"),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Place::Node(node) => node,
            Place::Everywhere => "everywhere",
        })
    }
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Found::Value(value) => f.write_str(&show_word(value)),
            Found::Found => f.write_str("found"),
            Found::Absent => f.write_str("absent"),
            Found::Siblings(many) => write!(f, "siblings {many}"),
        }
    }
}

impl fmt::Display for Expectation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Expectation::Agree { within } => write!(f, "replicas agree within {}", show_duration(*within)),
            Expectation::Get { place, key, is } => write!(f, "get {place} {} is {is}", show_key(key)),
            Expectation::Count { place, prefix, is } => {
                write!(f, "count {place} {} is {is}", show_key(prefix))
            }
        }
    }
}

#[cfg(test)]
#[path = "write_tests.rs"]
mod tests;
