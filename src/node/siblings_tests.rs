//! Policy `siblings` in a node's conversations: every version travels by itself and names what it replaces.

use expect_test::{Expect, expect};

use crate::testing::transcript::transcript;

fn check(script: &str, expected: Expect) {
    expected.assert_eq(&transcript(script));
}

#[test]
fn a_token_replaces_what_it_names_and_nothing_else() {
    check(
        "
        set siblings s/
        meet b
        put s/k red
        put s/k blue
        put s/k purple saw=a1
        get s/k
        put s/k white saw=a1..3
        get s/k
        put other red
        ",
        expect![[r#"
            set siblings s/
            meet b
            put s/k red
              reply #0: ok @1000.1.a1 on 1
              send b: news a/1.1
            put s/k blue
              reply #1: ok @1000.2.a2 on 1
              event siblings-concurrent: s/k: 2 concurrent values
            put s/k purple saw=a1
              reply #2: ok @1000.3.a3 on 1
            get s/k
              reply #3: blue @1000.2.a2, purple @1000.3.a3, knowing a1..3
            put s/k white saw=a1..3
              reply #4: ok @1000.4.a4 on 1
            get s/k
              reply #5: white @1000.4.a4, knowing a1..4
            put other red
              reply #6: ok @1000.5.a5 on 1
        "#]],
    );
}

#[test]
fn versions_of_peers_stay_beside_those_they_did_not_see() {
    check(
        "
        set siblings s/
        meet b
        put s/k red
        b: push s/k=blue @1000.0.b1
        get s/k
        b: push s/k=green @1000.0.b2 replacing a1+b1
        get s/k
        b: push s/k=blue @1000.0.b1
        get s/k
        ",
        expect![[r#"
            set siblings s/
            meet b
            put s/k red
              reply #0: ok @1000.1.a1 on 1
              send b: news a/1.1
            b: push s/k=blue @1000.0.b1
            get s/k
              reply #1: red @1000.1.a1, knowing a1
            b: push s/k=green @1000.0.b2 replacing a1+b1
            get s/k
              reply #2: red @1000.1.a1, knowing a1
            b: push s/k=blue @1000.0.b1
            get s/k
              reply #3: red @1000.1.a1, knowing a1
        "#]],
    );
}

#[test]
fn what_a_token_names_and_the_node_has_not_seen_is_replaced_when_it_comes() {
    check(
        "
        set siblings s/
        meet b
        delete s/k saw=b1..2
        status
        b: push s/k=old @900.0.b1
        get s/k
        ",
        expect![[r#"
            set siblings s/
            meet b
            delete s/k saw=b1..2
              reply #0: ok @1000.1.a1 on 1
              send b: news a/1.1
            status
              reply #1: a/1.1 clock 1000.1, 1 dots
            b: push s/k=old @900.0.b1
            get s/k
              reply #2: absent, knowing a1 b1..2
        "#]],
    );
}

#[test]
fn a_stream_takes_each_version_by_itself() {
    check(
        "
        set siblings s/
        meet c
        put s/k red
        put s/k blue
        put plain 1
        b: table
        b: meet
        b: pull
        b: step-done 0
        ",
        expect![[r#"
            set siblings s/
            meet c
            put s/k red
              reply #0: ok @1000.1.a1 on 1
              send c: news a/1.1
            put s/k blue
              reply #1: ok @1000.2.a2 on 1
              event siblings-concurrent: s/k: 2 concurrent values
            put plain 1
              reply #2: ok @1000.3.a3 on 1
            b: table
              event member-joined: b at b:7000
              event policies-differ: b has other policies by prefix; no data flows between us
              send b: meet seen a1..3
            b: meet
            b: pull
            b: step-done 0
        "#]],
    );
}

#[test]
fn a_delete_replaces_what_its_node_shows_and_a_condition_means_all_of_it() {
    check(
        "
        set siblings s/
        meet b
        put s/k red
        put s/k blue
        delete s/k
        get s/k
        put s/k green if=exists
        put s/k green if=absent
        get s/k
        ",
        expect![[r#"
            set siblings s/
            meet b
            put s/k red
              reply #0: ok @1000.1.a1 on 1
              send b: news a/1.1
            put s/k blue
              reply #1: ok @1000.2.a2 on 1
              event siblings-concurrent: s/k: 2 concurrent values
            delete s/k
              reply #2: ok @1000.3.a3 on 1
            get s/k
              reply #3: absent, knowing a1..3
            put s/k green if=exists
              reply #4: refused: the condition does not hold on this node
            put s/k green if=absent
              reply #5: ok @1000.4.a4 on 1
            get s/k
              reply #6: green @1000.4.a4, knowing a1..4
        "#]],
    );
}
