//! Lets C-core clients in that come over a unix socket.
//!
//! grpcio, grpc-java and the other clients built on gRPC's C core put the socket's percent-encoded path into
//! `:authority`. It is no authority by RFC 3986, so the `h2` crate resets every such call with PROTOCOL_ERROR
//! (grpc/grpc#38142, hyperium/h2#487). Nothing here reads the authority of a call, so it is made valid before h2 sees it:
//! each `%` and `/` in its value becomes a `-`.
//!
//! That can be done in place and without knowing the connection's header table: the three have six bits each in HPACK's
//! Huffman code and eight outside it, so no length changes, and a value that enters the table enters it mended.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_util::io::poll_read_buf;

/// What an HTTP/2 client sends first: `PRI * HTTP/2.0…`.
const PREFACE: usize = 24;
const FRAME_HEAD: usize = 9;
const HEADERS: u8 = 1;
const PADDED: u8 = 0x8;
const PRIORITY: u8 = 0x20;
/// h2's and HTTP/2's default; a longer frame breaks the protocol and is h2's to refuse.
const FRAME_MAX: usize = 16_384;
/// `:authority` in HPACK's static table, which most clients name it by.
const AUTHORITY: usize = 1;
/// C-core spells it out; a client may also do so in Huffman code.
const SPELT: &[u8] = b":authority";
const SPELT_HUFFMAN: [u8; 8] = [0xb8, 0x3b, 0x53, 0x39, 0xec, 0x32, 0x7d, 0x7f];

/// A connection whose incoming authorities are valid.
#[derive(Debug)]
pub(super) struct Mended<T> {
    inner: T,
    scanner: Scanner,
    /// Bytes read and not yet given on: first `ready` mended ones, then the beginning of a frame.
    held: BytesMut,
    ready: usize,
}

impl<T> Mended<T> {
    pub(super) fn new(inner: T) -> Self {
        Self {
            inner,
            scanner: Scanner { pass: PREFACE },
            held: BytesMut::new(),
            ready: 0,
        }
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Mended<T> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.held.is_empty() {
            let before = buf.filled().len();
            ready!(Pin::new(&mut this.inner).poll_read(cx, buf))?;
            let fresh = &mut buf.filled_mut()[before..];
            let clean = this.scanner.scan(fresh);
            this.held.extend_from_slice(&fresh[clean..]);
            let end_of_stream = fresh.is_empty();
            buf.set_filled(before + clean);
            if clean > 0 || end_of_stream {
                return Poll::Ready(Ok(()));
            }
        }
        while this.ready == 0 {
            let count = ready!(poll_read_buf(Pin::new(&mut this.inner), cx, &mut this.held))?;
            // The peer stopped within a frame: what to make of it is for h2 to say.
            this.ready = if count == 0 {
                this.held.len()
            } else {
                this.scanner.scan(&mut this.held)
            };
        }
        let count = this.ready.min(buf.remaining());
        buf.put_slice(&this.held[..count]);
        this.held.advance(count);
        this.ready -= count;
        if this.held.is_empty() {
            // An idle connection holds no memory for this.
            this.held = BytesMut::new();
        }
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Mended<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }
}

/// Finds header frames in what a client sends.
#[derive(Debug)]
struct Scanner {
    /// Bytes that are no header frame and go by untouched.
    pass: usize,
}

impl Scanner {
    /// Mends what is whole in `bytes` and tells how many of them may go on; the rest begins a frame that is not whole.
    fn scan(&mut self, bytes: &mut [u8]) -> usize {
        let mut at = 0;
        loop {
            let passed = self.pass.min(bytes.len() - at);
            self.pass -= passed;
            at += passed;
            let Some(&[a, b, c, kind, flags, ..]) = bytes[at..].first_chunk::<FRAME_HEAD>() else {
                return at;
            };
            let length = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
            if kind != HEADERS || length > FRAME_MAX {
                self.pass = FRAME_HEAD + length;
                continue;
            }
            let end = at + FRAME_HEAD + length;
            let Some(frame) = bytes.get_mut(at + FRAME_HEAD..end) else {
                return at;
            };
            mend(frame, flags);
            at = end;
        }
    }
}

