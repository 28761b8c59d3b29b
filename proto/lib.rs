//! The contract `computedriver.v1`.
