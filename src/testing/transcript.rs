//! Later.
/// x
pub fn check() {}
