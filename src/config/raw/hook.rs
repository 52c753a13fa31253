//! `[vip.hooks]`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Duration;

/// Programs that are run when something becomes of a vip, one after the other.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Hooks {
    /// This node is about to claim, and all else permits it, or an owner is about to hand over to it. Both wait for this program; that owner goes on
    /// meanwhile. Default: none.
    pub before_claim: Option<BeforeClaim>,
    /// This node owns the addresses; also when an agent that was started anew goes on as their owner. Default: none.
    pub after_claim: Option<Hook>,
    /// This node gives the addresses up. A handover, a drain and a stop (3 s at most) wait for this program, nothing else does. Default: none.
    pub before_release: Option<Hook>,
    /// It has given them up, and they are taken off. Default: none.
    pub after_release: Option<Hook>,
    /// This node cannot take part any more: a check fails, the interface is down, the kernel refuses, it was too late. Default: none.
    pub fault: Option<Hook>,
    /// Another host may own the addresses too. Once a minute at most. Default: none.
    pub split_brain: Option<Hook>,
}

/// A program, and what becomes of its failure: the types differ in that alone.
macro_rules! hook {
    ($(#[$type:meta])* $name:ident, $(#[$key:meta])* $on_failure:ty) => {
        $(#[$type])*
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
        #[serde(deny_unknown_fields)]
        pub struct $name {
            /// Its absolute path and its arguments. No shell, in `/`; it is told what happens in its environment and, as
            /// JSON, on standard input.
            #[schemars(length(min = 1))]
            pub exec: Vec<String>,
            /// The user that it is run as. Default: the agent's, without its capabilities.
            pub user: Option<String>,
            /// How long it may take; then it is killed, and has failed. `10ms` to `10m`. Default: `10s`.
            pub timeout: Option<Duration>,
            $(#[$key])*
            pub on_failure: $on_failure,
        }
    };
}

hook! {
    /// A program that a claim waits for.
    BeforeClaim,
    /// What becomes of the claim where it fails: `ignore`, it is made; `veto`, it is not, and the program is run again
    /// after 10 s.
    OnHookFailure
}

hook! {
    /// A program whose failure stops nothing.
    Hook,
    /// That it failed is recorded, and nothing else becomes of it: `ignore`, the only word here. Default: ignore.
    #[serde(default)]
    Ignored
}

/// What becomes of a claim whose hook failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OnHookFailure {
    /// It is made.
    Ignore,
    /// It is not made.
    Veto,
}

/// What becomes of a failure that nothing depends on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Ignored {
    /// Nothing.
    #[default]
    Ignore,
}
