//! What a configuration is told about the machine it is read on.

/// The facts that defaults and checks need, taken once.
#[derive(Clone, Debug)]
pub struct System {
    /// The default of `[node] name`.
    pub host_name: String,
    /// The interfaces that exist now.
    pub interfaces: Vec<String>,
    /// What is done about an interface that is not among them.
    pub missing_interface: MissingInterface,
}

/// What a configured interface that does not exist is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MissingInterface {
    /// A problem: the file is checked before use.
    Refuse,
    /// A note: interfaces may come late.
    Note,
    /// Nothing: the file is for another machine.
    Ignore,
}

impl System {
    /// This machine, as it is now.
    pub fn probe(missing_interface: MissingInterface) -> Self {
        Self { host_name: host_name(), interfaces: interfaces(), missing_interface }
    }
}

fn host_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    match name.trim() {
        "" => "localhost".to_string(),
        name => name.to_string(),
    }
}

/// Sorted; empty where the kernel does not say.
fn interfaces() -> Vec<String> {
    let Ok(all) = nix::net::if_::if_nameindex() else { return Vec::new() };
    let mut names: Vec<String> = all.iter().map(|interface| interface.name().to_string_lossy().into_owned()).collect();
    names.sort_unstable();
    names
}
