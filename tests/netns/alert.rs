//! Alerts as they arrive: at a web server, a program and the journal of systemd.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::net::UnixDatagram;
use std::process::Command;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use libtest_mimic::Trial;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::Value;
use vipd::daemon::alert_accounts::AlertStatus;
use vipd::lab::{Host, Process};

use crate::support::{
    Agent, CONFIG, CONTROL, PATIENCE, STATE_DIR, Segment, Vip, configure, eventually, lines_of, set_mode, vipd,
    write_program,
};
use crate::{support, trial};

const PROGRAM: &str = "/run/vipd/alert";
const TOLD: &str = "/run/vipd/told";
const TOKEN: &str = "/run/vipd/token";
const JOURNAL: &str = "/run/systemd/journal/socket";

pub fn trials() -> Vec<Trial> {
    let must_be = std::env::var("CI").is_ok_and(|value| value == "true");
    vec![
        trial("a_webhook_that_refuses_is_told_again", webhook),
        trial("a_web_server_with_a_strange_certificate_is_told_nothing", https)
            .with_ignored_flag(!has_openssl() && !must_be),
        trial("alerts_without_room_are_dropped_and_counted", overflow),
        trial("a_program_is_told_at_the_end_of_an_agent_too", program),
        trial("events_in_the_journal_of_systemd_have_the_id_of_their_kind", journal),
        trial("a_reload_changes_alerts", reload),
    ]
}

fn alerted(priority: u8, alert: &str) -> Vip {
    Vip::new(priority).with(&format!("[[alert]]\nname = \"test\"\n{alert}"))
}

/// A web server that refuses the first requests: what it was asked.
fn server(host: &Host, port: u16, refuses: usize) -> Result<Receiver<String>> {
    let listener = host.run_in(|| TcpListener::bind(("10.9.0.9", port)))??;
    let (tell, requests) = channel();
    std::thread::spawn(move || {
        for (place, mut stream) in listener.incoming().flatten().enumerate() {
            let status = if place < refuses { "503 Busy" } else { "204 No Content" };
            if tell.send(answer(&mut stream, status)).is_err() {
                return;
            }
        }
    });
    Ok(requests)
}

/// Reads a request, and answers it.
fn answer(stream: &mut (impl Read + Write), status: &str) -> String {
    let mut request = Vec::new();
    let mut buffer = [0; 4096];
    // The body ends with a line's end, and the head does not.
    while !request.ends_with(b"}\n") {
        match stream.read(&mut buffer) {
            Ok(read @ 1..) => request.extend(buffer.iter().take(read)),
            _ => break,
        }
    }
    stream.write_all(format!("HTTP/1.1 {status}\r\n\r\n").as_bytes()).ok();
    stream.flush().ok();
    String::from_utf8_lossy(&request).into_owned()
}

fn body(request: &str) -> Result<Value> {
    let (_, body) = request.split_once("\r\n\r\n").context("a request with a body")?;
    Ok(serde_json::from_str(body)?)
}

fn webhook() -> Result<()> {
    let segment = Segment::new()?;
    let requests = server(&segment.client, 80, 2)?;
    segment.a.write_file(TOKEN.as_ref(), "s3cret\n")?;
    set_mode(&segment.a, TOKEN, 0o600)?;
    let alert = format!("webhook = \"http://10.9.0.9/vipd?to=ops\"\ntoken_file = \"{TOKEN}\"");
    let agent = Agent::start(&segment.a, &[alerted(200, &alert)])?;
    agent.await_state("Active")?;
    // That it claimed and owns needs nobody; that its interface goes does. The way to the server is another.
    segment.a.plug(&segment.network, "eth1", &["10.9.0.11/24"])?;
    segment.a.set_up("eth0", false)?;
    agent.await_state("Initialize")?;
    let attempts: Vec<String> =
        (0..3).map(|_| requests.recv_timeout(PATIENCE)).collect::<Result<_, _>>().context("three attempts")?;
    for attempt in &attempts {
        ensure!(attempt.starts_with("POST /vipd?to=ops HTTP/1.1\r\nHost: 10.9.0.9\r\n"), "{attempt}");
        ensure!(attempt.contains("\r\nAuthorization: Bearer s3cret\r\n"), "{attempt}");
        let told = body(attempt)?;
        ensure!(told["kind"] == "transition" && told["evidence"]["to"] == "Initialize", "{told}");
        ensure!(told["severity"] == "error" && told["alert"] == "test" && told["vip"] == "db", "{told}");
    }
    // It has got through, so it is not told again.
    ensure!(requests.recv_timeout(Duration::from_secs(3)).is_err());
    Ok(())
}

