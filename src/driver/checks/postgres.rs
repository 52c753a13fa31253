//! What a PostgreSQL server is: primary or standby, on which timeline, and how old its data may be.
//!
//! # How old
//!
//! A primary's data is new. A standby's that streams and has replayed all that it was told of is new too. One that is
//! behind, or does not stream, gets older from then on, for nobody can tell what it misses: the primary may be dead, or
//! only out of its reach. But never is it older than the last transaction that it has replayed. So for `max_lag` after
//! the death of the primary its standbys may claim, and an agent that has not seen its standby up to date since it
//! started goes by the last transaction alone.
//!
//! Transactions carry the clock of the primary, so the clocks of both hosts must agree to what `max_lag` can bear.

use std::io;
use std::time::Duration;

use tokio_postgres::{Client, Config, NoTls, SimpleQueryMessage};

use super::{Failure, Unable};
use crate::driver::patience::Patience;

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Database {
    /// How to connect: `host=/run/postgresql user=vipd dbname=postgres`.
    pub connection: String,
    /// What it must be.
    pub role: Role,
    /// Whether the age of its data is wanted.
    pub ages: bool,
    /// How to connect to the servers of the other nodes: if one of them is a primary on a later timeline, this one is
    /// history.
    pub peers: Vec<String>,
}

/// What a server must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Either.
    Any,
    /// It takes writes.
    Primary,
    /// It follows one that does.
    Standby,
}

/// What a server said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Answer {
    is_standby: bool,
    timeline: u32,
    reception: Reception,
    /// Since the last transaction that was replayed, in milliseconds; `None`: none was.
    replayed_ms: Option<i64>,
    /// The server's clock, in milliseconds.
    now_ms: i64,
}

/// What a standby receives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reception {
    /// Nothing.
    None,
    /// Nobody without `pg_monitor` is told.
    Hidden,
    /// It streams. Whether all is replayed.
    Streaming(bool),
}

/// How old the data was when it was last known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Known {
    age_ms: i64,
    at_ms: i64,
}

/// One row of texts. `pg_stat_wal_receiver` has at most one.
const QUESTION: &str = "
    select pg_is_in_recovery(),
        case when pg_is_in_recovery()
            then coalesce(receiver.received_tli, (select timeline_id from pg_control_checkpoint()))
            else ('x' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8))::bit(32)::int end,
        case when receiver.pid is null then 'none' when receiver.status is null then 'hidden'
            when receiver.status <> 'streaming' then 'none'
            when pg_last_wal_replay_lsn() >= receiver.latest_end_lsn then 'all' else 'behind' end,
        (extract(epoch from clock_timestamp() - pg_last_xact_replay_timestamp()) * 1000)::bigint,
        (extract(epoch from clock_timestamp()) * 1000)::bigint
    from (select) one left join pg_stat_wal_receiver receiver on true";

impl Database {
    pub(super) fn inspect(&self) -> Result<(), Unable> {
        self.configs().map(drop)
    }

    fn configs(&self) -> Result<(Config, Vec<Config>), Unable> {
        Ok((config(&self.connection)?, self.peers.iter().map(|peer| config(peer)).collect::<Result<_, _>>()?))
    }
}

fn config(text: &str) -> Result<Config, Unable> {
    let remedy = "write \"host=/run/postgresql user=vipd dbname=postgres\"";
    if text.contains("://") {
        // A password would stand in it where nothing tells it from the rest, and be shown with the line.
        return Err(Unable { problem: "an address is no way to connect here".to_owned(), remedy });
    }
    let mut config: Config = text.parse().map_err(|error: tokio_postgres::Error| Unable {
        // The text may have a password.
        problem: format!("this is no way to connect: {}", in_words(&error)),
        remedy,
    })?;
    if config.get_hosts().is_empty() || config.get_user().is_none() {
        return Err(Unable { problem: "`host` or `user` is missing in the way to connect".to_owned(), remedy });
    }
    if config.get_application_name().is_none() {
        config.application_name("vipd");
    }
    Ok(config)
}

