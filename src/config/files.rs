//! Small files that may be put in each other's place at any time, or be none.

use std::{
    fs::OpenOptions,
    io::{Error, Read},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

use nix::libc::O_NONBLOCK;

/// More than any configuration, with tens of thousands of accounts, and than any certificate.
const MAX_BYTES: u64 = 16 * 1024 * 1024;

/// The whole of a regular file. A pipe or a device is refused, not waited for.
pub(super) fn read(path: &Path) -> Result<Vec<u8>, Error> {
    let file = OpenOptions::new().read(true).custom_flags(O_NONBLOCK).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(Error::other("is no regular file"));
    }
    let mut bytes = Vec::new();
    file.take(MAX_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_BYTES { Err(Error::other("is longer than 16 MiB")) } else { Ok(bytes) }
}