fn has_openssl() -> bool {
    Command::new("openssl").arg("version").output().is_ok_and(|output| output.status.success())
}

/// Makes a host a key and a certificate for 10.9.0.9, which it signs itself: both in one file.
fn certify(host: &Host, file: &str) -> Result<()> {
    let mut make = host.command("openssl");
    make.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]);
    make.args(["-subj", "/CN=10.9.0.9", "-addext", "subjectAltName=IP:10.9.0.9", "-keyout", file, "-out", file]);
    let said = make.output()?;
    ensure!(said.status.success(), "openssl: {}", String::from_utf8_lossy(&said.stderr));
    Ok(())
}

/// What rustls makes of such a file.
fn identity(host: &Host, file: &str) -> Result<Arc<ServerConfig>> {
    let (certificates, key) = host.run_in(|| {
        let certificates: Result<Vec<_>, _> = CertificateDer::pem_file_iter(file)?.collect();
        anyhow::Ok((certificates?, PrivateKeyDer::from_pem_file(file)?))
    })??;
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let config = config.with_safe_default_protocol_versions()?.with_no_client_auth();
    Ok(Arc::new(config.with_single_cert(certificates, key)?))
}

/// A web server by https that is a stranger at first: when it was asked, and what.
fn tls_server(
    host: &Host,
    stranger: Arc<ServerConfig>,
    ours: Arc<ServerConfig>,
    strange: usize,
) -> Result<Receiver<(Instant, String)>> {
    let listener = host.run_in(|| TcpListener::bind("10.9.0.9:443"))??;
    let (tell, requests) = channel();
    std::thread::spawn(move || {
        for (place, stream) in listener.incoming().flatten().enumerate() {
            let at = Instant::now();
            let identity = if place < strange { &stranger } else { &ours };
            let Ok(connection) = ServerConnection::new(Arc::clone(identity)) else { return };
            let request = answer(&mut StreamOwned::new(connection, stream), "200 OK");
            if tell.send((at, request)).is_err() {
                return;
            }
        }
    });
    Ok(requests)
}

/// How the only alert gets through.
fn account(agent: &Agent) -> Result<AlertStatus> {
    agent.status()?.alerts.into_iter().next().context("an alert")
}

