//! The journal of systemd, by its native protocol: entries with fields (`systemd.io/JOURNAL_NATIVE_PROTOCOL`).

use std::fs::File;
use std::io::{self, IoSlice, Write};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::socket::{ControlMessage, MsgFlags, UnixAddr, sendmsg};

/// Where journald listens.
const SOCKET: &str = "/run/systemd/journal/socket";

/// What takes longer than this is lost: a journal that stands still must not hold up the end of an agent.
const PATIENCE: Duration = Duration::from_secs(2);

/// An entry: fields in their order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Entry(Vec<u8>);

/// A way to journald. One that is started anew is reached again.
#[derive(Debug)]
pub struct Journald {
    socket: UnixDatagram,
    path: PathBuf,
}

impl Entry {
    /// Adds a field. Its name is put into the letters that journald takes.
    pub fn put(&mut self, name: &str, value: &str) {
        let name = name.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' });
        let name: String = name.skip_while(|c| !c.is_ascii_alphabetic()).collect();
        if name.is_empty() {
            return;
        }
        self.0.extend(name.bytes());
        if value.contains('\n') {
            let length = u64::try_from(value.len()).unwrap_or(u64::MAX);
            self.0.push(b'\n');
            self.0.extend(length.to_le_bytes());
        } else {
            self.0.push(b'=');
        }
        self.0.extend(value.bytes());
        self.0.push(b'\n');
    }
}

impl Journald {
    /// Where it listens on this machine.
    ///
    /// # Errors
    ///
    /// There is none.
    pub fn open() -> io::Result<Self> {
        let journald = Self { socket: UnixDatagram::unbound()?, path: SOCKET.into() };
        journald.socket.set_write_timeout(Some(PATIENCE))?;
        // An empty entry is none; it shows whether somebody listens.
        journald.send(&Entry::default())?;
        Ok(journald)
    }

    /// Hands an entry over. Blocks where journald does not keep up.
    ///
    /// # Errors
    ///
    /// Nobody listens, or the system refuses.
    pub fn send(&self, Entry(bytes): &Entry) -> io::Result<()> {
        match self.socket.send_to(bytes, &self.path) {
            Err(error) if error.raw_os_error() == Some(Errno::EMSGSIZE as RawFd) => self.send_in_memory(bytes),
            sent => sent.map(drop),
        }
    }

    /// What is too large for a datagram goes as a file that nobody can change.
    fn send_in_memory(&self, bytes: &[u8]) -> io::Result<()> {
        let mut file = File::from(memfd_create("entry", MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING)?);
        file.write_all(bytes)?;
        let seals = SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_WRITE | SealFlag::F_SEAL_SEAL;
        fcntl(&file, FcntlArg::F_ADD_SEALS(seals))?;
        let files = [file.as_raw_fd()];
        let address = UnixAddr::new(&self.path)?;
        let nothing: [IoSlice<'_>; 0] = [];
        let passed = [ControlMessage::ScmRights(&files)];
        sendmsg(self.socket.as_raw_fd(), &nothing, &passed, MsgFlags::empty(), Some(&address))?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_of_several_lines_is_counted_and_a_name_is_made_legal() {
        let mut entry = Entry::default();
        entry.put("message", "one line");
        entry.put("_evil-1", "two\nlines");
        entry.put("_", "no name");
        assert_eq!(entry.0, b"MESSAGE=one line\nEVIL_1\n\x09\0\0\0\0\0\0\0two\nlines\n");
    }

    #[test]
    fn what_is_too_large_for_a_datagram_arrives_in_a_file() {
        let path = std::env::temp_dir().join(format!("vipd-journald-{}", std::process::id()));
        let listener = UnixDatagram::bind(&path).expect("the name is ours");
        let journald = Journald { socket: UnixDatagram::unbound().expect("a socket"), path: path.clone() };
        let mut entry = Entry::default();
        entry.put("message", &"x".repeat(4 << 20));
        journald.send(&entry).expect("a file has room");
        entry.0.truncate(20);
        journald.send(&entry).expect("a datagram has room");
        let mut buffer = [0; 64];
        assert_eq!(listener.recv(&mut buffer).expect("it was sent"), 0, "the file comes beside no bytes");
        assert_eq!(listener.recv(&mut buffer).expect("it was sent"), 20);
        std::fs::remove_file(path).expect("it is ours");
    }
}
