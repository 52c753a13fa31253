//! Whether a file that the configuration names is to be trusted: a program that others could replace runs as the agent, and a
//! secret that everybody can read is none.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::unistd::geteuid;

/// Whether a program may be run: nobody else can put another in its place.
///
/// # Errors
///
/// Why not, in words.
pub(super) fn check_program(path: &Path) -> Result<(), String> {
    let real = closed_to_others(path)?;
    let metadata = metadata(&real)?;
    if !metadata.is_file() || metadata.mode() & 0o111 == 0 {
        return Err(format!("{} is no program", path.display()));
    }
    Ok(())
}

/// Whether a secret is one.
///
/// # Errors
///
/// Why not, in words.
pub(super) fn check_secret(path: &Path) -> Result<(), String> {
    let real = closed_to_others(path)?;
    let metadata = metadata(&real)?;
    if !metadata.is_file() || metadata.mode() & 0o004 != 0 {
        return Err(format!("everybody can read {}", path.display()));
    }
    Ok(())
}

fn closed_to_others(path: &Path) -> Result<PathBuf, String> {
    let real = path.canonicalize().map_err(|error| format!("{}: {error}", path.display()))?;
    for part in real.ancestors() {
        let metadata = metadata(part)?;
        // Nobody can take another's file out of a directory such as /tmp.
        let is_sticky = metadata.is_dir() && metadata.mode() & 0o1000 != 0;
        let trusted = [0, geteuid().as_raw(), unmapped_user()];
        if !trusted.contains(&metadata.uid()) {
            return Err(format!("{} belongs to another user", part.display()));
        }
        if metadata.mode() & 0o022 != 0 && !is_sticky {
            return Err(format!("others can write to {}", part.display()));
        }
    }
    Ok(real)
}

fn metadata(path: &Path) -> Result<Metadata, String> {
    path.metadata().map_err(|error| format!("{}: {error}", path.display()))
}

/// Whom the machine's own files belong to, as a user namespace without them shows it; root where there is no such namespace.
fn unmapped_user() -> u32 {
    let map = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    let is_whole = map.split_whitespace().eq(["0", "0", "4294967295"]);
    let overflow = || std::fs::read_to_string("/proc/sys/kernel/overflowuid").ok()?.trim().parse().ok();
    if is_whole { 0 } else { overflow().unwrap_or(0) }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    struct Place(PathBuf);

    impl Place {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("vipd-trust-{name}-{}", std::process::id()));
            std::fs::create_dir_all(&path).expect("a directory");
            std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).expect("it is ours");
            Self(path)
        }

        fn file(&self, name: &str, text: &str, mode: u32) -> String {
            let path = self.0.join(name);
            std::fs::write(&path, text).expect("written");
            std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).expect("it is ours");
            path.display().to_string()
        }
    }

    impl Drop for Place {
        fn drop(&mut self) {
            std::fs::remove_dir_all(&self.0).expect("it is ours");
        }
    }

    #[test]
    fn what_others_can_change_is_refused() {
        let place = Place::new("writable");
        let path = |name: &str, mode| PathBuf::from(place.file(name, "", mode));
        assert_eq!(check_program(&path("good", 0o755)), Ok(()));
        assert!(check_program(&path("writable", 0o757)).expect_err("writable").contains("others can write"));
        assert!(check_program(&path("plain", 0o644)).expect_err("no program").contains("is no program"));
        assert!(check_program(Path::new("/nonexistent/fence")).is_err());
        assert_eq!(check_secret(&path("secret", 0o640)), Ok(()));
        assert!(check_secret(&path("open", 0o644)).expect_err("open").contains("everybody can read"));
        std::fs::set_permissions(&place.0, PermissionsExt::from_mode(0o777)).expect("it is ours");
        assert!(check_program(&path("good", 0o755)).expect_err("the directory").contains("others can write"));
    }
}
