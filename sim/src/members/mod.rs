//! Large clusters of nothing but member tables: what the membership costs, how fast it is and how often it errs.
//!
//! The machines are the node's own, their messages pass through the wire's bytes over the simulator's links, and
//! their rows through a memory disk; what is missing is the rest of a node, so that hundreds of them can live
//! for simulated days. [`world`] runs them, [`figures`] measures, and [`stories`] are clusters that go through
//! what is known to have broken other memberships.

pub mod figures;
pub mod stories;
pub mod world;
