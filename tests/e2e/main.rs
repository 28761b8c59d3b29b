//! The whole of it, from outside: the real binary, real sockets, real QEMU guests under TCG.
//!
//! Each test has a server of its own in a temp folder and leaves nothing behind, also when it fails.

mod crash;
mod fail;
mod images;
mod ownership;
mod polyglot;
mod requests;
mod secrets;
mod spawn;
mod support;
mod system;
mod web;
