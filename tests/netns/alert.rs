//! Alerts as they arrive: at a web server, a program and the journal of systemd.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::net::UnixDatagram;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use libtest_mimic::Trial;
use serde_json::Value;
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
    vec![
        trial("a_webhook_that_refuses_is_told_again", webhook),
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
        for (place, stream) in listener.incoming().flatten().enumerate() {
            let mut stream = stream;
            let mut request = Vec::new();
            let mut buffer = [0; 4096];
            // The body ends with a line's end, and the head does not.
            while !request.ends_with(b"}\n") {
                match stream.read(&mut buffer) {
                    Ok(read @ 1..) => request.extend(buffer.iter().take(read)),
                    _ => break,
                }
            }
            let status = if place < refuses { "503 Busy" } else { "204 No Content" };
            stream.write_all(format!("HTTP/1.1 {status}\r\n\r\n").as_bytes()).ok();
            if tell.send(String::from_utf8_lossy(&request).into_owned()).is_err() {
                return;
            }
        }
    });
    Ok(requests)
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
