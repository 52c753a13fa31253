//! `[fence]`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Duration, Refresh, default};

/// What is done to an owner that fell silent, and to a host that may have been fenced.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Fence {
    /// Whether a silent owner's addresses are claimed only once it is confirmed to be fenced. Else it is fenced only where it
    /// falls silent and its addresses still answer. Default: false.
    #[serde(default)]
    pub require: bool,
    /// How long a node waits before it fences an owner against which it would lose the election, so that of two nodes which would fence
    /// each other the better one survives. `0s` to `60s`. Default: `1s`.
    pub delay: Option<Duration>,
    /// For how long a host that went down while it was the owner, without a stop, keeps itself out of the elections after it has booted:
    /// it may have been fenced. `1s` to `24h`, or `false`: not. Default: `10m`, where there is a `[[fence.peer]]`.
    pub hold: Option<Refresh>,
    /// How each peer is fenced, one table each. At most 64.
    #[serde(default)]
    #[schemars(length(max = 64))]
    pub peer: Vec<FencePeer>,
    /// Has the hardware watchdog reset this host where it cannot give its addresses up. Default: not.
    #[serde(rename = "self")]
    pub itself: Option<FenceSelf>,
}

/// The hardware watchdog of this host, armed while it owns addresses.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FenceSelf {
    /// Its device. Nothing else may use it (`RuntimeWatchdogSec` of systemd does). Default: `/dev/watchdog`.
    pub watchdog: Option<String>,
    /// How long the agent may be stuck before the host is reset. `2s` to `5m`, whole seconds. Default: `10s`.
    pub timeout: Option<Duration>,
}

/// How a peer is fenced: by a fence agent of the ClusterLabs convention, such as `fence_ipmilan` or `fence_redfish`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FencePeer {
    /// The peer's name, unique; the fence agent is told it as `nodename`.
    #[schemars(length(min = 1, max = 255))]
    pub name: String,
    /// The addresses that the peer's adverts come from. Default: none, which is any peer that no other table names.
    #[serde(default)]
    #[schemars(length(max = 64))]
    pub addresses: Vec<String>,
    /// The fence agent's absolute path. Nobody but root and the agent's user may be able to change it.
    pub program: String,
    /// `reboot`: off and on again; `off`: off, which is verified by `status`. Default: reboot.
    #[serde(default)]
    pub action: FenceAction,
    /// What the fence agent is told beside that, such as `{ ip = "192.0.2.7", username = "vipd" }`.
    #[serde(default)]
    pub options: std::collections::BTreeMap<String, String>,
    /// The same, each value in a file of its own that not everybody can read, such as `{ password = "/etc/vipd/ipmi.pass" }`.
    #[serde(default)]
    pub secrets: std::collections::BTreeMap<String, String>,
    /// How long one run of the fence agent may take. `1s` to `10m`. Default: `60s`.
    pub timeout: Option<Duration>,
    /// How often it is tried. 1 to 10. Default: 2.
    #[serde(default = "default::attempts")]
    #[schemars(range(min = 1, max = 10))]
    pub attempts: u8,
}

/// What a fence agent is to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum FenceAction {
    /// Off and on again.
    #[default]
    Reboot,
    /// Off.
    Off,
}
