//! The file's shape and its reading cannot part: schema against reader, defaults against defaults. And what
//! resolving does beyond reading.

use std::collections::BTreeSet;

use serde_json::Value as Json;

use super::*;
use crate::types::{Family, MacMode};

const MINIMAL: &str = "[[vip]]\nname = \"a\"\ninterface = \"eno1\"\nvrid = 51\naddresses = [\"10.20.0.100/24\"]\n";

fn system() -> System {
    System { host_name: "host".into(), interfaces: Vec::new(), missing_interface: MissingInterface::Ignore }
}

fn problems(text: &str) -> Vec<Problem> {
    match parse("f", text, &system()) {
        Ok(_) => Vec::new(),
        Err(report) => report.problems().to_vec(),
    }
}

/// Each table of the file: where its properties stand in the schema, and a document with a place for one more key in it.
fn tables() -> Vec<(&'static str, &'static str, String)> {
    let vip = |key: &str| format!("{MINIMAL}{key}\n");
    vec![
        ("the file", "/properties", format!("KEY\n{MINIMAL}")),
        ("[node]", "/$defs/Node/properties", format!("[node]\nKEY\n{MINIMAL}")),
        ("[seal]", "/$defs/Seal/properties", format!("[seal]\nKEY\n{MINIMAL}")),
        ("[quorum]", "/$defs/Quorum/properties", format!("[quorum]\nKEY\n{MINIMAL}")),
        ("a voter", "/$defs/Voter/properties", format!("[quorum]\nvoters = [{{ KEY }}]\n{MINIMAL}")),
        ("[fence]", "/$defs/Fence/properties", format!("[fence]\nKEY\n{MINIMAL}")),
        ("[[fence.peer]]", "/$defs/FencePeer/properties", format!("[[fence.peer]]\nKEY\n{MINIMAL}")),
        ("[fence.self]", "/$defs/FenceSelf/properties", format!("[fence.self]\nKEY\n{MINIMAL}")),
        ("[[spread]]", "/$defs/Spread/properties", format!("[[spread]]\nKEY\n{MINIMAL}")),
        ("[[vip]]", "/$defs/Vip/properties", "[[vip]]\nKEY\n".to_string()),
        ("an address", "/$defs/Address/anyOf/1/properties", "[[vip]]\naddresses = [{ KEY }]\n".to_string()),
        ("`preempt`", "/$defs/Preempt/anyOf/1/properties", vip("preempt = { KEY }")),
        ("[[check]]", "/$defs/Check/properties", format!("[[check]]\nKEY\n{MINIMAL}")),
        ("[[vip.check]]", "/$defs/Check/properties", vip("[[vip.check]]\nKEY")),
        ("`announce`", "/$defs/Announce/properties", vip("announce = { KEY }")),
    ]
}

fn schema_keys(schema: &Json, place: &str) -> BTreeSet<String> {
    let properties = schema.pointer(place).and_then(Json::as_object);
    properties.unwrap_or_else(|| panic!("no {place} in the schema")).keys().cloned().collect()
}

#[test]
fn each_key_that_is_read_is_in_the_schema() {
    let schema = schema();
    for (table, place, document) in tables() {
        let problems = problems(&document.replace("KEY", "zzzzzzzzzzzz = 1"));
        let unknown = problems.iter().find(|problem| problem.kind == Kind::UnknownKey);
        let unknown = unknown.unwrap_or_else(|| panic!("{table}: {problems:?}"));
        let known = unknown.remedy.split_once("known keys: ").expect("the remedy lists them").1;
        let known: BTreeSet<String> = known.split(", ").map(str::to_string).collect();
        assert_eq!(known, schema_keys(&schema, place), "{table}");
    }
}

