//! What is asked of the process that starts programs, and answered: JSON behind its length, and the program's standard
//! input behind it in the same way.

use std::io::{self, Read, Write};
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::driver::program::Program;

/// The longest part of a message, in bytes. The environment and the input tell of a vip's addresses twice and once;
/// what is heard of a program is 64 KiB, which JSON may make six times as long.
const LONGEST: u32 = 4 * 1024 * 1024;

/// What is wanted.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Request {
    /// A program is to be run.
    Run {
        /// What.
        program: Program,
        /// Variables, with their values.
        environment: Vec<(String, String)>,
        /// How long it may take.
        timeout: Duration,
    },
    /// The configuration has changed.
    Learn,
}

/// What became of it.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Answer {
    /// It ended, with what the system has as its status.
    Ended {
        /// As `wait` has it.
        status: i32,
        /// The end of what it said.
        heard: String,
    },
    /// See [`crate::driver::attempt::Failure`].
    Ill(String),
    /// See [`crate::driver::attempt::Failure`].
    Unable(String),
    /// See [`crate::driver::attempt::Failure`].
    Stopped,
    /// What is configured now may be started from now on.
    Learnt,
}

/// Asks.
pub(super) fn write_request(to: &mut impl Write, request: &Request, input: &[u8]) -> io::Result<()> {
    let mut bytes = part(&serde_json::to_vec(request)?)?;
    bytes.extend(part(input)?);
    to.write_all(&bytes)
}

/// The next question, with the input; `None`: there is none any more.
pub(super) fn read_request(from: &mut impl Read) -> io::Result<Option<(Request, Vec<u8>)>> {
    match read_json(from) {
        Ok(request) => Ok(Some((request, read_part(from)?))),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
        Err(error) => Err(error),
    }
}

/// Answers.
pub(super) fn write_answer(to: &mut impl Write, answer: &Answer) -> io::Result<()> {
    to.write_all(&part(&serde_json::to_vec(answer)?)?)
}

/// The answer.
pub(super) fn read_answer(from: &mut impl Read) -> io::Result<Answer> {
    read_json(from)
}

fn read_json<T: DeserializeOwned>(from: &mut impl Read) -> io::Result<T> {
    serde_json::from_slice(&read_part(from)?).map_err(io::Error::other)
}

fn part(bytes: &[u8]) -> io::Result<Vec<u8>> {
    let length = u32::try_from(bytes.len()).ok().filter(|length| *length <= LONGEST);
    let length = length.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "it is to be told too much"))?;
    Ok([&length.to_le_bytes(), bytes].concat())
}

fn read_part(from: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut length = [0; 4];
    from.read_exact(&mut length)?;
    let length = u32::from_le_bytes(length);
    if length > LONGEST {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "a message is too long"));
    }
    let mut bytes = Vec::new();
    from.take(length.into()).read_to_end(&mut bytes)?;
    if bytes.len() < length as usize {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(bytes)
}
