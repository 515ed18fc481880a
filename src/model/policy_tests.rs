use super::*;

fn table(rules: &[(&str, Policy)]) -> Policies {
    let rules = rules.iter().map(|(prefix, policy)| (prefix.as_bytes().to_vec(), *policy));
    Policies::new(rules).expect("a table")
}

fn key(text: &str) -> Key {
    Key::from_path(text).expect("a key")
}

#[test]
fn the_longest_prefix_decides_and_a_key_without_one_is_lww() {
    let history = Policy::History(Strategy::Fail);
    let table = table(&[("cart/", Policy::Siblings), ("cart/log", history), ("cart/log/old/", Policy::Lww)]);

    assert_eq!(table.of(&key("cart/1")), Policy::Siblings);
    assert_eq!(table.of(&key("cart/log")), history);
    assert_eq!(table.of(&key("cart/logs/1")), history);
    assert_eq!(table.of(&key("cart/log/old/1")), Policy::Lww);
    assert_eq!(table.of(&key("cart")), Policy::Lww);
    assert_eq!(Policies::default().of(&key("cart/1")), Policy::Lww);
}

#[test]
fn the_empty_prefix_is_every_keys() {
    assert_eq!(table(&[("", Policy::Siblings)]).of(&key("k")), Policy::Siblings);
}

#[test]
fn the_digest_is_of_the_rules_and_not_of_their_order() {
    let (cart, log) = (("cart/", Policy::Siblings), ("log/", Policy::History(Strategy::Fail)));
    let both = table(&[cart, log]);

    assert_eq!(both.digest(), table(&[log, cart]).digest());
    let others = [
        table(&[]),
        table(&[cart]),
        table(&[cart, ("log/", Policy::History(Strategy::PreferLocal))]),
        table(&[("cart/", Policy::Lww), log]),
        table(&[("cart/l", Policy::Siblings), ("og/", Policy::History(Strategy::Fail))]),
    ];
    for other in others {
        assert_ne!(both.digest(), other.digest(), "{other:?}");
    }
}

#[test]
fn names_read_back_and_nonsense_is_named() {
    let history = Strategy::ALL.map(Policy::History);
    for policy in [Policy::Lww, Policy::Siblings].into_iter().chain(history) {
        let strategy = policy.strategy().map(Strategy::name);
        assert_eq!(Policy::from_names(policy.name(), strategy), Ok(policy));
    }
    let refused = |policy, strategy| Policy::from_names(policy, strategy).expect_err("nonsense").to_string();
    assert_eq!(refused("sibling", None), "`sibling` is no policy: lww, siblings or history");
    assert_eq!(refused("lww", Some("fail")), "policy lww takes no strategy");
    assert!(refused("history", Some("merge")).starts_with("`merge` is no strategy: prefer-network"));
}

#[test]
fn a_table_with_a_prefix_twice_or_too_long_or_too_many_rules_is_none() {
    let rules = |rules: Vec<(Vec<u8>, Policy)>| Policies::new(rules).expect_err("no table");
    let twice = vec![(b"a/".to_vec(), Policy::Lww), (b"a/".to_vec(), Policy::Siblings)];
    let many = (0..=Policies::RULES_MAX).map(|rule| (format!("{rule}/").into_bytes(), Policy::Lww));

    assert_eq!(rules(twice), PolicyError::Twice("a/".into()));
    assert_eq!(rules(vec![(vec![b'k'; 1025], Policy::Lww)]), PolicyError::TooLong { bytes: 1025 });
    assert_eq!(rules(many.collect()), PolicyError::TooMany(257));
}
