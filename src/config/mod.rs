//! The configuration file: read once, checked whole, turned into what the engine is told to keep.
//!
//! Decides what a file means and whether it is legal. A file with ten mistakes is answered by ten problems at
//! once, each with its line, its key and its remedy; nothing of an invalid file is ever used. Refuses unknown keys.
//! No decision of the election is made here, and nothing outside the file and [`System`] is looked at.
//!
//! | file | subject |
//! |---|---|
//! | `raw` | the shape of the file as types: the source of the JSON schema and of the reference |
//! | `resolve` | the whole file: its tables, and a function that reads each of the small ones |
//! | `vip` | `[[vip]]`; `vip_options` has its optional keys, `address` the addresses, `routing` what goes with them, `across` what must hold among vips |
//! | `group` | `[[group]]`: vips that move together |
//! | `spread` | `[[spread]]`: vips that are shared among the nodes; who is preferred, [`crate::engine::spread`] says |
//! | `fence` | `[fence]`: how silent owners are fenced |
//! | `seal`, `key_file` | `[seal]`, and the file with the keys that it names |
//! | `check`, `checks` | `[[check]]` and `[[vip.check]]`: `probe` reads what is looked at; whether that can be done it asks [`crate::driver::checks`] |
//! | `hook`, `alert` | `[vip.hooks]`, `[[alert]]` |
//! | `heartbeat` | `[node] heartbeat`, the second paths |
//! | `quorum` | `[quorum]`, the voters |
//! | `parts` | the file vip by vip |
//! | `read` | typed access to parsed TOML; whoever reads a key makes it known, so no list of keys can drift |
//! | `duration` | times as text |
//! | `problem`, `report` | what is wrong, and how that is shown to a person and to a program |
//! | `secret`, `suggest` | hiding passwords; "did you mean" |
//! | `system`, `trust` | what is asked of this machine; whether its files are to be trusted |
//!
//! A new table gets a file with one function that takes a [`read::Table`], is called from `resolve::root`, and a type in `raw`.

mod across;
mod address;
mod alert;
mod check;
mod checks;
mod duration;
mod fence;
mod group;
mod heartbeat;
mod hook;
mod key_file;
mod parts;
mod probe;
mod problem;
mod quorum;
pub mod raw;
mod read;
mod report;
mod resolve;
mod routing;
mod seal;
mod secret;
mod secret_file;
mod spread;
mod suggest;
mod system;
#[cfg(test)]
mod tests;
mod vip;
mod vip_options;

use std::io::Read;
use std::ops::RangeInclusive;
use std::path::Path;
use std::time::Duration;

pub use alert::{Alert, Severity, Way};
pub use duration::Short;
pub use heartbeat::HeartbeatPath;
pub use hook::Hook;
pub use problem::{Kind, Note, Problem};
pub use quorum::{DEFAULT_LONGEST_GRANT, LONGEST_GRANT, VoterAddress};
pub use report::{Colour, Report};
pub use seal::{DEFAULT_PORT, Seal};
pub use spread::Spread;
pub use system::{MissingInterface, System};

use schemars::Schema;
use schemars::generate::SchemaSettings;
use schemars::transform::RecursiveTransform;
use serde_json::Value as Json;

use crate::driver::checks::Check;
use crate::engine::Settings;
use crate::wire::seal::Keys;

/// Where the file is, unless `--config` says otherwise.
pub const DEFAULT_PATH: &str = "/etc/vipd/vipd.toml";

/// The largest file that is read, in bytes: 10,000 vips take about 2 MB; more is no configuration.
const MAX_FILE_BYTES: u64 = 16 * 1024 * 1024;

/// A legal configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// What the engine is told to keep.
    pub settings: Settings,
    /// How nodes believe each other; `None`: not at all, or the file is for another machine.
    pub seal: Option<Seal>,
    /// Which vips are shared among which nodes. The settings of these vips say what that makes of this node.
    pub spreads: Vec<Spread>,
    /// What is run to learn how well this node is. The settings name each.
    pub checks: Vec<Check>,
    /// What is run when something becomes of a vip. The settings name each.
    pub hooks: Vec<Hook>,
    /// Who is told of events.
    pub alerts: Vec<Alert>,
    /// The second paths; none where `settings.heartbeat` is `None`.
    pub heartbeat: Vec<HeartbeatPath>,
    /// Where the voters are; none where `settings.quorum` is `None`.
    pub voters: Vec<VoterAddress>,
    /// What is legal but may surprise; in the order of the file.
    pub notes: Vec<Note>,
}

