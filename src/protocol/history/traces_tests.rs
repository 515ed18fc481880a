//! The traces that broke earlier wordings of this design, and the seeds' own, each as a small graph.
//!
//! A graph is written `NAME AUTHOR [on PARENT,PARENT] full TEXT | patch OFFSET TEXT | delete`, a line each; author `a` is
//! older than `b`.

use std::collections::BTreeMap;

use super::*;
use crate::model::{Dot, Origin, Stamp, Strategy, WallTime};

/// Versions by the names that a script gave them.
pub struct Script {
    pub versions: BTreeMap<String, Version>,
    names: BTreeMap<Dot, String>,
    past: BTreeMap<Dot, Vector>,
}

pub fn script(text: &str) -> Script {
    let mut script = Script { versions: BTreeMap::new(), names: BTreeMap::new(), past: BTreeMap::new() };
    for (number, line) in (1..).zip(text.lines().map(str::trim).filter(|line| !line.is_empty())) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let author = words[1].as_bytes()[0];
        let (parents, what) = match words[2] {
            "on" => (words[3].split(',').collect(), &words[4..]),
            _ => (Vec::new(), &words[2..]),
        };
        let parents: Vec<Transaction> =
            parents.iter().map(|name| Transaction::read(&script.versions[*name])).collect();
        let mut vector = Vector::default();
        for dot in parents.iter().flat_map(|parent| script.past[&parent.dot].dots()) {
            vector.insert(dot);
        }
        parents.iter().for_each(|parent| vector.insert(parent.dot));
        let parents: Vec<Parent> = parents.iter().map(Transaction::as_parent).collect();
        let (kind, bytes) = match *what {
            ["full", text] => (Kind::Full, text),
            ["full"] => (Kind::Full, ""),
            ["patch", offset, text] => (Kind::Patch { offset: offset.parse().unwrap() }, text),
            ["delete"] => (Kind::Delete, ""),
            _ => panic!("no transaction: {line}"),
        };
        let dot = Dot { origin: Origin(author.into()), seq: number };
        let version = Version {
            stamp: Stamp { millis: 1000 + number, counter: 0 },
            dot,
            author_joined: WallTime(author.into()),
            ruling: 0,
            confirms: None,
            tombstone: false,
            expires_at: None,
            content_type: "text/plain".into(),
            value: transaction::value(kind, &parents, &vector, &bytes.as_bytes().to_vec().into()),
        };
        script.past.insert(dot, vector);
        script.names.insert(dot, words[0].to_owned());
        script.versions.insert(words[0].to_owned(), version);
    }
    script
}

impl Script {
    /// The graph of the named transactions, all of them for `*`; what is named after `/` was covered too.
    fn dag(&self, names: &str) -> Dag {
        let (held, covered) = names.split_once('/').unwrap_or((names, ""));
        let held: Vec<&Version> = match held.trim() {
            "*" => self.versions.values().collect(),
            names => names.split_whitespace().map(|name| &self.versions[name]).collect(),
        };
        let covered = covered.split_whitespace().map(|name| &self.versions[name]);
        let seen = held.iter().copied().chain(covered).map(|version| version.dot).collect();
        Dag::new(held.into_iter().map(Transaction::read).collect(), &seen)
    }

    fn names(&self, dag: &Dag, places: &[usize]) -> String {
        let name = |at: &usize| self.names[&dag.transaction(*at).dot].as_str();
        places.iter().map(name).collect::<Vec<_>>().join(" ")
    }

    /// The five views in the order of [`Strategy::ALL`]: the order of their transactions.
    fn orders(&self, names: &str) -> [String; 5] {
        let dag = self.dag(names);
        Strategy::ALL.map(|strategy| self.names(&dag, &View::of(&dag, strategy).order))
    }

    fn heads(&self, names: &str) -> String {
        let dag = self.dag(names);
        self.names(&dag, &dag.heads())
    }
}

/// The five values in the order of [`Strategy::ALL`]; `-` for none.
fn values(dag: &Dag) -> [String; 5] {
    Strategy::ALL.map(|strategy| {
        let state = View::of(dag, strategy).state;
        state.map_or("-".to_owned(), |state| String::from_utf8_lossy(&state.bytes).replace('\0', "."))
    })
}

fn fates(script: &Script, names: &str, strategy: Strategy) -> BTreeMap<String, &'static str> {
    let dag = script.dag(names);
    let view = View::of(&dag, strategy);
    (0..dag.transactions().len())
        .map(|at| (script.names[&dag.transaction(at).dot].clone(), view.fate(&dag, at).word()))
        .collect()
}

