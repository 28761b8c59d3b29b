//! The library and `computectl` against a server on a real socket that serves parts of the contract from memory.

mod console;
mod coverage;
mod ctl;
mod errors;
mod feed;
mod follow;
mod picture;
mod retry;
mod streams;
mod support;
mod terminal;
mod top;
