//! The recipe `config/postgres-pair` with two real servers: the primary's host dies, a hook promotes the standby, the address follows,
//! and no row is lost that a client was told is committed. The old primary comes back, and does not get the address until it is a
//! standby again; then it may be handed it.
//!
//! `cargo test --test netns postgres` prints for how long nothing could be committed.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use libtest_mimic::Trial;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Config, NoTls};
use vipd::lab::{Host, Network};

use crate::support::database::{Servers, programs, recipe, sql, wait_for_standby};
use crate::support::{Agent, KEY, PATIENCE, ensure_calm, eventually, install_program, write_keys};
use crate::trial;

const ADDRESS: &str = "10.20.0.100";
/// A commit that takes longer has failed, and the client connects anew.
const CLIENT_PATIENCE: Duration = Duration::from_millis(500);
/// A pause of the client.
const PAUSE: Duration = Duration::from_millis(2);

pub fn trials() -> Vec<Trial> {
    let must_be = std::env::var("CI").is_ok_and(|value| value == "true");
    let is_there = programs().is_some();
    vec![trial("the_postgres_pair_loses_no_committed_row", recipe_works).with_ignored_flag(!is_there && !must_be)]
}

/// The network of the clients, and the one between the two hosts.
struct Networks {
    front: Network,
    back: Network,
}

impl Networks {
    /// A host of the recipe, with nothing but its own addresses.
    fn host(&self, name: &str, number: u8) -> Result<Host> {
        let host = Host::new(name)?;
        host.plug(&self.front, "eno1", &[&format!("10.20.0.{number}/24")])?;
        host.plug(&self.back, "eno2", &[&format!("10.21.0.{number}/24")])?;
        Ok(host)
    }
}

/// An agent with the recipe's own files.
fn agent(host: &Host) -> Result<Agent> {
    // The host's own /run is the only place where a test may write.
    let promote = "/run/vipd/promote";
    install_program(host, promote, &recipe("promote")?)?;
    write_keys(host, &[0x5a])?;
    let file = recipe(&format!("{}.toml", host.name()))?;
    let file = file.replace("/usr/local/sbin/vipd-promote", promote).replace("/etc/vipd/key", KEY);
    Agent::start_with_file(host, &file)
}

/// Inserts one row after the other at the address, and connects anew where that ends.
#[derive(Default)]
struct Writer {
    /// The rows that it was told are committed, and when.
    committed: Mutex<Vec<(i32, Instant)>>,
    ended: AtomicBool,
}

