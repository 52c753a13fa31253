//! The hardware watchdog: resets the host unless it is fed. What the kernel's `watchdog-api` says of `/dev/watchdog`.
//!
//! Feeding is a write of one byte, which drivers do at once. A path that is no device is written to in the same way,
//! for tests.
#![allow(unsafe_code)] // The ioctl that sets the timeout.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::time::Duration;

use super::error::context;

nix::ioctl_readwrite!(
    /// `WDIOC_SETTIMEOUT`: seconds, and what the device made of them.
    set_timeout,
    b'W',
    6,
    libc::c_int
);

/// An armed watchdog. Dropped without [`Self::disarm`] it stays armed, and resets the host.
#[derive(Debug)]
pub struct Watchdog {
    file: File,
    timeout: Duration,
    can_be_disarmed: bool,
}

impl Watchdog {
    /// Arms it, to reset the host when it was not fed for so long.
    ///
    /// # Errors
    ///
    /// What the system refuses; `ResourceBusy` where another program has it.
    pub fn arm(path: &Path, timeout: Duration) -> io::Result<Self> {
        Self::open(path, timeout).map_err(context(&format!("arm the watchdog {}", path.display())))
    }

    fn open(path: &Path, timeout: Duration) -> io::Result<Self> {
        let file = OpenOptions::new().append(true).custom_flags(libc::O_NONBLOCK).open(path)?;
        let metadata = file.metadata()?;
        let mut watchdog = Self { file, timeout, can_be_disarmed: true };
        if metadata.file_type().is_char_device() {
            let mut seconds = libc::c_int::try_from(timeout.as_secs()).unwrap_or(libc::c_int::MAX);
            // SAFETY: the kernel reads and writes one int, which outlives the call, on a descriptor that is open.
            let set = unsafe { set_timeout(watchdog.file.as_raw_fd(), &raw mut seconds) };
            if let Err(error) = set {
                // It is armed by now, with a timeout of its own.
                watchdog.disarm()?;
                return Err(error.into());
            }
            watchdog.timeout = Duration::from_secs(u64::try_from(seconds).unwrap_or(1).max(1));
            watchdog.can_be_disarmed = !is_for_ever(metadata.rdev());
        }
        watchdog.feed()?;
        Ok(watchdog)
    }

    /// What it has set, which may be another timeout than was asked for.
    pub const fn timeout(&self) -> Duration {
        self.timeout
    }

    /// Whether the kernel lets it be disarmed (`nowayout`).
    pub const fn can_be_disarmed(&self) -> bool {
        self.can_be_disarmed
    }

    /// Puts the reset off by the timeout.
    ///
    /// # Errors
    ///
    /// What the system refuses.
    pub fn feed(&mut self) -> io::Result<()> {
        self.file.write_all(b".").map_err(context("feed the watchdog"))
    }

    /// The host is not reset: the magic close.
    ///
    /// # Errors
    ///
    /// What the system refuses; then it will be.
    pub fn disarm(mut self) -> io::Result<()> {
        self.file.write_all(b"V").map_err(context("disarm the watchdog"))
    }
}

/// Whether the kernel was told never to disarm it.
fn is_for_ever(device: u64) -> bool {
    let (major, minor) = (libc::major(device), libc::minor(device));
    // /dev/watchdog is the first of /dev/watchdogN by another number.
    let places = [format!("/sys/dev/char/{major}:{minor}/nowayout"), "/sys/class/watchdog/watchdog0/nowayout".into()];
    let said = places.iter().find_map(|place| std::fs::read_to_string(place).ok());
    said.is_some_and(|nowayout| nowayout.trim() == "1")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_fed_by_a_byte_and_disarmed_by_the_magic_one() {
        let path = std::env::temp_dir().join(format!("vipd-watchdog-{}", std::process::id()));
        std::fs::write(&path, "").expect("written");
        let mut watchdog = Watchdog::arm(&path, Duration::from_secs(10)).expect("armed");
        watchdog.feed().expect("fed");
        assert_eq!(std::fs::read_to_string(&path).expect("there"), "..");
        watchdog.disarm().expect("disarmed");
        assert_eq!(std::fs::read_to_string(&path).expect("there"), "..V");
        std::fs::remove_file(&path).expect("it is ours");
        assert!(Watchdog::arm(&path, Duration::from_secs(10)).is_err(), "there is none");
    }
}
