//! The two implementations of [`Storage`] are the same map: whatever is done to both, both show the same.

use std::ops::Bound;

use proptest::collection::vec;
use proptest::prelude::*;

use super::engine::Engine;
use super::engine::shared_file::SharedFile;
use super::memory::Memory;
use super::*;

/// One thing that a turn does, or that happens to the disk.
#[derive(Clone, Debug)]
enum Step {
    Apply(Vec<Change>),
    Persist,
    Crash,
    Get(Table, Vec<u8>),
    Scan { table: Table, from: Bound<Vec<u8>>, to: Bound<Vec<u8>>, limit: usize, reverse: bool },
}

type Change = (Table, Vec<u8>, Option<Vec<u8>>);

/// Few keys, so that changes meet; short ones, prefixes of each other and the empty one among them.
fn keys() -> impl Strategy<Value = Vec<u8>> {
    vec(prop_oneof![Just(0), Just(1), Just(b'a'), Just(255)], 0..4)
}

fn tables() -> impl Strategy<Value = Table> {
    proptest::sample::select(Table::ALL.to_vec())
}

fn bounds() -> impl Strategy<Value = Bound<Vec<u8>>> {
    prop_oneof![Just(Bound::Unbounded), keys().prop_map(Bound::Included), keys().prop_map(Bound::Excluded)]
}

fn changes() -> impl Strategy<Value = Change> {
    let values = prop_oneof![3 => vec(any::<u8>(), 0..40).prop_map(Some), 1 => Just(None)];
    (tables(), keys(), values)
}

fn steps() -> impl Strategy<Value = Step> {
    let scan = (tables(), bounds(), bounds(), prop_oneof![Just(usize::MAX), 0..4_usize], any::<bool>());
    prop_oneof![
        4 => vec(changes(), 0..8).prop_map(Step::Apply),
        2 => Just(Step::Persist),
        1 => Just(Step::Crash),
        2 => (tables(), keys()).prop_map(|(table, key)| Step::Get(table, key)),
        4 => scan.prop_map(|(table, from, to, limit, reverse)| Step::Scan { table, from, to, limit, reverse }),
    ]
}

fn everything(store: &dyn Read) -> Vec<Vec<Row>> {
    let all = (Bound::Unbounded, Bound::Unbounded);
    let rows = |table| store.scan(table, all, usize::MAX, false).expect("a whole disk");
    Table::ALL.into_iter().map(rows).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn the_engine_shows_what_the_model_shows(steps in vec(steps(), 1..40)) {
        let file = SharedFile::default();
        let mut engine = Engine::open_with(file.clone()).unwrap();
        let mut model = Memory::default();
        let mut durable = everything(&model);

        for step in steps {
            match step {
                Step::Apply(changes) => {
                    engine.apply(Batch { changes: changes.clone() }).unwrap();
                    model.apply(Batch { changes }).unwrap();
                }
                Step::Persist => {
                    engine.persist().unwrap();
                    model.persist().unwrap();
                    durable = everything(&model);
                }
                Step::Crash => {
                    drop(engine);
                    engine = Engine::open_with(file.clone()).unwrap();
                    model = Memory::new(model.power_loss());
                }
                Step::Get(table, key) => {
                    prop_assert_eq!(engine.get(table, &key).unwrap(), model.get(table, &key).unwrap());
                }
                Step::Scan { table, from, to, limit, reverse } => {
                    let range = (from.as_ref().map(Vec::as_slice), to.as_ref().map(Vec::as_slice));
                    let rows = engine.scan(table, range, limit, reverse).unwrap();
                    prop_assert_eq!(rows, model.scan(table, range, limit, reverse).unwrap());
                }
            }
            prop_assert_eq!(everything(&engine), everything(&model));
            let seen = engine.reader().snapshot(|view| Ok(everything(view))).unwrap();
            prop_assert_eq!(&seen, &durable, "readers see what is durable, no more and no less");
        }
    }
}
