//! The numbers in the bytes of a state: variable-length integers and exact numbers. `encoding.rs` describes their form.

use num_bigint::{BigInt, BigUint, Sign};

use crate::dyadic::Dyadic;
use crate::error::DecodeError;

pub(crate) fn write_varint(bytes: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        bytes.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    bytes.push((value & 0x7f) as u8);
}

pub(crate) fn write_exact(bytes: &mut Vec<u8>, value: &Dyadic, unit_exponent: i64) {
    let (sign, magnitude) = value.mantissa().to_bytes_le();
    if sign == Sign::NoSign {
        return write_varint(bytes, 0);
    }
    write_varint(
        bytes,
        (magnitude.len() as u64) << 1 | u64::from(sign == Sign::Minus),
    );
    write_varint(bytes, (value.exponent() - unit_exponent).unsigned_abs());
    bytes.extend(magnitude);
}

/// What is left of the bytes.
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// Fails where bytes are left.
    pub(crate) fn finish(self) -> Result<(), DecodeError> {
        match self.rest.len() {
            0 => Ok(()),
            count => Err(DecodeError::TrailingBytes { count }),
        }
    }

    fn bytes(&mut self, length: u64, field: &'static str) -> Result<&'a [u8], DecodeError> {
        let split = usize::try_from(length)
            .ok()
            .and_then(|length| self.rest.split_at_checked(length));
        let (taken, rest) = split.ok_or(DecodeError::Truncated { field })?;
        self.rest = rest;
        Ok(taken)
    }

    pub(crate) fn array<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], DecodeError> {
        let (taken, rest) = self
            .rest
            .split_first_chunk()
            .ok_or(DecodeError::Truncated { field })?;
        self.rest = rest;
        Ok(*taken)
    }

    pub(crate) fn byte(&mut self, field: &'static str) -> Result<u8, DecodeError> {
        self.array(field).map(|[byte]| byte)
    }

    pub(crate) fn varint(&mut self, field: &'static str) -> Result<u64, DecodeError> {
        let mut value = 0;
        for shift in (0..u64::BITS).step_by(7) {
            let byte = self.byte(field)?;
            let digit = u64::from(byte & 0x7f);
            if digit << shift >> shift != digit {
                return Err(DecodeError::OutOfRange { field });
            }
            value |= digit << shift;
            if byte & 0x80 == 0 {
                let superfluous = byte == 0 && shift > 0;
                return if superfluous {
                    Err(DecodeError::NotCanonical { field })
                } else {
                    Ok(value)
                };
            }
        }
        Err(DecodeError::OutOfRange { field })
    }

    pub(crate) fn exact(&mut self, field: &'static str, unit_exponent: i64) -> Result<Dyadic, DecodeError> {
        let head = self.varint(field)?;
        if head == 0 {
            return Ok(Dyadic::new(BigInt::ZERO, 0));
        }
        let position = self.varint(field)?;
        let magnitude = self.bytes(head >> 1, field)?;
        let (Some(lowest), Some(highest)) = (magnitude.first(), magnitude.last()) else {
            return Err(DecodeError::NotCanonical { field });
        };
        if lowest & 1 == 0 || *highest == 0 {
            return Err(DecodeError::NotCanonical { field });
        }
        let sign = if head & 1 == 1 { Sign::Minus } else { Sign::Plus };
        let exponent = i64::try_from(position)
            .ok()
            .and_then(|position| position.checked_add(unit_exponent))
            .ok_or(DecodeError::OutOfRange { field })?;
        Ok(Dyadic::new(
            BigInt::from_biguint(sign, BigUint::from_bytes_le(magnitude)),
            exponent,
        ))
    }
}
