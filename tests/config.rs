//! The configuration from outside: the files that are shipped are right, and mistakes are reported as promised.
//!
//! `tests/golden/config/NAME.toml` is read and its report compared with `NAME.txt`; `BLESS=1 cargo test --test config`
//! writes the reports anew.

#![cfg(feature = "agent")]

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use vipd::config::{self, Colour, Config, Kind, MissingInterface, Report, System};

fn system(missing_interface: MissingInterface) -> System {
    System { host_name: "host".into(), interfaces: vec!["eno1".into(), "eno2".into()], missing_interface }
}

fn parse(text: &str) -> Result<Config, Box<Report>> {
    config::parse("vipd.toml", text, &system(MissingInterface::Refuse))
}

fn toml_files_under(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).expect("the directory is part of the repository") {
        let path = entry.expect("it can be listed").path();
        if path.is_dir() {
            found.extend(toml_files_under(&path));
        } else if path.extension().is_some_and(|extension| extension == "toml") {
            found.push(path);
        }
    }
    found.sort();
    found
}

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn each_shipped_file_is_valid() {
    let files = toml_files_under(&repository().join("config"));
    assert!(files.len() >= 5, "{files:?}");
    for path in files {
        // The fence agents, hooks and keys of a recipe are on other machines.
        let is_here = !["fenced-pair", "postgres-pair", "witnessed-pair"]
            .iter()
            .any(|recipe| path.to_string_lossy().contains(recipe));
        let missing = if is_here { MissingInterface::Refuse } else { MissingInterface::Ignore };
        let mut system = system(missing);
        if path.to_string_lossy().contains("dns-trio") {
            // One file for all hosts, which are known by their own names.
            system.host_name = "ns-a".into();
        }
        let config = config::load(&path, &system);
        let config = config.unwrap_or_else(|report| panic!("{}", report.render(Colour::Off)));
        assert!(config.notes.is_empty(), "{}: {:?}", path.display(), config.notes);
        let text = std::fs::read_to_string(&path).expect("it was read before");
        let raw: config::raw::File = toml::from_str(&text).expect("the schema's types read what the agent reads");
        assert_eq!(raw.vip.len(), config.settings.vips.len());
    }
}

#[test]
fn defaults_in_the_sample_are_the_defaults() {
    let sample = std::fs::read_to_string(repository().join("config/vipd.toml")).expect("it is shipped");
    let is_default = |line: &&str| line.strip_prefix('#').is_some_and(|rest| rest.starts_with(char::is_alphabetic));
    let defaults = sample.lines().filter(is_default).count();
    let written_out: Vec<&str> = sample.lines().map(|line| if is_default(&line) { &line[1..] } else { line }).collect();
    assert!(defaults >= 9, "found {defaults}");
    let written_out = parse(&written_out.join("\n")).unwrap_or_else(|report| panic!("{}", report.render(Colour::Off)));
    let silent = parse(&sample).expect("checked by another test");
    assert_eq!(silent.settings.vips, written_out.settings.vips);
    assert_eq!((silent.settings.node.as_str(), written_out.settings.node.as_str()), ("host", "db-a"));
}

#[test]
fn the_two_files_of_a_pair_differ_in_name_and_priority_only() {
    for (a, b) in [
        ("database-pair/db-a", "database-pair/db-b"),
        ("gateway-pair/gw-a", "gateway-pair/gw-b"),
        ("web-pair/web-a", "web-pair/web-b"),
        ("fenced-pair/db-a", "fenced-pair/db-b"),
        ("postgres-pair/db-a", "postgres-pair/db-b"),
        ("witnessed-pair/db-a", "witnessed-pair/db-b"),
    ] {
        let vips = |name: &str| {
            let path = repository().join("config").join(name).with_extension("toml");
            config::load(&path, &system(MissingInterface::Ignore)).expect("checked by another test").settings.vips
        };
        let (a, mut b) = (vips(a), vips(b));
        for (a, b) in a.iter().zip(&mut b) {
            assert_ne!(a.priority, b.priority);
            b.priority = a.priority;
        }
        assert_eq!(a, b);
    }
}

