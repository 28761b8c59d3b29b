use proptest::prelude::{any, prop_assert_eq, proptest};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{HEADERS, Mended, PADDED, PREFACE, PRIORITY};

/// Codes of the characters used here: RFC 7541, appendix B.
const HUFFMAN: &[(char, u16, usize)] = &[
    ('%', 0x15, 6),
    ('-', 0x16, 6),
    ('.', 0x17, 6),
    ('/', 0x18, 6),
    ('2', 0x02, 5),
    (':', 0x5c, 7),
    ('F', 0x63, 7),
    ('a', 0x03, 5),
    ('h', 0x27, 6),
    ('i', 0x06, 5),
    ('m', 0x29, 6),
    ('o', 0x07, 5),
    ('p', 0x2b, 6),
    ('r', 0x2c, 6),
    ('s', 0x08, 5),
    ('t', 0x09, 5),
    ('u', 0x2d, 6),
    ('x', 0x79, 7),
    ('y', 0x7a, 7),
    ('~', 0x1ffd, 13),
];

fn huffman(text: &str) -> Vec<u8> {
    let mut bits = String::new();
    for c in text.chars() {
        let (_, code, length) = HUFFMAN.iter().find(|(of, ..)| *of == c).unwrap();
        bits += &format!("{code:0length$b}");
    }
    while !bits.len().is_multiple_of(8) {
        bits.push('1');
    }
    let bytes = bits.as_bytes().chunks(8);
    bytes
        .map(|byte| u8::from_str_radix(std::str::from_utf8(byte).unwrap(), 2).unwrap())
        .collect()
}

fn string(first: u8, bytes: &[u8]) -> Vec<u8> {
    let mut out = vec![first | u8::try_from(bytes.len()).unwrap()];
    out.extend(bytes);
    out
}

fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut out = vec![length[1], length[2], length[3], kind, flags, 0, 0, 0, 1];
    out.extend(payload);
    out
}

/// `:method POST`, a table size, a literal with a long name, then the authority.
fn block(authority: Vec<u8>) -> Vec<u8> {
    let mut block = vec![0x83, 0x3f, 0xe1, 0x1f];
    block.push(0x00);
    block.extend(string(0, b"x%2Fy"));
    block.extend(string(0, b"value%2F"));
    block.push(0x41);
    block.extend(authority);
    block
}

fn connection(frames: &[Vec<u8>]) -> Vec<u8> {
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    assert_eq!(preface.len(), PREFACE);
    frames.iter().fold(preface, |mut all, frame| {
        all.extend(frame);
        all
    })
}

/// What comes out when `bytes` go in by pieces of `piece` bytes and are read `room` bytes at a time.
async fn through(bytes: &[u8], piece: usize, room: usize) -> Vec<u8> {
    let (mut near, far) = tokio::io::duplex(piece);
    let write = async {
        near.write_all(bytes).await.unwrap();
        drop(near);
    };
    let read = async {
        let mut mended = Mended::new(far);
        let mut out = Vec::new();
        let mut buf = vec![0; room];
        loop {
            let count = mended.read(&mut buf).await.unwrap();
            if count == 0 {
                return out;
            }
            out.extend_from_slice(&buf[..count]);
        }
    };
    tokio::join!(write, read).1
}

#[tokio::test]
async fn authorities_are_mended_in_both_codings_and_nothing_else_is() {
    let data = frame(0, 0, b"\x41\x05%2F/x");
    let all = |text: &str| {
        connection(&[
            frame(4, 0, b"\0\x03\0\0\0\x64"),
            frame(HEADERS, 4, &block(string(0, text.as_bytes()))),
            data.clone(),
            frame(HEADERS, 4, &block(string(0x80, &huffman(text)))),
        ])
    };
    let given = all("tmp%2Fx~/s.t");
    let mended = all("tmp-2Fx~-s.t");
    for piece in [1, 2, 3, 7, 33, 4096] {
        for room in [1, 5, 64, 4096] {
            assert_eq!(through(&given, piece, room).await, mended, "{piece} {room}");
        }
    }
}

/// What grpcio 1.85.1 sends.
#[tokio::test]
async fn a_name_that_is_spelt_out_is_known_in_both_codings() {
    let all = |authority: &str| {
        let mut block = b"@\x05:path\x06/a.B/C@\n:authority".to_vec();
        block.extend(string(0, authority.as_bytes()));
        block.extend(b"\x83\x86@\x0ccontent-type\x10application/grpc");
        let mut huffman_name = vec![0x00];
        huffman_name.extend(string(0x80, &huffman(":authority")));
        huffman_name.extend(string(0x80, &huffman(authority)));
        connection(&[frame(HEADERS, 4, &block), frame(HEADERS, 4, &huffman_name)])
    };
    assert_eq!(through(&all("tmp%2Fx.s"), 64, 64).await, all("tmp-2Fx.s"));
}

#[tokio::test]
async fn padding_and_priority_are_stepped_over() {
    let all = |text: &str| {
        let mut payload = vec![2, 0, 0, 0, 0, 15];
        payload.extend(block(string(0, text.as_bytes())));
        payload.extend([0, 0]);
        connection(&[frame(HEADERS, 4 | PADDED | PRIORITY, &payload)])
    };
    assert_eq!(through(&all("a%2Fb"), 64, 64).await, all("a-2Fb"));
}

#[tokio::test]
async fn an_authority_that_is_one_stays() {
    let all = connection(&[
        frame(HEADERS, 4, &block(string(0, b"localhost:7070"))),
        frame(HEADERS, 4, &[0x83, 0x86, 0xbe, 0xbf]),
    ]);
    assert_eq!(through(&all, 64, 64).await, all);
}

proptest! {
    #[test]
    fn whatever_comes_in_goes_out_at_the_same_length(
        bytes in proptest::collection::vec(any::<u8>(), 0..400),
        header in any::<bool>(),
    ) {
        let tail = if header { frame(HEADERS, 4, &bytes) } else { bytes };
        let all = connection(&[tail]);
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let out = runtime.block_on(through(&all, 50, 50));
        prop_assert_eq!(out.len(), all.len());
    }
}