#[test]
fn each_key_of_the_schema_is_read() {
    let schema = schema();
    for (table, place, document) in tables() {
        for key in schema_keys(&schema, place) {
            // A date is of no key's type.
            let problems = problems(&document.replace("KEY", &format!("{key} = 1979-05-27")));
            assert!(problems.iter().all(|problem| problem.kind != Kind::UnknownKey), "{table}: {key}");
            let refused = problems.iter().any(|problem| matches!(problem.kind, Kind::WrongType | Kind::Syntax));
            assert!(refused, "{table}: {key} takes a date");
        }
    }
}

#[test]
fn defaults_in_the_schema_are_the_defaults() {
    let raw: raw::File = toml::from_str(MINIMAL).expect("it is valid");
    let written_out = toml::to_string(&raw).expect("the types are those of TOML");
    for key in ["priority = 100", "version = 3", "preempt = true", "repeat = ["] {
        assert!(written_out.contains(key), "{written_out}");
    }
    let silent = parse("f", MINIMAL, &system()).expect("it is valid");
    assert_eq!(parse("f", &written_out, &system()).expect("it is valid"), silent);
}

#[test]
fn the_schema_refuses_unknown_keys_and_knows_no_null() {
    let schema = schema();
    assert_eq!(schema["additionalProperties"], false);
    assert_eq!(schema["$defs"]["Vip"]["additionalProperties"], false);
    assert!(!schema.to_string().contains("null"), "TOML has no null");
}

#[test]
fn ipv4_stands_first_and_a_link_local_address_is_derived() {
    let text = MINIMAL.replace(
        "[\"10.20.0.100/24\"]",
        "[\"2001:db8::2/64\", \"10.20.0.101/24\", \"2001:db8::1/64\", \"10.20.0.100/24\"]",
    );
    let config = parse("f", &text, &system()).expect("it is valid");
    let shown: Vec<String> = config.settings.vips[0].addresses.iter().map(ToString::to_string).collect();
    let expected =
        ["10.20.0.101/24", "10.20.0.100/24", "fe80::200:5eff:fe00:233/64", "2001:db8::2/64", "2001:db8::1/64"];
    assert_eq!(shown, expected);
}

#[test]
fn a_listed_link_local_address_is_put_first() {
    let text = MINIMAL.replace("[\"10.20.0.100/24\"]", "[\"2001:db8::2/64\", \"fe80::1/64\"]");
    let config = parse("f", &text, &system()).expect("it is valid");
    let vip = &config.settings.vips[0];
    let shown: Vec<String> = vip.addresses_of(Family::V6).map(ToString::to_string).collect();
    assert_eq!(shown, ["fe80::1/64", "2001:db8::2/64"]);
}

#[test]
fn each_optional_key_arrives() {
    let text = format!(
        "{}priority = 255\nadvert_interval = \"2s\"\nversion = 2\npreempt = {{ delay = \"1m 30s\" }}\n\
         peers = [\"10.20.0.2\"]\ncheck_hop_limit = false\nmac = \"virtual\"\nchecksum = \"rfc5798\"\non_conflict = \"demote\"\non_silent_owner = \"take\"\n\
         references = [\"gateway\", \"10.20.0.9\"]\nprefer = \"safe\"\n\
         password = \"hunter2\"\nannounce = {{ repeat = [], refresh = false }}\n",
        MINIMAL.replace("\"10.20.0.100/24\"", "{ address = \"10.20.0.100/24\", label = \"eno1:db\" }")
    );
    let config = parse("f", &text, &system()).unwrap_or_else(|report| panic!("{}", report.render(Colour::Off)));
    let vip = &config.settings.vips[0];
    assert_eq!((vip.priority.0, vip.interval.centiseconds(), vip.version.number()), (255, 200, 2));
    assert_eq!(vip.preempt, crate::engine::Preempt::After(std::time::Duration::from_secs(90)));
    assert_eq!(vip.peers, ["10.20.0.2".parse::<std::net::IpAddr>().expect("it is one")]);
    assert_eq!((vip.check_hop_limit, vip.mac), (false, MacMode::Virtual));
    assert_eq!(vip.checksum, crate::engine::ChecksumPolicy::Pinned(crate::wire::advert::ChecksumForm::Rfc5798));
    assert_eq!(vip.on_conflict, crate::engine::OnConflict::Demote);
    assert_eq!(vip.on_silent_owner, crate::engine::OnSilentOwner::Take);
    let host = crate::engine::Reference::Address("10.20.0.9".parse().expect("it is one"));
    assert_eq!(vip.references, [crate::engine::Reference::Gateway, host]);
    assert_eq!(vip.prefer, crate::engine::Prefer::Safe);
    assert_eq!(vip.password, Some(crate::types::Password(*b"hunter2\0")));
    assert_eq!((vip.announce.repeat.len(), vip.announce.refresh), (0, None));
    assert_eq!(vip.addresses[0].label.as_deref(), Some("eno1:db"));
    assert!(!format!("{config:?}").contains("hunter2"));
}

