//! Random bytes for passwords, names and ports. They come from the operating system, not from a seed, because a password on a
//! shared machine must be unpredictable.

use std::{fs::File, io::Read};

use crate::Error;

/// `N` bytes of the operating system's generator.
pub(crate) fn random_bytes<const N: usize>() -> Result<[u8; N], Error> {
    let mut bytes = [0; N];
    File::open("/dev/urandom")
        .and_then(|mut source| source.read_exact(&mut bytes))
        .map_err(Error::io("read /dev/urandom"))?;
    Ok(bytes)
}

/// `2 * N` hexadecimal digits, safe in a URL, a file name and an SQL identifier.
pub(crate) fn random_hex<const N: usize>() -> Result<String, Error> {
    Ok(random_bytes::<N>()?
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect())
}
