//! MERK: the range summaries on a disk are what a recount of its records gives.

use reknit::protocol::chunks;
use reknit::protocol::summary::SummaryKey;
use reknit::storage::Read;

/// What is wrong with the summaries of a store, if something is. Every node of a run has the empty secret.
pub fn judge(store: &(impl Read + ?Sized)) -> Option<String> {
    match chunks::judge(store, &SummaryKey::new(b"")) {
        Ok(wrong) => wrong,
        Err(error) => Some(format!("the summaries cannot be judged: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use reknit::model::{Instant, Key, Now, RequestId, WallTime};
    use reknit::node::{Input, Node};
    use reknit::storage::memory::Memory;
    use reknit::storage::{Batch, Storage, Table};

    use super::*;
    use crate::check::inspect;
    use crate::scenario::{Scenario, WriteOptions};
    use crate::world::asks;
    use crate::world::settings::settings;

    #[test]
    fn a_record_that_no_summary_knows_of_is_found() {
        let mut store = Memory::default();
        let mut batch = Batch::default();
        let key = Key::from_path("k").unwrap();
        batch.put(Table::Records, key.as_bytes(), b"no record at all".to_vec());
        store.apply(batch).unwrap();

        let found = judge(&store).expect("there are no summaries here");
        assert!(found.contains("is said to be None"), "{found}");
        assert!(inspect(&store).iter().any(|(code, _)| *code == "MERK"));
    }

    #[test]
    fn the_summaries_that_a_node_keeps_are_right() {
        let story = Scenario::quiet("one", vec!["a".to_owned()]);
        let (settings, now) =
            (settings(&story).remove(0), Now { mono: Instant::default(), wall: WallTime(1) });
        let mut node = Node::open(Memory::default(), settings, [7; 32], now).unwrap();
        let options = WriteOptions::default();
        let request = asks::put(Key::from_path("k").unwrap(), "v", &options, None);
        node.handle(now, Input::Request { id: RequestId(1), request }).unwrap();
        node.flush(now).unwrap();

        assert_eq!(inspect(node.store()), []);
    }
}