/// The age of the data in milliseconds, if it is wanted, and a line about the server.
pub(super) fn run(
    database: &Database,
    patience: &Patience<'_>,
    known: &mut Option<Known>,
) -> Result<(Option<i64>, String), Failure> {
    let (config, peers) = database.configs()?;
    let unable = |error: io::Error| Failure::Unable(error.to_string());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(unable)?;
    let answers = runtime.block_on(ask_all(config, peers, patience.timeout()));
    // A name that is being looked up cannot be waited for.
    runtime.shutdown_background();
    let (own, peers) = answers;
    let own = own.map_err(Failure::Ill)?;
    judge(database, own, &peers, known)
}

/// This server, and those of the peers that answer within half of the time.
async fn ask_all(
    config: Config,
    peers: Vec<Config>,
    patience: Duration,
) -> (Result<Answer, String>, Vec<(String, Answer)>) {
    let peers = peers.into_iter().map(|peer| {
        let name = host_of(&peer);
        (name, tokio::spawn(async move { tokio::time::timeout(patience / 2, ask(&peer)).await }))
    });
    let peers: Vec<_> = peers.collect();
    let own = tokio::time::timeout(patience, ask(&config)).await;
    let own = own.unwrap_or_else(|_| Err(format!("no answer within {patience:?}")));
    let mut answers = Vec::new();
    if own.is_ok() {
        for (name, peer) in peers {
            if let Ok(Ok(Ok(answer))) = peer.await {
                answers.push((name, answer));
            }
        }
    }
    (own, answers)
}

fn host_of(config: &Config) -> String {
    match config.get_hosts().first() {
        Some(tokio_postgres::config::Host::Tcp(name)) => name.clone(),
        Some(tokio_postgres::config::Host::Unix(path)) => path.display().to_string(),
        None => String::new(),
    }
}

async fn ask(config: &Config) -> Result<Answer, String> {
    let (client, connection) = config.connect(NoTls).await.map_err(|error| in_words(&error))?;
    // Ends with the client.
    let connection = tokio::spawn(connection);
    let answer = question(&client).await;
    drop(client);
    // The server is told of the end; whether it hears that does not matter.
    drop(connection.await);
    answer
}

async fn question(client: &Client) -> Result<Answer, String> {
    let rows = client.simple_query(QUESTION).await.map_err(|error| in_words(&error))?;
    let row = rows.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => Some([0, 1, 2, 3, 4].map(|column| row.get(column))),
        _ => None,
    });
    row.and_then(read).ok_or_else(|| "the server's answer is not understood".to_owned())
}

fn read([is_standby, timeline, reception, replayed_ms, now_ms]: [Option<&str>; 5]) -> Option<Answer> {
    Some(Answer {
        is_standby: is_standby? == "t",
        timeline: timeline?.parse().ok()?,
        reception: match reception? {
            "hidden" => Reception::Hidden,
            "all" => Reception::Streaming(true),
            "behind" => Reception::Streaming(false),
            _ => Reception::None,
        },
        replayed_ms: match replayed_ms {
            // The other clock may be ahead.
            Some(text) => Some(text.parse::<i64>().ok()?.max(0)),
            None => None,
        },
        now_ms: now_ms?.parse().ok()?,
    })
}

/// The cause is what an operator wants to know: the crate says only where it happened.
fn in_words(error: &tokio_postgres::Error) -> String {
    match std::error::Error::source(error) {
        Some(cause) => cause.to_string(),
        None => error.to_string(),
    }
}

fn judge(
    database: &Database,
    own: Answer,
    peers: &[(String, Answer)],
    known: &mut Option<Known>,
) -> Result<(Option<i64>, String), Failure> {
    let Answer { is_standby, timeline, .. } = own;
    let is = format!("{} on timeline {timeline}", if is_standby { "standby" } else { "primary" });
    let suits = match database.role {
        Role::Any => true,
        Role::Primary => !is_standby,
        Role::Standby => is_standby,
    };
    if !suits {
        return Err(Failure::Ill(is));
    }
    let later = peers.iter().find(|(_, peer)| !peer.is_standby && peer.timeline > timeline);
    if let Some((name, peer)) = later.filter(|_| !is_standby) {
        return Err(Failure::Ill(format!("{is}, but {name} is primary on timeline {}", peer.timeline)));
    }
    if !database.ages {
        return Ok((None, is));
    }
    let age_ms = age(own, *known)?;
    *known = Some(Known { age_ms, at_ms: own.now_ms });
    let how = match own.reception {
        Reception::None if is_standby => ", which streams nothing",
        Reception::None | Reception::Hidden | Reception::Streaming(_) => "",
    };
    Ok((Some(age_ms), format!("{is}{how}, {age_ms} ms behind")))
}

