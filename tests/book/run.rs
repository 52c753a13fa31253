//! Runs the commands of a chapter on a pair of hosts and a client, which are namespaces.
//!
//! There is no systemd in there: `systemctl` and `journalctl` are stand-ins that start, stop and show the agent. The real ones are the
//! subject of `tests/service.sh` and `tests/package.sh`. Nor is there a server for `scp -p FILE HOST:FILE`, which this module does by itself.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use nix::mount::{MsFlags, mount};
use vipd::lab::{Host, Network, Process};

use crate::blocks::{self, RUNNABLE};
use crate::{Chapter, VIPD};

/// How long a reader would look again whether it has come about.
const PATIENCE: Duration = Duration::from_secs(15);
/// How long a command may take.
const LONGEST: Duration = Duration::from_secs(60);
/// Commands that only look, and may do so again.
const LOOKS: [&str; 5] = ["vipd status", "vipd events", "vipd report", "ip ", "journalctl"];
/// What must not be missing in the files of a host, although they are its own.
const OWN: [&str; 2] = ["/etc", "/var/lib"];

const SYSTEMCTL: &str = r#"#!/bin/sh
set -eu
case "$1 ${2-}" in
"start vipd")
    mkdir -p /run/vipd
    vipd run >>/run/vipd.log 2>&1 </dev/null &
    echo $! >/run/vipd.pid
    for _ in $(seq 300); do
        vipd status >/dev/null 2>&1 && exit 0
        sleep 0.05
    done
    cat /run/vipd.log
    exit 1
    ;;
"stop vipd")
    kill "$(cat /run/vipd.pid)"
    while kill -0 "$(cat /run/vipd.pid)" 2>/dev/null; do sleep 0.05; done
    ;;
"reload vipd") vipd reload ;;
*)
    echo "no stand-in for systemctl $*"
    exit 1
    ;;
esac
"#;

const JOURNALCTL: &str = "#!/bin/sh\ncat /run/vipd.log\n";

/// Runs them in their order, on hosts of the chapter's own.
pub fn chapter(chapter: &Chapter) -> Result<()> {
    let blocks = blocks::of(&chapter.text);
    let commands = blocks.iter().filter(|block| block.info == RUNNABLE);
    if commands.clone().any(|block| block.body.contains("# ip ")) && !is_installed("ip") {
        ensure!(std::env::var_os("CI").is_none(), "`ip` is not installed");
        eprintln!("{}: NOT RUN, because `ip` (iproute2) is not installed", chapter.name);
        return Ok(());
    }
    let world = World::new()?;
    // Files are there when the commands run which come after them.
    for block in &blocks {
        let at = || format!("{}:{}", chapter.path.display(), block.line);
        if let Some((path, host)) = block.file() {
            world.write(host, path, &block.body).with_context(at)?;
        } else if block.info == RUNNABLE {
            for step in steps(&block.body)? {
                world.run(&step).with_context(at)?;
            }
        }
    }
    Ok(())
}

fn is_installed(program: &str) -> bool {
    let folders = std::env::var("PATH").unwrap_or_default();
    folders.split(':').chain(["/usr/sbin", "/sbin"]).any(|folder| Path::new(folder).join(program).exists())
}

struct Step {
    host: String,
    command: String,
    expected: Vec<String>,
}

/// `db-a# COMMAND`, and what is printed.
fn steps(body: &str) -> Result<Vec<Step>> {
    let mut steps: Vec<Step> = Vec::new();
    for line in body.lines() {
        let prompt = line.split_once("# ").or_else(|| line.split_once("$ "));
        match prompt.filter(|(host, _)| World::HOSTS.iter().any(|(known, _)| known == host)) {
            Some((host, command)) => {
                steps.push(Step { host: host.to_owned(), command: command.to_owned(), expected: Vec::new() });
            }
            None => steps.last_mut().context("output before a command")?.expected.push(line.to_owned()),
        }
    }
    Ok(steps)
}

struct World {
    hosts: BTreeMap<&'static str, Host>,
    _networks: [Network; 2],
}

impl World {
    /// With the last number of their addresses.
    const HOSTS: [(&str, u8); 3] = [("db-a", 11), ("db-b", 12), ("client", 9)];

    fn new() -> Result<Self> {
        let networks = [Network::new()?, Network::new()?];
        let mut hosts = BTreeMap::new();
        for (name, number) in Self::HOSTS {
            let host = Host::new(name)?;
            host.plug(&networks[0], "eno1", &[&format!("10.20.0.{number}/24")])?;
            host.plug(&networks[1], "eno2", &[&format!("10.30.0.{number}/24")])?;
            host.run_in(|| OWN.iter().try_for_each(|path| make_own(Path::new(path))))??;
            for (program, text) in [("systemctl", SYSTEMCTL), ("journalctl", JOURNALCTL)] {
                host.write_file(&Path::new("/run/bin").join(program), text)?;
            }
            host.run_in(|| -> std::io::Result<()> {
                use std::os::unix::fs::symlink;
                symlink(VIPD, "/run/bin/vipd")?;
                for program in ["systemctl", "journalctl"] {
                    fs::set_permissions(Path::new("/run/bin").join(program), fs::Permissions::from_mode(0o755))?;
                }
                Ok(())
            })??;
            hosts.insert(name, host);
        }
        Ok(Self { hosts, _networks: networks })
    }

    fn host(&self, name: &str) -> Result<&Host> {
        self.hosts.get(name).with_context(|| format!("there is no host {name:?}"))
    }

