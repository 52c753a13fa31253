//! The recipe `config/postgres-pair` with two real servers: the primary's host dies, a hook promotes the standby, the address follows,
//! and no row is lost that a client was told is committed. The old primary comes back, and does not get the address.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use libtest_mimic::Trial;
use tokio_postgres::{Config, NoTls};
use vipd::lab::{Host, Namespace, Process};

use crate::support::{Agent, CONFIG, PATIENCE, Segment, eventually};
use crate::trial;

/// Where a host's server has its socket, and its hook is.
const RUN: &str = "/run/vipd";
const ADDRESS: &str = "10.9.0.100";
/// A commit that takes longer has failed, and the client connects anew.
const CLIENT_PATIENCE: Duration = Duration::from_secs(1);

pub fn trials() -> Vec<Trial> {
    vec![trial("no_committed_row_is_lost_when_the_primarys_host_dies", recipe)]
}

/// The servers' programs (Debian: postgresql-15); in CI they must be there.
fn programs() -> Option<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let found = versions.map(|version| version.path().join("bin")).filter(|bin| bin.join("initdb").exists()).max();
    assert!(found.is_some() || std::env::var_os("CI").is_none(), "PostgreSQL's server is missing");
    found
}

/// Both servers' data. Removed on drop.
struct Data(PathBuf);

impl Drop for Data {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).ok();
    }
}

struct Servers {
    programs: PathBuf,
    data: Data,
}

impl Servers {
    fn data(&self, host: &Host) -> String {
        self.data.0.join(host.name()).display().to_string()
    }

    /// A program of PostgreSQL, which refuses to be root: a namespace calls its user by another number.
    fn command(&self, namespace: &Namespace, program: &str) -> std::process::Command {
        let mut command = namespace.command("unshare");
        command.args(["--user", "--map-user=1000", "--map-group=1000", "--"]).arg(self.programs.join(program));
        command.current_dir(&self.data.0);
        command
    }

    fn run(&self, host: &Host, program: &str, arguments: &[&str]) -> Result<()> {
        let output = self.command(host.namespace(), program).args(arguments).output()?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(output.status.success(), "{program}: {said}");
        Ok(())
    }

    fn start(&self, host: &Host) -> Result<Process> {
        let socket = format!("unix_socket_directories={RUN}");
        let mut command = self.command(host.namespace(), "postgres");
        command.args(["-D", &self.data(host), "-c", &socket]);
        for setting in ["listen_addresses=*", "wal_log_hints=on", "fsync=off", "wal_receiver_timeout=5s"] {
            command.args(["-c", setting]);
        }
        let server = Process::start(&mut command)?;
        eventually(&format!("the server of {}", host.name()), || Ok(sql(host, "select 1").is_ok().then_some(())))?;
        Ok(server)
    }

    /// A primary on a, as the recipe says, and its standby on b.
    fn make(&self, segment: &Segment) -> Result<[Process; 2]> {
        let (a, b) = (&segment.a, &segment.b);
        for host in [a, b] {
            host.run_in(|| std::fs::create_dir_all(RUN))??;
        }
        self.run(a, "initdb", &["--auth=trust", "--no-sync", "--username=admin", "--pgdata", &self.data(a)])?;
        let access = "local all all trust\nhost all all 10.9.0.0/24 trust\nhost replication all 10.9.0.0/24 trust\n";
        std::fs::write(Path::new(&self.data(a)).join("pg_hba.conf"), access)?;
        let primary = self.start(a)?;
        sql(a, "create role vipd login in role pg_monitor")?;
        sql(a, "grant execute on function pg_promote, pg_reload_conf to vipd")?;
        sql(a, "grant alter system on parameter synchronous_standby_names to vipd")?;
        sql(a, "create table rows (number integer primary key)")?;
        let from = "host=10.9.0.1 user=admin dbname=postgres application_name=db_b";
        let copy = ["--write-recovery-conf", "--no-sync", "--checkpoint=fast", "--dbname", from, "--pgdata"];
        self.run(b, "pg_basebackup", &[&copy[..], &[&self.data(b)]].concat())?;
        let standby = self.start(b)?;
        sql(a, "alter system set synchronous_standby_names = '*'")?;
        sql(a, "select pg_reload_conf()")?;
        eventually("a synchronous standby", || {
            let state = sql(a, "select coalesce(max(sync_state), 'none') from pg_stat_replication")?;
            Ok((state == "sync").then_some(()))
        })?;
        Ok([primary, standby])
    }
}

