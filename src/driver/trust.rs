//! Whether a file that the configuration names is to be trusted: a program that others could replace runs as the agent, and a
//! secret that everybody can read is none.

use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::unistd::geteuid;

/// Whether a secret is one: nobody else can put another in its place, and not everybody can read it.
///
/// # Errors
///
/// Why not, in words that do not name the file: what stands in its place may be the secret itself.
pub fn inspect_secret(path: &Path) -> Result<(), String> {
    let real = path.canonicalize().map_err(|error| format!("cannot be read: {error}"))?;
    let metadata = fs::metadata(&real).map_err(|error| format!("cannot be read: {error}"))?;
    if Trusted::and(None).open_part(path, &real).is_some() {
        return Err("can be changed by others, or a folder above it can".to_owned());
    }
    if !metadata.is_file() || metadata.mode() & 0o004 != 0 {
        return Err("can be read by everybody".to_owned());
    }
    Ok(())
}

/// Who may change what is trusted.
#[derive(Debug)]
pub(super) struct Trusted {
    users: [u32; 4],
    groups: [u32; 2],
}

impl Trusted {
    /// Root, the agent, and this user.
    pub(super) fn and(user: Option<u32>) -> Self {
        let users = [0, geteuid().as_raw(), unmapped("uid").unwrap_or(0), user.unwrap_or(0)];
        Self { users, groups: [0, unmapped("gid").unwrap_or(0)] }
    }

    /// The first of a file and of the folders that lead to it which others can change. `real` is where its links lead.
    pub(super) fn open_part(&self, path: &Path, real: &Path) -> Option<PathBuf> {
        let is_open = |part: &Path, sticky_is_closed| {
            fs::metadata(part).is_ok_and(|metadata| self.is_open_to_others(&metadata, sticky_is_closed))
        };
        if is_open(real, false) {
            return Some(real.to_owned());
        }
        let folders = [path, real].into_iter().flat_map(|path| path.ancestors().skip(1).enumerate());
        // In a sticky folder nobody can replace what is another's; but such a folder is nobody's place for programs and
        // secrets.
        let mut open = folders.filter(|(place, folder)| is_open(folder, *place > 0));
        open.next().map(|(_, folder)| folder.to_owned())
    }

    fn is_open_to_others(&self, metadata: &Metadata, sticky_is_closed: bool) -> bool {
        let mode = metadata.mode();
        let by_owner = !self.users.contains(&metadata.uid());
        let by_group = mode & 0o020 != 0 && !self.groups.contains(&metadata.gid());
        let by_all = mode & 0o002 != 0;
        by_owner || (by_group || by_all) && !(sticky_is_closed && mode & 0o1000 != 0)
    }
}

/// The number under which a user namespace shows whom it does not have, as the owners of the machine's own files;
/// `None` where there is no such namespace, and that number is somebody's.
fn unmapped(kind: &str) -> Option<u32> {
    let map = fs::read_to_string(format!("/proc/self/{kind}_map")).unwrap_or_default();
    if map.split_whitespace().eq(["0", "0", "4294967295"]) {
        return None;
    }
    fs::read_to_string(format!("/proc/sys/kernel/overflow{kind}")).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;
    use crate::scratch::Scratch;

    #[test]
    fn what_others_can_change_or_read_is_refused() {
        let place = Scratch::new("trust");
        let mode = |path: &Path, mode| fs::set_permissions(path, PermissionsExt::from_mode(mode)).expect("it is ours");
        let secret = place.file("secret", "hunter2", 0o640);
        let refused = |path: &Path| inspect_secret(path).expect_err("it is open");
        assert_eq!(inspect_secret(&secret), Ok(()));
        assert!(refused(&place.file("open", "hunter2", 0o644)).contains("read by everybody"));
        assert!(refused(&place.file("writable", "hunter2", 0o602)).contains("changed by others"));
        assert!(refused(&place.path().join("missing")).contains("cannot be read"));

        let closed = place.path().join("closed");
        fs::create_dir(&closed).expect("a folder");
        let (moved, link) = (closed.join("moved"), place.path().join("link"));
        fs::rename(&secret, &moved).expect("it is ours");
        symlink(&moved, &link).expect("a link");
        assert_eq!(inspect_secret(&link), Ok(()));
        for open in [place.path(), &closed] {
            for writable in [0o777, 0o1777] {
                mode(open, writable);
                assert!(refused(&link).contains("folder above"), "{open:?} {writable:o}");
            }
            mode(open, 0o755);
        }
        assert_eq!(inspect_secret(&link), Ok(()));
    }
}
