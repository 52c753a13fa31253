//! The check of PostgreSQL, with a primary and a standby that streams from it.
//!
//! Needs the server's programs (Debian: postgresql-15); in CI they must be there. Root cannot run a server, and becomes `postgres` for it.

#![cfg(feature = "agent")]
#![allow(clippy::disallowed_methods, reason = "servers live in real time")]

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use nix::unistd::{User, geteuid};
use vipd::driver::checks::postgres::{Database, Role};
use vipd::driver::checks::{Check, Probe, Running};
use vipd::engine::{CheckOutcome, CheckResult};

/// Both servers, in a folder of their own: `a` is made as a primary, `b` as its standby. Ended on drop.
struct Pair {
    folder: PathBuf,
    programs: PathBuf,
    port: u16,
}

impl Pair {
    fn start() -> Option<Self> {
        let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
        let programs =
            versions.map(|version| version.path().join("bin")).filter(|bin| bin.join("initdb").exists()).max();
        let Some(programs) = programs else {
            assert!(std::env::var_os("CI").is_none(), "PostgreSQL's server is missing");
            return None;
        };
        // Its socket has a long name, and its user must be able to get there.
        let folder = PathBuf::from(format!("/tmp/vipd-postgres-{}", std::process::id()));
        fs::create_dir(&folder).expect("nobody else has it");
        if let Some(user) = server_user() {
            std::os::unix::fs::chown(&folder, Some(user.uid.as_raw()), Some(user.gid.as_raw())).expect("we are root");
        }
        let port = 20_000 + u16::try_from(std::process::id() % 20_000).expect("less than 20,000");
        let pair = Self { folder, programs, port };
        pair.run("initdb", &["--auth=trust", "--no-sync", "--username=admin", "--pgdata", &pair.data("a")]);
        pair.begin("a");
        pair.sql("a", "create role vipd login in role pg_monitor");
        pair.sql("a", "create role nobody login");
        pair.sql("a", "create table things (name text)");
        let from = pair.connection("a", "admin");
        pair.run(
            "pg_basebackup",
            &[
                "--pgdata",
                &pair.data("b"),
                "--write-recovery-conf",
                "--no-sync",
                "--checkpoint=fast",
                "--dbname",
                &from,
            ],
        );
        pair.begin("b");
        Some(pair)
    }

    fn data(&self, server: &str) -> String {
        self.folder.join(server).display().to_string()
    }

    fn connection(&self, server: &str, user: &str) -> String {
        let port = self.port + u16::from(server == "b");
        format!("host={} port={port} user={user} dbname=postgres", self.folder.display())
    }

    fn run(&self, program: &str, arguments: &[&str]) {
        let mut command = Command::new(self.programs.join(program));
        command.args(arguments).current_dir(&self.folder).stdin(Stdio::null());
        if let Some(user) = server_user() {
            command.uid(user.uid.as_raw()).gid(user.gid.as_raw());
        }
        // Not through a pipe, which the server would keep open.
        let said = self.folder.join("said");
        let out = fs::File::create(&said).expect("it is ours");
        command.stdout(out.try_clone().expect("it is open")).stderr(out);
        let status = command.status().expect("the program is there");
        assert!(status.success(), "{program} {arguments:?}: {}", fs::read_to_string(&said).unwrap_or_default());
    }

    fn begin(&self, server: &str) {
        let port = self.port + u16::from(server == "b");
        let options =
            format!("-c listen_addresses= -c unix_socket_directories={} -p {port} -c fsync=off", self.folder.display());
        self.run("pg_ctl", &["start", "--wait", "--silent", "--pgdata", &self.data(server), "--options", &options]);
    }

    fn stop(&self, server: &str) {
        self.run("pg_ctl", &["stop", "--mode=immediate", "--silent", "--pgdata", &self.data(server)]);
    }

    fn sql(&self, server: &str, sql: &str) {
        self.run("psql", &["--quiet", "--dbname", &self.connection(server, "admin"), "--command", sql]);
    }

