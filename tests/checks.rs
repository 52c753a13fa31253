//! Checks as they are run: real programs, sockets and files, well and ill.

#![cfg(feature = "agent")]
#![allow(clippy::disallowed_methods, reason = "programs live in real time")]

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use vipd::driver::checks::http::{Request, Trust};
use vipd::driver::checks::place::Place;
use vipd::driver::checks::{Check, Probe, Running};
use vipd::driver::program::Program;
use vipd::engine::{CheckOutcome, CheckResult};

const PASSED: CheckOutcome = CheckOutcome::Passed(None);

/// A folder of a test's own, that only its user can write to. Removed on drop.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}", std::process::id()));
        fs::create_dir_all(&path).expect("the target directory can be written to");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("it is ours");
        Self(path)
    }

    /// Installed by another process: the kernel runs no program that somebody may write to, and whatever this process has
    /// open a program that another test is starting at that moment has open too.
    fn script(&self, name: &str, lines: &str) -> PathBuf {
        let (text, path) = (self.0.join("text"), self.0.join(name));
        fs::write(&text, format!("#!/bin/sh\n{lines}\n")).expect("it is ours");
        let mut install = std::process::Command::new("install");
        assert!(install.args(["-m", "755"]).args([&text, &path]).status().is_ok_and(|status| status.success()));
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).ok();
    }
}

fn program(path: &Path) -> Program {
    Program { command: vec![path.display().to_string()], user: None }
}

fn exec(path: &Path) -> Probe {
    Probe::Exec(program(path))
}

/// Runs a check each 50 ms.
fn run(probe: Probe, timeout: Duration) -> (Running, Receiver<CheckResult>) {
    let (to_test, results) = channel();
    let check = Check { name: "test".into(), interval: Duration::from_millis(50), timeout, probe };
    let running = Running::start(check, (0, 1), move |_, result| to_test.send(result).is_ok());
    (running.expect("a thread can be started"), results)
}

fn first(probe: Probe) -> CheckResult {
    let (_running, results) = run(probe, Duration::from_secs(5));
    results.recv_timeout(Duration::from_secs(20)).expect("a check reports")
}

fn ill(probe: Probe, said: &str) {
    let result = first(probe);
    assert_eq!(result.outcome, CheckOutcome::Failed, "{result:?}");
    assert!(result.output.contains(said), "{result:?}");
}

fn unable(probe: Probe, said: &str) {
    assert!(probe.inspect().is_err_and(|unable| unable.to_string().contains(said)), "{:?}", probe.inspect());
    let result = first(probe);
    assert_eq!(result.outcome, CheckOutcome::Unable, "{result:?}");
    assert!(result.output.contains(said), "{result:?}");
}

/// The command lines of all processes that contain a word.
fn processes_with(word: &str) -> Vec<String> {
    let all = fs::read_dir("/proc").expect("there is /proc").flatten();
    let lines = all.filter_map(|process| fs::read(process.path().join("cmdline")).ok());
    lines.map(|line| String::from_utf8_lossy(&line).into_owned()).filter(|line| line.contains(word)).collect()
}

