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
    use reknit::model::Key;
    use reknit::storage::memory::Memory;
    use reknit::storage::{Batch, Storage, Table};

    use super::*;

    #[test]
    fn a_record_that_no_summary_knows_of_is_found() {
        let mut store = Memory::default();
        let mut batch = Batch::default();
        let key = Key::from_path("k").unwrap();
        batch.put(Table::Records, key.as_bytes(), b"no record at all".to_vec());
        store.apply(batch).unwrap();

        let found = judge(&store).expect("there are no summaries here");
        assert!(found.contains("is said to be None"), "{found}");
    }
}
