//! The directory that outlives the agent: files in it are written whole or line by line, and no symbolic link is followed.
//!
//! Every file is reached from the open directory, so that nobody who renames directories above it has the agent write
//! elsewhere. All of this can block for as long as a disk does: it belongs on a thread of its own.

use std::fs::{DirBuilder, File, Permissions};
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::fcntl::{OFlag, openat, renameat};
use nix::sys::stat::Mode;
use nix::unistd::geteuid;

use super::error::context;

/// Where it is, unless `--state-dir` says otherwise.
pub const DEFAULT_PATH: &str = "/var/lib/vipd";

/// The directory, open.
#[derive(Debug)]
pub struct StateDir {
    dir: OwnedFd,
}

impl StateDir {
    /// Opens it for the agent. Made where it is missing, for its owner alone.
    ///
    /// # Errors
    ///
    /// What the system refuses; a symbolic link in its place; a directory that others can write to and that is not ours
    /// to close.
    pub fn open(path: &Path) -> io::Result<Self> {
        let tried = format!("use the state directory {}", path.display());
        Self::make_and_open(path).map_err(context(&tried))
    }

    /// Opens what is there, to read it.
    ///
    /// # Errors
    ///
    /// What the system refuses, and a symbolic link in its place.
    pub fn open_to_read(path: &Path) -> io::Result<Self> {
        let dir = open_dir(path).map_err(context(&format!("read {}", path.display())))?;
        Ok(Self { dir: dir.into() })
    }

    fn make_and_open(path: &Path) -> io::Result<Self> {
        let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
        // A link in its place may point to a directory; what it is comes out when it is opened.
        if let Err(error) = made
            && error.kind() != io::ErrorKind::AlreadyExists
        {
            return Err(error);
        }
        let dir = open_dir(path)?;
        let metadata = dir.metadata()?;
        if metadata.uid() == geteuid().as_raw() {
            if metadata.mode() & 0o777 != 0o700 {
                dir.set_permissions(Permissions::from_mode(0o700))?;
            }
        } else if metadata.mode() & 0o022 != 0 {
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, "others can write to it"));
        }
        Ok(Self { dir: dir.into() })
    }

    /// Opens a file to append to, made where it is missing. Its length.
    ///
    /// # Errors
    ///
    /// What the system refuses, and what is no ordinary file.
    pub fn append_to(&self, name: &str) -> io::Result<(File, u64)> {
        let flags = OFlag::O_RDWR | OFlag::O_APPEND | OFlag::O_CREAT;
        let file = self.open_file(name, flags).map_err(context(&format!("write to {name}")))?;
        let length = file.metadata()?.len();
        Ok((file, length))
    }

    /// Opens a file to read.
    ///
    /// # Errors
    ///
    /// `NotFound`, what the system refuses, and what is no ordinary file.
    pub fn file(&self, name: &str) -> io::Result<File> {
        self.open_file(name, OFlag::O_RDONLY).map_err(context(&format!("read {name}")))
    }

    /// What a file holds; `None` where there is none. No more than `limit` bytes.
    ///
    /// # Errors
    ///
    /// What the system refuses, and a file that is longer.
    pub fn read(&self, name: &str, limit: u64) -> io::Result<Option<Vec<u8>>> {
        let file = match self.file(name) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            file => file?,
        };
        let mut bytes = Vec::new();
        file.take(limit + 1).read_to_end(&mut bytes)?;
        if u64::try_from(bytes.len()).is_ok_and(|length| length > limit) {
            return Err(io::Error::new(io::ErrorKind::InvalidData, format!("{name} is longer than {limit} bytes")));
        }
        Ok(Some(bytes))
    }

    /// Has a file hold exactly this. Whoever reads it, after a crash as well, finds all of the old or all of the new.
    ///
    /// # Errors
    ///
    /// What the system refuses; then the old is still there.
    pub fn replace(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let new = format!("{name}.new");
        let written = || {
            let mut file = self.open_file(&new, OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_TRUNC)?;
            file.write_all(bytes)?;
            file.sync_all()?;
            self.rename_quietly(&new, name)
        };
        written().map_err(context(&format!("write {name}")))
    }

    /// Writes over a file's content, made where it is missing, without waiting for the disk. After a crash it may hold
    /// the old.
    ///
    /// # Errors
    ///
    /// What the system refuses, and what is no ordinary file.
    pub fn overwrite(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let written = || {
            let mut file = self.open_file(name, OFlag::O_WRONLY | OFlag::O_CREAT)?;
            file.write_all(bytes)?;
            file.set_len(u64::try_from(bytes.len()).unwrap_or(u64::MAX))
        };
        written().map_err(context(&format!("write {name}")))
    }

    /// Gives a file another name, in place of one that has it.
    ///
    /// # Errors
    ///
    /// What the system refuses.
    pub fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.rename_quietly(from, to).map_err(context(&format!("rename {from} to {to}")))
    }

    fn rename_quietly(&self, from: &str, to: &str) -> io::Result<()> {
        renameat(&self.dir, from, &self.dir, to)?;
        Ok(nix::unistd::fsync(&self.dir)?)
    }

    fn open_file(&self, name: &str, flags: OFlag) -> io::Result<File> {
        // NONBLOCK: the opening of a pipe that somebody put there does not wait for its other end.
        let flags = flags | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK;
        let file = File::from(openat(&self.dir, name, flags, Mode::S_IRUSR | Mode::S_IWUSR)?);
        if !file.metadata()?.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no ordinary file"));
        }
        Ok(file)
    }
}

