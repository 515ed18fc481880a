//! MEM: who is a member, as each node knows it, is what is true, once there was time to find out; and what one node
//! knows of another never goes backwards.

use std::collections::BTreeMap;

use reknit::model::{Member, MemberState};

/// What is true of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It runs, and everybody who runs can talk to it.
    Runs,
    /// It has no power, or left.
    IsGone,
    /// It was removed, or never started: what others think of it is their business.
    IsNobody,
}

/// What each node last knew of each other.
#[derive(Debug, Default)]
pub struct Memory(BTreeMap<(usize, String), (u64, u32, MemberState)>);

impl Memory {
    /// Forgets what a node knew: its disk was replaced.
    pub fn forget(&mut self, observer: usize) {
        self.0.retain(|(node, _), _| *node != observer);
    }

    /// What is wrong with what `observer` knows of the others, whatever is true of them.
    pub fn judge(&mut self, observer: usize, members: &[Member]) -> Option<String> {
        let mut wrong = None;
        for Member { id, life, incarnation, state, .. } in members {
            let now = (*life, *incarnation, *state);
            let before = self.0.insert((observer, id.to_string()), now);
            if let Some(before) = before.filter(|before| *before > now) {
                wrong = Some(format!("knew {id} as {before:?} and now as {now:?}, which is earlier"));
            }
        }
        wrong
    }
}

/// What is wrong with what a node knows of the others, once there was time to find out.
pub fn judge<'a>(
    observer: &str,
    members: &[Member],
    truth: impl Iterator<Item = (&'a str, Standing)>,
) -> Option<String> {
    for (name, standing) in truth.filter(|(name, _)| *name != observer) {
        let state = members.iter().find(|member| member.id.as_str() == name).map(|member| member.state);
        match (standing, state) {
            // A suspicion that nobody contradicted yet is no verdict.
            (Standing::Runs, Some(MemberState::Alive | MemberState::Suspect)) | (Standing::IsNobody, _) => {}
            (Standing::Runs, state) => return Some(format!("takes {name}, which runs, for {state:?}")),
            (Standing::IsGone, Some(MemberState::Alive)) => {
                return Some(format!("takes {name}, which does not run, for alive"));
            }
            (Standing::IsGone, _) => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use reknit::model::{Address, Mode, NodeId, ProtocolRange, WallTime};

    use super::*;

    fn member(id: &str, life: u64, state: MemberState) -> Member {
        Member {
            id: NodeId::new(id).expect("an id"),
            address: Address::new(&format!("{id}:7000")).expect("an address"),
            life,
            incarnation: 0,
            state,
            joined: WallTime(1),
            mode: Mode::Normal,
            origin: None,
            policies: 0,
            protocol: ProtocolRange { min: 1, max: 1 },
        }
    }

    fn judged(state: MemberState, standing: Standing) -> Option<String> {
        judge("a", &[member("b", 1, state)], [("a", Standing::Runs), ("b", standing)].into_iter())
    }

    #[test]
    fn who_runs_is_alive_and_who_does_not_is_not() {
        assert_eq!(judged(MemberState::Alive, Standing::Runs), None);
        assert_eq!(judged(MemberState::Down, Standing::IsGone), None);
        assert_eq!(judged(MemberState::Left, Standing::IsGone), None);
    }

    #[test]
    fn a_ghost_and_a_false_death_are_found() {
        assert!(judged(MemberState::Down, Standing::Runs).is_some());
        assert!(judged(MemberState::Alive, Standing::IsGone).is_some());
        assert!(judge("a", &[], [("b", Standing::Runs)].into_iter()).is_some());
    }

    #[test]
    fn what_is_known_of_a_member_only_grows() {
        let mut memory = Memory::default();
        assert_eq!(memory.judge(0, &[member("b", 2, MemberState::Down)]), None);
        assert_eq!(memory.judge(0, &[member("b", 3, MemberState::Alive)]), None);
        assert!(memory.judge(0, &[member("b", 2, MemberState::Down)]).is_some());

        memory.forget(0);
        assert_eq!(memory.judge(0, &[member("b", 1, MemberState::Alive)]), None);
    }
}
