//! A hand-stepped cluster for unit tests.