fn open_dir(path: &Path) -> io::Result<File> {
    let flags = OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW;
    // Without a slash at its end, behind which a link would be followed.
    let path: PathBuf = path.components().collect();
    std::fs::OpenOptions::new().read(true).custom_flags(flags.bits()).open(path)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::scratch::Scratch;

    #[test]
    fn it_is_made_for_its_owner_alone_and_closed_to_others() {
        let place = Scratch::new("state-mode");
        let path = place.path().join("deep/er");
        StateDir::open(&path).expect("it can be made");
        let mode = || std::fs::metadata(&path).expect("it is there").mode() & 0o777;
        assert_eq!(mode(), 0o700);
        std::fs::set_permissions(&path, Permissions::from_mode(0o777)).expect("it is ours");
        StateDir::open(&path).expect("it can be used");
        assert_eq!(mode(), 0o700);
    }

    #[test]
    fn no_link_is_followed_and_no_pipe_is_waited_for() {
        let place = Scratch::new("state-links");
        let (real, link) = (place.path().join("real"), place.path().join("link"));
        let dir = StateDir::open(&real).expect("it can be made");
        symlink(&real, &link).expect("a link");
        assert!(StateDir::open(&link).is_err(), "the directory itself is a link");

        let victim = place.path().join("victim");
        std::fs::write(&victim, "precious").expect("a file");
        symlink(&victim, real.join("file")).expect("a link");
        assert!(dir.append_to("file").is_err());
        assert!(dir.read("file", 100).is_err());
        dir.replace("file", b"new").expect("the link itself gives way");
        assert_eq!(std::fs::read_to_string(&victim).expect("it is there"), "precious");

        nix::unistd::mkfifo(&real.join("pipe"), Mode::S_IRUSR).expect("a pipe");
        let error = dir.file("pipe").expect_err("a pipe").to_string();
        assert_eq!(error, "cannot read pipe: it is no ordinary file");
    }

    #[test]
    fn a_file_is_overwritten_whole() {
        let place = Scratch::new("state-overwrite");
        let dir = StateDir::open(&place.path().join("state")).expect("it can be made");
        for text in ["one", "a longer one", "2"] {
            dir.overwrite("file", text.as_bytes()).expect("it can be written");
            assert_eq!(dir.read("file", 12).expect("it can be read").as_deref(), Some(text.as_bytes()));
        }
    }

    #[test]
    fn a_file_is_replaced_whole_and_bounded() {
        let place = Scratch::new("state-replace");
        let dir = StateDir::open(&place.path().join("state")).expect("it can be made");
        assert_eq!(dir.read("file", 10).expect("no error"), None);
        for text in ["one", "a longer one", "2"] {
            dir.replace("file", text.as_bytes()).expect("it can be written");
            assert_eq!(dir.read("file", 12).expect("it can be read").as_deref(), Some(text.as_bytes()));
        }
        dir.replace("file", &[0; 13]).expect("it can be written");
        assert!(dir.read("file", 12).is_err());
    }
}
