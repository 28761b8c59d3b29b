//! The whole way from a location to a cached image, against servers that behave and servers that do not.

mod hostile;
mod keeping;
mod support;
