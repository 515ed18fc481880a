//! The things of the store and their order-free vocabulary: keys, versions, members, requests, time.
//! Plain values only; nothing here decides, stores or sends.

pub mod dots;
pub mod key;
pub mod member;
pub mod policy;
pub mod request;
pub mod row;
pub mod sums;
pub mod time;
pub mod timing;
pub mod version;

pub use dots::DotSet;
pub use key::{Key, KeyError};
pub use member::{Address, Member, MemberState, Mode, NodeId, ProtocolRange};
pub use policy::{Policies, Policy, Strategy};
pub use request::{
    Ack, Condition, Decision, Imported, MemberView, PeerStatus, Refusal, Reply, Request, RequestId, Status,
    SyncReport, Token,
};
pub use row::Row;
pub use sums::{Summary, Sums};
pub use time::{Instant, Now, WallTime};
pub use timing::Timing;
pub use version::{Dot, Entry, Origin, Stamp, Version, VersionId};
