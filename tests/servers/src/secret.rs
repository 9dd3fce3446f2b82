//! Random bytes for passwords, names and ports. The rules against ambient randomness are about reproducible results;
//! a password on a shared machine has to be unpredictable instead.

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
