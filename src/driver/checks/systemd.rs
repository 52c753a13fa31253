//! Whether a unit of systemd's is active, asked over D-Bus.
//!
//! Of D-Bus this takes two calls: *Hello*, without which a bus delivers nothing, and *Get* of a property that is a
//! text. A crate for all of it would bring some forty others, and an executor.

use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use nix::unistd::geteuid;

use super::{Failure, Unable};
use crate::driver::patience::{Patience, readable};

/// Where the system's bus is (D-Bus Specification, "System message bus").
pub const SYSTEM_BUS: &str = "/run/dbus/system_bus_socket";
/// No answer to us is longer.
const MAX_MESSAGE: usize = 64 * 1024;

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unit {
    /// Its full name, such as `nginx.service`.
    pub name: String,
    /// Where the bus is.
    pub bus: PathBuf,
}

impl Unit {
    pub(super) fn inspect(&self) -> Result<(), Unable> {
        if self.bus.exists() {
            return Ok(());
        }
        Err(Unable {
            problem: format!("there is no D-Bus at {}", self.bus.display()),
            remedy: "install dbus, and see that dbus.socket is active; or use another kind of check",
        })
    }
}

pub(super) fn run(unit: &Unit, patience: &Patience<'_>) -> Result<String, Failure> {
    unit.inspect()?;
    let mut bus = Bus::connect(&unit.bus, patience)?;
    let path = object_path(&unit.name);
    let state = bus.property(&path, "ActiveState")?;
    match state.as_str() {
        "active" | "reloading" => Ok(format!("{} is {state}", unit.name)),
        "inactive" if bus.property(&path, "LoadState")? == "not-found" => {
            Err(Failure::Unable(format!("there is no unit {}", unit.name)))
        }
        _ => Err(Failure::Ill(format!("{} is {state}", unit.name))),
    }
}

/// Where systemd has a unit among its objects: what is neither a letter nor a digit stands in hexadecimal.
fn object_path(unit: &str) -> String {
    let mut path = "/org/freedesktop/systemd1/unit/".to_owned();
    for (place, byte) in unit.bytes().enumerate() {
        if byte.is_ascii_alphabetic() || byte.is_ascii_digit() && place > 0 {
            path.push(char::from(byte));
        } else {
            path.push_str(&format!("_{byte:02x}"));
        }
    }
    path
}

struct Bus<'p> {
    stream: UnixStream,
    patience: &'p Patience<'p>,
    heard: Vec<u8>,
    serial: u32,
}

impl<'p> Bus<'p> {
    fn connect(path: &Path, patience: &'p Patience<'p>) -> Result<Self, Failure> {
        let unable = |error: std::io::Error| Failure::Unable(format!("D-Bus: {error}"));
        let stream = UnixStream::connect(path).map_err(unable)?;
        stream.set_nonblocking(true).map_err(unable)?;
        let mut bus = Self { stream, patience, heard: Vec::new(), serial: 0 };
        let uid: String = geteuid().to_string().bytes().map(|byte| format!("{byte:02x}")).collect();
        bus.say(format!("\0AUTH EXTERNAL {uid}\r\n").as_bytes())?;
        let answer = bus.take_until(|heard| Some(heard.windows(2).position(|it| it == b"\r\n")? + 2))?;
        if !answer.starts_with(b"OK ") {
            let said = String::from_utf8_lossy(&answer);
            return Err(Failure::Unable(format!("D-Bus does not let us in: {}", said.trim())));
        }
        bus.say(b"BEGIN\r\n")?;
        let hello = Call {
            destination: "org.freedesktop.DBus",
            path: "/org/freedesktop/DBus",
            interface: "org.freedesktop.DBus",
            member: "Hello",
            arguments: &[],
        };
        bus.call(&hello)?;
        Ok(bus)
    }

    fn property(&mut self, path: &str, property: &str) -> Result<String, Failure> {
        let body = self.call(&Call {
            destination: "org.freedesktop.systemd1",
            path,
            interface: "org.freedesktop.DBus.Properties",
            member: "Get",
            arguments: &["org.freedesktop.systemd1.Unit", property],
        })?;
        let mut reader = Reader { bytes: &body, at: 0 };
        let value = reader.signature().filter(|signature| signature == "s").and_then(|_| reader.text());
        value.ok_or_else(|| Failure::Unable(format!("systemd's {property} is no text")))
    }

