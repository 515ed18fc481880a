use super::*;
use crate::protocol::Message;

fn control() -> Bytes {
    wire::encode(&Message::Durable { dots: Default::default() }, 1).unwrap().remove(0)
}

fn data() -> Bytes {
    wire::encode(&Message::Push { entries: Vec::new() }, 1).unwrap().remove(0)
}

#[test]
fn control_frames_overtake_data_frames_and_keep_their_own_order() {
    let mut queue = Queue::default();
    let second = wire::encode(&Message::Refuse { reason: "second".into() }, 1).unwrap().remove(0);
    for frame in [data(), control(), second.clone()] {
        assert!(queue.push(frame));
    }

    assert_eq!(queue.next_batch(), [control(), second, data()]);
    assert!(queue.is_empty());
}

#[test]
fn a_full_lane_drops_the_newest_and_leaves_room_for_the_other() {
    let mut queue = Queue::default();
    let taken = (0..DATA_FRAMES_MAX + 10).filter(|_| queue.push(data())).count();

    assert_eq!(taken, DATA_FRAMES_MAX);
    assert!(queue.push(control()));
    assert_eq!(queue.clear(), DATA_FRAMES_MAX + 1);
    assert!(queue.is_empty());
}

#[test]
fn a_lane_is_bounded_in_bytes_and_a_batch_too() {
    let mut queue = Queue::default();
    let large = Bytes::from(vec![0; wire::FRAME_BYTES_MAX]);
    let taken = (0..1000).filter(|_| queue.push(large.clone())).count();

    assert_eq!(taken, CONTROL_BYTES_MAX / wire::FRAME_BYTES_MAX);
    assert_eq!(queue.next_batch().len(), BATCH_BYTES_MAX / wire::FRAME_BYTES_MAX);
}