#[test]
fn one_file_for_all_hosts_of_a_spread_ranks_each_of_them_at_another_place() {
    let text = std::fs::read_to_string(repository().join("config/dns-trio/vipd.toml")).expect("it is shipped");
    let priorities = |host: &str| -> Vec<u8> {
        let system = System { host_name: host.into(), ..system(MissingInterface::Ignore) };
        let config = config::parse("vipd.toml", &text, &system).expect("checked by another test");
        config.settings.vips.iter().map(|vip| vip.priority.0).collect()
    };
    let all = ["ns-a", "ns-b", "ns-c"].map(priorities);
    assert_eq!(all, [[220, 220, 240, 240], [200, 240, 200, 220], [240, 200, 220, 200]]);
    let turned = text.replace("\"dns1\", \"dns2\", \"dns3\", \"dns4\"", "\"dns3\", \"dns4\", \"dns1\", \"dns2\"");
    let turned = turned.replace("ns-a = 2, ns-b = 1, ns-c = 1", "ns-c = 1, ns-b = 1, ns-a = 2");
    assert_ne!(turned, text);
    let system = System { host_name: "ns-a".into(), ..system(MissingInterface::Ignore) };
    let parsed = |text: &str| config::parse("vipd.toml", text, &system).expect("it is valid");
    assert_eq!(parsed(&turned), parsed(&text), "the order in the file is of no matter");
}

#[test]
fn for_another_machine_a_spread_without_this_host_is_judged_as_on_the_first_of_its_nodes() {
    let text = std::fs::read_to_string(repository().join("config/dns-trio/vipd.toml")).expect("it is shipped");
    // The first in the file, not by its name.
    let text = text.replace("ns-a = 2, ns-b = 1, ns-c = 1", "ns-c = 1, ns-a = 2, ns-b = 1");
    let parsed = |missing_interface, text: &str| config::parse("vipd.toml", text, &system(missing_interface));
    let judged = parsed(MissingInterface::Ignore, &text).expect("it is valid on each of its nodes");
    assert_eq!(judged.settings.node, "ns-c");
    let [note] = judged.notes.as_slice() else { panic!("{:?}", judged.notes) };
    assert_eq!(text.lines().nth(note.line - 1).map(|line| line.contains("ns-c = 1, ns-a")), Some(true), "{note:?}");
    assert!(note.message.contains("judged as on `ns-c`") && note.remedy.contains("[node] name"), "{note:?}");

    // With a name it is that node; and an agent is never another than it is.
    let named = |name: &str| format!("[node]\nname = \"{name}\"\n{text}");
    let judged = parsed(MissingInterface::Ignore, &named("ns-b")).expect("it is valid");
    assert_eq!((judged.settings.node.as_str(), judged.notes.len()), ("ns-b", 0));
    for (missing_interface, text) in [
        (MissingInterface::Ignore, named("ns-d")),
        (MissingInterface::Refuse, text.clone()),
        (MissingInterface::Note, text),
    ] {
        let report = parsed(missing_interface, &text).expect_err("this node is none of them").render(Colour::Off);
        assert!(report.contains("is not among the `nodes` of its spread"), "{report}");
    }
}

#[test]
fn a_spread_says_which_node_it_has_no_vip_for() {
    let text = "[[vip]]\nname = \"a\"\ninterface = \"eno1\"\nvrid = 1\naddresses = [\"10.0.0.1/24\"]\n\
                [[spread]]\nname = \"s\"\nvips = [\"a\"]\nnodes = { host = 1, other = 1, spare = 0 }\n";
    let config = parse(text).expect("it is valid");
    let notes: Vec<&str> = config.notes.iter().map(|note| note.message.as_str()).collect();
    assert_eq!(notes.len(), 1, "{notes:?}");
    assert!(notes[0].starts_with("of the vips of `s` none is for `"), "{notes:?}");
    assert_eq!(config.notes[0].line, 8);
    assert_eq!(config.settings.vips[0].preempt, vipd::engine::Preempt::After(std::time::Duration::from_secs(30)));
}

