//! The manual of the scenario language, made from the same tables that the parser reads by.

use super::fields::FIELDS;
use super::points::POINTS;
use super::verbs::{CHECKS, OPTIONS, VERBS};

/// A story that shows most of the language; it runs as `just sim scenario=rejoin_stale`.
const EXAMPLE: &str = include_str!("../../../scenarios/rejoin_stale.yaml");

/// What `docs/scenarios.md` holds.
pub fn manual() -> String {
    let mut page = String::from(INTRODUCTION);
    page += &format!("```yaml\n{}```\n\n", EXAMPLE);
    page += RULES;
    page += "\n## Steps\n\n| step | means | for example |\n|---|---|---|\n";
    for verb in VERBS {
        let (forms, examples) = (codes(verb.forms, "<br>"), codes(verb.examples, "<br>"));
        page += &format!("| {forms} | {} | {examples} |\n", cell(verb.meaning));
    }
    page += "\nOptions behind `put` and `delete`:\n\n| option | means |\n|---|---|\n";
    for (option, meaning) in OPTIONS {
        page += &format!("| {} | {} |\n", code(option), cell(meaning));
    }
    page += "\nPoints, at which `crash N on POINT` and `isolate N on POINT` strike:\n\n| point | N is there when |\n|---|---|\n";
    for (point, meaning) in POINTS {
        page += &format!("| {} | {} |\n", code(point), cell(meaning));
    }
    page += "\n## Checks\n\n| check | means | for example |\n|---|---|---|\n";
    for check in CHECKS {
        page += &format!("| {} | {} | {} |\n", code(check.form), cell(check.meaning), code(check.example));
    }
    page + "\n" + &fields()
}

fn fields() -> String {
    let mut page = String::from("## Fields\n");
    let mut section = None;
    for field in FIELDS {
        if section != Some(field.section) {
            section = Some(field.section);
            let title = match field.section {
                "" => "The file".to_owned(),
                "config" => "`cluster.config`".to_owned(),
                other => format!("`{other}`"),
            };
            page += &format!(
                "\n### {title}\n\n| field | for example | without it | means |\n|---|---|---|---|\n"
            );
        }
        let (name, example) = (code(field.name), code(field.example));
        page += &format!("| {name} | {example} | {} | {} |\n", cell(field.default), cell(field.meaning));
    }
    page
}

/// The verbs in a few lines, for a terminal.
pub fn verbs() -> String {
    let width = VERBS.iter().map(|verb| verb.forms[0].len()).max().unwrap_or_default();
    let line = |form: &str, meaning: &str| format!("  {form:width$}  {meaning}\n");
    VERBS.iter().map(|verb| line(verb.forms[0], verb.meaning)).collect()
}

fn codes(texts: &[&str], between: &str) -> String {
    texts.iter().map(|text| code(text)).collect::<Vec<_>>().join(between)
}

fn code(text: &str) -> String {
    format!("`{}`", cell(text))
}

fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}

const INTRODUCTION: &str = "\
# Scenarios

<!-- Made by `UPDATE_EXPECT=1 cargo test -p reknit-sim manual` from sim/src/scenario/; edit it there. -->

A scenario is a story about a cluster: its nodes, what they stand on, what happens, and what must hold in the end.
The standing checks (convergence, no lost write, no returning delete, …) always run; a story adds its own.

```
just sim scenario=rejoin_stale            a story of scenarios/, by its name or path
just sim scenario=rejoin_stale seed=7     with other dice
just sim scenario=rejoin_stale seeds=0..50
```

Every run writes what it did to `plan.yaml`, everything drawn made explicit: that file is itself a scenario.

Editors that know JSON Schema complete and explain the fields if the first line of the file is
`# yaml-language-server: $schema=../docs/scenario.schema.json`; `just sim schema` prints that schema.
`just sim help scenario` shows the steps and checks below.

";

const RULES: &str = "\
Unknown words, nodes and fields are errors that name line and column.

- A step is one line: its time, a verb, and what the verb needs. Steps stand in time order, equal times run in file
  order; a fault at the same instant as a write or a read takes effect first.
- Times are `200ms`, `5s`, `1m30s`; shares are `20%` or `0.2`. A range such as `1ms..20ms` is drawn each time it is
  needed; `any of 0ms..500ms` once per seed.
- Keys are percent-encoded (`a%20b`) or stand in double quotes as they are (`\"a b\"`), and so do values of several
  words. Quotes are written as in JSON. `k/1..100` is the hundred keys `k/1` to `k/100`; in quotes it is one key.
- A put of one key needs a value. A put of a range gives each key a value of its own: `KEY@TIME@NODE`, such as
  `k/7@8s@a`.
- A line that contains `: ` or ` #` stands in single quotes, or YAML takes it for something else.
- Nodes start in the listed order 100 ms apart, so the first is the oldest author.
- A step that makes no sense is an error: a restart of a node that runs, a partition that forgets one. A crash at a
  boundary counts as a crash from its step on.
- `agree within` counts from the end of the timeline with faults off; `get` and `count` run after agreement.
  `everywhere` is every node that runs then.
- Skews and jumps move wall clocks only; timers run on the monotonic clock, which drifts but never jumps.
";

#[cfg(test)]
#[path = "help_tests.rs"]
mod tests;