    fn write(&self, host: &str, path: &str, text: &str) -> Result<()> {
        self.host(host)?.write_file(Path::new(path), text)
    }

    /// What `scp -p` does.
    fn copy(&self, from: &str, files: &str) -> Result<()> {
        let words = files.split_once(' ').and_then(|(file, to)| Some((file, to.split_once(':')?)));
        let (file, (to, path)) = words.with_context(|| format!("scp -p {files}"))?;
        let read = || std::io::Result::Ok((fs::read_to_string(file)?, fs::metadata(file)?.permissions()));
        let (text, permissions) = self.host(from)?.run_in(read)??;
        self.write(to, path, &text)?;
        self.host(to)?.run_in(|| fs::set_permissions(path, permissions))?.with_context(|| path.to_owned())
    }

    fn run(&self, step: &Step) -> Result<()> {
        let Step { host, command, expected } = step;
        if let Some(files) = command.strip_prefix("scp -p ") {
            return self.copy(host, files);
        }
        let looks = LOOKS.iter().any(|look| command.starts_with(look));
        let begun = Instant::now();
        loop {
            let (code, printed) = self.once(host, command)?;
            let wanted =
                expected.last().and_then(|line| line.strip_prefix("[exit code ")?.strip_suffix(']')?.parse().ok());
            let lines = &expected[..expected.len() - usize::from(wanted.is_some())];
            let well = code == Some(wanted.unwrap_or(0)) && (lines.is_empty() || matches(lines, &printed));
            if well {
                return Ok(());
            }
            if !looks || begun.elapsed() > PATIENCE {
                bail!(
                    "{host}: `{command}` ended with {code:?} and printed\n{}\ninstead of\n{}",
                    printed.join("\n"),
                    lines.join("\n")
                );
            }
            // What a reader does who looks again: no command waits for what he wants to see.
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    fn once(&self, host: &str, command: &str) -> Result<(Option<i32>, Vec<String>)> {
        let path = std::env::var("PATH").unwrap_or_default();
        let mut shell = self.host(host)?.command("/bin/sh");
        shell.args(["-c", command]).env("PATH", format!("/run/bin:{path}:/usr/sbin:/sbin"));
        let process = Process::start(&mut shell)?;
        let status = process.wait(LONGEST)?.with_context(|| format!("`{command}` does not end"))?;
        // Its last lines are read by then, or soon.
        process.wait_for_line(Duration::from_secs(1), |_| false);
        let lines = process.lines_from(0).into_iter().map(|line| line.text).collect();
        Ok((status.code(), lines))
    }
}

impl Drop for World {
    fn drop(&mut self) {
        // Agents that were started in the background.
        for host in self.hosts.values() {
            if let Err(error) = host.kill() {
                eprintln!("{}: {error:#}", host.name());
            }
        }
    }
}

/// Gives the host a folder of its own in place of one of the machine's, with what was in there. Works for an ordinary user as well.
fn make_own(path: &Path) -> Result<()> {
    let below = Path::new("/run/below").join(path.strip_prefix("/")?);
    fs::create_dir_all(&below)?;
    mount(Some(path), &below, None::<&str>, MsFlags::MS_BIND | MsFlags::MS_REC, None::<&str>)?;
    mount(Some("tmpfs"), path, Some("tmpfs"), MsFlags::empty(), Some("mode=755"))?;
    for entry in fs::read_dir(&below)? {
        let entry = entry?;
        // An agent's own, should the machine have one, is none of these hosts'.
        if entry.file_name() != "vipd" {
            std::os::unix::fs::symlink(entry.path(), path.join(entry.file_name()))?;
        }
    }
    Ok(())
}

/// Whether lines are as expected: `…` stands for any part of a line, and alone for any lines. How much space is between words is of no matter.
fn matches(expected: &[String], printed: &[String]) -> bool {
    let Some((first, rest)) = expected.split_first() else {
        return printed.iter().all(|line| line.trim().is_empty());
    };
    if first.trim() == "…" {
        return (0..=printed.len()).any(|skipped| matches(rest, &printed[skipped..]));
    }
    printed.split_first().is_some_and(|(line, others)| is_line(first, line) && matches(rest, others))
}

fn is_line(expected: &str, printed: &str) -> bool {
    let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let (expected, printed) = (words(expected), words(printed));
    let mut pieces = expected.split('…');
    let Some(mut rest) = pieces.next().and_then(|first| printed.strip_prefix(first)) else { return false };
    let pieces: Vec<&str> = pieces.collect();
    let Some((last, between)) = pieces.split_last() else { return rest.is_empty() };
    for piece in between {
        let Some((_, after)) = rest.split_once(piece) else { return false };
        rest = after;
    }
    rest.ends_with(last)
}

/// A comparison that takes anything would prove nothing.
pub fn ensure_that_matching_matches() -> Result<()> {
    let lines = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
    let cases = [
        ("a  b", "a b", true),
        ("a … c", "a b c", true),
        ("a … d", "a b c", false),
        ("a", "a b", false),
        ("…\nlast", "one\ntwo\nlast", true),
        ("one\n…", "one", true),
        ("one\n…\nthree", "one\ntwo", false),
        ("… b …", "a b c", true),
    ];
    for (expected, printed, matching) in cases {
        ensure!(matches(&lines(expected), &lines(printed)) == matching, "{expected:?} and {printed:?}");
    }
    Ok(())
}
