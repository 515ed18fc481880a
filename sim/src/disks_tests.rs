use std::ops::Bound;

use super::*;

const TURNS: u64 = 12;

/// Writes turn after turn and says which were acknowledged; ends where the power fails.
fn live(disk: &SimDisk, from: u64, to: u64) -> u64 {
    let Ok(mut engine) = SimEngine::open(&disk.power_on(), |_| Duration::ZERO) else { return from };
    for turn in from..to {
        for batch in [batch_of(turn, "a"), batch_of(turn, "b")] {
            if engine.apply(batch).is_err() {
                return turn;
            }
        }
        if engine.persist().is_err() {
            return turn;
        }
    }
    to
}

/// A turn writes rows of its own, overwrites one that every turn writes, and removes those of an earlier turn.
fn batch_of(turn: u64, half: &str) -> Batch {
    let mut batch = Batch::default();
    batch.put(Table::Meta, format!("last/{half}"), turn.to_string());
    for row in 0..4 {
        let value = vec![turn as u8; 700];
        batch.put(Table::Records, format!("{turn:03}/{half}/{row}"), value);
        if let Some(old) = turn.checked_sub(5) {
            batch.remove(Table::Records, format!("{old:03}/{half}/{row}"));
        }
    }
    batch
}

fn rows(engine: &impl Read, table: Table) -> Vec<Row> {
    engine.scan(table, (Bound::Unbounded, Bound::Unbounded), usize::MAX, false).unwrap()
}

/// How many turns the disk holds; they must be whole.
fn turns_held(disk: &SimDisk) -> u64 {
    let Some(engine) = disk.image().open().unwrap() else { return 0 };
    let Some(last) = engine.get(Table::Meta, b"last/b").unwrap() else { return 0 };
    let last: u64 = String::from_utf8(last).unwrap().parse().unwrap();

    let mut whole = reknit::storage::memory::Memory::default();
    for turn in 0..=last {
        whole.apply(batch_of(turn, "a")).unwrap();
        whole.apply(batch_of(turn, "b")).unwrap();
    }
    for table in Table::ALL {
        assert_eq!(rows(&engine, table), rows(&whole, table), "after turn {last}");
    }
    last + 1
}

/// Dies at sync `k`, then is started again and must hold what was acknowledged, and go on.
fn crash_at(k: u64, when: AtSync, on_crash: OnCrash, seed: u64) -> bool {
    let disk = SimDisk::new(seed, "a", on_crash);
    disk.die_at_sync(k, when);
    let acknowledged = live(&disk, 0, TURNS);
    let died = !disk.is_on();
    disk.power_off();

    let held = turns_held(&disk);
    assert!(
        held == acknowledged || held == acknowledged + 1,
        "{held} turns held, {acknowledged} acknowledged: sync {k} {when:?} {on_crash:?} seed {seed}"
    );
    assert_eq!(live(&disk, held, TURNS), TURNS, "it goes on");
    disk.power_off();
    assert_eq!(turns_held(&disk), TURNS);
    died
}

#[test]
fn no_acknowledged_turn_is_lost_wherever_the_power_fails() {
    let modes = [(OnCrash::LoseUnpersisted, 1), (OnCrash::TearUnpersisted, 4)];
    let mut crashes = 0;
    for (on_crash, seeds) in modes {
        for seed in 0..seeds {
            for when in [AtSync::Before, AtSync::After] {
                let died = |k: &u64| crash_at(*k, when, on_crash, seed);
                crashes += (1..).take_while(died).count();
            }
        }
    }

    assert!(crashes > 100, "only {crashes} crashes were tried");
}

#[test]
fn the_first_creation_survives_a_crash_at_any_of_its_syncs() {
    let syncs = {
        let disk = SimDisk::new(0, "a", OnCrash::LoseUnpersisted);
        drop(Engine::open_in(&disk.power_on()).unwrap());
        disk.syncs()
    };

    for k in 1..=syncs {
        for (when, seed) in [AtSync::Before, AtSync::After].into_iter().zip(0..) {
            let disk = SimDisk::new(seed, "a", OnCrash::TearUnpersisted);
            disk.die_at_sync(k, when);
            drop(Engine::open_in(&disk.power_on()));
            disk.power_off();
            let engine = Engine::open_in(&disk.power_on()).unwrap();
            assert_eq!(rows(&engine, Table::Records), []);
        }
    }
}

