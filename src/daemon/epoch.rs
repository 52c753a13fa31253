//! Which life of this node is this? Kept on disk, so that no two lives seal adverts alike.
//!
//! Each start takes a higher number than the last one. The seconds of the wall clock are only where it begins: a host
//! that has lost its state directory is believed again, if its clock is right, and nothing depends on it otherwise.

use std::io;
use std::path::Path;
use std::time::SystemTime;

use super::clock;
use crate::driver::state_dir::StateDir;

/// The file in the state directory.
const FILE: &str = "advert-epoch";

/// Begins a life: its epoch, which the disk has by then.
///
/// # Errors
///
/// What the disk refuses, or a file that is not ours. A life that could not be told from the one before must not seal.
pub(super) fn begin(state_dir: &Path) -> io::Result<u64> {
    begin_at(state_dir, clock::wall())
}

fn begin_at(state_dir: &Path, wall: SystemTime) -> io::Result<u64> {
    let dir = StateDir::open(state_dir)?;
    let last = match dir.read(FILE, 64)? {
        None => 0,
        Some(bytes) => std::str::from_utf8(&bytes)
            .ok()
            .and_then(|text| text.trim_end().parse::<u64>().ok())
            .filter(|last| *last < u64::MAX)
            .ok_or_else(|| {
                let path = state_dir.join(FILE);
                let why = format!("{} holds no number; remove it if this host's clock is right", path.display());
                io::Error::new(io::ErrorKind::InvalidData, why)
            })?,
    };
    let seconds = wall.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let epoch = (last + 1).max(seconds);
    dir.replace(FILE, format!("{epoch}\n").as_bytes())?;
    Ok(epoch)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn every_life_has_a_higher_epoch_whatever_the_clock_says() {
        let path = std::env::temp_dir().join(format!("vipd-epoch-{}", std::process::id()));
        let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        let epochs =
            [1_000, 1_000, 5_000, 0, 4_000].map(|clock| begin_at(&path, at(clock)).expect("a directory of ours"));
        assert_eq!(epochs, [1_000, 1_001, 5_000, 5_001, 5_002]);

        std::fs::write(path.join(FILE), "rubbish").expect("it is ours");
        let refused = begin_at(&path, at(1)).expect_err("no number");
        assert!(refused.to_string().contains(FILE), "{refused}");
        std::fs::remove_dir_all(&path).expect("it is ours");
    }
}
