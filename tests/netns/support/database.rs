//! Two servers of PostgreSQL, as `config/postgres-pair` has them: a primary, and a standby that streams from it.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::Signal;
use nix::unistd::User;
use vipd::lab::{Host, Process};

use super::{PATIENCE, eventually, set_mode};

/// Where a host's server has its socket.
const SOCKET: &str = "/run/postgresql";
/// What the other host's server proves itself with.
const PASSWORD: &str = "/run/postgresql/.pgpass";

/// The servers' programs (Debian: postgresql-15), where there are some.
pub fn programs() -> Option<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    versions.map(|version| version.path().join("bin")).filter(|bin| bin.join("initdb").exists()).max()
}

/// A file of the recipe.
pub fn recipe(file: &str) -> Result<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/postgres-pair").join(file);
    std::fs::read_to_string(&path).with_context(|| path.display().to_string())
}

/// The data of both hosts, which outlives them. Removed on drop.
pub struct Servers {
    programs: PathBuf,
    folder: PathBuf,
    user: User,
}

impl Drop for Servers {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.folder).ok();
    }
}

impl Servers {
    /// None yet.
    pub fn new() -> Result<Self> {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("postgres-{}", std::process::id()));
        std::fs::create_dir_all(&folder)?;
        let user = User::from_name("postgres")?.context("Debian's package makes a user \"postgres\"")?;
        Ok(Self { programs: programs().context("PostgreSQL's server is missing")?, folder, user })
    }

    fn data(&self, host: &Host) -> PathBuf {
        self.folder.join(host.name())
    }

    /// A program that refuses to be root: in a namespace of users the same files belong to `postgres`. With its shared memory in one too,
    /// nothing of a server that is killed is left behind.
    fn command(&self, host: &Host, program: &str) -> Command {
        let mut command = host.command("unshare");
        let user = format!("--map-user={}", self.user.uid);
        let group = format!("--map-group={}", self.user.gid);
        command.args(["--ipc", "--user", &user, &group, "--"]).arg(program);
        command.current_dir(&self.folder).env("PGPASSFILE", PASSWORD);
        command
    }

    fn run(&self, host: &Host, program: &str, arguments: &[&str]) -> Result<()> {
        let program = self.programs.join(program).display().to_string();
        let output = self.command(host, &program).args(arguments).output()?;
        ensure!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
        Ok(())
    }

    /// What a host has after a boot beside its disk.
    fn prepare(host: &Host) -> Result<()> {
        host.write_file(PASSWORD.as_ref(), "*:*:*:standby:secret\n")?;
        set_mode(host, PASSWORD, 0o600)
    }

    /// Starts a host's server.
    pub fn start(&self, host: &Host) -> Result<Process> {
        Self::prepare(host)?;
        let program = self.programs.join("postgres").display().to_string();
        let mut command = self.command(host, &program);
        command.arg("-D").arg(self.data(host));
        let socket = format!("unix_socket_directories={SOCKET}");
        for setting in [&socket, "fsync=off", "dynamic_shared_memory_type=mmap"] {
            command.args(["-c", setting]);
        }
        let server = Process::start(&mut command)?;
        let answers = eventually("an answer", || match (sql(host, "select 1"), server.ended()?) {
            (Err(error), Some(_)) => Err(error),
            (answer, _) => Ok(answer.ok()),
        });
        answers.with_context(|| format!("the server of {}: {:?}", host.name(), server.lines_from(0)))?;
        Ok(server)
    }

    /// As `systemctl stop` does.
    pub fn stop(&self, server: &Process) -> Result<()> {
        server.signal(Signal::SIGINT)?;
        server.wait(PATIENCE)?.context("the server does not stop").map(drop)
    }

    /// As the recipe says: a primary, whose commits wait for its standby.
    pub fn pair(&self, primary: &Host, standby: &Host) -> Result<(Process, Process)> {
        let data = self.data(primary);
        let superuser = ["--username=admin", "--auth=trust", "--no-sync", "--pgdata"];
        self.run(primary, "initdb", &[&superuser[..], &[&data.display().to_string()]].concat())?;
        append(&data.join("postgresql.conf"), &recipe("postgresql.conf")?)?;
        let rules = data.join("pg_hba.conf");
        let others = std::fs::read_to_string(&rules)?;
        // The agent of a test is root, whom no user's name proves.
        let ours = recipe("pg_hba.conf")?.replace("peer\n", "trust\n");
        std::fs::write(&rules, format!("{ours}{others}host postgres client 10.20.0.9/32 trust\n"))?;
        let server = self.start(primary)?;
        sql(primary, &recipe("roles.sql")?)?;
        sql(primary, "alter role standby password 'secret'; create role client login;")?;

        Self::prepare(standby)?;
        let copy = ["--write-recovery-conf", "--no-sync", "--checkpoint=fast", "--dbname"];
        let (from, to) = ("host=10.20.0.11 user=standby application_name=db-b", self.data(standby));
        self.run(standby, "pg_basebackup", &[&copy[..], &[from, "--pgdata", &to.display().to_string()]].concat())?;
        let follower = self.start(standby)?;
        wait_for_standby(primary)?;
        Ok((server, follower))
    }

    /// The recipe's `rejoin`, on a host whose server is stopped.
    pub fn rejoin(&self, host: &Host, primary: &str) -> Result<()> {
        let data = self.data(host);
        let config = data.join("postgresql.conf");
        let ours = recipe("rejoin")?
            .replace("/etc/postgresql/15/main/postgresql.conf", &config.display().to_string())
            .replace("/var/lib/postgresql/15/main", &data.display().to_string())
            .replace("/usr/lib/postgresql/15/bin", &self.programs.display().to_string());
        host.write_file("/run/vipd/rejoin".as_ref(), &ours)?;
        let output = self.command(host, "sh").args(["/run/vipd/rejoin", primary]).output()?;
        ensure!(output.status.success(), "rejoin: {}", String::from_utf8_lossy(&output.stderr));
        Ok(())
    }
}

/// As the recipe says: from now on a commit waits until the standby has it.
pub fn wait_for_standby(primary: &Host) -> Result<()> {
    sql(primary, "alter system set synchronous_standby_names = '*'")?;
    sql(primary, "select pg_reload_conf()")?;
    eventually("a synchronous standby", || {
        let state = sql(primary, "select coalesce(max(sync_state), 'none') from pg_stat_replication")?;
        Ok((state == "sync").then_some(()))
    })
}

/// Asks a host's server by its socket.
pub fn sql(host: &Host, text: &str) -> Result<String> {
    let connection = format!("host={SOCKET} user=admin dbname=postgres");
    let arguments = ["--no-psqlrc", "--quiet", "--tuples-only", "--no-align", "--set", "ON_ERROR_STOP=1"];
    let output = host.command("psql").args(arguments).args(["--dbname", &connection, "--command", text]).output()?;
    ensure!(output.status.success(), "{text}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn append(path: &Path, text: &str) -> Result<()> {
    let before = std::fs::read_to_string(path)?;
    Ok(std::fs::write(path, before + text)?)
}
