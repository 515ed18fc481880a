//! Votes on timestamp collisions as one node lives them: what it asks, what it answers, what it makes of it.

use expect_test::{Expect, expect};

use crate::testing::transcript;

#[track_caller]
fn check(script: &str, expected: Expect) {
    expected.assert_eq(&transcript(script));
}

#[test]
fn the_writer_of_the_winner_asks_at_once_and_confirms_what_most_held_first() {
    check(
        "
        meet b c
        put k red
        b: push k=blue @1000.1.b1 joined 2000
        b: answer b1
        c: answer b1
        get k
        ",
        expect![[r#"
            meet b c
            put k red
              reply #0: ok @1000.1.a1 on 1
              send b: push k=red @1000.1.a1
              send c: push k=red @1000.1.a1
            b: push k=blue @1000.1.b1 joined 2000
              event collision: k: 0b109508e4ca8a6d:1 and 0000000000000062:1 have the stamp 1000000.1
              send b: ask k a1 b1
              send c: ask k a1 b1
              send b: durable b1
            b: answer b1
            c: answer b1
              event collision-vote: k: 1 to 2 for 0b109508e4ca8a6d:1 against 0000000000000062:1
              event ruling: k: 0b109508e4ca8a6d:2 confirms 0000000000000062:1 with 2 votes
              send b: push k=blue @1000.1.a2 ruling 2 of b1
              send c: push k=blue @1000.1.a2 ruling 2 of b1
            get k
              reply #1: blue @1000.1.a2
        "#]],
    );
}

#[test]
fn the_writer_of_the_loser_asks_only_if_nothing_came() {
    check(
        "
        meet b c
        put k red
        b: push k=blue @1000.1.b1
        after 5900ms
        after 200ms
        b: answer a1
        c: answer
        get k
        ",
        expect![[r#"
            meet b c
            put k red
              reply #0: ok @1000.1.a1 on 1
              send b: push k=red @1000.1.a1
              send c: push k=red @1000.1.a1
            b: push k=blue @1000.1.b1
              event collision: k: 0b109508e4ca8a6d:1 and 0000000000000062:1 have the stamp 1000000.1
              send b: durable b1
            after 5900ms
            after 200ms
              7000 send b: ask k b1 a1
              7000 send c: ask k b1 a1
            b: answer a1
            c: answer
              event collision-vote: k: 0 to 2 for 0000000000000062:1 against 0b109508e4ca8a6d:1
              event ruling: k: 0b109508e4ca8a6d:2 confirms 0b109508e4ca8a6d:1 with 2 votes
              send b: push k=red @1000.1.a2 ruling 2 of a1
              send c: push k=red @1000.1.a2 ruling 2 of a1
            get k
              reply #1: red @1000.1.a2
        "#]],
    );
}

#[test]
fn the_writer_of_the_loser_is_silent_once_a_ruling_came() {
    check(
        "
        meet b c
        put k red
        b: push k=blue @1000.1.b1
        b: push k=blue @1000.1.b2 ruling 2 of b1
        after 20s
        get k
        ",
        expect![[r#"
            meet b c
            put k red
              reply #0: ok @1000.1.a1 on 1
              send b: push k=red @1000.1.a1
              send c: push k=red @1000.1.a1
            b: push k=blue @1000.1.b1
              event collision: k: 0b109508e4ca8a6d:1 and 0000000000000062:1 have the stamp 1000000.1
              send b: durable b1
            b: push k=blue @1000.1.b2 ruling 2 of b1
              send b: durable b2
            after 20s
            get k
              reply #1: blue @1000.1.b2
        "#]],
    );
}

#[test]
fn who_wrote_neither_only_answers_what_it_held_first() {
    check(
        "
        meet b c
        c: push k=green @1000.1.c1
        b: ask 7 k b1 c1
        b: push k=blue @1000.1.b1
        b: ask 8 k b1 c1
        b: ask 9 k b1 d1
        b: ask 10 l b1 c1
        ",
        expect![[r#"
            meet b c
            c: push k=green @1000.1.c1
              send c: durable c1
            b: ask 7 k b1 c1
              send b: answer c1
            b: push k=blue @1000.1.b1
              event collision: k: 0000000000000063:1 and 0000000000000062:1 have the stamp 1000000.1
              send b: durable b1
            b: ask 8 k b1 c1
              send b: answer c1
            b: ask 9 k b1 d1
              send b: answer b1
            b: ask 10 l b1 c1
              send b: answer
        "#]],
    );
}

#[test]
fn after_a_restart_nobody_asks_and_who_forgot_abstains() {
    check(
        "
        meet b c
        put k red
        b: push k=blue @1000.1.b1 joined 2000
        restart
        meet b c
        b: ask 7 k a1 b1
        after 20s
        ",
        expect![[r#"
            meet b c
            put k red
              reply #0: ok @1000.1.a1 on 1
              send b: push k=red @1000.1.a1
              send c: push k=red @1000.1.a1
            b: push k=blue @1000.1.b1 joined 2000
              event collision: k: 0b109508e4ca8a6d:1 and 0000000000000062:1 have the stamp 1000000.1
              send b: ask k a1 b1
              send c: ask k a1 b1
              send b: durable b1
            restart
              1000 send b: table answer a/2.0 b/1.0 c/1.0
              1000 send c: table answer a/2.0 b/1.0 c/1.0
            meet b c
            b: ask 7 k a1 b1
              send b: answer
            after 20s
        "#]],
    );
}

#[test]
fn a_poll_ends_in_time_whoever_is_silent_and_a_tie_goes_to_the_older_author() {
    check(
        "
        meet b c
        put k red
        b: push k=blue @1000.1.b1 joined 2000
        b: answer b1
        after 4900ms
        after 200ms
        ",
        expect![[r#"
            meet b c
            put k red
              reply #0: ok @1000.1.a1 on 1
              send b: push k=red @1000.1.a1
              send c: push k=red @1000.1.a1
            b: push k=blue @1000.1.b1 joined 2000
              event collision: k: 0b109508e4ca8a6d:1 and 0000000000000062:1 have the stamp 1000000.1
              send b: ask k a1 b1
              send c: ask k a1 b1
              send b: durable b1
            b: answer b1
            after 4900ms
            after 200ms
              6000 event collision-vote: k: 1 to 1 for 0b109508e4ca8a6d:1 against 0000000000000062:1
              6000 event ruling: k: 0b109508e4ca8a6d:2 confirms 0b109508e4ca8a6d:1 with 1 votes
              6000 send b: push k=red @1000.1.a2 ruling 1 of a1
              6000 send c: push k=red @1000.1.a2 ruling 1 of a1
        "#]],
    );
}

#[test]
fn a_repeated_answer_and_one_that_names_neither_count_for_nothing() {
    check(
        "
        meet b c
        put k red
        b: push k=blue @1000.1.b1 joined 2000
        b: answer b1
        b: answer b1
        c: answer d1
        b: again
        ",
        expect![[r#"
            meet b c
            put k red
              reply #0: ok @1000.1.a1 on 1
              send b: push k=red @1000.1.a1
              send c: push k=red @1000.1.a1
            b: push k=blue @1000.1.b1 joined 2000
              event collision: k: 0b109508e4ca8a6d:1 and 0000000000000062:1 have the stamp 1000000.1
              send b: ask k a1 b1
              send c: ask k a1 b1
              send b: durable b1
            b: answer b1
            b: answer b1
            c: answer d1
              event collision-vote: k: 1 to 1 for 0b109508e4ca8a6d:1 against 0000000000000062:1
              event ruling: k: 0b109508e4ca8a6d:2 confirms 0b109508e4ca8a6d:1 with 1 votes
              send b: push k=red @1000.1.a2 ruling 1 of a1
              send c: push k=red @1000.1.a2 ruling 1 of a1
            b: again
        "#]],
    );
}

#[test]
fn a_vote_that_was_overtaken_by_a_later_write_or_a_delete_is_dropped() {
    check(
        "
        meet b
        put k red
        b: push k=blue @1000.1.b1 joined 2000
        delete k
        b: answer b1
        get k
        ",
        expect![[r#"
            meet b
            put k red
              reply #0: ok @1000.1.a1 on 1
              send b: news a/1.1
              send b: push k=red @1000.1.a1
            b: push k=blue @1000.1.b1 joined 2000
              event collision: k: 9daa99e082ffa47e:1 and 0000000000000062:1 have the stamp 1000000.1
              send b: ask k a1 b1
              send b: durable b1
            delete k
              reply #1: ok @1000.2.a2 on 1
              send b: push k deleted @1000.2.a2
            b: answer b1
              event collision-vote: k: 1 to 1 for 9daa99e082ffa47e:1 against 0000000000000062:1
            get k
              reply #2: absent
        "#]],
    );
}

#[test]
fn a_delete_of_the_same_stamp_is_not_voted_on_and_neither_is_a_ruling() {
    check(
        "
        meet b
        put k red
        b: push k deleted @1000.1.b1
        put l red
        b: push l=blue @1000.2.b2 joined 2000 ruling 1 of b9
        after 20s
        ",
        expect![[r#"
            meet b
            put k red
              reply #0: ok @1000.1.a1 on 1
              send b: news a/1.1
              send b: push k=red @1000.1.a1
            b: push k deleted @1000.1.b1
              send b: durable b1
            put l red
              reply #1: ok @1000.2.a2 on 1
              send b: push l=red @1000.2.a2
            b: push l=blue @1000.2.b2 joined 2000 ruling 1 of b9
              send b: durable b2
            after 20s
        "#]],
    );
}

#[test]
fn three_values_of_one_stamp_are_asked_about_by_pairs_until_one_is_ruled() {
    check(
        "
        meet b c
        put k red
        b: push k=blue @1000.1.b1 joined 2000
        c: push k=green @1000.1.c1 joined 3000
        b: answer b1
        c: answer b1
        b: answer b1
        c: answer c1
        after 20s
        get k
        ",
        expect![[r#"
            meet b c
            put k red
              reply #0: ok @1000.1.a1 on 1
              send b: push k=red @1000.1.a1
              send c: push k=red @1000.1.a1
            b: push k=blue @1000.1.b1 joined 2000
              event collision: k: 0b109508e4ca8a6d:1 and 0000000000000062:1 have the stamp 1000000.1
              send b: ask k a1 b1
              send c: ask k a1 b1
              send b: durable b1
            c: push k=green @1000.1.c1 joined 3000
              event collision: k: 0b109508e4ca8a6d:1 and 0000000000000063:1 have the stamp 1000000.1
              send b: ask k a1 c1
              send c: ask k a1 c1
              send c: durable c1
            b: answer b1
            c: answer b1
              event collision-vote: k: 1 to 0 for 0b109508e4ca8a6d:1 against 0000000000000063:1
              event ruling: k: 0b109508e4ca8a6d:2 confirms 0b109508e4ca8a6d:1 with 1 votes
              send b: push k=red @1000.1.a2 ruling 1 of a1
              send c: push k=red @1000.1.a2 ruling 1 of a1
            b: answer b1
            c: answer c1
            after 20s
              6000 event collision-vote: k: 1 to 0 for 0b109508e4ca8a6d:1 against 0000000000000062:1
            get k
              reply #1: red @1000.1.a2
        "#]],
    );
}

#[test]
fn a_ruling_keeps_the_deadline_of_the_write_that_it_confirms() {
    check(
        "
        meet b c
        put k red
        b: push k=blue @1000.1.b1 joined 2000 until 9000
        b: answer b1
        c: answer b1
        ",
        expect![[r#"
            meet b c
            put k red
              reply #0: ok @1000.1.a1 on 1
              send b: push k=red @1000.1.a1
              send c: push k=red @1000.1.a1
            b: push k=blue @1000.1.b1 joined 2000 until 9000
              event collision: k: 0b109508e4ca8a6d:1 and 0000000000000062:1 have the stamp 1000000.1
              send b: ask k a1 b1
              send c: ask k a1 b1
              send b: durable b1
            b: answer b1
            c: answer b1
              event collision-vote: k: 1 to 2 for 0b109508e4ca8a6d:1 against 0000000000000062:1
              event ruling: k: 0b109508e4ca8a6d:2 confirms 0000000000000062:1 with 2 votes
              send b: push k=blue @1000.1.a2 until 9000 ruling 2 of b1
              send c: push k=blue @1000.1.a2 until 9000 ruling 2 of b1
        "#]],
    );
}

#[test]
fn the_older_author_alone_decides_where_votes_are_off() {
    check(
        "
        set oldest
        meet b
        put k red
        b: push k=blue @1000.1.b1 joined 2000
        b: ask 7 k a1 b1
        after 20s
        get k
        ",
        expect![[r#"
            set oldest
            meet b
            put k red
              reply #0: ok @1000.1.a1 on 1
              send b: news a/1.1
              send b: push k=red @1000.1.a1
            b: push k=blue @1000.1.b1 joined 2000
              event collision: k: 9daa99e082ffa47e:1 and 0000000000000062:1 have the stamp 1000000.1
              send b: durable b1
            b: ask 7 k a1 b1
              send b: answer a1
            after 20s
            get k
              reply #1: red @1000.1.a1
        "#]],
    );
}