/// The table of the review: P=p1 p2, N=n1 n2 by the older author, L=l1 l2 by the younger.
const TWO_BRANCHES: &str = "
    p1 a full p
    p2 a on p1 patch 1 p
    n1 a on p2 patch 2 n
    n2 a on n1 patch 3 n
    l1 b on p2 patch 2 l
    l2 b on l1 patch 4 l
";

#[test]
fn the_five_strategies_are_those_of_the_seeds() {
    let script = script(TWO_BRANCHES);

    let orders = script.orders("*");

    assert_eq!(orders, ["p1 p2 n1 n2", "p1 p2 l1 l2", "p1 p2 n1 n2 l1 l2", "p1 p2 l1 l2 n1 n2", "p1 p2"]);
    assert_eq!(values(&script.dag("*")), ["ppnn", "ppl.l", "pplnl", "ppnnl", "pp"]);
    assert_eq!(script.heads("*"), "n2 l2");
}

#[test]
fn h1_a_write_that_names_all_heads_closes_the_fork_and_what_it_overruled_stays_listed() {
    let text = format!("{TWO_BRANCHES}\n w b on n2,l2 full w");
    let script = script(&text);

    assert_eq!(script.heads("*"), "w");
    assert_eq!(values(&script.dag("*")), ["w"; 5]);
    let fates = fates(&script, "*", Strategy::PreferNetwork);
    assert_eq!(
        (fates["l1"], fates["l2"], fates["n2"], fates["w"]),
        ("discarded", "discarded", "kept", "kept")
    );
}

#[test]
fn h1_under_fail_a_fork_is_a_conflict_until_somebody_resolves_it() {
    let script = script(&format!("{TWO_BRANCHES}\n w b on n2,l2 full w"));

    let open = View::of(&script.dag("p1 p2 n1 n2 l1 l2"), Strategy::Fail);
    let closed = View::of(&script.dag("*"), Strategy::Fail);

    assert!(open.conflict && open.heads.len() == 2);
    assert!(!closed.conflict);
}

#[test]
fn h5_a_child_that_comes_before_its_parent_waits_and_one_whose_parent_was_covered_is_set_aside() {
    let script = script("p a full p\n c a on p patch 1 c\n d a on c patch 2 d");

    let awaiting = fates(&script, "c d", Strategy::PreferNetwork);
    let aside = fates(&script, "c d / p", Strategy::PreferNetwork);
    let whole = fates(&script, "*", Strategy::PreferNetwork);

    assert_eq!((awaiting["c"], awaiting["d"]), ("awaiting", "awaiting"));
    assert_eq!((aside["c"], aside["d"]), ("aside", "aside"));
    assert_eq!((whole["c"], whole["d"]), ("kept", "kept"));
    assert_eq!(values(&script.dag("c d")), ["-"; 5]);
}

#[test]
fn h6_e10_a_patch_of_a_deleted_generation_is_skipped_and_reported_in_every_order() {
    let gone = script("p a full pppp\n d a on p delete\n l b on p patch 2 LL");
    let anew = script("p a full pppp\n d a on p delete\n n a on d full ne\n l b on p patch 2 LL");

    assert_eq!(values(&gone.dag("*")), ["-", "ppLL", "-", "-", "pppp"]);
    assert_eq!(values(&anew.dag("*")), ["ne", "ppLL", "ne", "ne", "pppp"]);
    assert_eq!(fates(&anew, "*", Strategy::LocalOverNetwork)["l"], "discarded");
    assert_eq!(fates(&anew, "*", Strategy::NetworkOverLocal)["l"], "kept");
}

#[test]
fn a_patch_of_a_generation_that_was_begun_anew_beside_the_delete_is_no_mixture() {
    let script = script("p a full pppp\n d a on p delete\n f b on p full ff\n g b on f patch 2 gg");

    assert_eq!(script.orders("*")[2], "p d f g");
    assert_eq!(values(&script.dag("*"))[2], "ffgg");
}

#[test]
fn h7_only_an_antichain_of_parents_is_a_set_of_heads() {
    let script = script(
        "p a full p
         c a on p patch 1 c
         x b on p,c patch 2 x
         y b on x patch 3 y",
    );

    let fates = fates(&script, "*", Strategy::PreferNetwork);

    assert_eq!((fates["c"], fates["x"], fates["y"]), ("kept", "aside", "aside"));
    assert_eq!(script.heads("*"), "c");
}