fn eventually(what: &str, is: impl Fn() -> bool) {
    let start = Instant::now();
    while !is() {
        assert!(start.elapsed() < Duration::from_secs(20), "{what}");
        // Until it is, not for so long: /proc tells nobody when a process has gone.
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_program_passes_by_its_exit_code_and_its_last_line_is_kept() {
    let folder = Folder::new("exit");
    let result = first(exec(&folder.script("good", "echo one; echo two; echo")));
    assert_eq!((result.outcome, result.output.as_str()), (PASSED, "two"));
    ill(exec(&folder.script("bad", "echo why >&2; exit 7")), "exit code 7: why");
    ill(exec(&folder.script("dies", "kill -9 $$")), "killed by signal 9");
    let colours = first(exec(&folder.script("colours", "printf '\\033[31mred\\n'")));
    assert_eq!(colours.output, " [31mred");
}

#[test]
fn the_environment_is_empty_and_the_input_ends() {
    let folder = Folder::new("environment");
    let script = folder.script("env", "cat; unset PWD OLDPWD SHLVL _; /usr/bin/env | sort | tr '\\n' ' '; pwd");
    let result = first(exec(&script));
    assert_eq!(result.outcome, PASSED);
    let expected = "LANG=C PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin /";
    assert_eq!(result.output, expected);
}

#[test]
fn a_lag_is_the_number_on_the_last_line() {
    let folder = Folder::new("lag");
    let lag = |lines: &str| first(Probe::Lag(program(&folder.script("lag", lines))));
    assert_eq!(lag("echo noise; echo ' 4711 '").outcome, CheckOutcome::Passed(Some(4711)));
    assert_eq!(lag("echo a lot").outcome, CheckOutcome::Failed);
    assert_eq!(lag("true").output, "no number, but nothing");
}

#[test]
fn a_program_that_hangs_is_killed_with_all_that_it_started() {
    let folder = Folder::new("hangs");
    let word = format!("97.{}", std::process::id());
    let script = folder.script("hangs", &format!("sleep {word} & sleep {word}"));
    let (_running, results) = run(exec(&script), Duration::from_millis(300));
    let result = results.recv_timeout(Duration::from_secs(20)).expect("a check reports");
    assert_eq!(result.outcome, CheckOutcome::Failed);
    assert_eq!(result.output, "no answer within 300ms");
    // It goes on, and never beside itself.
    assert!(results.recv_timeout(Duration::from_secs(20)).is_ok());
    assert!(processes_with(&word).len() <= 4);
    drop(_running);
    eventually("all are killed", || processes_with(&word).is_empty());
}

#[test]
fn what_a_program_leaves_behind_is_killed_and_waited_for_by_nobody() {
    let folder = Folder::new("forks");
    let word = format!("96.{}", std::process::id());
    let start = Instant::now();
    let result = first(exec(&folder.script("forks", &format!("sleep {word} & echo done"))));
    assert_eq!((result.outcome, result.output.as_str()), (PASSED, "done"));
    assert!(start.elapsed() < Duration::from_secs(20));
    eventually("it is killed", || processes_with(&word).is_empty());
}

#[test]
fn of_a_program_that_says_a_lot_the_end_counts() {
    let folder = Folder::new("flood");
    let much = "i=0; while [ $i -lt 20000 ]; do echo $i: a lot; i=$((i + 1)); done; echo";
    let result = first(exec(&folder.script("much", &format!("{much} done"))));
    assert_eq!((result.outcome, result.output.as_str()), (PASSED, "done"));
    let (_running, results) =
        run(exec(&folder.script("flood", "while :; do echo flood; done")), Duration::from_millis(300));
    let result = results.recv_timeout(Duration::from_secs(20)).expect("a check reports");
    assert_eq!((result.outcome, result.output.as_str()), (CheckOutcome::Failed, "no answer within 300ms"));
}

#[test]
fn a_program_that_cannot_be_run_is_named() {
    let folder = Folder::new("unable");
    unable(exec(&folder.0.join("missing")), "No such file");
    unable(exec(&folder.0), "is no program");
    let script = folder.script("open", "true");
    fs::set_permissions(&script, fs::Permissions::from_mode(0o757)).expect("it is ours");
    unable(exec(&script), "can be changed by others");
    fs::set_permissions(&script, fs::Permissions::from_mode(0o644)).expect("it is ours");
    unable(exec(&script), "is no program");
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).expect("it is ours");
    assert_eq!(first(exec(&script)).outcome, PASSED);
    fs::set_permissions(&folder.0, fs::Permissions::from_mode(0o1777)).expect("it is ours");
    unable(exec(&script), "the folder");
    fs::set_permissions(&folder.0, fs::Permissions::from_mode(0o755)).expect("it is ours");
    let broken = folder.0.join("broken");
    fs::write(&broken, "#!/nonexistent/shell\n").expect("it is ours");
    fs::set_permissions(&broken, fs::Permissions::from_mode(0o755)).expect("it is ours");
    let result = first(exec(&broken));
    assert_eq!(result.outcome, CheckOutcome::Unable);
    assert!(result.output.contains("cannot be started"), "{result:?}");
}

#[test]
fn a_program_that_is_deleted_later_is_a_named_failure_and_heals() {
    let folder = Folder::new("deleted");
    let script = folder.script("deleted", "true");
    let (_running, results) = run(exec(&script), Duration::from_secs(5));
    let until = |outcome: CheckOutcome| {
        let found = results.iter().take(100).find(|result| result.outcome == outcome);
        found.unwrap_or_else(|| panic!("no {outcome:?} in 100 runs")).output
    };
    until(PASSED);
    fs::remove_file(&script).expect("it is ours");
    assert!(until(CheckOutcome::Unable).contains("No such file"));
    folder.script("deleted", "true");
    until(PASSED);
}

#[test]
fn a_thousand_runs_leave_no_descriptor_and_no_zombie() {
    let folder = Folder::new("leak");
    let script = folder.script("quick", "exit 1");
    let descriptors = || fs::read_dir("/proc/self/fd").map_or(0, Iterator::count);
    let (to_test, results) = channel();
    let check = Check {
        name: "test".into(),
        interval: Duration::from_millis(1),
        timeout: Duration::from_secs(5),
        probe: exec(&script),
    };
    let running = Running::start(check, (0, 1), move |_, result| to_test.send(result).is_ok()).expect("it starts");
    assert_eq!(results.iter().take(100).count(), 100);
    let before = descriptors();
    assert!(results.iter().take(900).all(|result| result.outcome == CheckOutcome::Failed));
    // Other tests of this process open and close some meanwhile.
    assert!(descriptors() < before + 200, "{before} and {}", descriptors());
    drop(running);
    let stats = fs::read_dir("/proc").expect("there is /proc").flatten();
    let stats = stats.filter_map(|process| fs::read_to_string(process.path().join("stat")).ok());
    let zombies: Vec<String> = stats.filter(|stat| stat.contains("(quick) Z")).collect();
    assert!(zombies.is_empty(), "{zombies:?}");
}

#[test]
fn a_port_is_open_or_not() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("there is a loopback");
    let address = listener.local_addr().expect("it is bound");
    assert_eq!(first(Probe::Tcp(Place::Address(address))).outcome, PASSED);
    let by_name = |name: &str| Probe::Tcp(Place::Name { host: name.into(), port: address.port() });
    assert_eq!(first(by_name("localhost")).outcome, PASSED);
    close(listener);
    ill(Probe::Tcp(Place::Address(address)), "refused");
    ill(by_name("localhost"), "refused");
    let unknown = first(by_name("no-such-host.invalid"));
    assert_eq!(unknown.outcome, CheckOutcome::Unable);
    assert!(unknown.output.contains("no-such-host.invalid cannot be looked up"), "{unknown:?}");
}

