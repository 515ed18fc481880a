//! Each check meets a bad history, which it must name by the right code, and its good twin, which must pass.

use super::history::{codes, judge};
use expect_test::{Expect, expect};
use reknit::model::{Dot, Origin};

#[track_caller]
fn good(history: &str) {
    let ghost = judge(history);
    assert_eq!(ghost.violations(), [], "a good history");
}

#[track_caller]
fn bad(history: &str, expected: &[&str]) {
    let ghost = judge(history);
    assert_eq!(codes(&ghost), expected, "{:#?}", ghost.violations());
}

#[track_caller]
fn said(history: &str, expected: Expect) {
    let lines: Vec<String> = judge(history).violations().iter().map(ToString::to_string).collect();
    expected.assert_eq(&lines.join("\n"));
}

#[test]
fn nothing_happened_and_nothing_is_wrong() {
    good("");
    good("end a: ; b:");
}

#[test]
fn a_quiet_life_passes() {
    good(
        "put a k=red @10 a1
         push a a1
         durable b a1
         get b k = a1
         put b k=blue @11 b1
         push b b1
         delete a k @12 a2
         push a a2
         get a k = nothing
         holds b: b1
         end a: a2 ; b: a2 ; c: a2",
    );
}

// ORD

#[test]
fn a_node_must_not_step_down_in_the_order() {
    good("put? a k=red @10 a1\n put? b k=blue @10 b1\n push a a1\n push b b1\n holds b: b1\n holds b: a1");
    bad(
        "put? a k=red @10 a1\n put? b k=blue @10 b1\n push a a1\n push b b1\n holds a: a1\n holds a: b1",
        &["ORD"],
    );
}

#[test]
fn a_read_must_not_step_down_either() {
    good("put a k=red @10 a1\n put a k=blue @11 a2\n push a a1 a2\n get b k = a1\n get b k = a2");
    bad("put a k=red @10 a1\n put a k=blue @11 a2\n push a a1 a2\n get b k = a2\n get b k = a1", &["ORD"]);
}

#[test]
fn a_reply_that_comes_late_shows_what_was_there_when_it_was_asked_for() {
    good("put a k=red @10 a1\n push a a1\n ask 1 a k\n put a k=blue @11 a2\n told 1 a1");
    bad("put a k=red @10 a1\n push a a1\n put a k=blue @11 a2\n ask 1 a k\n told 1 a1", &["DUR"]);
}

#[test]
fn the_greatest_version_that_left_a_node_must_win_in_the_end() {
    let story = "put a k=red @10 a1\n push a a1\n put? b k=blue @11 b1\n push b b1\n";
    good(&format!("{story} end a: b1 ; b: b1"));
    // Nobody was told of b1, but b had it on its disk.
    bad(&format!("{story} end a: a1 ; b: a1"), &["ORD", "ORD"]);
}

#[test]
fn equal_stamps_are_decided_by_tombstone_then_ruling_then_older_author_then_dot() {
    let story =
        "put? a k=red @10 a1\n put? a k=pink @10 a2\n put? b k=blue @10 b1\n push a a1 a2\n push b b1\n";
    let ruled = format!("{story} fake r k=blue @10 c1 ruling=2 confirms=b1 joined=98\n push c r\n");
    let deleted = format!("{ruled} delete? b k @10 b2\n push b b2\n");

    good(&format!("{story} end a: a2 ; b: a2"));
    bad(&format!("{story} end a: a1"), &["ORD"]);
    bad(&format!("{story} end a: a2 ; b: b1"), &["CONV", "ORD"]);
    good(&format!("{ruled} end a: r ; b: r ; c: r"));
    bad(&format!("{ruled} end a: a2 ; c: a2"), &["ORD", "ORD"]);
    good(&format!("{deleted} end a: b2 ; b: b2 ; c: b2"));
    bad(&format!("{deleted} end b: r"), &["NORES"]);
}

// CONV

