use super::*;
use crate::model::{NodeId, Stamp, WallTime};
use crate::storage::memory::Memory;
use crate::storage::rows::Identity;

fn disk() -> Memory {
    let mut store = Memory::default();
    let mut batch = Batch::default();
    for number in 0..300_u32 {
        batch.put(Table::Records, format!("k{number:03}"), number.to_be_bytes());
        batch.put(Table::Dots, number.to_be_bytes(), format!("k{number:03}"));
    }
    batch.put(Table::Members, "a", *b"whoever");
    let id = NodeId::new("a").unwrap();
    let identity = Identity { id, life: 7, joined: WallTime(5), high_water: Stamp::default() };
    rows::put_identity(&mut batch, &identity);
    store.apply(batch).unwrap();
    store.persist().unwrap();
    store
}

fn backup(store: &Memory) -> Vec<u8> {
    let mut bytes = Vec::new();
    let counted = write(store, &mut bytes).unwrap();
    assert_eq!(counted.bytes, bytes.len() as u64);
    bytes
}

#[test]
fn what_is_restored_is_what_was_there_without_who_it_was() {
    let store = disk();
    let bytes = backup(&store);
    let mut restored = Memory::default();

    let counted = restore(&mut bytes.as_slice(), &mut restored).unwrap();

    assert_eq!(counted, check(&mut bytes.as_slice()).unwrap());
    let all = (Bound::Unbounded, Bound::Unbounded);
    let rows = |store: &Memory, table| store.scan(table, all, usize::MAX, false).unwrap();
    assert_eq!(rows(&restored, Table::Records), rows(&store, Table::Records));
    assert_eq!(rows(&restored, Table::Dots), rows(&store, Table::Dots));
    assert_eq!(rows(&restored, Table::Members), []);
    assert_eq!(rows::identity(&restored).unwrap(), None);
}

#[test]
fn every_cut_and_every_flipped_byte_is_noticed() {
    let mut store = Memory::default();
    let mut batch = Batch::default();
    batch.put(Table::Records, "a", *b"red");
    store.apply(batch).unwrap();
    store.persist().unwrap();
    let bytes = backup(&store);

    for length in 0..bytes.len() {
        assert!(check(&mut &bytes[..length]).is_err(), "cut to {length} of {}", bytes.len());
    }
    for at in 0..bytes.len() {
        let mut flipped = bytes.clone();
        flipped[at] ^= 1;
        assert!(check(&mut flipped.as_slice()).is_err(), "flipped at {at}");
    }
}

#[test]
fn a_declared_length_reserves_nothing() {
    let mut bytes = MAGIC.to_vec();
    bytes.push(0);
    bytes.extend_from_slice(&PART_BYTES_MAX.to_be_bytes());
    bytes.extend_from_slice(b"few");

    let error = check(&mut bytes.as_slice()).unwrap_err();

    assert_eq!(error.to_string(), "this is no whole backup: it is cut short");
}
