//! The contract against its own rules: what `proto/` says, what `docs/` says of it, and what the generated code does.
//!
//! Reads the descriptor set that the crate exports and the tables in `docs/`; starts nothing.

mod documents;
mod golden;
mod metrics;
mod rules;
mod secrets;
mod support;