/// Reads and checks a file.
///
/// # Errors
///
/// All that is wrong with the file, at once. A file that cannot be read is such a report too.
pub fn load(path: &Path, system: &System) -> Result<Config, Box<Report>> {
    let name = path.display().to_string();
    match read_file(path) {
        Ok(text) => parse(&name, &text, system),
        Err(problem) => Err(Box::new(Report::new(&name, "", vec![*problem]))),
    }
}

/// Checks the text of a file; `name` is what the report calls it.
///
/// # Errors
///
/// All that is wrong with the text, at once.
pub fn parse(name: &str, text: &str, system: &System) -> Result<Config, Box<Report>> {
    resolve::resolve(text, system).map_err(|problems| Box::new(Report::new(name, text, problems)))
}

/// The keys of a file, for those that have no configuration.
///
/// # Errors
///
/// What is wrong with it, and what to do about it.
pub fn read_keys(path: &Path) -> Result<Keys, String> {
    key_file::read(path).map_err(|unusable| format!("{}; {}", unusable.message, unusable.remedy))
}

/// A time as the file has it, for command lines.
///
/// # Errors
///
/// Why it is none.
pub fn parse_duration(text: &str, limits: &RangeInclusive<Duration>) -> Result<Duration, String> {
    let time = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    let (least, most) = (Short(*limits.start()), Short(*limits.end()));
    if limits.contains(&time) { Ok(time) } else { Err(format!("not in {least} to {most}")) }
}

/// The JSON schema (draft 2020-12) of the file, for editors and for the reference.
pub fn schema() -> Json {
    SchemaSettings::draft2020_12()
        .with_transform(RecursiveTransform(without_null))
        .into_generator()
        .into_root_schema_for::<raw::File>()
        .to_value()
}

/// A key that may be absent is left out: TOML has no null, by which a deserializer of JSON has it otherwise.
fn without_null(schema: &mut Schema) {
    let Some(keys) = schema.as_object_mut() else { return };
    if let Some(Json::Array(types)) = keys.get_mut("type") {
        types.retain(|it| it != "null");
        if let [only] = types.as_mut_slice() {
            let only = only.take();
            keys.insert("type".into(), only);
        }
    }
    if let Some(Json::Array(either)) = keys.get_mut("anyOf") {
        either.retain(|it| it["type"] != "null");
        if let [Json::Object(only)] = either.as_mut_slice() {
            let only = std::mem::take(only);
            keys.remove("anyOf");
            keys.extend(only);
        }
    }
}

fn read_file(path: &Path) -> Result<String, Box<Problem>> {
    let cannot = |why: String, remedy: &str| Box::new(Problem::of_file(format!("cannot read the file: {why}"), remedy));
    let file = std::fs::File::open(path).map_err(|error| {
        let remedy = match error.kind() {
            std::io::ErrorKind::NotFound => "create it, or name another one with --config FILE",
            std::io::ErrorKind::PermissionDenied => "run as root, or give the agent's user the right to read it",
            _ => "name a readable file with --config FILE",
        };
        cannot(error.to_string(), remedy)
    })?;
    let mut bytes = Vec::new();
    file.take(MAX_FILE_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| cannot(error.to_string(), "name a readable file with --config FILE"))?;
    if u64::try_from(bytes.len()).is_ok_and(|len| len > MAX_FILE_BYTES) {
        return Err(cannot(format!("it is larger than {MAX_FILE_BYTES} bytes"), "name a configuration file"));
    }
    String::from_utf8(bytes).map_err(|error| {
        let line = 1 + error.as_bytes()[..error.utf8_error().valid_up_to()].iter().filter(|b| **b == b'\n').count();
        cannot(format!("line {line} is not UTF-8"), "save the file as UTF-8")
    })
}
