//! Consoles of real guests: a person at the serial port, a viewer at the screen, proxies with tokens.

mod screen;
mod serial;
mod token;