impl Writer {
    fn write_on(&self) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let mut config = Config::new();
        config.host(ADDRESS).user("client").dbname("postgres").connect_timeout(CLIENT_PATIENCE);
        let mut number = 0;
        runtime.block_on(async {
            while !self.ended.load(Ordering::Relaxed) {
                tokio::time::sleep(PAUSE).await;
                let connected = tokio::time::timeout(CLIENT_PATIENCE, config.connect(NoTls)).await;
                let Ok(Ok((client, connection))) = connected else { continue };
                let connection = tokio::spawn(connection);
                self.insert_on(&client, &mut number).await;
                connection.abort();
            }
        });
    }

    /// Until one fails. It may be there or not: nobody was told.
    async fn insert_on(&self, client: &Client, number: &mut i32) {
        while !self.ended.load(Ordering::Relaxed) {
            *number += 1;
            let row: [&(dyn ToSql + Sync); 1] = [number];
            let insert = client.execute("insert into rows values ($1)", &row);
            match tokio::time::timeout(CLIENT_PATIENCE, insert).await {
                Ok(Ok(_)) => self.committed().push((*number, Instant::now())),
                Ok(Err(_)) | Err(_) => return,
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    fn committed(&self) -> std::sync::MutexGuard<'_, Vec<(i32, Instant)>> {
        self.committed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for another hundred rows, and gives the longest time without any since a moment.
    fn goes_on(&self, since: Instant) -> Result<Duration> {
        let from = Instant::now();
        eventually("a hundred rows", || {
            let committed = self.committed();
            let is_enough = committed.iter().rev().take_while(|(_, at)| *at > from).count() >= 100;
            let mut times: Vec<Instant> = committed.iter().map(|(_, at)| *at).collect();
            let before = times.partition_point(|at| *at < since).saturating_sub(1);
            let times = times.split_off(before);
            let gap = times.windows(2).map(|pair| pair[1] - pair[0]).max();
            Ok(gap.filter(|_| is_enough))
        })
    }

    /// Whether all rows are there of which it was told so.
    fn lost_nothing(&self, primary: &Host) -> Result<usize> {
        let committed = self.committed().clone();
        let there: BTreeSet<i32> =
            sql(primary, "select number from rows")?.lines().map(str::parse).collect::<Result<_, _>>()?;
        let numbers = committed.iter().map(|(number, _)| *number);
        let lost: Vec<i32> = numbers.filter(|number| !there.contains(number)).collect();
        ensure!(lost.is_empty(), "{} of {} committed rows are lost: {lost:?}", lost.len(), committed.len());
        Ok(committed.len())
    }
}

fn recipe_works() -> Result<()> {
    let servers = Servers::new()?;
    let networks = Networks { front: Network::new()?, back: Network::new()? };
    let (a, b, client) = (networks.host("db-a", 11)?, networks.host("db-b", 12)?, networks.host("client", 9)?);
    let (primary, _standby) = servers.pair(&a, &b)?;
    sql(&a, "create table rows (number integer primary key)")?;
    sql(&a, "grant insert on rows to client")?;
    let agent_a = agent(&a)?;
    agent_a.await_state("Active")?;
    let agent_b = agent(&b)?;
    agent_b.await_state("Backup")?;
    eventually("b hears a", || Ok(agent_b.vip()?.owner))?;

    let writer = Writer::default();
    std::thread::scope(|scope| {
        scope.spawn(|| client.run_in(|| writer.write_on()));
        let result = (|| {
            writer.goes_on(Instant::now())?;
            let died = a.kill()?;
            drop((primary, agent_a));
            agent_b.await_state("Active")?;
            let gap = writer.goes_on(died)?;
            println!("postgres-pair: the primary's host died, nothing could be committed for {gap:?}");
            ensure!(gap < PATIENCE, "{gap:?}");
            writer.lost_nothing(&b)?;
            old_primary_returns(&networks, &servers, (&b, &agent_b), &writer)
        })();
        writer.ended.store(true, Ordering::Relaxed);
        result
    })
}

/// It has the higher priority, and is history.
fn old_primary_returns(
    networks: &Networks,
    servers: &Servers,
    (b, agent_b): (&Host, &Agent),
    writer: &Writer,
) -> Result<()> {
    let a = networks.host("db-a", 11)?;
    let server = servers.start(&a)?;
    ensure!(sql(&a, "select pg_is_in_recovery()")? == "f", "it thinks that it is the primary");
    let agent_a = agent(&a)?;
    let (state, check) = eventually("its check has a result", || {
        let Ok(vip) = agent_a.vip() else { return Ok(None) };
        Ok(vip.checks.into_iter().next().filter(|check| check.state != "unknown").map(|check| (vip.state, check)))
    })?;
    let expected = ("failing", "primary on timeline 1, but 10.20.0.12 is primary on timeline 2");
    ensure!((check.state.as_str(), check.output.as_str()) == expected, "{check:?}");
    ensure!(state == "Initialize", "it takes part: {state}");
    ensure_calm(&[&agent_a, agent_b], Duration::from_secs(2))?;
    ensure!(agent_b.vip()?.state == "Active");

    // What the operator does then.
    servers.stop(&server)?;
    servers.rejoin(&a, "10.20.0.12")?;
    let _standby = servers.start(&a)?;
    wait_for_standby(b)?;
    agent_a.await_state("Backup")?;
    ensure!(agent_b.vip()?.state == "Active", "it did not ask for the address");

    // And it may be handed it again.
    let began = Instant::now();
    eventually("it is handed over", || Ok((agent_b.vipd(&["handover", "postgres"])?.0 == Some(0)).then_some(())))?;
    agent_a.await_state("Active")?;
    let gap = writer.goes_on(began)?;
    println!("postgres-pair: handed back, nothing could be committed for {gap:?}");
    ensure!(sql(&a, "select pg_is_in_recovery()")? == "f", "it is not promoted");
    let rows = writer.lost_nothing(&a)?;
    println!("postgres-pair: {rows} rows were committed, and none is lost");
    Ok(())
}