/// Each of two things is an upper bound, where it is known: the time since the last transaction that was replayed,
/// which is long ago where the primary has had nothing to do; and what the age was, and the time since then.
fn age(own: Answer, known: Option<Known>) -> Result<i64, Failure> {
    match own.reception {
        _ if !own.is_standby => return Ok(0),
        Reception::Streaming(true) => return Ok(0),
        Reception::Hidden => {
            let problem = "the user may not see pg_stat_wal_receiver: grant it pg_monitor";
            return Err(Failure::Unable(problem.to_owned()));
        }
        Reception::None | Reception::Streaming(false) => {}
    }
    let since = |known: Known| known.age_ms.saturating_add(own.now_ms.saturating_sub(known.at_ms).max(0));
    let age = known.map(since).into_iter().chain(own.replayed_ms).min();
    age.ok_or_else(|| Failure::Ill("a standby that has never replayed anything".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn standby(reception: Reception, replayed_ms: Option<i64>, now_ms: i64) -> Answer {
        Answer { is_standby: true, timeline: 1, reception, replayed_ms, now_ms }
    }

    fn primary(timeline: u32) -> Answer {
        Answer { is_standby: false, timeline, reception: Reception::None, replayed_ms: None, now_ms: 0 }
    }

    fn database(role: Role) -> Database {
        Database { connection: String::new(), role, ages: true, peers: Vec::new() }
    }

    #[test]
    fn a_standby_that_streams_no_more_gets_older_from_what_it_was() {
        let mut known = None;
        let mut age = |answer| judge(&database(Role::Any), answer, &[], &mut known).ok().and_then(|(age, _)| age);
        // Of an idle primary: the last transaction is long ago, and nothing is missing.
        assert_eq!(age(standby(Reception::Streaming(true), Some(3_600_000), 1_000)), Some(0));
        assert_eq!(age(standby(Reception::None, Some(3_600_500), 1_500)), Some(500));
        assert_eq!(age(standby(Reception::None, Some(3_610_000), 11_000)), Some(10_000));
        // Behind, by little though the last transaction was long ago; and by little though it streamed long ago.
        assert_eq!(age(standby(Reception::Streaming(true), Some(3_600_000), 20_000)), Some(0));
        assert_eq!(age(standby(Reception::Streaming(false), Some(3_600_100), 20_100)), Some(100));
        assert_eq!(age(standby(Reception::Streaming(false), Some(30), 99_000)), Some(30));
        assert_eq!(age(standby(Reception::None, Some(230), 99_200)), Some(230));
        assert_eq!(age(primary(2)), Some(0));
    }

    #[test]
    fn an_agent_that_has_never_seen_it_stream_goes_by_the_last_transaction() {
        let judge = |answer| judge(&database(Role::Any), answer, &[], &mut None);
        assert_eq!(judge(standby(Reception::None, Some(5_000), 0)).unwrap().0, Some(5_000));
        assert!(matches!(judge(standby(Reception::None, None, 0)), Err(Failure::Ill(_))));
        assert!(matches!(judge(standby(Reception::Hidden, None, 0)), Err(Failure::Unable(_))));
    }

    #[test]
    fn role_and_a_later_timeline_decide() {
        let mut known = None;
        let peers = |timeline| [("db-b".to_owned(), primary(timeline))];
        assert!(judge(&database(Role::Standby), primary(1), &[], &mut known).is_err());
        assert!(judge(&database(Role::Primary), standby(Reception::None, Some(0), 0), &[], &mut known).is_err());
        assert!(judge(&database(Role::Primary), primary(2), &peers(1), &mut known).is_ok());
        let failure = judge(&database(Role::Primary), primary(1), &peers(2), &mut known).unwrap_err();
        assert!(
            matches!(failure, Failure::Ill(why) if why == "primary on timeline 1, but db-b is primary on timeline 2")
        );
        // A standby follows whoever is ahead.
        assert!(
            judge(&database(Role::Any), standby(Reception::Streaming(true), None, 0), &peers(2), &mut known).is_ok()
        );
    }
}