#[test]
fn more_addresses_than_an_advert_lists_are_a_note() {
    for (family, listed, count) in [("IPv4", 255, 256), ("IPv6", 90, 91)] {
        let list = |count: u32| -> String {
            let address = |i: u32| match family {
                "IPv4" => format!("\"10.1.{}.{}/16\"", i / 250 + 1, i % 250 + 1),
                _ => format!("\"fe80::{:x}/64\"", i + 1),
            };
            (0..count).map(address).collect::<Vec<_>>().join(", ")
        };
        let notes = |count: u32| {
            let text = MINIMAL.replace("\"10.20.0.100/24\"", &list(count));
            parse("f", &text, &system()).unwrap_or_else(|report| panic!("{}", report.render(Colour::Off))).notes
        };
        assert_eq!(notes(listed), []);
        let above = notes(count);
        assert_eq!(above.len(), 1);
        assert!(above[0].message.contains(&format!("{listed} {family}")), "{above:?}");
        assert_eq!(above[0].line, 5);
    }
}

#[test]
fn a_text_that_is_cut_anywhere_gets_an_answer() {
    let text = include_str!("../../config/vipd.toml");
    for end in (0..=text.len()).filter(|end| text.is_char_boundary(*end)).step_by(7) {
        if let Err(report) = parse("f", &text[..end], &system()) {
            assert!(!report.problems().is_empty());
            assert!(report.render(Colour::Off).contains("problem"));
            assert_eq!(report.problems_json().as_array().map(Vec::len), Some(report.problems().len()));
        }
    }
}

/// What breaks TOML, quotes, lines and characters, in any mixture.
const FRAGMENTS: [&str; 24] = [
    "\"",
    "'",
    "\"\"\"",
    "'''",
    "[",
    "]",
    "[[",
    "]]",
    "{",
    "}",
    "=",
    ",",
    ".",
    "\n",
    "\r\n",
    "\r",
    "\0",
    "\\",
    "\\u{d8",
    "é",
    "\u{1f980}",
    "#",
    "password",
    "1e999",
];

proptest::proptest! {
    #[test]
    fn no_text_is_without_an_answer(
        edits in proptest::collection::vec((0..4000usize, 0..FRAGMENTS.len(), 0..12usize), 1..8),
    ) {
        let mut text = include_str!("../../config/gateway-pair/gw-a.toml").to_string();
        text.push_str("version = 2\npassword = \"hunter2\"\n");
        for (at, fragment, removed) in edits {
            let boundary = |mut at: usize| {
                while !text.is_char_boundary(at) {
                    at -= 1;
                }
                at
            };
            let start = boundary(at % (text.len() + 1));
            let end = boundary((start + removed).min(text.len())).max(start);
            text.replace_range(start..end, FRAGMENTS[fragment]);
        }
        if let Err(report) = parse("f", &text, &system()) {
            proptest::prop_assert!(!report.problems().is_empty());
            proptest::prop_assert!(report.render(Colour::Off).contains("problem"));
            proptest::prop_assert_eq!(report.problems_json().as_array().map(Vec::len), Some(report.problems().len()));
        }
    }
}
