//! Which files may be written, by Landlock: reading stays a matter of users and modes.
//!
//! Reading is not restricted, because a reload may name any file: keys, secrets, what a check reads. Writing, making,
//! removing and running are, on all of the file system, and so are device controls, TCP ports to listen on, and signals
//! to other processes, each where the kernel knows of it (ABI 5, 4 and 6). What is open already stays open.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, LandlockStatus, PathBeneath, Ruleset, RulesetAttr, RulesetCreated,
    RulesetCreatedAttr, RulesetStatus, Scope, make_bitflags,
};

/// The newest that was tried. What an older kernel does not know of is left out.
const KNOWN: ABI = ABI::V6;

/// What may be done beyond reading. A place that is not there is left out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Places {
    /// Folders in which files are made, written, renamed and removed.
    pub kept: Vec<PathBuf>,
    /// Folders in which what is there may be removed.
    pub cleared: Vec<PathBuf>,
    /// Files and folders with files that are written.
    pub written: Vec<PathBuf>,
    /// Devices that are written and controlled.
    pub devices: Vec<PathBuf>,
}

/// What holds from now on.
#[derive(Debug)]
pub struct Restricted {
    /// Landlock's version, as far as it is used here.
    pub abi: u32,
    /// An entry of a file system without a disk may be forgotten, and come back as another. Not while it is open.
    _held: Vec<OwnedFd>,
}

/// Restricts the calling thread and all that it starts. `None`: this kernel has no Landlock.
///
/// # Errors
///
/// What the system refuses.
pub fn restrict(places: &Places) -> io::Result<Option<Restricted>> {
    let created = Ruleset::default()
        .handle_access(AccessFs::from_all(KNOWN))
        .and_then(|rules| rules.handle_access(AccessNet::BindTcp))
        .and_then(|rules| rules.scope(Scope::Signal))
        .and_then(Ruleset::create)
        .map_err(io::Error::other)?;
    let mut rules = Rules { created: Some(created), held: Vec::new() };
    rules.allow(Path::new("/"), make_bitflags!(AccessFs::{ReadFile | ReadDir}))?;
    let kept = make_bitflags!(AccessFs::{WriteFile | Truncate | MakeReg | RemoveFile});
    places.kept.iter().try_for_each(|place| rules.allow(place, kept))?;
    places.cleared.iter().try_for_each(|place| rules.allow(place, AccessFs::RemoveFile))?;
    let written = make_bitflags!(AccessFs::{WriteFile | Truncate});
    places.written.iter().try_for_each(|place| rules.allow(place, written))?;
    let devices = make_bitflags!(AccessFs::{WriteFile | IoctlDev});
    places.devices.iter().try_for_each(|place| rules.allow(place, devices))?;
    let Some(created) = rules.created.take() else { return Ok(None) };
    let status = created.restrict_self().map_err(io::Error::other)?;
    let abi = match (status.ruleset, status.landlock) {
        (RulesetStatus::NotEnforced, _) | (_, LandlockStatus::NotEnabled | LandlockStatus::NotImplemented) => {
            return Ok(None);
        }
        (_, LandlockStatus::Available { effective_abi, .. }) => effective_abi.min(KNOWN) as u32,
    };
    Ok(Some(Restricted { abi, _held: rules.held }))
}

struct Rules {
    created: Option<RulesetCreated>,
    held: Vec<OwnedFd>,
}

impl Rules {
    fn allow(&mut self, place: &Path, access: impl Into<BitFlags<AccessFs>>) -> io::Result<()> {
        let opened = File::options().read(true).custom_flags(libc::O_PATH | libc::O_CLOEXEC).open(place);
        let file = match opened {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            file => file?,
        };
        let access = if file.metadata()?.is_dir() { access.into() } else { access.into() & AccessFs::from_file(KNOWN) };
        if let Some(created) = self.created.take() {
            let rule = PathBeneath::new(&file, access);
            self.created = Some(created.add_rule(rule).map_err(io::Error::other)?);
        }
        self.held.push(file.into());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::net::TcpListener;
    use std::process::Command;
    use std::thread;

    use nix::sys::signal::kill;
    use nix::unistd::getppid;

    use super::*;
    use crate::scratch::Scratch;

    fn is_refused<T>(result: io::Result<T>) -> bool {
        matches!(result.map(drop).map_err(|error| error.raw_os_error()), Err(Some(libc::EACCES | libc::EPERM)))
    }

    #[test]
    fn nothing_is_written_made_removed_or_run_but_where_it_was_said() {
        let (place, other) = (Scratch::new("landlock"), Scratch::new("landlock-others"));
        let path = |name: &str| place.path().join(name);
        for name in ["kept", "cleared", "written"] {
            fs::create_dir(path(name)).expect("a folder");
            fs::write(path(name).join("file"), "before").expect("a file");
        }
        let foreign = other.file("file", "before", 0o644);
        let program = other.file("program", "#!/bin/sh\n", 0o755);
        let places = Places {
            kept: vec![path("kept"), path("missing")],
            cleared: vec![path("cleared")],
            written: vec![path("written")],
            devices: vec!["/dev/null".into()],
        };
        let paths = ["kept", "cleared", "written"].map(path);
        let restricted = thread::spawn(move || {
            let Some(restricted) = restrict(&places).expect("rules") else {
                eprintln!("this kernel has no Landlock");
                return;
            };
            let [kept, cleared, written] = paths;
            // What a thread may not, those may not that it starts.
            thread::spawn(move || {
                assert!(fs::read(&foreign).is_ok() && fs::read_dir("/").is_ok());
                assert!(is_refused(fs::write(&foreign, "after")));
                assert!(is_refused(fs::remove_file(&foreign)));
                assert!(is_refused(fs::write(foreign.with_extension("new"), "")));
                assert!(is_refused(Command::new(&program).status()));
                assert!(is_refused(Command::new("/bin/true").status()));

                fs::write(kept.join("new"), "after").expect("kept files are made");
                fs::rename(kept.join("new"), kept.join("file")).expect("and renamed");
                fs::write(written.join("file"), "after").expect("written files are written");
                fs::write("/dev/null", "x").expect("a device is written");
                assert!(is_refused(fs::write(written.join("new"), "")), "but not made");
                fs::remove_file(cleared.join("file")).expect("cleared files are removed");
                assert!(is_refused(fs::write(cleared.join("new"), "")));
                assert!(is_refused(std::os::unix::fs::symlink("/", kept.join("link"))));
                if restricted.abi >= 4 {
                    assert!(is_refused(TcpListener::bind("127.0.0.1:0")));
                }
                if restricted.abi >= 6 {
                    assert!(is_refused(kill(getppid(), None).map_err(io::Error::from)));
                }
            })
            .join()
            .expect("no panic");
        });
        restricted.join().expect("no panic");
    }
}