    /// The body of the answer.
    fn call(&mut self, call: &Call<'_>) -> Result<Vec<u8>, Failure> {
        self.serial += 1;
        self.say(&call.emit(self.serial))?;
        loop {
            let message = self.take_until(message_len)?;
            let Some(message) = Message::parse(&message) else {
                return Err(Failure::Unable("D-Bus said something that is no message".to_owned()));
            };
            // Others are signals: the bus tells us our name.
            if message.reply_to != Some(self.serial) {
                continue;
            }
            return match message.error {
                None => Ok(message.body.to_vec()),
                Some(error) => {
                    let text = Reader { bytes: message.body, at: 0 }.text().unwrap_or_default();
                    Err(Failure::Unable(format!("systemd does not tell: {error}: {text}")))
                }
            };
        }
    }

    /// A bus takes so little at once.
    fn say(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.stream.write_all(bytes).map_err(|error| Failure::Unable(format!("D-Bus: {error}")))
    }

    fn take_until(&mut self, len: impl Fn(&[u8]) -> Option<usize>) -> Result<Vec<u8>, Failure> {
        let mut buffer = [0; 4096];
        loop {
            if let Some(len) = len(&self.heard).filter(|len| *len <= self.heard.len()) {
                return Ok(self.heard.drain(..len).collect());
            }
            if self.heard.len() > MAX_MESSAGE {
                return Err(Failure::Unable("D-Bus says too much".to_owned()));
            }
            self.patience.wait([readable(self.stream.as_fd())])?;
            match self.stream.read(&mut buffer) {
                Ok(0) => return Err(Failure::Unable("D-Bus hung up".to_owned())),
                Ok(read) => self.heard.extend(buffer.iter().take(read)),
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(Failure::Unable(format!("D-Bus: {error}"))),
            }
        }
    }
}

/// A method call whose arguments are all texts.
struct Call<'a> {
    destination: &'a str,
    path: &'a str,
    interface: &'a str,
    member: &'a str,
    arguments: &'a [&'a str],
}

impl Call<'_> {
    /// D-Bus Specification, "Message Protocol": the header, its fields (code and value), and the body.
    fn emit(&self, serial: u32) -> Vec<u8> {
        let mut body = Vec::new();
        self.arguments.iter().for_each(|argument| put_text(&mut body, argument));
        let mut fields = Vec::new();
        for (code, kind, value) in
            [(1, b'o', self.path), (2, b's', self.interface), (3, b's', self.member), (6, b's', self.destination)]
        {
            pad(&mut fields, 8);
            fields.extend([code, 1, kind, 0]);
            put_text(&mut fields, value);
        }
        if !self.arguments.is_empty() {
            pad(&mut fields, 8);
            let signature = vec![b's'; self.arguments.len()];
            fields.extend([8, 1, b'g', 0, length_byte(signature.len())]);
            fields.extend(signature);
            fields.push(0);
        }
        let mut message = vec![b'l', 1, 0, 1];
        message.extend(length(body.len()));
        message.extend(serial.to_le_bytes());
        message.extend(length(fields.len()));
        message.extend(fields);
        pad(&mut message, 8);
        message.extend(body);
        message
    }
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    pad(out, 4);
    out.extend(length(text.len()));
    out.extend(text.as_bytes());
    out.push(0);
}

fn pad(out: &mut Vec<u8>, to: usize) {
    out.resize(out.len().next_multiple_of(to), 0);
}

fn length(len: usize) -> [u8; 4] {
    u32::try_from(len).expect("what we say is short").to_le_bytes()
}

fn length_byte(len: usize) -> u8 {
    u8::try_from(len).expect("we give few arguments")
}

/// Of the message that these bytes begin with, as soon as that can be known.
fn message_len(heard: &[u8]) -> Option<usize> {
    let mut reader = Reader { bytes: heard, at: 4 };
    let body = usize::try_from(reader.number()?).ok()?;
    reader.number()?;
    let fields = usize::try_from(reader.number()?).ok()?;
    Some(reader.at.checked_add(fields)?.next_multiple_of(8).checked_add(body)?.max(reader.at))
}

/// An answer.
#[derive(Debug, PartialEq, Eq)]
struct Message<'a> {
    reply_to: Option<u32>,
    error: Option<String>,
    body: &'a [u8],
}

