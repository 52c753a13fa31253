//! The chapter on configuration, made of the JSON schema that `vipd check --schema` prints.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Map, Value};

use crate::links::anchor;
use crate::{VIPD, root};

const FILE: &str = "docs/src/configuration.md";

const OPENING: &str = "\
<!-- Made of the schema by `BLESS=1 cargo test --test book`. Change the types of src/config/raw instead. -->

# Configuration reference

`/etc/vipd/vipd.toml` is TOML. An unknown key is an error, and `vipd check` shows all mistakes at once, each with its line and its remedy.
`vipd check --schema` prints what this page is made of, for an editor that knows JSON schemas.
";

pub fn is_up_to_date() -> Result<()> {
    let output = Command::new(VIPD).args(["check", "--schema"]).output()?;
    let schema: Value = serde_json::from_slice(&output.stdout).context("vipd check --schema")?;
    let made = Reference::of(&schema)?;
    let path = root().join(FILE);
    if std::env::var_os("BLESS").is_some() {
        fs::write(&path, &made)?;
    }
    let there = fs::read_to_string(&path).unwrap_or_default();
    ensure!(there == made, "{FILE} is not that of the schema; BLESS=1 makes it anew");
    Ok(())
}

struct Reference<'a> {
    definitions: &'a Map<String, Value>,
    tables: String,
    /// Values that a section of their own explains, in the order in which they are met.
    values: Vec<&'a str>,
    met: BTreeSet<&'a str>,
    /// The tables that are shown, with their titles.
    titles: BTreeMap<&'a str, String>,
}

impl<'a> Reference<'a> {
    fn of(schema: &'a Value) -> Result<String> {
        let definitions = schema.get("$defs").and_then(Value::as_object).context("no definitions")?;
        let mut reference = Self {
            definitions,
            tables: String::new(),
            values: Vec::new(),
            met: BTreeSet::new(),
            titles: BTreeMap::new(),
        };
        reference.nested(schema, "");
        let mut text = format!("{OPENING}{}\n## Values\n", reference.tables);
        let mut at = 0;
        // Explaining one may lead to another.
        while let Some(name) = reference.values.get(at).copied() {
            at += 1;
            let explained = reference.value(name);
            text.push_str(&explained);
        }
        let explained = reference.met.len() + reference.titles.len();
        ensure!(explained == definitions.len(), "of {} definitions {explained} are explained", definitions.len());
        Ok(text)
    }

    /// The tables of a table.
    fn nested(&mut self, schema: &'a Value, path: &str) {
        for (key, property) in properties(schema) {
            let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
            if let Some((name, is_list)) = self.table_of(property) {
                let title = if is_list { format!("[[{path}]]") } else { format!("[{path}]") };
                self.table(name, property, &title);
                self.nested(&self.definitions[name], &path);
            }
        }
    }

    /// The definition of a property that is a table, or a list of tables.
    fn table_of(&self, property: &'a Value) -> Option<(&'a str, bool)> {
        let (name, is_list) = match reference(property) {
            Some(name) => (name, false),
            None => (reference(property.get("items")?)?, true),
        };
        self.definitions[name].get("properties").is_some().then_some((name, is_list))
    }

    fn table(&mut self, name: &'a str, property: &Value, title: &str) {
        let definition = &self.definitions[name];
        let said = [property, definition].map(description);
        let said = if said[0].is_empty() { &said[1] } else { &said[0] };
        let rows = match self.titles.get(name) {
            Some(shown) => format!("Its keys are those of [`{shown}`](#{}).\n", anchor(shown)),
            None => {
                self.titles.insert(name, title.to_owned());
                self.rows(definition)
            }
        };
        write!(self.tables, "\n## `{title}`\n\n{said}\n\n{rows}").expect("a String takes all");
    }

