//! Policy `siblings` in a node's conversations: rows go whole, with what their holder has seen.

use expect_test::{Expect, expect};

use crate::testing::transcript::transcript;

fn check(script: &str, expected: Expect) {
    expected.assert_eq(&transcript(script));
}

#[test]
fn a_write_pushes_the_whole_row_and_a_token_replaces_what_it_names() {
    check(
        "
        set siblings s/
        meet b
        put s/k red
        put s/k blue
        put s/k purple saw=a1
        get s/k
        put s/k white saw=a2..3
        get s/k
        put other red
        ",
        expect![[r#"
            set siblings s/
            meet b
            put s/k red
              reply #0: ok @1000.1.a1 on 1
              send b: push-rows a1 : s/k=red @1000.1.a1
            put s/k blue
              reply #1: ok @1000.2.a2 on 1
              send b: push-rows a1..2 : s/k=red @1000.1.a1, s/k=blue @1000.2.a2
            put s/k purple saw=a1
              reply #2: ok @1000.3.a3 on 1
              send b: push-rows a1..3 : s/k=blue @1000.2.a2, s/k=purple @1000.3.a3
            get s/k
              reply #3: blue @1000.2.a2, purple @1000.3.a3, knowing a1..3
            put s/k white saw=a2..3
              reply #4: ok @1000.4.a4 on 1
              send b: push-rows a1..4 : s/k=white @1000.4.a4
            get s/k
              reply #5: white @1000.4.a4, knowing a1..4
            put other red
              reply #6: ok @1000.5.a5 on 1
              send b: push other=red @1000.5.a5
        "#]],
    );
}

#[test]
fn rows_of_peers_are_merged_by_what_each_side_has_seen() {
    check(
        "
        set siblings s/
        meet b
        put s/k red
        b: push-rows b1 : s/k=blue @1000.0.b1
        get s/k
        b: push-rows a1 b1..2 : s/k=green @1000.0.b2
        get s/k
        b: push-rows b1 : s/k=blue @1000.0.b1
        get s/k
        ",
        expect![[r#"
            set siblings s/
            meet b
            put s/k red
              reply #0: ok @1000.1.a1 on 1
              send b: push-rows a1 : s/k=red @1000.1.a1
            b: push-rows b1 : s/k=blue @1000.0.b1
              send b: durable b1
            get s/k
              reply #1: blue @1000.0.b1, red @1000.1.a1, knowing a1 b1
            b: push-rows a1 b1..2 : s/k=green @1000.0.b2
              send b: durable b2
            get s/k
              reply #2: green @1000.0.b2, knowing a1 b1..2
            b: push-rows b1 : s/k=blue @1000.0.b1
              send b: durable b1
            get s/k
              reply #3: green @1000.0.b2, knowing a1 b1..2
        "#]],
    );
}

#[test]
fn what_a_token_names_beyond_seen_goes_out_with_the_row_and_is_not_seen() {
    check(
        "
        set siblings s/
        meet b
        delete s/k saw=c1..2
        c: table
        c: step-end 0 parts 0 cover
        c: push-rows c1 : s/k=old @900.0.c1
        get s/k
        c: pull c1
        ",
        expect![[r#"
            set siblings s/
            meet b
            delete s/k saw=c1..2
              reply #0: ok @1000.1.a1 on 1
              send b: push-rows a1 : s/k deleted @1000.1.a1 replacing c1..2
            c: table
              event member-joined: c at c:7000
              send c: pull a1
            c: step-end 0 parts 0 cover
              send c: step-done 0
            c: push-rows c1 : s/k=old @900.0.c1
              send c: durable c1
            get s/k
              reply #1: absent, knowing a1 c1..2
            c: pull c1
              send c: step-rows 2333376235 part 0 a1 c1 : s/k deleted @1000.1.a1 replacing c2
              send c: step-end 2333376235 parts 1 cover a1
        "#]],
    );
}

#[test]
fn a_stream_takes_each_row_once_and_whole() {
    check(
        "
        set siblings s/
        meet c
        put s/k red
        put s/k blue
        put plain 1
        b: table
        b: pull
        b: step-done 0
        ",
        expect![[r#"
            set siblings s/
            meet c
            put s/k red
              reply #0: ok @1000.1.a1 on 1
              send c: push-rows a1 : s/k=red @1000.1.a1
            put s/k blue
              reply #1: ok @1000.2.a2 on 1
              send c: push-rows a1..2 : s/k=red @1000.1.a1, s/k=blue @1000.2.a2
            put plain 1
              reply #2: ok @1000.3.a3 on 1
              send c: push plain=1 @1000.3.a3
            b: table
              event member-joined: b at b:7000
              send b: pull a1..3
            b: pull
              send b: step 2333376235 part 0 plain=1 @1000.3.a3
              send b: step-rows 2333376235 part 1 a1..3 : s/k=red @1000.1.a1, s/k=blue @1000.2.a2
              send b: step-end 2333376235 parts 2 cover a1..3
            b: step-done 0
        "#]],
    );
}

#[test]
fn a_stream_brings_rows_and_its_cover_what_they_replaced() {
    check(
        "
        set siblings s/
        meet c
        b: table
        b: step 0 part 0 plain=1 @900.0.b4
        b: step-rows 0 part 1 b1..4 : s/k=blue @900.0.b2, s/k=red @900.0.b3
        b: step-end 0 parts 2 cover b1..4
        status
        get s/k
        ",
        expect![[r#"
            set siblings s/
            meet c
            b: table
              event member-joined: b at b:7000
              send b: pull
            b: step 0 part 0 plain=1 @900.0.b4
            b: step-rows 0 part 1 b1..4 : s/k=blue @900.0.b2, s/k=red @900.0.b3
            b: step-end 0 parts 2 cover b1..4
              send b: step-done 0
              event caught-up: took 2 entries from b
            status
              reply #0: a/1.0 clock 900.0, 4 dots
            get s/k
              reply #1: blue @900.0.b2, red @900.0.b3, knowing b1..4
        "#]],
    );
}

#[test]
fn what_is_not_the_keys_unit_of_exchange_is_dropped_and_counted() {
    check(
        "
        set siblings s/
        meet b
        b: push s/k=red @900.0.b1
        b: push-rows b1 : plain=red @900.0.b1
        get s/k
        get plain
        status
        ",
        expect![[r#"
            set siblings s/
            meet b
            b: push s/k=red @900.0.b1
              send b: durable
            b: push-rows b1 : plain=red @900.0.b1
              send b: durable
            get s/k
              reply #0: absent, knowing
            get plain
              reply #1: absent
            status
              reply #2: a/1.0 clock 0.0, 0 dots
        "#]],
    );
}

#[test]
fn a_row_waits_for_confirmations_as_an_entry_does() {
    check(
        "
        set siblings s/
        meet b
        put s/k red ack=2
        put s/k blue
        after 300ms
        b: durable a1
        ",
        expect![[r#"
            set siblings s/
            meet b
            put s/k red ack=2
              send b: push-rows a1 : s/k=red @1000.1.a1
            put s/k blue
              reply #1: ok @1000.2.a2 on 1
              send b: push-rows a1..2 : s/k=red @1000.1.a1, s/k=blue @1000.2.a2
            after 300ms
              1300 send b: push-rows a1..2 : s/k=red @1000.1.a1, s/k=blue @1000.2.a2
            b: durable a1
              reply #0: ok @1000.1.a1 on 2
        "#]],
    );
}