#[test]
fn six_mistakes_are_six_problems() {
    let text = include_str!("golden/config/six-mistakes.toml");
    let report = parse(text).expect_err("it is wrong");
    let kinds: Vec<Kind> = report.problems().iter().map(|problem| problem.kind).collect();
    let expected =
        [Kind::UnknownKey, Kind::MissingInterface, Kind::OutOfRange, Kind::Invalid, Kind::MissingKey, Kind::WrongType];
    assert_eq!(kinds, expected, "{}", report.render(Colour::Off));
    assert!(report.problems().iter().all(|problem| !problem.remedy.is_empty()));

    let json = report.problems_json();
    let place =
        |index: usize| (json[index]["line"].as_u64(), json[index]["column"].as_u64(), json[index]["key"].as_str());
    assert_eq!(place(0), (Some(3), Some(1), Some("node.nane")));
    assert_eq!(place(1), (Some(7), Some(13), Some("vip[0].interface")));
    assert_eq!(place(2), (Some(8), Some(8), Some("vip[0].vrid")));
    assert_eq!(place(3), (Some(9), Some(32), Some("vip[0].addresses[1]")));
    assert_eq!(place(4), (Some(11), Some(1), Some("vip[1]")));
    assert_eq!(place(5), (Some(14), Some(12), Some("vip[1].priority")));
    assert_eq!(
        (json[2]["kind"].as_str(), json[2]["remedy"].as_str()),
        (Some("out-of-range"), Some("write a number from 1 to 255"))
    );
}

#[test]
fn reports_are_as_recorded() {
    let bless = std::env::var_os("BLESS").is_some();
    let files = toml_files_under(&repository().join("tests/golden/config"));
    assert!(files.len() >= 12);
    for path in files {
        let name = path.file_name().expect("it is a file").to_string_lossy().into_owned();
        let text = std::fs::read_to_string(&path).expect("it is part of the repository");
        let (missing, wanted) = match name.as_str() {
            "notes.toml" => (MissingInterface::Note, true),
            _ => (MissingInterface::Refuse, false),
        };
        let result = config::parse(&name, &text, &system(missing));
        assert_eq!(result.is_ok(), wanted, "{name}");
        let found = match result {
            Ok(config) => config
                .notes
                .iter()
                .map(|note| format!("line {}: {}: {}\n", note.line, note.message, note.remedy))
                .collect(),
            Err(report) => report.render(Colour::Off),
        };
        assert!(!found.contains("hunter2") && !found.contains('\u{1b}'), "{name}:\n{found}");
        let recorded = path.with_extension("txt");
        if bless {
            std::fs::write(&recorded, &found).expect("the repository can be written to");
        }
        let expected = std::fs::read_to_string(&recorded).unwrap_or_default();
        assert_eq!(found, expected, "{name}: if this is as it should be: BLESS=1 cargo test --test config");
    }
}

#[test]
fn no_file_is_a_report_too() {
    let report = config::load(Path::new("/nonexistent/vipd.toml"), &system(MissingInterface::Ignore))
        .expect_err("there is none");
    let text = report.render(Colour::Off);
    assert!(text.contains("cannot read the file") && text.contains("--config FILE"), "{text}");
    assert_eq!(report.problems()[0].kind, Kind::Unreadable);
}

fn thousand_vips(extra: &str) -> String {
    let mut text = String::new();
    for index in 0..1000 {
        let (link, vrid) = (index / 250, index % 250 + 1);
        write!(
            text,
            "[[vip]]\nname = \"vip{index}\"\ninterface = \"eth{link}\"\nvrid = {vrid}\naddresses = [\"10.{link}.0.{vrid}/16\"]\n{extra}\n"
        )
        .expect("writing to a String does not fail");
    }
    text
}

#[test]
fn a_thousand_vips_are_read() {
    let text = thousand_vips("");
    let config = config::parse("f", &text, &system(MissingInterface::Ignore)).expect("it is valid");
    assert_eq!(config.settings.vips.len(), 1000);
}

#[test]
fn of_thousands_of_mistakes_the_first_are_shown_and_all_are_counted() {
    let text = thousand_vips("prioritty = 1\npassword = \"hunter2\"");
    let report = config::parse("f", &text, &system(MissingInterface::Ignore)).expect_err("it is wrong");
    assert_eq!(report.problems().len(), 2000);
    let rendered = report.render(Colour::Off);
    assert!(rendered.ends_with("f: 2000 problems; 1900 more are not shown\n"));
    assert_eq!(report.problems_json().as_array().map(Vec::len), Some(2000));
}