    fn rows(&mut self, definition: &'a Value) -> String {
        let required: Vec<&str> = definition
            .get("required")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect();
        let mut text = String::from("| key | value | |\n|---|---|---|\n");
        // What must be there first.
        let (needed, others): (Vec<_>, Vec<_>) =
            properties(definition).partition(|(key, _)| required.contains(&key.as_str()));
        for (key, property) in needed.into_iter().chain(others) {
            let mark = if required.contains(&key.as_str()) { " **Required.**" } else { "" };
            let kind = match self.table_of(property) {
                Some((_, true)) => "tables of their own".to_owned(),
                Some((_, false)) => "a table of its own".to_owned(),
                None => self.kind(property),
            };
            let said = description(property).replace('|', "\\|").replace('\n', " ");
            writeln!(text, "| `{key}` | {kind} | {said}{mark} |").expect("a String takes all");
        }
        text
    }

    /// What a value may be, in a word or with a link.
    fn kind(&mut self, schema: &'a Value) -> String {
        if let Some(name) = reference(schema) {
            if self.met.insert(name) {
                self.values.push(name);
            }
            return format!("[{}](#{})", spoken(name), anchor(&spoken(name)));
        }
        if let Some(value) = schema.get("const") {
            return format!("`{value}`");
        }
        if let Some(some) = ["anyOf", "oneOf"].iter().find_map(|name| schema.get(*name)).and_then(Value::as_array) {
            let kinds: Vec<String> = some.iter().map(|schema| self.kind(schema)).collect();
            return kinds.join(" or ");
        }
        match schema.get("type").and_then(Value::as_str) {
            Some("array") => match schema.get("items") {
                Some(items) => format!("list of {}", self.kind(items)),
                None => "list".to_owned(),
            },
            Some("object") if schema.get("properties").is_some() => "table".to_owned(),
            Some("object") => match schema.get("additionalProperties").filter(|items| items.is_object()) {
                Some(items) => format!("table of names, each with a {}", self.kind(items)),
                None => "table".to_owned(),
            },
            Some("integer") => "whole number".to_owned(),
            Some("boolean") => "`true`, `false`".to_owned(),
            Some(kind) => kind.to_owned(),
            None => "any".to_owned(),
        }
    }

    fn value(&mut self, name: &'a str) -> String {
        let definition = &self.definitions[name];
        let mut text = format!("\n### {}\n\n{}\n", spoken(name), description(definition));
        let some = ["anyOf", "oneOf"].iter().find_map(|name| definition.get(*name)).and_then(Value::as_array);
        for (index, one) in some.into_iter().flatten().enumerate() {
            if index == 0 {
                text.push('\n');
            }
            let said = description(one).replace('\n', " ");
            let kind = self.kind(one);
            let said = said.strip_prefix(&format!("{kind}: ")).unwrap_or(&said);
            writeln!(text, "- {kind}: {said}").expect("a String takes all");
            if one.get("properties").is_some() {
                let rows = self.rows(one);
                write!(text, "\n{rows}\n").expect("a String takes all");
            }
        }
        if definition.get("properties").is_some() {
            let rows = self.rows(definition);
            write!(text, "\n{rows}").expect("a String takes all");
        }
        text
    }
}

fn properties(schema: &Value) -> impl Iterator<Item = (&String, &Value)> {
    schema.get("properties").and_then(Value::as_object).into_iter().flatten()
}

/// The name of the definition that a schema refers to.
fn reference(schema: &Value) -> Option<&str> {
    schema.get("$ref")?.as_str()?.strip_prefix("#/$defs/")
}

fn description(schema: &Value) -> String {
    schema.get("description").and_then(Value::as_str).unwrap_or_default().to_owned()
}

/// `OnSilentOwner`: On silent owner.
fn spoken(name: &str) -> String {
    let mut text = String::new();
    for (index, c) in name.chars().enumerate() {
        if c.is_uppercase() && index > 0 {
            text.push(' ');
            text.extend(c.to_lowercase());
        } else {
            text.push(c);
        }
    }
    text
}
