//! Asks a server of network block devices for an export, by the newstyle handshake's INFO, and leaves.
//!
//! The export is not opened: a server that ends with its last client does not count one who only asked.

use std::io;

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpStream, UnixStream},
};

use super::VolumeError;
use crate::model::{Bytes, NbdServer, VolumeId};

const GREETING: &[u8; 8] = b"NBDMAGIC";
const OPTIONS: &[u8; 8] = b"IHAVEOPT";
const REPLY: u64 = 0x0003_e889_0455_65a9;
const FIXED_NEWSTYLE: u16 = 1;
const NO_ZEROES: u16 = 2;
const ABORT: u32 = 2;
const INFO: u32 = 6;
const ACK: u32 = 1;
const REPLY_INFO: u32 = 3;
const INFO_EXPORT: u16 = 0;
const IS_ERROR: u32 = 1 << 31;
/// The server is about to end.
const SHUTDOWN: u32 = IS_ERROR | 7;
const READ_ONLY: u16 = 2;
/// An answer that is longer tells nothing that is wanted here.
const LONGEST: u32 = 64 << 10;

/// What a server says of an export.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Export {
    pub(super) size: Bytes,
    pub(super) read_only: bool,
}

/// Asks for an export.
pub(super) async fn ask(server: &NbdServer, export: &str) -> io::Result<Export> {
    match server {
        NbdServer::Tcp(at) => {
            let stream = TcpStream::connect((at.host.as_str(), at.port)).await?;
            talk(stream, export).await
        }
        NbdServer::Unix(socket) => talk(UnixStream::connect(socket).await?, export).await,
    }
}

/// Why an export is not to be had. A server that is not there may be there later; one that says no says so again.
pub(super) fn why(volume: VolumeId, e: &io::Error) -> VolumeError {
    use io::ErrorKind::{InvalidData, PermissionDenied};
    match e.kind() {
        InvalidData | PermissionDenied => VolumeError::Refused {
            volume,
            why: crate::error::chain(e),
        },
        _ => VolumeError::unreachable(volume, e),
    }
}

fn no(words: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, words.into())
}

async fn talk(mut stream: impl AsyncRead + AsyncWrite + Unpin, export: &str) -> io::Result<Export> {
    let (mut greeting, mut options) = ([0; 8], [0; 8]);
    stream.read_exact(&mut greeting).await?;
    stream.read_exact(&mut options).await?;
    if &greeting != GREETING || &options != OPTIONS {
        return Err(no("it speaks no NBD that QEMU speaks"));
    }
    let flags = stream.read_u16().await?;
    if flags & FIXED_NEWSTYLE == 0 {
        return Err(no("it speaks an NBD that is too old"));
    }
    let ours = flags & (FIXED_NEWSTYLE | NO_ZEROES);
    stream.write_u32(ours.into()).await?;
    let length = u32::try_from(export.len()).map_err(|_| no("the export's name is too long"))?;
    option(&mut stream, INFO, length + 6).await?;
    stream.write_u32(length).await?;
    stream.write_all(export.as_bytes()).await?;
    // No wish for more than is told anyway.
    stream.write_u16(0).await?;
    stream.flush().await?;
    let found = answers(&mut stream).await?;
    // It may be gone by now, which is as good.
    let _ = option(&mut stream, ABORT, 0).await;
    let _ = stream.shutdown().await;
    found.ok_or_else(|| no("it did not tell the export's size"))
}

async fn option(
    stream: &mut (impl AsyncWrite + Unpin),
    option: u32,
    length: u32,
) -> io::Result<()> {
    stream.write_all(OPTIONS).await?;
    stream.write_u32(option).await?;
    stream.write_u32(length).await
}

/// Reads answers until the last one.
async fn answers(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<Export>> {
    let mut found = None;
    loop {
        if stream.read_u64().await? != REPLY || stream.read_u32().await? != INFO {
            return Err(no("it answers something else than it was asked"));
        }
        let (kind, length) = (stream.read_u32().await?, stream.read_u32().await?);
        if length > LONGEST {
            return Err(no("its answer is too long"));
        }
        let mut told = vec![0; usize::try_from(length).unwrap_or_default()];
        stream.read_exact(&mut told).await?;
        match kind {
            ACK => return Ok(found),
            REPLY_INFO => found = info(&told).or(found),
            SHUTDOWN => return Err(io::Error::other("its server is ending")),
            kind if kind & IS_ERROR != 0 => {
                let words = String::from_utf8_lossy(&told);
                let words: String = words
                    .chars()
                    .filter(|c| !c.is_control())
                    .take(200)
                    .collect();
                return Err(no(format!("it refuses the export: {words}")));
            }
            _ => {}
        }
    }
}

fn info(told: &[u8]) -> Option<Export> {
    let (kind, rest) = told.split_first_chunk::<2>()?;
    if u16::from_be_bytes(*kind) != INFO_EXPORT {
        return None;
    }
    let (size, rest) = rest.split_first_chunk::<8>()?;
    let (flags, _) = rest.split_first_chunk::<2>()?;
    Some(Export {
        size: Bytes(u64::from_be_bytes(*size)),
        read_only: u16::from_be_bytes(*flags) & READ_ONLY != 0,
    })
}
