//! Configuration: YAML, environment, flags.
