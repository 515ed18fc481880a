use reknit::model::{Origin, Stamp, WallTime};

use super::*;

fn key() -> Key {
    Key::from_path("s/k").unwrap()
}

fn dot(origin: u64, seq: u64) -> Dot {
    Dot { origin: Origin(origin), seq }
}

fn dots(dots: &[Dot]) -> DotSet {
    dots.iter().copied().collect()
}

fn version(dot: Dot, replaced: &[Dot]) -> Version {
    Version {
        stamp: Stamp { millis: 1_000, counter: 0 },
        dot,
        author_joined: WallTime(0),
        ruling: 0,
        confirms: None,
        tombstone: false,
        expires_at: None,
        content_type: "text/plain".into(),
        value: siblings::value(&dots(replaced), &Bytes::from_static(b"v")),
    }
}

fn known() -> Siblings {
    let mut known = Siblings::default();
    known.set_policies(Policies::new([(b"s/".to_vec(), Policy::Siblings)]).unwrap());
    known.keys.entry(key()).or_default().asked.insert(Bytes::from_static(b"v"));
    known
}

fn dump(versions: &[Version]) -> Dump {
    Dump::from_iter([(key(), versions.to_vec())])
}

fn texts(broken: impl IntoIterator<Item = Broken>) -> Vec<String> {
    broken.into_iter().map(|(code, _, text)| format!("{code} {text}")).collect()
}

const A: &str = "000000000000000a:1";
const B: &str = "000000000000000b:1";

#[test]
fn a_sibling_may_go_only_for_one_that_replaces_it() {
    let (a, b) = (version(dot(10, 1), &[]), version(dot(11, 1), &[]));
    let mut known = known();
    assert!(known.dumped("x", &dump(std::slice::from_ref(&a))).is_empty());

    let lost = known.dumped("x", &dump(&[b]));
    assert_eq!(texts(lost), [format!("SIB lost sibling {A}, which nothing replaced")]);

    let heir = version(dot(12, 1), &[dot(10, 1), dot(11, 1)]);
    assert!(known.dumped("x", &dump(std::slice::from_ref(&heir))).is_empty());
    let back = known.dumped("x", &dump(&[a, heir]));
    assert_eq!(texts(back), [format!("SIB has {A} although it had a write that saw and replaced it")]);
}

#[test]
fn a_write_replaces_just_what_its_client_had_seen() {
    let mut known = known();
    known.shown("x", &key(), &version(dot(10, 1), &[]));
    known.shown("x", &key(), &version(dot(11, 1), &[]));
    let more = version(dot(12, 1), &[dot(10, 1), dot(11, 1)]);
    let less = version(dot(13, 1), &[]);

    known.acked("x", &key(), more.dot, Some(dots(&[dot(10, 1)])));
    let broken = known.shown("x", &key(), &more);
    let text = format!("SIB 000000000000000c:1 replaced {B}, which its client had not seen");
    assert_eq!(texts(broken), [text]);

    let mut known = self::known();
    known.shown("x", &key(), &version(dot(10, 1), &[]));
    known.shown("x", &key(), &less);
    let broken = known.acked("x", &key(), less.dot, Some(dots(&[dot(10, 1)])));
    assert_eq!(
        texts(broken),
        [format!("SIB 000000000000000d:1 did not replace {A}, which its client had seen")]
    );
}

#[test]
fn in_the_end_everybody_has_all_that_nothing_replaced_and_nothing_else() {
    let (a, b) = (version(dot(10, 1), &[]), version(dot(11, 1), &[]));
    let mut known = known();
    known.shown("x", &key(), &a);
    known.shown("y", &key(), &b);
    let both = dump(&[a.clone(), b.clone()]);

    let all = |x: &Dump, y: &Dump| BTreeMap::from([("x".to_owned(), x.clone()), ("y".to_owned(), y.clone())]);
    assert!(known.judge(&all(&both, &both)).is_empty());
    let broken = known.judge(&all(&both, &dump(std::slice::from_ref(&b))));
    assert_eq!(texts(broken), [format!("SIB y does not have sibling {A}")]);

    let heir = version(dot(12, 1), &[dot(10, 1)]);
    known.shown("x", &key(), &heir);
    let broken = known.judge(&all(&dump(&[b.clone(), heir.clone()]), &dump(&[a, b, heir])));
    assert_eq!(texts(broken), [format!("SIB y still has {A}, which a write that saw it replaced")]);
}

#[test]
fn what_nobody_put_is_made_up() {
    let mut known = known();
    let other = Version { value: Bytes::from_static(b"w"), ..version(dot(10, 1), &[]) };
    assert_eq!(texts(known.shown("x", &key(), &other)), [format!("NOINV nobody asked for {A}")]);
    let deleted = Version { tombstone: true, ..version(dot(11, 1), &[]) };
    assert_eq!(texts(known.shown("x", &key(), &deleted)), [format!("NOINV nobody asked for {B}")]);
}