/// Mends the authority in the payload of a header frame. A block that goes on in a CONTINUATION is walked as far as it is
/// here: pseudo-headers come first.
fn mend(frame: &mut [u8], flags: u8) {
    let padding = usize::from(flags & PADDED != 0);
    let priority = if flags & PRIORITY == 0 { 0 } else { 5 };
    let mut walk = Walk {
        block: frame,
        at: padding + priority,
    };
    while walk.field().is_some() {}
}

/// A walk over a header block, field by field (RFC 7541, section 6).
struct Walk<'a> {
    block: &'a mut [u8],
    at: usize,
}

impl Walk<'_> {
    /// Steps over one field; none at the end, or where the block makes no sense.
    fn field(&mut self) -> Option<()> {
        let first = *self.block.get(self.at)?;
        let index = match first {
            0x80.. => return self.integer(7).map(drop),
            0x40.. => self.integer(6)?,
            0x20.. => return self.integer(5).map(drop),
            _ => self.integer(4)?,
        };
        let authority = if index == 0 {
            let (name, huffman) = self.string()?;
            name == if huffman { &SPELT_HUFFMAN } else { SPELT }
        } else {
            index == AUTHORITY
        };
        let (value, huffman) = self.string()?;
        if authority {
            if huffman {
                mend_huffman(value);
            } else {
                mend_plain(value);
            }
        }
        Some(())
    }

    /// An integer whose first byte has `prefix` bits of it.
    fn integer(&mut self, prefix: u32) -> Option<usize> {
        let most = (1usize << prefix) - 1;
        let mut value = usize::from(self.next()?) & most;
        if value < most {
            return Some(value);
        }
        // Three more bytes tell any length that fits a frame.
        for shift in [0, 7, 14] {
            let byte = self.next()?;
            value += usize::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    fn string(&mut self) -> Option<(&mut [u8], bool)> {
        let huffman = self.block.get(self.at)? & 0x80 != 0;
        let length = self.integer(7)?;
        let start = self.at;
        self.at += length;
        Some((self.block.get_mut(start..self.at)?, huffman))
    }

    fn next(&mut self) -> Option<u8> {
        let byte = *self.block.get(self.at)?;
        self.at += 1;
        Some(byte)
    }
}

fn mend_plain(value: &mut [u8]) {
    for byte in value.iter_mut().filter(|byte| matches!(byte, b'%' | b'/')) {
        *byte = b'-';
    }
}

/// The lengths in bits of HPACK's Huffman codes, each with the largest code of that length (RFC 7541, appendix B), as far
/// as the characters of a path go.
const CODES: [(usize, u16); 8] = [
    (5, 0x09),
    (6, 0x2d),
    (7, 0x7b),
    (8, 0xfd),
    (10, 0x3fc),
    (11, 0x7fc),
    (12, 0xffb),
    (13, 0x1ffd),
];
const PERCENT: u16 = 0x15;
const SLASH: u16 = 0x18;
const HYPHEN: u16 = 0x16;

fn mend_huffman(value: &mut [u8]) {
    let bits = value.len() * 8;
    let mut at = 0;
    // What is left at the end is padding of ones, which no code is as short as.
    while let Some((length, code)) = CODES
        .iter()
        .filter(|(length, _)| at + length <= bits)
        .map(|&(length, largest)| (length, largest, peek(value, at, length)))
        .find(|(_, largest, code)| code <= largest)
        .map(|(length, _, code)| (length, code))
    {
        if length == 6 && (code == PERCENT || code == SLASH) {
            for bit in 0..6 {
                put(value, at + bit, HYPHEN >> (5 - bit) & 1 == 1);
            }
        }
        at += length;
    }
}

fn peek(value: &[u8], at: usize, length: usize) -> u16 {
    (at..at + length).fold(0, |code, bit| {
        code << 1 | u16::from(value[bit / 8] >> (7 - bit % 8) & 1)
    })
}

fn put(value: &mut [u8], at: usize, one: bool) {
    let mask = 0x80 >> (at % 8);
    if one {
        value[at / 8] |= mask;
    } else {
        value[at / 8] &= !mask;
    }
}

#[cfg(test)]
mod tests;
