//! A directory of a test's own.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Nobody else can write to it. Removed, with all that is in it, when it goes out of scope.
#[derive(Debug)]
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    /// A new one; the name tells it from those of other tests.
    pub(crate) fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("vipd-test-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).expect("a directory");
        fs::set_permissions(&path, Permissions::from_mode(0o755)).expect("it is ours");
        Self(path)
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// Writes a program in it, by another process: the kernel runs none that somebody may write to, and whatever this
    /// process has open a program that another test is starting at that moment has open too.
    pub(crate) fn program(&self, name: &str, text: &str) -> PathBuf {
        let (text, path) = (self.file(&format!("{name}.text"), text, 0o600), self.0.join(name));
        let mut install = Command::new("install");
        assert!(install.args(["-m", "755"]).args([&text, &path]).status().is_ok_and(|status| status.success()));
        path
    }

    /// Writes a file in it.
    pub(crate) fn file(&self, name: &str, text: &str, mode: u32) -> PathBuf {
        let path = self.0.join(name);
        fs::write(&path, text).expect("it is ours");
        fs::set_permissions(&path, Permissions::from_mode(mode)).expect("it is ours");
        path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).expect("it is ours");
    }
}
