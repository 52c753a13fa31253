//! The command line from outside: exit codes, what goes to which stream, and readers that go away.

#![cfg(feature = "agent")]

use std::path::Path;
use std::process::{Command, Output, Stdio};

fn vipd(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_vipd"));
    command.args(args).current_dir(env!("CARGO_MANIFEST_DIR")).stdin(Stdio::null()).env_remove("NO_COLOR");
    command
}

fn run(args: &[&str]) -> Output {
    vipd(args).output().expect("the binary was built")
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("all output is UTF-8")
}

#[test]
fn a_valid_file_is_shown_and_is_0() {
    let output = run(&["check", "--offline", "--config", "config/gateway-pair/gw-a.toml"]);
    assert_eq!((output.status.code(), text(&output.stderr)), (Some(0), ""));
    let expected = "\
config/gateway-pair/gw-a.toml: valid; node gw-a, 2 vips

VIP      INTERFACE  VRID  PRIORITY  VERSION  INTERVAL  TAKEOVER   PEERS      ADDRESSES
inside   eno1       10    150       3        100ms     341.406ms  multicast  192.168.10.1/24
                                                                             fe80::10:1/64
                                                                             2001:db8:10::1/64
outside  eno2       20    150       3        100ms     341.406ms  multicast  203.0.113.1/24
                                                                             fe80::20:1/64
                                                                             2001:db8:20::1/64

group gateway: inside, outside move together
";
    assert_eq!(text(&output.stdout), expected);
}

#[test]
fn an_invalid_file_is_explained_and_is_3() {
    let file = "tests/golden/config/out-of-range.toml";
    let output = run(&["check", "--offline", "--config", file]);
    assert_eq!((output.status.code(), text(&output.stdout)), (Some(3), ""));
    let recorded = include_str!("golden/config/out-of-range.txt").replace("out-of-range.toml", file);
    assert_eq!(text(&output.stderr), recorded);
}

#[test]
fn no_file_is_3_and_no_sense_is_2() {
    assert_eq!(run(&["check", "--config", "/nonexistent"]).status.code(), Some(3));
    for args in [&["chekc"][..], &["check", "--colour"], &["check", "--schema", "--json"], &[]] {
        let output = run(args);
        assert_eq!((output.status.code(), text(&output.stdout)), (Some(2), ""), "{args:?}");
        assert!(!output.stderr.is_empty());
    }
}

#[test]
fn an_absent_interface_is_3_unless_offline() {
    let check = ["check", "--config", "config/vipd.toml"];
    let dir = std::env::temp_dir().join(format!("vipd-cli-absent-{}", std::process::id()));
    std::fs::create_dir_all(&dir).expect("there is room");
    let file = dir.join("vipd.toml");
    let sample = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(check[2])).expect("it is shipped");
    std::fs::write(&file, sample.replace("\"eno1\"", "\"vipd-no-such\"")).expect("there is room");
    let file = file.to_str().expect("it is UTF-8");
    let here = run(&["check", "--config", file]);
    let offline = run(&["check", "--config", file, "--offline"]);
    std::fs::remove_dir_all(&dir).expect("it was made above");
    assert_eq!(here.status.code(), Some(3));
    assert!(text(&here.stderr).contains("there is no interface `vipd-no-such` on this machine"));
    assert_eq!(offline.status.code(), Some(0), "{}", text(&offline.stderr));
}

#[test]
fn json_has_the_same_shape_for_both_answers() {
    let parse = |output: &Output| -> serde_json::Value { serde_json::from_slice(&output.stdout).expect("it is JSON") };
    let good = run(&["check", "--offline", "--json", "-c", "config/vipd.toml"]);
    let bad = run(&["check", "--offline", "--json", "-c", "tests/golden/config/six-mistakes.toml"]);
    assert_eq!((good.status.code(), bad.status.code()), (Some(0), Some(3)));
    assert!(good.stderr.is_empty() && bad.stderr.is_empty());
    let (good, bad) = (parse(&good), parse(&bad));
    let keys = |json: &serde_json::Value| json.as_object().expect("an object").keys().cloned().collect::<Vec<_>>();
    assert_eq!(keys(&good), keys(&bad));
    assert_eq!((&good["valid"], &bad["valid"]), (&true.into(), &false.into()));
    // The missing interface is no problem offline.
    assert_eq!(bad["problems"].as_array().map(Vec::len), Some(5));
    assert_eq!(good["vips"][0]["addresses"][0]["ip"], "10.20.0.100");
}

#[test]
fn schema_completions_and_manual_are_printed() {
    let schema = run(&["check", "--schema"]);
    let schema: serde_json::Value = serde_json::from_slice(&schema.stdout).expect("it is JSON");
    assert_eq!(schema["title"], "vipd.toml");
    for shell in ["bash", "zsh", "fish"] {
        let output = run(&["completions", shell]);
        assert!(output.status.success() && text(&output.stdout).contains("offline"), "{shell}");
    }
    let manual = run(&["man"]);
    assert!(text(&manual.stdout).contains(".TH vipd 8"));
}

#[test]
fn manual_pages_are_written_to_a_directory() {
    let dir = std::env::temp_dir().join(format!("vipd-cli-man-{}", std::process::id()));
    std::fs::create_dir_all(&dir).expect("there is room");
    let output = run(&["man", "--dir", dir.to_str().expect("it is UTF-8")]);
    let pages: Vec<String> = ["vipd.8", "vipd-check.8", "vipd-completions.8", "vipd-man.8"]
        .map(|page| std::fs::read_to_string(dir.join(page)).unwrap_or_default())
        .to_vec();
    std::fs::remove_dir_all(&dir).expect("it was made above");
    assert_eq!(output.status.code(), Some(0));
    assert!(pages.iter().all(|page| page.contains(".TH vipd")), "{pages:?}");
    assert_eq!(run(&["man", "--dir", "/nonexistent"]).status.code(), Some(6));
}

#[test]
fn a_reader_that_has_gone_away_is_no_error() {
    for args in [&["--help"][..], &["man"], &["completions", "bash"], &["check", "--schema"]] {
        let (reader, writer) = std::io::pipe().expect("there are descriptors left");
        drop(reader);
        let output = vipd(args).stdout(writer).output().expect("the binary was built");
        assert_eq!((output.status.code(), text(&output.stderr)), (Some(0), ""), "{args:?}");
    }
    let (reader, writer) = std::io::pipe().expect("there are descriptors left");
    drop(reader);
    let file = "tests/golden/config/six-mistakes.toml";
    let output = vipd(&["check", "--json", "-c", file]).stdout(writer).output().expect("the binary was built");
    assert_eq!(output.status.code(), Some(3), "the answer stays the answer");
}

#[test]
fn a_report_of_nothing_is_1_and_of_no_file_is_6() {
    let nothing = run(&["report", "/dev/null"]);
    assert_eq!((nothing.status.code(), text(&nothing.stderr)), (Some(1), "vipd: nothing is recorded\n"));
    let missing = run(&["report", "/nonexistent/journal"]);
    assert_eq!((missing.status.code(), text(&missing.stdout)), (Some(6), ""));
    assert!(text(&missing.stderr).contains("cannot read /nonexistent/journal"), "{}", text(&missing.stderr));
    assert_eq!(run(&["report", "--since", "yesterday"]).status.code(), Some(2));
}
