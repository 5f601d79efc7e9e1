//! Unsigned integers in LEB128: seven bits a byte, the least significant first.

/// Bytes of the largest number.
pub(super) const BYTES_MAX: usize = 10;

pub(crate) fn write(mut number: u64, bytes: &mut Vec<u8>) {
    while number >= 128 {
        bytes.push(number as u8 | 128);
        number >>= 7;
    }
    bytes.push(number as u8);
}

/// Takes a number off the front of `bytes`; nothing if it is cut off or exceeds 64 bits.
pub(crate) fn read(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0_u64;
    for shift in (0..64).step_by(7) {
        let (first, rest) = bytes.split_first()?;
        *bytes = rest;
        let digit = u64::from(first & 127);
        if shift == 63 && digit > 1 {
            return None;
        }
        number |= digit << shift;
        if *first < 128 {
            return Some(number);
        }
    }
    None
}
