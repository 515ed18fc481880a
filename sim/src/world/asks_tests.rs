use reknit::model::{Refusal, Reply};

use super::*;

/// The code of what is wrong with a read's answer once all is well again.
fn judged(reply: Option<&Reply>) -> Option<&'static str> {
    Expected::Alive.judge(reply).map(|_| Expected::Alive.code())
}

#[test]
fn silence_or_a_refusal_when_all_is_well_is_alive_and_an_answer_is_fine_whatever_it_shows() {
    assert_eq!(judged(None), Some("ALIVE"));
    assert_eq!(judged(Some(&Reply::Refused(Refusal::DiskFull))), Some("ALIVE"));

    assert_eq!(judged(Some(&Reply::Value(None))), None);
}
