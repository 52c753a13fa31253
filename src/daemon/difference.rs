//! What a reload changes, in an operator's words. Shows no password.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::config::Short;
use crate::engine::reload::is_same_router;
use crate::engine::{
    ChecksumPolicy, Engine, GroupSettings, OnConflict, OnSilentOwner, Preempt, Prefer, Reference, Settings,
    SpreadPlace, VipSettings,
};
use crate::types::{Routing, VirtualAddress};

/// Between what an engine keeps and what it is told to keep.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Difference {
    /// The node's new name.
    pub node: Option<String>,
    /// Whether silent owners are fenced otherwise from now on.
    #[serde(default)]
    pub fence: bool,
    /// Vips that come.
    pub added: Vec<String>,
    /// Vips that go.
    pub removed: Vec<String>,
    /// Vips that are another virtual router from now on: removed, and added.
    pub replaced: Vec<String>,
    /// Vips that go on, but otherwise.
    pub changed: Vec<ChangedVip>,
    /// How many vips go on as they were.
    pub unchanged: usize,
    /// Whether the vips stand in another order.
    pub reordered: bool,
    /// What else changed, a line each.
    #[serde(default)]
    pub others: Vec<String>,
}

/// A vip that goes on, but otherwise.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangedVip {
    /// Its name.
    pub name: String,
    /// At least one, such as `priority 100 -> 150`.
    pub changes: Vec<String>,
}

impl Difference {
    /// Between an engine's settings and others.
    pub(super) fn between(engine: &Engine, settings: &Settings) -> Self {
        let before: std::collections::BTreeMap<&str, &VipSettings> =
            engine.vips().iter().map(|vip| (vip.settings().name.as_str(), vip.settings())).collect();
        let after: std::collections::BTreeSet<&str> = settings.vips.iter().map(|vip| vip.name.as_str()).collect();
        let mut difference = Self {
            node: (engine.node() != settings.node).then(|| settings.node.clone()),
            fence: *engine.fence_settings() != settings.fence,
            removed: before.keys().filter(|name| !after.contains(*name)).map(|name| (*name).to_owned()).collect(),
            ..Self::default()
        };
        let before_interval = engine.heartbeats().settings();
        if before_interval != settings.heartbeat {
            difference
                .others
                .extend(settings.heartbeat.map(|it| format!("heartbeat_interval: {}", Short(it.interval))));
            difference.others.extend(settings.heartbeat.is_none().then(|| "heartbeat: off".to_owned()));
        }
        let name = |group: &GroupSettings| format!("{}: {}", group.name, group.vips.join(", "));
        let before_groups: Vec<_> = engine.groups().cloned().collect();
        let gone = before_groups.iter().filter(|group| !settings.groups.contains(group));
        difference.others.extend(gone.map(|group| format!("- group {}", name(group))));
        let new = settings.groups.iter().filter(|group| !before_groups.contains(group));
        difference.others.extend(new.map(|group| format!("+ group {}", name(group))));
        for new in &settings.vips {
            match before.get(new.name.as_str()) {
                None => difference.added.push(new.name.clone()),
                Some(old) if *old == new => difference.unchanged += 1,
                Some(old) if !is_same_router(old, new) => difference.replaced.push(new.name.clone()),
                Some(old) => {
                    let changed = ChangedVip { name: new.name.clone(), changes: changes(old, new) };
                    difference.changed.push(changed);
                }
            }
        }
        let kept = engine.vips().iter().map(|vip| vip.settings().name.as_str()).filter(|name| after.contains(name));
        let wanted = settings.vips.iter().map(|vip| vip.name.as_str()).filter(|name| before.contains_key(name));
        difference.reordered = !kept.eq(wanted);
        difference
    }

    /// Whether nothing changes.
    pub fn is_none(&self) -> bool {
        let same = Self { unchanged: self.unchanged, ..Self::default() };
        *self == same
    }
}

