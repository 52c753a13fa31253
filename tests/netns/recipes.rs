//! The recipes in `config/`, with the real services: each prints its measured gap.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use libtest_mimic::Trial;
use nix::sys::signal::Signal;
use vipd::lab::{Host, Network, Process};

use crate::support::{Agent, PATIENCE, eventually};
use crate::trial;

pub fn trials() -> Vec<Trial> {
    let is_there = Path::new("/usr/sbin/nginx").exists();
    let must_be = std::env::var("CI").is_ok_and(|value| value == "true");
    vec![trial("the_web_pair_moves_with_its_nginx_and_comes_back", web_pair).with_ignored_flag(!is_there && !must_be)]
}

const PAGE: &str = "10.20.0.80:80";
/// As the recipe has it: three failures and four successes, one each half second.
const FALL: Duration = Duration::from_millis(1_500);
const RISE: Duration = Duration::from_millis(2_000);

/// A server that says its host's name. One process: an ordinary user's namespace has no other users to change to.
fn serve(host: &Host) -> Result<Process> {
    let folder = "/run/vipd/nginx";
    host.run_in(|| std::fs::create_dir_all(folder))??;
    let paths: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|kind| format!("{kind}_temp_path {folder}/{kind};\n"))
        .concat();
    let name = host.name();
    let text = format!(
        "user root root; daemon off; master_process off; pid {folder}/pid; error_log stderr;\nevents {{}}\nhttp {{\naccess_log off;\n{paths}\
         server {{ listen 80; location / {{ return 200 {name}; }} }}\n}}\n"
    );
    let config = format!("{folder}/nginx.conf");
    host.write_file(config.as_ref(), &text)?;
    let process = Process::start(host.command("/usr/sbin/nginx").args(["-e", "stderr", "-p", folder, "-c", &config]))?;
    eventually("nginx answers", || host.run_in(|| get("127.0.0.1:80")))?;
    Ok(process)
}

/// What a server answers, if it does so at once.
fn get(address: &str) -> Option<String> {
    let address: SocketAddr = address.parse().ok()?;
    let limit = Duration::from_millis(100);
    let mut stream = TcpStream::connect_timeout(&address, limit).ok()?;
    stream.set_read_timeout(Some(limit)).ok()?;
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    answer.rsplit_once("\r\n\r\n").map(|(_, body)| body.to_owned())
}

/// Asks for the page all the time: when who answered, or nobody.
#[derive(Default)]
struct Client {
    answers: Mutex<Vec<(Instant, Option<String>)>>,
    ended: AtomicBool,
}

impl Client {
    fn ask_on(&self) {
        while !self.ended.load(Ordering::Relaxed) {
            let answer = get(PAGE);
            self.answers.lock().expect("nobody panics").push((Instant::now(), answer));
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Waits until a host answers; how long before that it was nobody, since a moment.
    fn gap(&self, since: Instant, by: &str) -> Result<Duration> {
        eventually(&format!("{by} answers"), || {
            let answers = self.answers.lock().expect("nobody panics");
            let after: Vec<_> = answers.iter().filter(|(at, _)| *at >= since).collect();
            let Some(back) = after.iter().position(|(_, answer)| answer.as_deref() == Some(by)) else {
                return Ok(None);
            };
            let missed = after[..back].iter().find(|(_, answer)| answer.is_none());
            Ok(Some(missed.map_or(Duration::ZERO, |(missed, _)| after[back].0 - *missed)))
        })
    }
}

fn web_pair() -> Result<()> {
    let network = Network::new()?;
    let host = |name: &str, number: u8| -> Result<Host> {
        let host = Host::new(name)?;
        host.plug(&network, "eno1", &[&format!("10.20.0.{number}/24")])?;
        Ok(host)
    };
    let (a, b, outside) = (host("web-a", 11)?, host("web-b", 12)?, host("client", 9)?);
    for host in [&a, &b] {
        let way_out = host.command("ip").args(["route", "add", "default", "via", "10.20.0.9"]).status()?;
        ensure!(way_out.success(), "the way out");
    }
    let (service, _other) = (serve(&a)?, serve(&b)?);
    let recipe = |name: &str| {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/web-pair").join(name);
        std::fs::read_to_string(&path).with_context(|| path.display().to_string())
    };
    let agent_a = Agent::start_with_file(&a, &recipe("web-a.toml")?)?;
    let agent_b = Agent::start_with_file(&b, &recipe("web-b.toml")?)?;
    agent_a.await_state("Active")?;
    agent_b.await_state("Backup")?;
    eventually("b hears a", || Ok(agent_b.vip()?.owner))?;
    let client = Client::default();
    std::thread::scope(|scope| {
        scope.spawn(|| outside.run_in(|| client.ask_on()));
        let result = there_and_back(&client, (&a, service), (&agent_a, &agent_b));
        client.ended.store(true, Ordering::Relaxed);
        result
    })
}

fn there_and_back(client: &Client, (a, service): (&Host, Process), agents: (&Agent, &Agent)) -> Result<()> {
    let (agent_a, agent_b) = agents;
    client.gap(Instant::now(), "web-a")?;
    let stopped = Instant::now();
    service.signal(Signal::SIGKILL)?;
    service.wait(PATIENCE)?.context("a killed server ends")?;
    let gap = client.gap(stopped, "web-b")?;
    println!("web-pair: nginx stopped, the page was away for {gap:?} (`fall` 3, each 500 ms)");
    let why = agent_a.await_state("Initialize")?.cause;
    ensure!(why.starts_with("check www/nginx fails: 127.0.0.1:80: "), "{why}");
    agent_b.await_state("Active")?;
    // Not sooner than two whole intervals after the first failure.
    ensure!(gap >= FALL - Duration::from_millis(550) && gap < PATIENCE, "{gap:?}");

    let begun = Instant::now();
    let _service = serve(a)?;
    let gap = client.gap(begun, "web-a")?;
    println!("web-pair: nginx back, the page moved back after {:?}, and was away for {gap:?}", begun.elapsed());
    ensure!(begun.elapsed() >= RISE - Duration::from_millis(550), "before `rise`: {:?}", begun.elapsed());
    agent_b.await_state("Backup")?;
    Ok(())
}
