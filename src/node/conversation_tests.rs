//! One node's conversations with its clients and peers, whole: an unwanted message is a visible line.
//! `UPDATE_EXPECT=1 cargo test` rewrites them; the difference is the review.

use expect_test::{Expect, expect};

use crate::testing::transcript;

#[track_caller]
fn check(script: &str, expected: Expect) {
    expected.assert_eq(&transcript(script));
}

#[test]
fn a_put_is_acknowledged_once_two_replicas_have_it() {
    check(
        "
        meet b c
        put k red ack=2
        b: durable a1
        b: durable a1
        c: durable a1
        ",
        expect![[r#"
            meet b c
            put k red ack=2
              send b: push k=red @1000.1.a1
              send c: push k=red @1000.1.a1
            b: durable a1
              reply #0: ok @1000.1.a1 on 2
            b: durable a1
            c: durable a1
        "#]],
    );
}

#[test]
fn confirmations_are_counted_by_node_and_not_by_message() {
    check(
        "
        meet b c
        put k red ack=3
        b: durable a1
        b: again
        c: durable a1
        ",
        expect![[r#"
            meet b c
            put k red ack=3
              send b: push k=red @1000.1.a1
              send c: push k=red @1000.1.a1
            b: durable a1
            b: again
            c: durable a1
              reply #0: ok @1000.1.a1 on 3
        "#]],
    );
}

#[test]
fn a_write_that_too_few_confirm_stays_and_says_so() {
    check(
        "
        meet b c
        put k red ack=3 timeout=500ms
        b: durable a1
        after 500ms
        get k
        c: durable a1
        ",
        expect![[r#"
            meet b c
            put k red ack=3 timeout=500ms
              send b: push k=red @1000.1.a1
              send c: push k=red @1000.1.a1
            b: durable a1
            after 500ms
              1300 send c: push k=red @1000.1.a1
              1500 reply #0: refused: stored here, but on 2 of 3 nodes within the timeout
            get k
              reply #1: red @1000.1.a1
            c: durable a1
        "#]],
    );
}

#[test]
fn what_waits_for_a_peer_is_pushed_to_it_again_in_one_piece() {
    check(
        "
        meet b c
        put k red ack=3
        put l blue ack=3
        c: durable a1
        after 300ms
        ",
        expect![[r#"
            meet b c
            put k red ack=3
              send b: push k=red @1000.1.a1
              send c: push k=red @1000.1.a1
            put l blue ack=3
              send b: push l=blue @1000.2.a2
              send c: push l=blue @1000.2.a2
            c: durable a1
            after 300ms
              1300 send b: push k=red @1000.1.a1, l=blue @1000.2.a2
              1300 send c: push l=blue @1000.2.a2
        "#]],
    );
}

#[test]
fn more_confirmations_than_members_are_refused_and_nothing_is_stored() {
    check(
        "
        meet b
        put k red ack=3
        get k
        ",
        expect![[r#"
            meet b
            put k red ack=3
              reply #0: refused: ack=3 is more than the 2 members of the cluster
            get k
              reply #1: absent
        "#]],
    );
}

#[test]
fn a_delete_of_an_unknown_key_writes_a_tombstone() {
    check(
        "
        meet b
        delete k
        get k
        b: push k=old @900.1.b1
        get k
        ",
        expect![[r#"
            meet b
            delete k
              reply #0: ok @1000.1.a1 on 1
              send b: news a/1.1
              send b: push k deleted @1000.1.a1
            get k
              reply #1: absent
            b: push k=old @900.1.b1
              send b: durable b1
            get k
              reply #2: absent
        "#]],
    );
}

#[test]
fn a_read_only_node_refuses_writes_and_takes_replication() {
    check(
        "
        set read-only
        meet b
        put k red
        delete k
        b: push k=blue @1000.1.b1
        get k
        ",
        expect![[r#"
            set read-only
            meet b
            put k red
              reply #0: refused: this node is ReadOnly and takes no writes
            delete k
              reply #1: refused: this node is ReadOnly and takes no writes
            b: push k=blue @1000.1.b1
              send b: durable b1
            get k
              reply #2: blue @1000.1.b1
        "#]],
    );
}

#[test]
fn an_older_push_loses_and_is_confirmed_all_the_same() {
    check(
        "
        meet b
        put k red
        b: push k=older @900.1.b1
        get k
        ",
        expect![[r#"
            meet b
            put k red
              reply #0: ok @1000.1.a1 on 1
              send b: news a/1.1
              send b: push k=red @1000.1.a1
            b: push k=older @900.1.b1
              send b: durable b1
            get k
              reply #1: red @1000.1.a1
        "#]],
    );
}

#[test]
fn a_push_that_arrives_twice_is_confirmed_twice_and_changes_nothing() {
    check(
        "
        meet b
        b: push k=red @1000.1.b1
        b: again
        status
        ",
        expect![[r#"
            meet b
            b: push k=red @1000.1.b1
              send b: durable b1
            b: again
              send b: durable b1
            status
              reply #0: a/1.0 clock 1000.1, 1 dots
        "#]],
    );
}

#[test]
fn a_hole_between_pushes_is_asked_for_unless_it_was_mere_reordering() {
    check(
        "
        meet b
        b: push k=red @1000.1.b1
        b: push m=blue @1000.3.b3
        after 30ms
        b: push l=green @1000.2.b2
        after 100ms
        b: push o=grey @1000.5.b5
        after 100ms
        ",
        expect![[r#"
            meet b
            b: push k=red @1000.1.b1
              send b: durable b1
            b: push m=blue @1000.3.b3
              send b: durable b3
            after 30ms
            b: push l=green @1000.2.b2
              send b: durable b2
            after 100ms
            b: push o=grey @1000.5.b5
              send b: durable b5
            after 100ms
              1180 send b: pull b1..3 b5
        "#]],
    );
}

#[test]
fn the_first_pushes_of_an_origin_can_be_the_hole() {
    check(
        "
        meet b
        b: push l=green @1000.2.b2
        after 100ms
        ",
        expect![[r#"
            meet b
            b: push l=green @1000.2.b2
              send b: durable b2
            after 100ms
              1050 send b: pull b2
        "#]],
    );
}

#[test]
fn a_pull_takes_two_steps_and_is_told_what_was_overwritten_by_the_closing_cover() {
    check(
        "
        meet b
        b: ping ahead
        b: step 0 part 1 l=blue @900.3.b3
        b: step 0 part 0 k=red @900.1.b1
        b: step-end 0 parts 2
        b: step 1 part 0 m=green @900.5.b5
        status
        b: step-end 1 parts 1 cover b1..5
        status
        get l
        ",
        expect![[r#"
            meet b
            b: ping ahead
              send b: pong a/1.0
              event bootstrap-begins: taking what the peers hold
              send b: news a/1.1
              send b: pull
            b: step 0 part 1 l=blue @900.3.b3
            b: step 0 part 0 k=red @900.1.b1
            b: step-end 0 parts 2
              send b: step-done 0
            b: step 1 part 0 m=green @900.5.b5
            status
              reply #0: a/1.1 clock 900.5, 3 dots
            b: step-end 1 parts 1 cover b1..5
              send b: step-done 1
              event caught-up: took 3 entries from b
            status
              event bootstrap-ends: took 3 entries; writes are welcome
              reply #1: a/1.2 clock 900.5, 5 dots
            get l
              reply #2: blue @900.3.b3
        "#]],
    );
}

#[test]
fn a_step_is_complete_once_each_of_its_parts_is_there() {
    check(
        "
        meet b
        b: ping ahead
        b: step 0 part 0 k=red @900.1.b1
        b: again
        b: step 0 part 7 l=blue @900.2.b2
        b: step-end 0 parts 2
        b: step 0 part 1 m=green @900.3.b3
        ",
        expect![[r#"
            meet b
            b: ping ahead
              send b: pong a/1.0
              event bootstrap-begins: taking what the peers hold
              send b: news a/1.1
              send b: pull
            b: step 0 part 0 k=red @900.1.b1
            b: again
            b: step 0 part 7 l=blue @900.2.b2
            b: step-end 0 parts 2
            b: step 0 part 1 m=green @900.3.b3
              send b: step-done 0
        "#]],
    );
}

#[test]
fn two_answers_to_one_pull_are_not_taken_for_one() {
    check(
        "
        meet b
        b: ping ahead
        b: step 7 part 0 k=red @900.1.b1
        b: step-end 90 parts 1 cover b1..3
        status
        b: step-end 7 parts 1
        ",
        expect![[r#"
            meet b
            b: ping ahead
              send b: pong a/1.0
              event bootstrap-begins: taking what the peers hold
              send b: news a/1.1
              send b: pull
            b: step 7 part 0 k=red @900.1.b1
            b: step-end 90 parts 1 cover b1..3
            status
              reply #0: a/1.1 clock 900.1, 1 dots
            b: step-end 7 parts 1
              send b: step-done 7
        "#]],
    );
}

#[test]
fn a_stream_with_an_entry_that_nobody_can_have_made_covers_nothing_and_fails() {
    check(
        "
        meet b
        b: ping ahead
        b: step 0 part 0 k=red @900.1.b1, l=blue @900.2.b0
        b: step-end 0 parts 1 cover b1..5
        status
        after 1s
        ",
        expect![[r#"
            meet b
            b: ping ahead
              send b: pong a/1.0
              event bootstrap-begins: taking what the peers hold
              send b: news a/1.1
              send b: pull
            b: step 0 part 0 k=red @900.1.b1, l=blue @900.2.b0
              event entry-malformed: b streams an entry that no node can have made: l
            b: step-end 0 parts 1 cover b1..5
            status
              reply #0: a/1.1 clock 900.1, 1 dots
            after 1s
              1236 send b: pull b1
        "#]],
    );
}

#[test]
fn a_stream_that_falls_silent_fails_and_is_tried_again_after_a_growing_wait() {
    check(
        "
        meet b
        b: ping ahead
        after 4s
        b: ping ahead
        after 5s
        b: step 0 part 0 k=red @900.1.b1
        b: step-end 0 parts 1 cover b1
        after 60s
        ",
        expect![[r#"
            meet b
            b: ping ahead
              send b: pong a/1.0
              event bootstrap-begins: taking what the peers hold
              send b: news a/1.1
              send b: pull
            after 4s
              3236 send b: pull
            b: ping ahead
              send b: pong a/1.1
            after 5s
              5604 send b: pull
              8263 send b: pull
            b: step 0 part 0 k=red @900.1.b1
            b: step-end 0 parts 1 cover b1
              send b: step-done 0
              event caught-up: took 1 entries from b
            after 60s
              11000 event bootstrap-ends: took 1 entries; writes are welcome
        "#]],
    );
}

#[test]
fn a_stream_is_served_in_steps_each_after_the_one_before_is_durable() {
    check(
        "
        meet b
        put k red
        put k blue
        put l green
        b: pull credit 1
        b: step-done 2611669496
        b: again
        b: step-done 2611669497
        ",
        expect![[r#"
            meet b
            put k red
              reply #0: ok @1000.1.a1 on 1
              send b: news a/1.1
              send b: push k=red @1000.1.a1
            put k blue
              reply #1: ok @1000.2.a2 on 1
              send b: push k=blue @1000.2.a2
            put l green
              reply #2: ok @1000.3.a3 on 1
              send b: push l=green @1000.3.a3
            b: pull credit 1
              send b: step 2611669496 part 0 k=blue @1000.2.a2
              send b: step-end 2611669496 parts 1
            b: step-done 2611669496
              send b: step 2611669497 part 0 l=green @1000.3.a3
              send b: step-end 2611669497 parts 1 cover a1 a3
            b: again
            b: step-done 2611669497
        "#]],
    );
}

#[test]
fn a_stranger_has_to_show_its_record_before_its_data_counts() {
    check(
        "
        b: push k=red @1000.1.b1
        get k
        b: ping ahead
        b: meet
        b: push k=red @1000.1.b1
        get k
        ",
        expect![[r#"
            b: push k=red @1000.1.b1
            get k
              reply #0: absent
            b: ping ahead
              event member-joined: b at b:7000
              send b: table answer a/1.0 b/1.0
              send b: pong a/1.0
              event bootstrap-begins: taking what the peers hold
              send b: news a/1.1
              send b: meet
            b: meet
              send b: pull
            b: push k=red @1000.1.b1
              send b: durable b1
            get k
              reply #1: red @1000.1.b1
        "#]],
    );
}

#[test]
fn a_member_known_by_hearsay_is_asked_for_data_with_its_own_first_word() {
    check(
        "
        b: table c/1.0
        b: meet
        b: step-end 0 parts 0 cover
        c: pong
        c: meet
        ",
        expect![[r#"
            b: table c/1.0
              event member-joined: b at b:7000
              event member-joined: c at c:7000
              send b: news a/1.0 c/1.0
              send c: news a/1.0 b/1.0
              send b: meet
            b: meet
              send b: pull
            b: step-end 0 parts 0 cover
              send b: step-done 0
            c: pong
              send c: meet
            c: meet
              send c: pull
        "#]],
    );
}

#[test]
fn a_node_called_suspect_or_down_says_that_it_lives() {
    check(
        "
        meet b
        b: ping a/1.0-suspect
        b: ping a/1.0-suspect
        b: ping a/1.1-down
        ",
        expect![[r#"
            meet b
            b: ping a/1.0-suspect
              send b: pong a/1.1
              send b: news a/1.1
            b: ping a/1.0-suspect
              send b: pong a/1.1
            b: ping a/1.1-down
              send b: pong a/1.2
        "#]],
    );
}

#[test]
fn a_peer_that_does_not_answer_becomes_suspect_then_down_and_is_welcomed_back() {
    check(
        "
        set probe 1s
        meet b
        after 7s
        b: ping b/1.1
        ",
        expect![[r#"
            set probe 1s
            meet b
            after 7s
              2000 send b: ping a/1.0
              2500 send b: ping a/1.0
              3000 send b: ping a/1.0
              3500 send b: ping a/1.0
              4000 event member-suspect: b at b:7000
              4000 send b: ping a/1.0 b/1.0-suspect
              4500 send b: ping a/1.0 b/1.0-suspect
              5000 send b: ping a/1.0 b/1.0-suspect
              5500 send b: ping a/1.0 b/1.0-suspect
              6000 send b: ping a/1.0 b/1.0-suspect
              6500 event member-down: b at b:7000
              7000 send b: ping a/1.0 b/1.0-down
              8000 send b: ping a/1.0 b/1.0-down
            b: ping b/1.1
              event member-back: b at b:7000
              send b: pong a/1.0
              send b: meet
              send b: pull
        "#]],
    );
}

#[test]
fn a_wiped_node_learns_from_a_peer_which_life_it_is_in() {
    check(
        "
        meet b
        put k red
        wipe
        b: table a/5.1
        b: meet
        status
        put k blue
        ",
        expect![[r#"
            meet b
            put k red
              reply #0: ok @1000.1.a1 on 1
              send b: news a/1.1
              send b: push k=red @1000.1.a1
            wipe
            b: table a/5.1
              event member-joined: b at b:7000
              send b: news a/6.0
              send b: meet
            b: meet
              send b: pull
            status
              reply #1: a/6.0 clock 0.0, 0 dots
            put k blue
              reply #2: ok @1000.1.a'1 on 1
              send b: push k=blue @1000.1.a'1
        "#]],
    );
}

#[test]
fn a_restart_begins_a_new_life_and_a_new_origin_and_asks_at_once_what_it_missed() {
    check(
        "
        meet b
        put k red
        put l blue
        restart
        b: table a/2.0
        b: meet
        put k green
        ",
        expect![[r#"
            meet b
            put k red
              reply #0: ok @1000.1.a1 on 1
              send b: news a/1.1
              send b: push k=red @1000.1.a1
            put l blue
              reply #1: ok @1000.2.a2 on 1
              send b: push l=blue @1000.2.a2
            restart
              1000 send b: table answer a/2.0 b/1.0
            b: table a/2.0
              send b: meet seen a1..2
            b: meet
              send b: pull a1..2
            put k green
              reply #2: ok @1000.3.a'1 on 1
              send b: news a/2.1
              send b: push k=green @1000.3.a'1
        "#]],
    );
}

#[test]
fn a_node_that_leaves_without_anybody_to_hand_over_to_waits_and_stays() {
    check(
        "
        set probe 4s
        meet b
        put k red
        after 12s
        leave
        after 10s
        put k blue
        ",
        expect![[r#"
            set probe 4s
            meet b
            put k red
              reply #0: ok @1000.1.a1 on 1
              send b: news a/1.1
              send b: push k=red @1000.1.a1
            after 12s
              1800 send b: news a/1.1
              2600 send b: news a/1.1
              3400 send b: news a/1.1
              4200 send b: news a/1.1
              5000 send b: ping a/1.1
              7000 send b: ping a/1.1
              9000 send b: ping a/1.1
              11000 send b: ping a/1.1
              13000 event member-suspect: b at b:7000
              13000 send b: ping a/1.1 b/1.0-suspect
            leave
              send b: news unreached b a/1.2 b/1.0-suspect
            after 10s
              13800 send b: news unreached b a/1.2 b/1.0-suspect
              14600 send b: news unreached b a/1.2 b/1.0-suspect
              15000 send b: ping a/1.2 b/1.0-suspect
              15400 send b: news unreached b a/1.2 b/1.0-suspect
              15500 event member-down: b at b:7000
              17000 send b: ping a/1.2 b/1.0-down
              21000 send b: ping a/1.2 b/1.0-down
              23000 event leave-unconfirmed: nobody confirmed to hold all that this node holds, so it stays; bring back a member, or force it
              23000 reply #1: refused: nobody confirmed to hold all that this node holds, so it stays; bring back a member, or force it
            put k blue
              reply #2: ok @23000.1.a2 on 1
        "#]],
    );
}

#[test]
fn a_node_that_is_forced_to_leave_without_anybody_to_hand_over_to_waits_and_says_so() {
    check(
        "
        set probe 4s
        meet b
        put k red
        after 12s
        leave force
        after 10s
        ",
        expect![[r#"
            set probe 4s
            meet b
            put k red
              reply #0: ok @1000.1.a1 on 1
              send b: news a/1.1
              send b: push k=red @1000.1.a1
            after 12s
              1800 send b: news a/1.1
              2600 send b: news a/1.1
              3400 send b: news a/1.1
              4200 send b: news a/1.1
              5000 send b: ping a/1.1
              7000 send b: ping a/1.1
              9000 send b: ping a/1.1
              11000 send b: ping a/1.1
              13000 event member-suspect: b at b:7000
              13000 send b: ping a/1.1 b/1.0-suspect
            leave force
              send b: news unreached b a/1.2 b/1.0-suspect
            after 10s
              13800 send b: news unreached b a/1.2 b/1.0-suspect
              14600 send b: news unreached b a/1.2 b/1.0-suspect
              15000 send b: ping a/1.2 b/1.0-suspect
              15400 send b: news unreached b a/1.2 b/1.0-suspect
              15500 event member-down: b at b:7000
              17000 send b: ping a/1.2 b/1.0-down
              21000 send b: ping a/1.2 b/1.0-down
              23000 event left-unconfirmed: nobody confirmed to hold all that this node holds
              23000 reply #1: done
              23000 stop
        "#]],
    );
}

#[test]
fn an_expired_value_reads_as_absent_and_stays_a_version() {
    check(
        "
        meet b
        put k red ttl=1s
        get k
        after 1s
        get k
        b: push k=older @900.1.b1
        get k
        ",
        expect![[r#"
            meet b
            put k red ttl=1s
              reply #0: ok @1000.1.a1 on 1
              send b: news a/1.1
              send b: push k=red @1000.1.a1 until 2000
            get k
              reply #1: red @1000.1.a1
            after 1s
            get k
              reply #2: absent
            b: push k=older @900.1.b1
              send b: durable b1
            get k
              reply #3: absent
        "#]],
    );
}

#[test]
fn a_stamp_from_the_far_future_orders_its_own_key_and_leaves_the_clock_alone() {
    check(
        "
        meet b
        b: push k=future @9999000.7.b1
        status
        put l red
        put k blue
        put m green
        get k
        ",
        expect![[r#"
            meet b
            b: push k=future @9999000.7.b1
              send b: durable b1
            status
              reply #0: a/1.0 clock 0.0, 1 dots, 1 far ahead
            put l red
              reply #1: ok @1000.1.a1 on 1
              send b: news a/1.1
              send b: push l=red @1000.1.a1
            put k blue
              reply #2: ok @9999000.8.a2 on 1
              send b: push k=blue @9999000.8.a2
            put m green
              reply #3: ok @1000.2.a3 on 1
              send b: push m=green @1000.2.a3
            get k
              reply #4: blue @9999000.8.a2
        "#]],
    );
}
