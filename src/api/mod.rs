//! HTTP: what clients and operators see.