fn https() -> Result<()> {
    const STRANGE: usize = 3;
    let segment = Segment::new()?;
    let (ours, strangers) = ("/run/vipd/ours.pem", "/run/vipd/strangers.pem");
    segment.client.run_in(|| std::fs::create_dir_all("/run/vipd"))??;
    certify(&segment.client, ours)?;
    certify(&segment.client, strangers)?;
    let certificate = segment.client.run_in(|| std::fs::read_to_string(ours))??;
    let (_, certificate) = certificate.split_once("-----END PRIVATE KEY-----\n").context("a key and a certificate")?;
    segment.a.write_file("/run/vipd/ca.pem".as_ref(), certificate)?;
    let identities = (identity(&segment.client, strangers)?, identity(&segment.client, ours)?);
    let requests = tls_server(&segment.client, identities.0, identities.1, STRANGE)?;

    let alert = "webhook = \"https://10.9.0.9/vipd\"\nca = \"/run/vipd/ca.pem\"";
    let agent = Agent::start(&segment.a, &[alerted(200, alert)])?;
    agent.await_state("Active")?;
    let calm = account(&agent)?;
    ensure!((calm.delivered, calm.queued, calm.dropped, calm.failing.is_none()) == (0, 0, 0, true), "{calm:?}");
    segment.a.plug(&segment.network, "eth1", &["10.9.0.11/24"])?;
    segment.a.set_up("eth0", false)?;
    let (failed, failure) = eventually("a failure", || {
        let account = account(&agent)?;
        Ok(account.failing.clone().map(|failing| (account, failing)))
    })?;
    ensure!((failed.delivered, failed.queued) == (0, 1), "{failed:?}");
    let why = "10.9.0.9:443: invalid peer certificate: ";
    ensure!(failure.why.starts_with(why) && failure.attempts < 3, "{failed:?}");
    let (_, table, _) = vipd(&segment.a, &["status", "--control", CONTROL])?;
    ensure!(table.contains("test   webhook   error  0          1        0        failing for "), "{table}");
    ensure!(table.contains(why), "{table}");

    let attempts: Vec<(Instant, String)> =
        (0..=STRANGE).map(|_| requests.recv_timeout(PATIENCE)).collect::<Result<_, _>>().context("four attempts")?;
    let (told, strange) = attempts.split_last().context("four attempts")?;
    ensure!(strange.iter().all(|(_, request)| request.is_empty()), "a stranger was told: {strange:?}");
    ensure!(body(&told.1)?["evidence"]["to"] == "Initialize", "{told:?}");
    let pauses: Vec<Duration> = attempts.windows(2).map(|pair| pair[1].0 - pair[0].0).collect();
    for (pause, least) in pauses.iter().zip([1, 2, 4]) {
        ensure!(*pause > Duration::from_secs(least) - Duration::from_millis(50), "{pauses:?}");
    }
    let well = eventually("it got through", || Ok(Some(account(&agent)?).filter(|account| account.delivered == 1)))?;
    ensure!(well.queued == 0 && well.failing.is_none(), "{well:?}");
    Ok(())
}

fn overflow() -> Result<()> {
    /// As many events wait at most, and as many that came during an attempt until it ends.
    const ROOM: u64 = 256;
    let segment = Segment::new()?;
    // Each listens, claims and owns: three events.
    let vip = |number: u8| {
        let address = format!("[\"10.9.0.{}/24\"]", 100 + number);
        Vip::new(200).named(format!("v{number}")).vrid(number).addresses(address)
    };
    let mut vips: Vec<Vip> = (1..=100).map(vip).collect();
    let alert = "[[alert]]\nname = \"test\"\nwebhook = \"http://10.9.0.9/\"\nseverity = \"info\"";
    vips.push(vip(101).with(alert));
    let agent = Agent::start(&segment.a, &vips)?;
    agent.await_that("it runs", |transitions| transitions.first().cloned())?;
    let full = eventually("there is no room", || Ok(Some(account(&agent)?).filter(|account| account.dropped > 0)));
    let full = full.with_context(|| format!("{:?}", account(&agent)))?;
    ensure!(full.queued <= 2 * ROOM && full.delivered == 0, "{full:?}");
    ensure!(full.failing.is_some_and(|failing| failing.why.contains("refused")), "of what nobody listens to");
    eventually("all own", || {
        let owned = agent.status()?.vips.iter().all(|vip| vip.state == "Active");
        Ok(owned.then_some(()))
    })?;
    let before = eventually("it pauses", || {
        Ok(Some(account(&agent)?).filter(|it| it.failing.as_ref().is_some_and(|it| it.retry_in_s > Some(0.5))))
    })?;
    ensure!(before.queued <= ROOM, "{before:?}");
    let requests = server(&segment.client, 80, 0)?;
    let first = body(&requests.recv_timeout(PATIENCE)?)?;
    ensure!(first["lost"].as_u64() >= Some(before.dropped), "{first}: {before:?}");
    let done = eventually("all that waited is told", || Ok(Some(account(&agent)?).filter(|it| it.queued == 0)))?;
    ensure!(done.delivered >= before.queued && done.failing.is_none(), "{done:?}");
    Ok(())
}