/// Asks a host's server by its socket.
fn sql(host: &Host, text: &str) -> Result<String> {
    let connection = format!("host={RUN} user=admin dbname=postgres");
    let arguments = ["--no-psqlrc", "--quiet", "--tuples-only", "--no-align", "--set", "ON_ERROR_STOP=1"];
    let output = host.command("psql").args(arguments).args(["--dbname", &connection, "--command", text]).output()?;
    ensure!(output.status.success(), "{text}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// The recipe's own files, with this network's names.
fn install(host: &Host, name: &str) -> Result<()> {
    let recipe = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/postgres-pair");
    let ours = |text: String| {
        text.replace("eno1", "eth0")
            .replace("10.20.0.100", ADDRESS)
            .replace("10.20.0.11", "10.9.0.1")
            .replace("10.20.0.12", "10.9.0.2")
            .replace("/run/postgresql", RUN)
            .replace("/usr/local/sbin/vipd-promote", "/run/vipd/promote")
    };
    let read = |file: &str| std::fs::read_to_string(recipe.join(file)).map(ours);
    host.write_file(CONFIG.as_ref(), &read(&format!("{name}.toml"))?)?;
    host.write_file("/run/vipd/promote".as_ref(), &read("promote")?)?;
    host.run_in(|| {
        use std::os::unix::fs::PermissionsExt;
        std::fs::set_permissions("/run/vipd/promote", std::fs::Permissions::from_mode(0o755))
    })??;
    Ok(())
}

/// A client that connects to the address, and again where that ends: the rows that it was told are committed, and when.
async fn insert(until: std::sync::mpsc::Receiver<()>) -> Vec<(i32, Instant)> {
    let mut config = Config::new();
    config.host(ADDRESS).user("admin").dbname("postgres").connect_timeout(CLIENT_PATIENCE);
    let (mut committed, mut number) = (Vec::new(), 0);
    while until.try_recv().is_err() {
        let connected = tokio::time::timeout(CLIENT_PATIENCE, config.connect(NoTls)).await;
        let Ok(Ok((client, connection))) = connected else {
            tokio::time::sleep(Duration::from_millis(10)).await;
            continue;
        };
        let connection = tokio::spawn(connection);
        while until.try_recv().is_err() {
            number += 1;
            let row: [&(dyn tokio_postgres::types::ToSql + Sync); 1] = [&number];
            let insert = client.execute("insert into rows values ($1)", &row);
            match tokio::time::timeout(CLIENT_PATIENCE, insert).await {
                Ok(Ok(_)) => committed.push((number, Instant::now())),
                // It may be there or not: nobody was told.
                Ok(Err(_)) | Err(_) => break,
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        connection.abort();
        if number > 100_000 {
            break;
        }
    }
    committed
}

fn recipe() -> Result<()> {
    let Some(programs) = programs() else {
        eprintln!("not tried: PostgreSQL's server is missing");
        return Ok(());
    };
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("postgres-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    let servers = Servers { programs, data: Data(folder) };
    let mut segment = Segment::new()?;
    let [primary, _standby] = servers.make(&segment)?;
    install(&segment.a, "db-a")?;
    install(&segment.b, "db-b")?;
    let agent_a = Agent::start_as_configured(&segment.a)?;
    agent_a.await_state("Active")?;
    let agent_b = Agent::start_as_configured(&segment.b)?;
    agent_b.await_state("Backup")?;
    eventually("b hears a", || Ok(agent_b.vip()?.owner))?;

    let (stop, until) = std::sync::mpsc::channel();
    let namespace = segment.client.namespace().clone();
    let client = std::thread::spawn(move || {
        namespace.run_in(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(insert(until))
        })
    });
    eventually("rows", || Ok((sql(&segment.a, "select count(*) from rows")?.parse::<u32>()? >= 200).then_some(())))?;
    let died = segment.a.kill()?;
    drop((primary, agent_a));
    agent_b.await_state("Active")?;
    let before = sql(&segment.b, "select count(*) from rows")?.parse::<u32>()?;
    eventually("rows on b", || {
        Ok((sql(&segment.b, "select count(*) from rows")?.parse::<u32>()? >= before + 200).then_some(()))
    })?;
    ensure!(sql(&segment.b, "select pg_is_in_recovery()")? == "f");

    // The old primary comes back, and is the one of higher priority.
    segment.reboot_a()?;
    segment.a.run_in(|| std::fs::create_dir_all(RUN))??;
    let _old = servers.start(&segment.a)?;
    ensure!(sql(&segment.a, "select pg_is_in_recovery()")? == "f", "it thinks that it is primary");
    install(&segment.a, "db-a")?;
    let agent_a = Agent::start_as_configured(&segment.a)?;
    let check =
        eventually("its check fails", || Ok(agent_a.vip()?.checks.into_iter().find(|check| check.state == "failing")))?;
    ensure!(check.output.contains("timeline"), "{check:?}");
    let calm = agent_b.transitions().len();
    std::thread::sleep(Duration::from_secs(3));
    ensure!(agent_a.vip()?.state == "Initialize" && agent_b.vip()?.state == "Active");
    agent_b.ensure_calm_since(calm)?;

    stop.send(()).ok();
    let committed = client.join().ok().context("the client panicked")??;
    let there: std::collections::BTreeSet<i32> =
        sql(&segment.b, "select number from rows")?.lines().map(str::parse).collect::<Result<_, _>>()?;
    let lost: Vec<i32> = committed.iter().map(|(number, _)| *number).filter(|number| !there.contains(number)).collect();
    ensure!(lost.is_empty(), "{} of {} committed rows are lost: {lost:?}", lost.len(), committed.len());
    let last = committed.iter().filter(|(_, at)| *at <= died).map(|(_, at)| *at).max().context("rows before")?;
    let first = committed.iter().filter(|(_, at)| *at > died + Duration::from_millis(50)).map(|(_, at)| *at).min();
    let gap = first.context("rows after")?.saturating_duration_since(last);
    eprintln!("postgres-pair: {} rows committed, none lost; nothing was committed for {gap:?}", committed.len());
    ensure!(gap < PATIENCE, "{gap:?}");
    Ok(())
}
