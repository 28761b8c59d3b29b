//! Where a download goes: one thread that writes and hashes what the network brings.

use std::{
    fs::File,
    io::{self, Write},
};

use bytes::Bytes;
use sha2::{Digest, Sha256};
use tokio::{sync::mpsc, task::JoinHandle};

/// Takes the pieces of a file, in order.
pub(super) struct Sink {
    pieces_tx: mpsc::Sender<Bytes>,
    end: JoinHandle<io::Result<[u8; 32]>>,
}

impl Sink {
    pub(super) fn into(mut file: File) -> Self {
        // Pieces are at most some hundred KiB: enough to keep both sides busy, a few MiB at most.
        let (pieces_tx, mut pieces_rx) = mpsc::channel::<Bytes>(16);
        let end = tokio::task::spawn_blocking(move || {
            let mut hash = Sha256::new();
            while let Some(piece) = pieces_rx.blocking_recv() {
                hash.update(&piece);
                file.write_all(&piece)?;
            }
            Ok(hash.finalize().into())
        });
        Self { pieces_tx, end }
    }

    /// Takes one piece; false when the file cannot be written, which [`Sink::end`] tells why.
    pub(super) async fn take(&self, piece: Bytes) -> bool {
        self.pieces_tx.send(piece).await.is_ok()
    }

    /// Waits until all pieces are written; answers with their hash.
    pub(super) async fn end(self) -> io::Result<[u8; 32]> {
        drop(self.pieces_tx);
        self.end.await.map_err(io::Error::other)?
    }
}