/// Nobody listens there any more. Not as dropping it alone: a program that another test is starting at that moment still
/// holds a copy of it.
fn close(listener: TcpListener) {
    socket2::SockRef::from(&listener).shutdown(std::net::Shutdown::Both).expect("it listens");
}

/// A server that gives one answer, and then says nothing more on the connection.
fn serve(answer: &'static str, ends: bool) -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("there is a loopback");
    let address = listener.local_addr().expect("it is bound");
    std::thread::spawn(move || {
        let mut kept = Vec::new();
        for mut stream in listener.incoming().flatten() {
            let mut asked = [0; 1024];
            let read = stream.read(&mut asked).unwrap_or(0);
            assert!(String::from_utf8_lossy(&asked[..read]).contains("Host: www.example.com\r\n"));
            stream.write_all(answer.as_bytes()).ok();
            if !ends {
                kept.push(stream);
            }
        }
    });
    address
}

#[test]
fn a_page_is_judged_by_status_and_body() {
    let get = |answer, ends, body: Option<&str>| {
        Probe::Http(Request {
            place: Place::Address(serve(answer, ends)),
            trust: None,
            host: "www.example.com".into(),
            path: "/health".into(),
            status: 200..=299,
            body: body.map(Into::into),
        })
    };
    assert_eq!(first(get("HTTP/1.1 204 No Content\r\n\r\n", true, None)).output, "status 204");
    assert_eq!(first(get("HTTP/1.0 200 OK\r\n\r\nready", true, Some("ready"))).outcome, PASSED);
    ill(get("HTTP/1.0 200 OK\r\n\r\nstarting", true, Some("ready")), "but not `ready`");
    ill(get("HTTP/1.1 503 Busy\r\n\r\n", true, None), "status 503");
    let (_running, results) = run(get("HTTP/1.0 200", false, None), Duration::from_millis(300));
    let result = results.recv_timeout(Duration::from_secs(20)).expect("a check reports");
    assert_eq!(result.output, "no answer within 300ms");
}