#[test]
fn h8_a_parent_is_named_by_id_and_dot_and_another_content_under_its_dot_is_not_it() {
    let script = script("p a full p\n c a on p patch 1 c");
    let mut other = script.versions["p"].clone();
    other.stamp = Stamp { millis: 999, counter: 0 };
    let versions = [other, script.versions["c"].clone()];

    let seen = versions.iter().map(|version| version.dot).collect();
    let dag = Dag::new(versions.iter().map(Transaction::read).collect(), &seen);

    assert_eq!(dag.hidden(1), Some(Hidden::Aside));
}

#[test]
fn h9_a_late_child_on_a_discarded_branch_is_one_more_head_and_all_see_it() {
    // l ranks below n; e continues the discarded branch after r resolved the fork.
    let script = script(
        "p a full p
         n a on p full n
         l b on p full l
         r b on n,l full r
         e a on l full e",
    );

    assert_eq!(script.heads("*"), "e r");
    assert_eq!(script.orders("*")[0], "p n r");
    assert_eq!(script.orders("*")[1], "p l r", "the older author's child of l comes first");
}

#[test]
fn e2_two_histories_without_a_common_ancestor_hang_under_one_empty_root() {
    let script = script("l1 b full l\n l2 b on l1 patch 1 l\n r1 a full r\n r2 a on r1 patch 1 R");

    assert_eq!(values(&script.dag("*")), ["rR", "ll", "ll", "rR", "-"]);
    assert_eq!(script.orders("*")[2], "r1 r2 l1 l2");
}

#[test]
fn t9c_criss_cross_resolutions_give_a_view_to_everybody() {
    let script = script(
        "p a full p
         a a on p full a
         b b on p full b
         x a on a,b full x
         y b on a,b full y",
    );

    assert_eq!(script.orders("*"), ["p a x", "p b y", "p a b x y", "p b a y x", "p"]);
    assert_eq!(script.heads("*"), "x y");
}

#[test]
fn t9d_three_branches_and_equal_ages_are_ranked_alike_by_everybody() {
    let script = script("p a full p\n x c on p full x\n y a on p full y\n z b on p full z");

    assert_eq!(script.orders("*"), ["p y", "p x", "p y z x", "p x z y", "p"]);

    let mut equal = self::script("p a full p\n x c on p full x\n y b on p full y");
    for version in equal.versions.values_mut().filter(|version| version.dot.seq > 1) {
        version.author_joined = WallTime(5);
    }
    let orders = equal.orders("*");
    assert_eq!(orders[0], "p y", "the dot decides where the ages are equal");
}

#[test]
fn e3_e4_merging_again_and_both_ways_never_grows_a_history() {
    let script = script(TWO_BRANCHES);
    let of = |names: &str| -> Vec<Version> {
        names.split_whitespace().map(|name| script.versions[name].clone()).collect()
    };
    let (ours, theirs) = (of("p1 p2 n1 n2"), of("p1 p2 l1 l2"));

    let mut a = merge(&ours, &theirs);
    let mut b = merge(&theirs, &ours);
    for _ in 0..5 {
        (a, b) = (merge(&a, &b), merge(&b, &a));
    }

    assert_eq!(a, b);
    assert_eq!(a.len(), 6);
}

#[test]
fn e5_e7_equal_stamps_and_equal_bytes_are_different_transactions() {
    let mut script = script("p a full p\n n a on p patch 1 x\n l b on p patch 1 x");
    for version in script.versions.values_mut() {
        version.stamp = Stamp { millis: 1000, counter: 0 };
    }
    let child = |name: &str, script: &Script| {
        let parent = Transaction::read(&script.versions["p"]).as_parent();
        let old = &script.versions[name];
        let kind = Transaction::read(old).kind;
        let bytes = Transaction::read(old).bytes;
        Version { value: transaction::value(kind, &[parent], &Vector::default(), &bytes), ..old.clone() }
    };
    for name in ["n", "l"] {
        let relinked = child(name, &script);
        script.versions.insert(name.into(), relinked);
    }

    assert_eq!(script.orders("*")[2], "p n l");
    let ids: Vec<_> = script.versions.values().map(|version| Transaction::read(version).id).collect();
    assert!(ids[0] != ids[1] && ids[1] != ids[2]);
}

#[test]
fn e8_overlapping_patches_end_as_the_view_orders_them() {
    let script = script("p a full ........\n n a on p patch 0 nnnn\n l b on p patch 1 llll");

    assert_eq!(values(&script.dag("*")), ["nnnn....", ".llll...", "nllll...", "nnnnl...", "........"]);
}

