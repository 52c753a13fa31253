//! Whether a process of a name runs, as `ps -o comm` shows it.

use std::fs;
use std::path::Path;

use super::{Failure, Unable};

/// How much of a name the kernel keeps.
const MAX_NAME: usize = 15;

/// Whether the processes of other users can be seen: the first one is somebody else's wherever they can be hidden.
pub(super) fn inspect() -> Result<(), Unable> {
    if Path::new("/proc/1").exists() {
        return Ok(());
    }
    Err(Unable {
        problem: "the processes of other users are hidden from the agent".to_owned(),
        remedy: "give the unit ProtectProc=default (systemctl edit vipd), or mount /proc without hidepid",
    })
}

pub(super) fn run(name: &str) -> Result<String, Failure> {
    inspect()?;
    let processes = fs::read_dir("/proc").map_err(|error| Failure::Unable(format!("/proc: {error}")))?;
    for process in processes.flatten() {
        let pid = process.file_name();
        // A process may end before it is read about.
        if pid.as_encoded_bytes().iter().all(u8::is_ascii_digit)
            && let Ok(stat) = fs::read_to_string(process.path().join("stat"))
            && is_alive_as(&stat, name)
        {
            return Ok(format!("process {}", pid.to_string_lossy()));
        }
    }
    Err(Failure::Ill(format!("no process is named {name}")))
}

/// `PID (NAME) STATE ...`, where the name can have brackets and spaces.
fn is_alive_as(stat: &str, name: &str) -> bool {
    let wanted = name.get(..MAX_NAME).unwrap_or(name);
    let Some(((_, found), rest)) = stat.rsplit_once(") ").and_then(|(head, rest)| Some((head.split_once('(')?, rest)))
    else {
        return false;
    };
    found == wanted && !rest.starts_with(['Z', 'X'])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_with_brackets_are_read_and_zombies_do_not_count() {
        assert!(is_alive_as("7 (postgres) S 1 7", "postgres"));
        assert!(is_alive_as("7 (a) b (c) R 1 7", "a) b (c"));
        assert!(is_alive_as("7 (systemd-resolve) S 1", "systemd-resolved"));
        assert!(!is_alive_as("7 (postgres) Z 1 7", "postgres"));
        assert!(!is_alive_as("7 (postgres) S 1 7", "postgre"));
        assert!(!is_alive_as("", ""));
    }
}
