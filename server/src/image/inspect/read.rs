//! Reading pieces of a file whose length and content nobody vouches for.

use std::io::{self, Read, Seek, SeekFrom};

/// A file and its length.
pub(super) struct Reader<F> {
    file: F,
    len: u64,
}

impl<F: Read + Seek> Reader<F> {
    pub(super) fn new(mut file: F) -> io::Result<Self> {
        let len = file.seek(SeekFrom::End(0))?;
        Ok(Self { file, len })
    }

    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// At most `want` bytes from `offset`, fewer at the file's end, none behind it.
    pub(super) fn up_to(&mut self, offset: u64, want: usize) -> io::Result<Vec<u8>> {
        let left = usize::try_from(self.len.saturating_sub(offset)).unwrap_or(usize::MAX);
        let mut bytes = vec![0; want.min(left)];
        if !bytes.is_empty() {
            self.file.seek(SeekFrom::Start(offset))?;
            self.file.read_exact(&mut bytes)?;
        }
        Ok(bytes)
    }

    /// Exactly `N` bytes from `offset`; none when the file ends before.
    pub(super) fn exactly<const N: usize>(&mut self, offset: u64) -> io::Result<Option<[u8; N]>> {
        Ok(self.up_to(offset, N)?.try_into().ok())
    }

    /// Its length, taken anew: whoever writes to the file may have made it longer since.
    pub(super) fn measured(&mut self) -> io::Result<u64> {
        self.len = self.file.seek(SeekFrom::End(0))?;
        Ok(self.len)
    }

    /// Whether `offset..offset + length` lies within the file.
    pub(super) fn holds(&self, offset: u64, length: u64) -> bool {
        offset
            .checked_add(length)
            .is_some_and(|end| end <= self.len)
    }
}

/// Fields of a header by their place; places are constants of the format, within the array by construction.
pub(super) trait Fields {
    fn piece<const N: usize>(&self, at: usize) -> [u8; N];

    fn be32(&self, at: usize) -> u32 {
        u32::from_be_bytes(self.piece(at))
    }
    fn be64(&self, at: usize) -> u64 {
        u64::from_be_bytes(self.piece(at))
    }
    fn le16(&self, at: usize) -> u16 {
        u16::from_le_bytes(self.piece(at))
    }
    fn le32(&self, at: usize) -> u32 {
        u32::from_le_bytes(self.piece(at))
    }
    fn le64(&self, at: usize) -> u64 {
        u64::from_le_bytes(self.piece(at))
    }
}

impl Fields for [u8] {
    /// Zeros where the header ends: a field that is not there has no value.
    fn piece<const N: usize>(&self, at: usize) -> [u8; N] {
        let found = self.get(at..).and_then(|rest| rest.first_chunk::<N>());
        found.copied().unwrap_or([0; N])
    }
}