impl<'a> Message<'a> {
    fn parse(bytes: &'a [u8]) -> Option<Self> {
        // A bus passes on in the order of the sender's machine, and that is this one: little-endian, as all that we are
        // built for.
        if bytes.first() != Some(&b'l') {
            return None;
        }
        let mut reader = Reader { bytes, at: 12 };
        let end = usize::try_from(reader.number()?).ok()?.checked_add(reader.at)?;
        let (mut reply_to, mut error) = (None, None);
        while reader.at < end {
            reader.align(8);
            let code = reader.byte()?;
            match (code, reader.signature()?.as_str()) {
                (5, "u") => reply_to = Some(reader.number()?),
                (4, "s") => error = Some(reader.text()?),
                (_, "u") => drop(reader.number()?),
                (_, "s" | "o") => drop(reader.text()?),
                (_, "g") => drop(reader.signature()?),
                _ => return None,
            }
        }
        Some(Self { reply_to, error, body: bytes.get(end.next_multiple_of(8)..)? })
    }
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn align(&mut self, to: usize) {
        self.at = self.at.next_multiple_of(to);
    }

    fn take(&mut self, len: usize) -> Option<&[u8]> {
        let end = self.at.checked_add(len)?;
        let taken = self.bytes.get(self.at..end)?;
        self.at = end;
        Some(taken)
    }

    fn byte(&mut self) -> Option<u8> {
        self.take(1)?.first().copied()
    }

    fn number(&mut self) -> Option<u32> {
        self.align(4);
        self.take(4)?.try_into().ok().map(u32::from_le_bytes)
    }

    fn text(&mut self) -> Option<String> {
        let len = usize::try_from(self.number()?).ok()?;
        self.terminated(len)
    }

    fn signature(&mut self) -> Option<String> {
        let len = self.byte()?;
        self.terminated(usize::from(len))
    }

    fn terminated(&mut self, len: usize) -> Option<String> {
        let text = String::from_utf8(self.take(len)?.to_vec()).ok()?;
        (self.byte()? == 0).then_some(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unit_has_a_path() {
        assert_eq!(object_path("nginx.service"), "/org/freedesktop/systemd1/unit/nginx_2eservice");
        assert_eq!(object_path("7-a@b.service"), "/org/freedesktop/systemd1/unit/_37_2da_40b_2eservice");
    }

    #[test]
    fn a_call_is_as_long_as_it_says_and_aligned() {
        let call = Call { destination: "d.e", path: "/p", interface: "i.f", member: "Get", arguments: &["one", ""] };
        let bytes = call.emit(7);
        assert_eq!(message_len(&bytes), Some(bytes.len()));
        assert_eq!(&bytes[..4], [b'l', 1, 0, 1]);
        assert_eq!(&bytes[8..12], [7, 0, 0, 0]);
        let message = Message::parse(&bytes).unwrap();
        let mut reader = Reader { bytes: message.body, at: 0 };
        assert_eq!((reader.text().as_deref(), reader.text().as_deref()), (Some("one"), Some("")));
        for len in 0..bytes.len() {
            assert!(message_len(&bytes[..len]).is_none_or(|wanted| wanted > len), "{len}");
        }
    }

    #[test]
    fn an_answer_is_read_and_a_truncated_one_is_not() {
        // A reply to serial 3 whose body is a variant with the text "active".
        let mut answer = vec![b'l', 2, 1, 1, 15, 0, 0, 0, 9, 0, 0, 0, 15, 0, 0, 0];
        answer.extend([5, 1, b'u', 0, 3, 0, 0, 0, 8, 1, b'g', 0, 1, b'v', 0, 0]);
        answer.extend([1, b's', 0, 0, 6, 0, 0, 0]);
        answer.extend(b"active\0");
        assert_eq!(message_len(&answer), Some(answer.len()));
        let message = Message::parse(&answer).unwrap();
        assert_eq!((message.reply_to, &message.error), (Some(3), &None));
        let mut reader = Reader { bytes: message.body, at: 0 };
        assert_eq!((reader.signature().as_deref(), reader.text().as_deref()), (Some("s"), Some("active")));
        for len in 0..32 {
            assert_eq!(Message::parse(&answer[..len]), None, "{len}");
        }
    }
}