#[test]
fn nodes_that_differ_in_the_end_are_named_with_what_they_hold() {
    let story = "put a k=red @10 a1\n push a a1\n put a k=blue @11 a2\n push a a2\n put a other=x @12 a3\n";
    good(&format!("{story} end a: a2 a3 ; b: a2 a3"));
    said(
        &format!("{story} end a: a2 a3 ; b: a1 a3"),
        expect![[r#"
        CONV t=0.600s key=k: a holds "blue" @11.0 0000000000000061:2; b holds "red" @10.0 0000000000000061:1
        DUR t=0.600s node=b key=k: holds "red" @10.0 0000000000000061:1; what survives of this key is "blue" @11.0 0000000000000061:2 or later"#]],
    );
}

// DUR

#[test]
fn an_acknowledged_write_must_be_there_in_the_end() {
    good("put a k=red @10 a1\n end a: a1 ; b: a1");
    bad("put a k=red @10 a1\n end a: ; b:", &["DUR", "DUR"]);
    bad("put a k=red @10 a1\n delete a k @11 a2\n end a: ; b:", &["DUR", "DUR"]);
}

#[test]
fn an_acknowledged_write_must_be_there_after_a_crash() {
    good("put a k=red @10 a1\n holds a: a1");
    bad("put a k=red @10 a1\n holds a:", &["DUR"]);
    bad("put a k=red @10 a1\n get a k = nothing", &["DUR"]);
}

#[test]
fn a_write_without_an_answer_may_exist_or_not() {
    good("put? a k=red @10 a1\n end a: ; b:");
    good("put? a k=red @10 a1\n end a: a1 ; b: a1");
    good("put a k=old @9 a1\n delete? a k @10 a2\n get a k = nothing");
    bad("put a k=old @9 a1\n delete! a k\n get a k = nothing", &["DUR"]);
}

#[test]
fn what_died_with_the_only_disk_that_held_it_is_not_asked_for() {
    good("put a k=red @10 a1\n wipe a: ; b:\n end a: ; b:");
    bad("put a k=red @10 a1\n wipe a: ; b: a1\n end a: ; b:", &["DUR", "DUR"]);
    bad("put a k=red @10 a1\n push a a1\n durable b a1\n wipe a:\n end a: ; b:", &["DUR", "DUR"]);
}

#[test]
fn a_tombstone_dies_with_its_disk_like_a_value() {
    // The first mistake of the toy's ledger: b's value is no resurrection, nobody can know of the delete.
    let story = "put b k=red @10 b1\n push b b1\n durable a b1\n delete a k @11 a1\n";
    good(&format!("{story} wipe a: ; b: b1\n end a: b1 ; b: b1"));
    bad(&format!("{story} wipe a: ; b: a1\n end a: b1 ; b: b1"), &["NORES"; 2]);
}

#[test]
fn what_a_destroyed_disk_had_overwritten_died_with_it() {
    // The second mistake: not only a3 is gone, but a2 and a1 under it.
    let story = "put a k=one @10 a1\n put a k=two @11 a2\n put a k=three @12 a3\n";
    good(&format!("{story} wipe a: ; b:\n end a: ; b:"));
    good(&format!("{story} wipe a: ; b: a1\n end a: a1 ; b: a1"));
    bad(&format!("{story} wipe a: ; b: a2\n end a: a1 ; b: a1"), &["DUR", "DUR"]);
}

#[test]
fn what_counted_as_lost_may_arrive_late_and_counts_from_then_on() {
    // The third mistake: the push was under way when the disk died.
    let story = "put a k=red @10 a1\n push a a1\n wipe a: ; b:\n";
    good(&format!("{story} end a: ; b:"));
    good(&format!("{story} get b k = a1\n end a: a1 ; b: a1"));
    bad(&format!("{story} get b k = a1\n end a: ; b:"), &["DUR", "DUR"]);
}

#[test]
fn a_backup_brings_back_what_was_on_it() {
    good("put a k=red @10 a1\n put a k=blue @11 a2\n wipe a: a1 ; b:\n end a: a1 ; b: a1");
    bad("put a k=red @10 a1\n put a k=blue @11 a2\n wipe a: a1 ; b:\n end a: ; b:", &["DUR", "DUR"]);
}

#[test]
fn a_write_that_only_a_stopped_node_has_is_not_asked_of_the_others() {
    good("put a k=red @10 a1\n end b: ; c:");
    bad("put a k=red @10 a1\n durable b a1\n end b: ; c:", &["DUR", "DUR"]);
}

#[test]
fn a_write_counts_only_nodes_that_have_said_that_they_hold_it() {
    let story = "write 1 a k=red @10 a1\n push a a1\n";
    good(&format!("{story} durable b a1\n acked 1 a1 2"));
    good(&format!("{story} pull b a1\n acked 1 a1 2\n holds b: a1"));
    bad(&format!("{story} acked 1 a1 2"), &["DUR"]);
    bad(&format!("{story} durable b a1\n acked 1 a1 3"), &["DUR"]);
    bad(&format!("{story} pull b a1\n acked 1 a1 2\n holds b:"), &["DUR"]);
    // Who confirmed may have lost its disk since; the answer was right when it was earned.
    good(&format!("{story} durable b a1\n wipe b: ; a: a1\n acked 1 a1 2"));
}

#[test]
fn a_node_is_held_to_what_it_says_when_it_pulls() {
    let story = "put? a k=red @10 a1\n push a a1\n put? a k=blue @11 a2\n push a a2\n pull b a1\n";
    good(&format!("{story} holds b: a1\n holds b: a2"));
    good(&format!("{story} wipe b: ; a: a2\n holds b:"));
    bad(&format!("{story} holds b:"), &["ORD"]);
    bad(&format!("{story} end b: a2 ; c:"), &["CONV", "ORD"]);
}

// NORES

#[test]
fn a_deleted_key_must_not_come_back_to_a_node_that_knew() {
    let story = "put a k=red @10 a1\n push a a1\n durable b a1\n delete b k @11 b1\n push b b1\n";
    good(&format!("{story} get a k = a1"));
    bad(&format!("{story} durable a b1\n get a k = a1"), &["NORES"]);
    bad(&format!("{story} holds a: b1\n holds a: a1"), &["NORES"]);
    good(&format!("{story} holds a: b1\n put a k=new @12 a2\n get a k = a2"));
}

#[test]
fn in_the_end_no_node_shows_what_was_deleted() {
    let story = "put a k=red @10 a1\n push a a1\n durable b a1\n durable c a1\n delete b k @11 b1\n";
    good(&format!("{story} end a: b1 ; b: b1 ; c: b1"));
    bad(&format!("{story} end a: a1 ; b: b1 ; c: b1"), &["CONV", "NORES"]);
}

// NOINV

#[test]
fn a_value_must_have_been_put_under_its_key() {
    good("put? a k=red @10 a1\n get b k = a1");
    bad("fake a1 k=red @10 a1\n get b k = a1", &["NOINV"]);
    bad("put? a k=red @10 a1\n fake x j=red @10 a1\n push b x", &["NOINV"]);
    bad("put! a k=red\n fake x k=red @10 a1\n push b x", &["NOINV"]);
    bad("put? a k=red @10 a1 ttl=50\n fake x k=red @10 a1 ttl=60\n push b x", &["NOINV"]);
    bad("put? a k=red @10 a1\n fake x k @10 a1\n push b x", &["NOINV"]);
}

#[test]
fn a_ruling_must_carry_the_write_that_it_confirms() {
    let story = "put a k=red @10 a1\n push a a1\n put b k=blue @10 b1\n push b b1\n";
    good(&format!("{story} fake r k=blue @10 b2 ruling=2 confirms=b1 joined=98\n push b r"));
    bad(&format!("{story} fake r k=red @10 b2 ruling=2 confirms=b1 joined=98\n push b r"), &["NOINV"]);
    bad(&format!("{story} fake r k=blue @10 b2 ruling=2\n push b r"), &["NOINV"]);
    bad(&format!("{story} fake r k=blue @10 b2 confirms=b1\n push b r"), &["NOINV"]);
}

// DOT

#[test]
fn a_dot_must_name_one_write() {
    let story = "put? a k=red @10 a1\n push a a1\n put? a k=blue @12 a2\n put? a j=red @12 a3\n";
    good(&format!("{story} push b a1\n push a a2\n push a a3"));
    bad(&format!("{story} fake x k=blue @12 a1\n push b x\n push c a1 x"), &["DOT"]);
    bad(&format!("{story} fake x j=red @12 a1\n push b x"), &["DOT"]);
    bad("put a k=red @10 a1\n put? b k=blue @11 b1\n fake x k=blue @10 a1\n push b x", &["DOT"]);
}

#[test]
fn two_acknowledged_writes_must_not_share_a_dot_even_if_alike() {
    bad("put a k=red @10 a1\n push a a1\n wipe a: ; b: a1\n put a k=red @10 a1", &["DOT"]);
    bad("put a k=red @10 a1\n wipe a: \n put a k=blue @11 a1", &["DOT"]);
}

// SAFE-GC

#[test]
fn a_delete_must_not_be_collected_before_every_member_has_covered_it() {
    let collects = |covered: &[u64]| {
        let mut ghost = judge("put a k=red @10 a1\n push a a1\n delete a k @11 a2\n push a a2");
        let dots = |seqs: &[u64]| seqs.iter().map(|&seq| Dot { origin: Origin(b'a'.into()), seq }).collect();
        ghost.collected(std::time::Duration::from_secs(9), "a", &dots(&[1, 2]), ("b", &dots(covered)));
        codes(&ghost)
    };

    assert_eq!(collects(&[1, 2]), [""; 0]);
    // What a delete replaced is nobody's loss.
    assert_eq!(collects(&[2]), [""; 0]);
    assert_eq!(collects(&[1]), ["SAFE-GC"]);
}

// HLC, TTL, REPLY, LOG

#[test]
fn a_write_must_be_stamped_later_than_what_its_node_held_under_the_key() {
    good("put b k=red @10 b1\n push b b1\n durable a b1\n put a k=blue @11 a1");
    bad("put b k=red @10 b1\n push b b1\n durable a b1\n put a k=blue @9 a1", &["HLC"]);
    good("put b k=red @10 b1\n push b b1\n put a k=blue @9 a1");
}

#[test]
fn with_sane_clocks_a_write_must_be_stamped_later_than_all_that_its_node_held() {
    let story = "put b j=red @10 b1\n push b b1\n durable a b1\n put a k=blue @9 a1";
    bad(&format!("clocks 100 100\n {story}"), &["HLC"]);
    good(&format!("clocks 100 60000\n {story}"));
    good(story);
}

#[test]
fn a_value_must_not_be_served_once_every_clock_is_past_its_deadline() {
    let story = "put a k=red @10 a1 ttl=200\n get a k = a1\n get a k = a1\n get a k = a1";
    good(&format!("clocks 300 0\n {story}"));
    bad(&format!("clocks 200 0\n {story}"), &["TTL"]);
    good("put a k=red @10 a1 ttl=200\n get a k = nothing");
}

#[test]
fn one_request_has_one_answer() {
    good("put? a k=red @10 a1\n ask 1 a k\n told 1 a1\n ask 2 a k\n told 2 a1");
    bad("put? a k=red @10 a1\n ask 1 a k\n told 1 a1\n told 1 a1", &["REPLY"]);
}

#[test]
fn a_node_that_cries_for_help_has_failed() {
    bad("error a", &["LOG"]);
    said("error a", expect!["LOG t=0.100s node=a: odd: look"]);
}

#[test]
fn the_counts_name_what_never_happened() {
    let ghost =
        judge("put a k=red @10 a1\n push a a1\n put b k=blue @10 b1\n push b b1\n delete? a k @20 a2");

    let counts = ghost.counts();

    assert_eq!(counts["acked_puts"], 2);
    assert_eq!(counts["equal_stamps"], 1);
    assert_eq!(counts["ties_by_author"], 1);
    assert_eq!(counts["unknown_outcomes"], 1);
    assert_eq!(counts["acked_deletes"], 0);
}

#[test]
fn one_failure_is_told_once_and_has_the_signature_of_its_kind() {
    let story = "put a k=red @10 a1\n holds a:\n get a k = nothing\n put a k=red @11 a2\n holds a:\n";

    let ghost = judge(story);

    let signatures: Vec<String> = ghost.violations().iter().map(|violation| violation.signature()).collect();
    assert_eq!(signatures, ["DUR/dump"]);
}

#[test]
fn a_run_that_breaks_everything_is_listed_up_to_a_bound() {
    let story: String = (0..100).map(|key| format!("put a k{key}=red @10 a{}\n", key + 1)).collect();

    let ghost = judge(&format!("{story} holds a:"));

    assert_eq!(ghost.violations().len(), super::VIOLATIONS_MAX);
}

#[test]
fn the_time_to_agree_counts_from_the_last_disagreement() {
    let mut ghost = judge("");
    let second = std::time::Duration::from_secs;
    ghost.quiet_from(second(10));

    ghost.compared(second(11), true);
    ghost.compared(second(12), false);
    assert_eq!(ghost.converged_after(), None);
    ghost.compared(second(13), true);
    ghost.compared(second(14), true);

    assert_eq!(ghost.converged_after(), Some(second(3)));
}

// VOTE

#[test]
fn a_collision_is_ruled_on_by_its_writers_only_and_no_ruling_is_voted_on() {
    let meet = "put a k=red @10 a1
         put b k=blue @10 b1
         push a a1
         push b b1
         fake a2 k=blue @10 a2 confirms=b1 ruling=2 joined=98
         fake b2 k=red @10 b2 confirms=a1 ruling=1 joined=97
         fake b3 k=red @10 b3 confirms=a1 ruling=3 joined=97
         fake b4 k=blue @10 b4 confirms=a2 ruling=4 joined=98
         push a a2";
    good(&format!("{meet}\n push b b2\n end a: a2 ; b: a2"));
    bad(&format!("{meet}\n push b b2\n push b b3\n end a: b3 ; b: b3"), &["VOTE"]);
    bad(&format!("{meet}\n push b b4\n end a: b4 ; b: b4"), &["NOINV"]);
}