impl std::fmt::Display for Difference {
    /// One line for the whole, and one for each vip that is not as it was.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { node, fence, added, removed, replaced, changed, unchanged, reordered, others } = self;
        if self.is_none() {
            return writeln!(f, "nothing changed; {unchanged} vips go on");
        }
        writeln!(
            f,
            "{} added, {} removed, {} replaced, {} changed, {unchanged} as before",
            added.len(),
            removed.len(),
            replaced.len(),
            changed.len()
        )?;
        if let Some(node) = node {
            writeln!(f, "  node: now {node}")?;
        }
        if *fence {
            writeln!(f, "  ~ fence")?;
        }
        removed.iter().try_for_each(|name| writeln!(f, "  - {name}"))?;
        added.iter().try_for_each(|name| writeln!(f, "  + {name}"))?;
        replaced.iter().try_for_each(|name| writeln!(f, "  - {name}, and + {name} as another virtual router"))?;
        changed.iter().try_for_each(|vip| writeln!(f, "  ~ {}: {}", vip.name, vip.changes.join(", ")))?;
        others.iter().try_for_each(|other| writeln!(f, "  {other}"))?;
        if *reordered {
            writeln!(f, "  the vips stand in another order")?;
        }
        Ok(())
    }
}

fn changes(old: &VipSettings, new: &VipSettings) -> Vec<String> {
    let mut changes = Vec::new();
    let mut note = |name: &str, old: String, new: String| {
        if old != new {
            changes.push(format!("{name} {old} -> {new}"));
        }
    };
    note("priority", old.priority.to_string(), new.priority.to_string());
    note("advert_interval", short(old.interval.duration()), short(new.interval.duration()));
    note("preempt", preempt(old.preempt), preempt(new.preempt));
    note("peers", list(&old.peers), list(&new.peers));
    note("check_hop_limit", old.check_hop_limit.to_string(), new.check_hop_limit.to_string());
    note("checksum", checksum(old.checksum), checksum(new.checksum));
    note("on_conflict", on_conflict(old.on_conflict), on_conflict(new.on_conflict));
    note("on_silent_owner", on_silent_owner(old.on_silent_owner), on_silent_owner(new.on_silent_owner));
    note("references", references(&old.references), references(&new.references));
    note("prefer", prefer(old.prefer), prefer(new.prefer));
    note("spread", spread(old.spread.as_deref()), spread(new.spread.as_deref()));
    if old.password != new.password {
        changes.push("password".to_owned());
    }
    if old.checks != new.checks {
        changes.push("checks".to_owned());
    }
    if old.hooks != new.hooks {
        changes.push("hooks".to_owned());
    }
    if old.announce != new.announce {
        changes.push("announce".to_owned());
    }
    let lacks = |vip: &VipSettings, address: &VirtualAddress| !vip.addresses.contains(address);
    changes.extend(old.addresses.iter().filter(|it| lacks(new, it)).map(|address| format!("- {address}")));
    changes.extend(new.addresses.iter().filter(|it| lacks(old, it)).map(|address| format!("+ {address}")));
    let lacks = |vip: &VipSettings, routing: &Routing| !vip.routing.contains(routing);
    changes.extend(old.routing.iter().filter(|it| lacks(new, it)).map(|routing| format!("- {routing}")));
    changes.extend(new.routing.iter().filter(|it| lacks(old, it)).map(|routing| format!("+ {routing}")));
    if changes.is_empty() {
        changes.push("order of addresses or routes".to_owned());
    }
    changes
}

fn short(duration: Duration) -> String {
    Short(duration).to_string()
}

fn preempt(preempt: Preempt) -> String {
    match preempt {
        Preempt::Off => "off".to_owned(),
        Preempt::On => "on".to_owned(),
        Preempt::After(delay) => format!("after {}", Short(delay)),
    }
}

fn checksum(policy: ChecksumPolicy) -> String {
    match policy {
        ChecksumPolicy::Auto => "auto".to_owned(),
        ChecksumPolicy::Pinned(form) => super::status::checksum_name(form).to_owned(),
    }
}

fn on_conflict(policy: OnConflict) -> String {
    match policy {
        OnConflict::Assert => "assert",
        OnConflict::Demote => "demote",
    }
    .to_owned()
}

fn on_silent_owner(policy: OnSilentOwner) -> String {
    match policy {
        OnSilentOwner::Wait => "wait",
        OnSilentOwner::Take => "take",
    }
    .to_owned()
}

fn references(references: &[Reference]) -> String {
    match references {
        [] => "none".to_owned(),
        references => references.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "),
    }
}

fn prefer(prefer: Prefer) -> String {
    match prefer {
        Prefer::Available => "available",
        Prefer::Safe => "safe",
    }
    .to_owned()
}

fn spread(place: Option<&SpreadPlace>) -> String {
    place.map_or_else(|| "none".to_owned(), |place| format!("{} ({})", place.spread, place.order.join(" ")))
}

fn list(peers: &[std::net::IpAddr]) -> String {
    match peers {
        [] => "multicast".to_owned(),
        peers => peers.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "),
    }
}