#[test]
fn turns_that_a_disk_forgot_are_noticed() {
    // The campaign above has teeth only if its check does.
    let disk = SimDisk::new(0, "a", OnCrash::LoseUnpersisted);
    assert_eq!(live(&disk, 0, 3), 3);
    let honest = disk.image();
    disk.power_off();
    assert_eq!(live(&disk, 3, 5), 5);
    disk.power_off();

    disk.replace(honest);

    assert_eq!(turns_held(&disk), 3);
}

#[test]
fn writes_before_a_sync_are_lost_or_torn_by_sectors() {
    for (on_crash, seeds) in [(OnCrash::LoseUnpersisted, 1), (OnCrash::TearUnpersisted, 40)] {
        let mut kept = BTreeSet::new();
        for seed in 0..seeds {
            let disk = SimDisk::new(seed, "a", on_crash);
            let file = disk.power_on().begin().unwrap();
            file.write(0, &[1; 4 * SECTOR_BYTES]).unwrap();
            file.sync_data().unwrap();
            file.write(SECTOR_BYTES as u64, &[2; 2 * SECTOR_BYTES]).unwrap();
            disk.power_off();

            let platter = disk.platter();
            let bytes = &platter.temporary.as_ref().unwrap().bytes;
            let sectors: Vec<&[u8]> = bytes.chunks(SECTOR_BYTES).collect();
            assert!(sectors.iter().all(|sector| sector.iter().all(|byte| *byte == sector[0])));
            kept.insert(sectors.iter().map(|sector| sector[0]).collect::<Vec<u8>>());
        }
        let all = [[1, 1, 1, 1], [1, 1, 2, 1], [1, 2, 1, 1], [1, 2, 2, 1]].map(Vec::from);
        let expected = if on_crash == OnCrash::LoseUnpersisted { &all[..1] } else { &all[..] };
        assert_eq!(kept, expected.iter().cloned().collect());
    }
}

#[test]
fn what_was_cut_off_and_grown_again_is_zero_after_a_crash_too() {
    let disk = SimDisk::new(0, "a", OnCrash::LoseUnpersisted);
    let file = disk.power_on().begin().unwrap();
    file.write(0, &[1; 3 * SECTOR_BYTES]).unwrap();
    file.sync_data().unwrap();
    file.set_len(10).unwrap();
    file.set_len(2 * SECTOR_BYTES as u64).unwrap();
    file.sync_data().unwrap();
    disk.power_off();

    let platter = disk.platter();
    let bytes = &platter.temporary.as_ref().unwrap().bytes;
    assert_eq!(bytes.len(), 2 * SECTOR_BYTES);
    assert!(bytes[..10].iter().all(|byte| *byte == 1) && bytes[10..].iter().all(|byte| *byte == 0));
}

#[test]
fn after_the_power_failed_every_call_on_an_old_handle_errors() {
    let disk = SimDisk::new(0, "a", OnCrash::LoseUnpersisted);
    let old = disk.power_on();
    let file = old.begin().unwrap();

    disk.power_off();
    let new = disk.power_on();

    assert!(file.len().is_err() && file.write(0, b"late").is_err() && file.sync_data().is_err());
    assert!(file.read(0, &mut []).is_err() && file.set_len(1).is_err());
    assert!(old.begin().is_err() && old.finish().is_err() && old.holds_store().is_err());
    assert!(!new.holds_store().unwrap());
}

#[test]
fn only_a_persist_that_has_something_to_do_takes_time() {
    let disk = SimDisk::new(0, "a", OnCrash::LoseUnpersisted);
    let takes = Duration::from_millis(3);
    let mut engine =
        SimEngine::open(&disk.power_on(), move |writes| if writes { takes } else { Duration::ZERO }).unwrap();

    assert_eq!(engine.persist().unwrap(), Duration::ZERO);
    engine.apply(Batch::default()).unwrap();
    assert_eq!(engine.persist().unwrap(), Duration::ZERO);
    engine.apply(batch_of(0, "a")).unwrap();
    assert_eq!(engine.persist().unwrap(), takes);
    assert_eq!(engine.persist().unwrap(), Duration::ZERO);
}