#[test]
fn a_file_gives_its_number() {
    let folder = Folder::new("file");
    let path = folder.0.join("weight");
    unable(Probe::File(path.clone()), "cannot be read");
    fs::write(&path, "-20\n").expect("it is ours");
    assert_eq!(first(Probe::File(path.clone())).outcome, CheckOutcome::Passed(Some(-20)));
    fs::write(&path, "many\n").expect("it is ours");
    ill(Probe::File(path), "no whole number: many");
}

#[test]
fn processes_interfaces_and_routes_are_there_or_not() {
    let own = fs::read_to_string("/proc/self/comm").expect("there is /proc");
    assert_eq!(first(Probe::Process(own.trim().to_owned())).outcome, PASSED);
    ill(Probe::Process("no-such-program".into()), "no process is named");
    ill(Probe::Interface { name: "nosuch0".into(), speed: None }, "there is no interface");
    ill(Probe::Route("203.0.113.0/29".parse().expect("a network")), "no route to 203.0.113.0/29");
}

/// OpenSSL's own server, with a certificate that it has made for itself. Killed on drop.
struct TlsServer {
    process: std::process::Child,
    place: Place,
    certificate: PathBuf,
}

impl TlsServer {
    fn start(folder: &Folder) -> Option<Self> {
        let (key, certificate) = (folder.0.join("key.pem"), folder.0.join("certificate.pem"));
        let mut make = std::process::Command::new("openssl");
        make.args([
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-nodes",
            "-days",
            "2",
        ]);
        make.args(["-subj", "/CN=www.example.com", "-addext", "subjectAltName=DNS:www.example.com"]);
        make.arg("-keyout").arg(&key).arg("-out").arg(&certificate);
        if !make.stderr(std::process::Stdio::null()).status().is_ok_and(|status| status.success()) {
            assert!(std::env::var_os("CI").is_none(), "openssl is missing");
            return None;
        }
        let mut serve = std::process::Command::new("openssl");
        serve.args(["s_server", "-www", "-accept", "127.0.0.1:0"]);
        serve.arg("-key").arg(&key).arg("-cert").arg(&certificate);
        serve
            .stdin(std::process::Stdio::null())
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::null());
        let mut process = serve.spawn().expect("openssl is there");
        // It says which port it was given, once it listens.
        let mut says = BufReader::new(process.stdout.take().expect("a pipe")).lines().map_while(Result::ok);
        let port = says.find_map(|line| line.strip_prefix("ACCEPT ")?.parse().ok()).expect("openssl says its port");
        // What it says of each connection is read to nobody, so that it never waits.
        std::thread::spawn(move || says.for_each(drop));
        Some(Self { process, place: Place::Address(port), certificate })
    }
}

impl Drop for TlsServer {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

#[test]
fn a_page_by_https_is_believed_if_its_server_is() {
    let folder = Folder::new("tls");
    let Some(server) = TlsServer::start(&folder) else { return };
    let get = |trust, host: &str| {
        Probe::Http(Request {
            place: server.place.clone(),
            trust: Some(trust),
            host: host.into(),
            path: "/".into(),
            status: 200..=200,
            body: Some("TLS".into()),
        })
    };
    let ours = || Trust::File(server.certificate.clone());
    assert_eq!(first(get(ours(), "www.example.com")).output, "status 200");
    assert_eq!(first(get(Trust::Anybody, "www.example.com")).output, "status 200");
    let other = Folder::new("tls-other");
    let Some(stranger) = TlsServer::start(&other) else { return };
    let distrusted = first(get(Trust::File(stranger.certificate.clone()), "www.example.com"));
    assert_eq!(distrusted.outcome, CheckOutcome::Failed, "{distrusted:?}");
    assert!(distrusted.output.contains("certificate"), "{distrusted:?}");
    unable(get(Trust::File(folder.0.join("missing")), "www.example.com"), "cannot be read");
    fs::write(folder.0.join("empty"), "nothing").expect("it is ours");
    unable(get(Trust::File(folder.0.join("empty")), "www.example.com"), "has no certificate");
    let plain = TcpListener::bind("127.0.0.1:0").expect("there is a loopback");
    let place = Place::Address(plain.local_addr().expect("it is bound"));
    std::thread::spawn(move || plain.incoming().flatten().for_each(|mut it| drop(it.write_all(b"SSH-2.0\r\n"))));
    let mut request = get(ours(), "www.example.com");
    if let Probe::Http(request) = &mut request {
        request.place = place;
    }
    assert_eq!(first(request).outcome, CheckOutcome::Failed);
}
