/// The most values that a state can count: 2^63 − 1, what a signed 64-bit column of a database can hold.
pub const MAX_COUNT: u64 = i64::MAX.cast_unsigned();

/// The version of the encoding that is written, and the only one that is read.
pub const FORMAT_VERSION: u8 = 1;
