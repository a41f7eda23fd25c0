//! What a server is called in the connection ids that it gives out (QUIC-LB).

use std::fmt;
use std::str::FromStr;

use dataplane::profile::quic_lb;
use serde::{Serialize, Serializer};

/// A server's id, of one to three bytes. Written in hexadecimal digits, two for each byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ServerId {
    /// How many bytes it has.
    pub length: u8,
    /// The bytes as one number, big-endian.
    pub number: u32,
}

impl fmt::Display for ServerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:0digits$x}", self.number, digits = 2 * usize::from(self.length))
    }
}

impl Serialize for ServerId {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

/// Why a text is no server's id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ServerIdError {
    /// Something else than hexadecimal digits.
    #[error("it has other characters than hexadecimal digits")]
    NotHexadecimal,
    /// A byte has two digits.
    #[error("it has an odd number of digits")]
    HalfAByte,
    /// No byte, or more than can be looked up.
    #[error("it has {0} bytes, not 1 to {most}", most = quic_lb::LONGEST)]
    Length(usize),
}

impl FromStr for ServerId {
    type Err = ServerIdError;

    fn from_str(text: &str) -> Result<Self, ServerIdError> {
        if !text.chars().all(|c| c.is_ascii_hexdigit()) {
            return Err(ServerIdError::NotHexadecimal);
        }
        if !text.len().is_multiple_of(2) {
            return Err(ServerIdError::HalfAByte);
        }
        let length = text.len() / 2;
        if !(1..=usize::from(quic_lb::LONGEST)).contains(&length) {
            return Err(ServerIdError::Length(length));
        }
        let number = u32::from_str_radix(text, 16).map_err(|_| ServerIdError::NotHexadecimal)?;
        Ok(Self { length: length as u8, number })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_read_and_written_with_its_zeros() {
        for text in ["00", "0a01", "00000f"] {
            assert_eq!(text.parse::<ServerId>().unwrap().to_string(), text);
        }
        assert_eq!("0A01".parse(), Ok(ServerId { length: 2, number: 0x0a01 }));
        for text in ["", "a", "01020304", "0x01", "+a", "zz"] {
            assert!(text.parse::<ServerId>().is_err(), "{text}");
        }
    }
}