    fn check(&self, server: &str, user: &str, role: Role, peers: &[&str]) -> Checked {
        let probe = Probe::Postgres(Database {
            connection: self.connection(server, user),
            role,
            ages: true,
            peers: peers.iter().map(|peer| self.connection(peer, "vipd")).collect(),
        });
        probe.inspect().expect("it can be run");
        let (to_test, results) = channel();
        let (interval, timeout) = (Duration::from_millis(100), Duration::from_secs(5));
        let check = Check { name: "test".into(), interval, timeout, probe };
        let running = Running::start(check, (0, 1), move |_, result| to_test.send(result).is_ok());
        Checked { results, _running: running.expect("a thread can be started") }
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        for server in ["a", "b"] {
            if Path::new(&self.data(server)).join("postmaster.pid").exists() {
                self.stop(server);
            }
        }
        fs::remove_dir_all(&self.folder).ok();
    }
}

fn server_user() -> Option<User> {
    if !geteuid().is_root() {
        return None;
    }
    User::from_name("postgres").expect("there are users")
}

struct Checked {
    results: Receiver<CheckResult>,
    _running: Running,
}

impl Checked {
    /// Waits for a result of a kind that is told from now on.
    fn until(&self, what: &str, is: impl Fn(&CheckResult) -> bool) -> CheckResult {
        while self.results.try_recv().is_ok() {}
        let start = Instant::now();
        loop {
            let result = self.results.recv_timeout(Duration::from_secs(20)).expect("a check reports");
            if is(&result) {
                return result;
            }
            assert!(start.elapsed() < Duration::from_secs(20), "{what}, but {result:?}");
        }
    }

    fn ages(&self, what: &str, is: impl Fn(i64) -> bool) -> CheckResult {
        self.until(what, |result| matches!(result.outcome, CheckOutcome::Passed(Some(age)) if is(age)))
    }
}

#[test]
fn role_age_and_timeline_are_known_through_a_failover_and_the_return_of_the_old_primary() {
    let Some(pair) = Pair::start() else { return };
    let (a, b) = (pair.check("a", "vipd", Role::Any, &["b"]), pair.check("b", "vipd", Role::Any, &["a"]));
    assert_eq!(a.ages("a primary is up to date", |age| age == 0).output, "primary on timeline 1, 0 ms behind");
    assert_eq!(b.ages("so is its standby", |age| age == 0).output, "standby on timeline 1, 0 ms behind");
    let must_be_primary = pair.check("b", "vipd", Role::Primary, &[]);
    let result = must_be_primary.until("a standby is no primary", |it| it.outcome == CheckOutcome::Failed);
    assert_eq!(result.output, "standby on timeline 1");
    let blind = pair.check("b", "nobody", Role::Any, &[]);
    let result = blind.until("without pg_monitor nobody knows", |it| it.outcome == CheckOutcome::Unable);
    assert!(result.output.contains("grant it pg_monitor"), "{result:?}");
    drop((must_be_primary, blind));

    // A standby that replays nothing falls behind, and catches up.
    pair.sql("b", "select pg_wal_replay_pause()");
    pair.sql("a", "insert into things values ('one')");
    b.ages("it falls behind", |age| age > 1_000);
    pair.sql("b", "select pg_wal_replay_resume()");
    b.ages("it catches up", |age| age == 0);

    // Without a primary it gets older from then on, not from the last transaction.
    std::thread::sleep(Duration::from_secs(3));
    let stopped = Instant::now();
    pair.stop("a");
    let result = b.ages("the primary is gone", |age| age > 0);
    let most = i64::try_from(stopped.elapsed().as_millis()).expect("a test is short") + 1_000;
    assert!(matches!(result.outcome, CheckOutcome::Passed(Some(age)) if age < most), "{result:?}, {most}");
    assert!(result.output.contains("which streams nothing"), "{result:?}");
    a.until("a server that is down is ill", |it| it.outcome == CheckOutcome::Failed);
    let result = pair.check("b", "vipd", Role::Any, &[]).ages("a new agent goes by the last transaction", |_| true);
    assert!(matches!(result.outcome, CheckOutcome::Passed(Some(age)) if age > 2_900), "{result:?}");

    pair.sql("b", "select pg_promote()");
    b.until("b is primary", |it| it.output == "primary on timeline 2, 0 ms behind");
    pair.begin("a");
    let result = a.until("a comes back as the primary that it was", |it| it.output.contains("primary"));
    assert_eq!(result.outcome, CheckOutcome::Failed, "{result:?}");
    assert!(result.output.starts_with("primary on timeline 1, but "), "{result:?}");
    assert!(result.output.ends_with(" is primary on timeline 2"), "{result:?}");
    b.until("b is still primary", |it| it.output == "primary on timeline 2, 0 ms behind");
}
