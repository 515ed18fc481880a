//! The real engine: redb.