fn program() -> Result<()> {
    let segment = Segment::new()?;
    write_program(
        &segment.a,
        PROGRAM,
        &format!("cat > /dev/null; echo \"$VIPD_SEVERITY $VIPD_VIP $VIPD_EVENT $VIPD_TEXT\" >> {TOLD}"),
    )?;
    let agent = Agent::start(&segment.a, &[alerted(200, &format!("exec = [\"{PROGRAM}\"]\nseverity = \"info\""))])?;
    agent.await_state("Active")?;
    let active = "info db transition Claiming -> Active: addresses installed";
    eventually("the program is told", || Ok(lines_of(&segment.a, TOLD)?.contains(&active.to_owned()).then_some(())))?;
    ensure!(agent.stop()? == Some(0));
    let told = lines_of(&segment.a, TOLD)?;
    let last = told.last().context("it was told")?;
    ensure!(told.iter().any(|line| line == "info db transition Active -> Initialize: stopping"), "{last}: {told:?}");
    Ok(())
}

fn journal() -> Result<()> {
    let segment = Segment::new()?;
    let socket = segment.a.run_in(|| {
        std::fs::create_dir_all("/run/systemd/journal")?;
        UnixDatagram::bind(JOURNAL)
    })??;
    socket.set_read_timeout(Some(PATIENCE))?;
    configure(&segment.a, &[Vip::new(200)])?;
    let mut command = segment.a.command(env!("CARGO_BIN_EXE_vipd"));
    command.args(["run", "--config", CONFIG, "--control", CONTROL, "--state-dir", STATE_DIR, "--log", "journal"]);
    let _agent = Process::start(&mut command)?;
    let mut buffer = vec![0; 65_536];
    let entry = loop {
        let read = socket.recv(&mut buffer).context("an entry of the transition to Active")?;
        let entry = String::from_utf8_lossy(&buffer[..read]).into_owned();
        if entry.contains("\nTO=Active\n") {
            break entry;
        }
    };
    // As `printf vipd:transition | sha256sum` has it.
    let id = "MESSAGE_ID=9be2c35b730f570524ef6f78252588da";
    let has = |line: &str| entry.lines().any(|it| it == line);
    ensure!(has(id), "{entry}");
    ensure!(has("EVENT=transition") && has("VIP=db") && has("PRIORITY=6") && has("SYSLOG_IDENTIFIER=vipd"), "{entry}");
    ensure!(has("MESSAGE=db: Claiming -> Active: addresses installed"), "{entry}");
    Ok(())
}

fn reload() -> Result<()> {
    let segment = Segment::new()?;
    write_program(&segment.a, PROGRAM, &format!("echo \"$VIPD_EVENT\" >> {TOLD}"))?;
    let agent = Agent::start(&segment.a, &[Vip::new(200)])?;
    agent.await_state("Active")?;
    configure(&segment.a, &[alerted(200, &format!("exec = [\"{PROGRAM}\"]"))])?;
    let said = support::reload(&segment.a)?;
    ensure!(said.contains("~ alert test"), "{said}");
    segment.a.set_up("eth0", false)?;
    eventually("the program is told", || {
        Ok(lines_of(&segment.a, TOLD)?.contains(&"transition".to_owned()).then_some(()))
    })?;
    configure(&segment.a, &[alerted(200, "exec = [\"/bin/true\"]\nwebhook = \"ftp://x/\"\nseverity = \"loud\"")])?;
    let (code, _, said) = vipd(&segment.a, &["reload", "--control", CONTROL])?;
    ensure!(code == Some(3) && said.contains("3 problems"), "{code:?} {said}");
    Ok(())
}
