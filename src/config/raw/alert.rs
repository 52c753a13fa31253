//! `[[alert]]`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Duration;

/// Somebody who is told of events: by exactly one of `webhook`, `exec` and `journal`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Alert {
    /// Its name in logs. 1 to 63 letters, digits, `-`, `_` and `.`.
    #[schemars(regex(pattern = r"^[A-Za-z0-9._-]{1,63}$"))]
    pub name: String,
    /// What matters less is not told: `error`, somebody has to do something; `warning`, something is not as it was, and the service goes on;
    /// `info`, all events. Default: error.
    #[serde(default)]
    pub severity: Severity,
    /// A page that gets each event as JSON by POST, such as `"https://alerts.example.com/vipd"`. Any status of 200 to 299 is thanks.
    pub webhook: Option<String>,
    /// With `webhook`: a file with a token, which is sent as `Authorization: Bearer`. Nobody but its owner and group may read it.
    pub token_file: Option<String>,
    /// With `webhook` and https: a file with the certificates to believe, in PEM. Default: those that the system believes.
    pub ca: Option<String>,
    /// A program that gets each event as JSON on standard input: its absolute path and its arguments. No shell.
    #[schemars(length(min = 1))]
    pub exec: Option<Vec<String>>,
    /// With `exec`: the user that the program is run as. Default: the agent's, without its capabilities.
    pub user: Option<String>,
    /// `true`: the journal of systemd, for an agent whose log goes elsewhere. A log that goes there has all events anyway.
    pub journal: Option<bool>,
    /// How long one attempt may take. What fails is tried again after 1 s, then ever later, up to each minute, for an hour. `100ms` to `5m`.
    /// Default: `10s`.
    pub timeout: Option<Duration>,
}

/// How much an event matters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// It is good to know.
    Info,
    /// Something is not as it was, and the service goes on.
    Warning,
    /// Somebody has to do something.
    #[default]
    Error,
}