#[test]
fn e9_a_delete_and_a_concurrent_write_are_decided_by_the_strategy_and_both_listed() {
    let script = script("p a full p\n d a on p delete\n w b on p full w");

    assert_eq!(values(&script.dag("*")), ["-", "w", "w", "-", "p"]);
    let fates = fates(&script, "*", Strategy::PreferNetwork);
    assert_eq!((fates["d"], fates["w"]), ("kept", "discarded"));
}

#[test]
fn e13_a_shorter_full_write_leaves_no_tail_of_what_was_longer() {
    let script = script("p a full pppppppp\n w a on p full ww\n x a on w patch 3 x");

    assert_eq!(values(&script.dag("*")), ["ww.x"; 5]);
}

#[test]
fn a_version_from_before_the_policy_is_the_root_of_the_history() {
    let plain = Version { value: "plain".into(), ..script("p a full p").versions["p"].clone() };

    let transaction = Transaction::read(&plain);

    assert_eq!((transaction.kind, transaction.parents.len()), (Kind::Full, 0));
    assert_eq!(transaction.bytes, "plain");
}

#[test]
fn bytes_from_before_the_policy_that_look_like_a_patch_beyond_all_bounds_are_a_value() {
    let mut looks = vec![0xE1, 1];
    looks.extend_from_slice(&u64::MAX.to_be_bytes());
    looks.extend_from_slice(b"\0patch");
    let odd = Version { value: looks.clone().into(), ..script("p a full p").versions["p"].clone() };

    let (dag, view) = read(std::slice::from_ref(&odd), Strategy::LocalOverNetwork);

    assert_eq!(dag.transaction(0).kind, Kind::Full);
    assert_eq!(view.state.expect("a value").bytes, looks);
    assert!(is_well_formed(&odd), "whoever is filled later takes it, too");
}

#[test]
fn h2_who_does_not_lie_on_every_path_is_no_checkpoint() {
    let script = script("p1 a full p\n t1 a on p1 full t\n x b full x\n m a on t1,x patch 0 m");

    assert_eq!(script.dag("*").checkpoints().count(), 0);
}

#[test]
fn h3_only_a_full_write_or_a_delete_is_a_checkpoint_because_a_patch_shows_what_lies_below_it() {
    let fork = "p a full p\n n a on p patch 1 N\n l b on p patch 1 L";
    let patched = script(&format!("{fork}\n r a on n,l patch 2 R"));
    let written = script(&format!("{fork}\n r a on n,l full R\n s b on r patch 1 S"));
    let deleted = script(&format!("{fork}\n d a on n,l delete\n s b on d full S"));
    let checkpoints = |script: &Script| {
        let dag = script.dag("*");
        script.names(&dag, &dag.checkpoints().collect::<Vec<_>>())
    };

    assert_eq!(checkpoints(&patched), "");
    assert_eq!(checkpoints(&written), "r");
    assert_eq!(checkpoints(&deleted), "s d", "the latest first");
}

#[test]
fn h4_a_delete_stays_as_the_checkpoint_and_what_is_written_beside_it_is_no_part_of_it() {
    let script = script("p a full p\n d a on p delete\n y b on p patch 0 y\n z b on d patch 0 z");

    assert_eq!(values(&script.dag("d z")), ["z"; 5]);
    // y was written by somebody who was forgotten, and has not its base any more.
    assert_eq!(values(&script.dag("d z y / p")), ["z"; 5]);
    assert_eq!(fates(&script, "d z y / p", Strategy::PreferNetwork)["y"], "aside");
}

#[test]
fn what_waits_for_a_part_of_the_past_keeps_it_from_being_a_past() {
    // Seed 1642: x was written beside t; where its base was lost to rot it must come back from where it is.
    let script = script("p a full p\n t a on p full t\n x b on p patch 1 x");

    assert_eq!(script.dag("p t").checkpoints().count(), 1);
    assert_eq!(script.dag("t x").checkpoints().count(), 0);
    assert_eq!(script.dag("p t x").checkpoints().count(), 0);

    // Seed 13401: nor may what it needs be refused when that comes back one by one.
    let script = self::script("p a full p\n q a on p patch 1 q\n t a on q full t\n x b on q patch 2 x");

    assert_eq!(script.dag("q t x").checkpoints().count(), 0);
}

#[test]
fn a_full_write_overrules_what_was_set_aside_as_well() {
    let script = script("p a full p\n t a on p full t\n x b on p patch 1 x");
    let versions = ["t", "x"].map(|name| script.versions[name].clone());
    let seen: DotSet = script.versions.values().map(|version| version.dot).collect();

    let (parents, vector) = heads(&versions, &seen, &seen);

    assert_eq!(parents.len(), 1);
    assert!(vector.covers(versions[1].dot));
}
