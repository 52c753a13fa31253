//! A host: namespaces of its own, interfaces on networks, processes.
//!
//! Its death is the death of a machine: the switch port goes silent and every process in it is killed at the same instant.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::net::IpAddr;
use std::path::Path;
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use anyhow::{Context as _, Result, anyhow};
use netlink_packet_route::link::{InfoData, InfoKind, InfoMacVlan, LinkAttribute, LinkInfo, LinkMessage, MacVlanMode};
use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::namespace::Namespace;
use super::network::{Network, Port};
use super::rtnl::{Link, Rtnl, link_message};

/// A machine in the lab. When it is dropped, its processes stay until their [`Process`](super::Process) is dropped.
pub struct Host {
    name: String,
    namespace: Namespace,
    rtnl: Rtnl,
    ports: Mutex<BTreeMap<String, Port>>,
}

impl Host {
    /// A machine without a network, but for loopback.
    ///
    /// # Errors
    /// The process is not root over its namespaces: see [`enter`](super::enter).
    pub fn new(name: &str) -> Result<Self> {
        let namespace = Namespace::new(name)?;
        let rtnl = namespace.run_in(Rtnl::new)??;
        rtnl.set_up(rtnl.link("lo")?.index, true).context("loopback")?;
        Ok(Self { name: name.to_owned(), namespace, rtnl, ports: Mutex::new(BTreeMap::new()) })
    }

    /// Connects a new interface to a network. Each address is written `IP/PREFIX`. The MAC address is made from the first, so
    /// that a machine that is made anew is known by it, as one that has rebooted would be.
    ///
    /// # Errors
    /// The kernel's refusal, or an address that is none.
    pub fn plug(&self, network: &Network, interface: &str, addresses: &[&str]) -> Result<Port> {
        let mac =
            addresses.first().map(|address| Ok::<_, anyhow::Error>(mac_for(parse_address(address)?.0))).transpose()?;
        let port = network.plug(&self.namespace, &self.rtnl, interface, mac)?;
        self.ports().insert(interface.to_owned(), port.clone());
        for address in addresses {
            self.add_address(interface, address)?;
        }
        let disabled = format!("/proc/sys/net/ipv6/conf/{interface}/disable_ipv6");
        let has_ipv6 = self.run_in(|| fs::read_to_string(disabled))?.is_ok_and(|text| text.trim() == "0");
        if has_ipv6 {
            self.rtnl.await_link_local(self.link(interface)?.index)?;
        }
        Ok(port)
    }

    /// Its name, which programs in it see as the host name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its namespaces.
    pub const fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// A program to be run on the host; see [`Namespace::command`].
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        self.namespace.command(program)
    }

    /// Runs a function on the host; see [`Namespace::run_in`].
    ///
    /// # Errors
    /// The namespaces cannot be entered.
    pub fn run_in<T: Send>(&self, function: impl FnOnce() -> T + Send) -> Result<T> {
        self.namespace.run_in(function)
    }

    /// Writes a file below the host's private `/run`, with the directories above it. It vanishes with the host.
    ///
    /// # Errors
    /// The system's refusal.
    pub fn write_file(&self, path: &Path, content: &str) -> Result<()> {
        let written = self.run_in(|| {
            path.parent().map_or(Ok(()), fs::create_dir_all)?;
            fs::write(path, content)
        })?;
        written.with_context(|| format!("{} on {}", path.display(), self.name))
    }

    /// Lays a file of other content over one outside `/run`, in the eyes of this host only.
    ///
    /// # Errors
    /// The system's refusal.
    pub fn replace_file(&self, path: &Path, content: &str) -> Result<()> {
        let name: String = path.to_string_lossy().replace('/', "-");
        let own = Path::new("/run/replaced").join(name);
        self.write_file(&own, content)?;
        let mounted = self.run_in(|| mount(Some(&own), path, None::<&str>, MsFlags::MS_BIND, None::<&str>))?;
        mounted.with_context(|| format!("{} on {}", path.display(), self.name))
    }

    /// The switch port of an interface, under the name that the interface was plugged in with.
    ///
    /// # Errors
    /// Nothing was plugged in under that name.
    pub fn port(&self, interface: &str) -> Result<Port> {
        self.ports().get(interface).cloned().ok_or_else(|| anyhow!("{} has no interface {interface}", self.name))
    }

    /// An interface as the kernel describes it.
    ///
    /// # Errors
    /// There is none of that name.
    pub fn link(&self, interface: &str) -> Result<Link> {
        self.rtnl.link(interface).with_context(|| format!("on {}", self.name))
    }

    /// Sets an interface administratively up or down. Down takes its IPv6 addresses away, as on any Linux.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn set_up(&self, interface: &str, up: bool) -> Result<()> {
        self.rtnl.set_up(self.link(interface)?.index, up).with_context(|| format!("{interface} on {}", self.name))
    }

    /// Renames an interface.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn rename_link(&self, interface: &str, name: &str) -> Result<()> {
        let index = self.link(interface)?.index;
        self.rtnl.rename_link(index, name).with_context(|| format!("{interface} on {}", self.name))
    }

    /// Deletes an interface, and with it its cable and its port. [`plug`](Self::plug) makes a new one.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn delete_link(&self, interface: &str) -> Result<()> {
        self.rtnl.delete_link(self.link(interface)?.index).with_context(|| format!("{interface} on {}", self.name))?;
        self.ports().remove(interface);
        Ok(())
    }

    /// Makes a macvlan in bridge mode on an interface, with a MAC address, and up.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn add_macvlan(&self, parent: &str, name: &str, mac: [u8; 6]) -> Result<()> {
        let mut message = LinkMessage::default();
        message.attributes.push(LinkAttribute::IfName(name.into()));
        message.attributes.push(LinkAttribute::Link(self.link(parent)?.index));
        message.attributes.push(LinkAttribute::Address(mac.to_vec()));
        message.attributes.push(LinkAttribute::LinkInfo(vec![
            LinkInfo::Kind(InfoKind::MacVlan),
            LinkInfo::Data(InfoData::MacVlan(vec![InfoMacVlan::Mode(MacVlanMode::Bridge)])),
        ]));
        self.rtnl.create_link(message).with_context(|| format!("macvlan {name} on {}", self.name))?;
        self.set_up(name, true)
    }

    /// Keeps an interface without carrier although it is up, as a protocol daemon does (`protodown`); or lets it have carrier.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn set_proto_down(&self, interface: &str, down: bool) -> Result<()> {
        let mut message = link_message(self.link(interface)?.index);
        message.attributes.push(LinkAttribute::ProtoDown(down.into()));
        self.rtnl.set_link(message).with_context(|| format!("{interface} on {}", self.name))
    }

    /// Adds an address, written `IP/PREFIX`, without duplicate detection.
    ///
    /// # Errors
    /// The kernel's refusal, or an address that is none.
    pub fn add_address(&self, interface: &str, address: &str) -> Result<()> {
        let (ip, prefix_len) = parse_address(address)?;
        self.rtnl
            .add_address(self.link(interface)?.index, ip, prefix_len)
            .with_context(|| format!("{interface} on {}", self.name))
    }

    /// Deletes an address, written `IP/PREFIX`.
    ///
    /// # Errors
    /// The kernel's refusal, or an address that is none.
    pub fn delete_address(&self, interface: &str, address: &str) -> Result<()> {
        let (ip, prefix_len) = parse_address(address)?;
        self.rtnl
            .delete_address(self.link(interface)?.index, ip, prefix_len)
            .with_context(|| format!("{interface} on {}", self.name))
    }

    /// All addresses of an interface, of both families.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn addresses(&self, interface: &str) -> Result<Vec<IpAddr>> {
        self.rtnl.addresses(self.link(interface)?.index)
    }

    /// The machine dies: its ports go silent, and every process in it is killed. Returns when that began.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn kill(&self) -> Result<Instant> {
        let at = Instant::now();
        // Silence comes first: a switch port is off at once, while a kill of many processes takes its time.
        for port in self.ports().values() {
            port.set_forwarding(false)?;
        }
        // A process may fork while they are counted; its child is found in the next round.
        loop {
            let processes = self.processes()?;
            if processes.is_empty() {
                return Ok(at);
            }
            for pid in processes {
                match kill(Pid::from_raw(pid.cast_signed()), Signal::SIGKILL) {
                    Ok(()) | Err(Errno::ESRCH) => {}
                    Err(errno) => return Err(errno).with_context(|| format!("cannot kill process {pid}")),
                }
            }
        }
    }

    /// The ports of a machine that died forward again: it was cut off, not rebooted. Its addresses are as they were; a reboot is
    /// a new [`Host`].
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn reconnect(&self) -> Result<()> {
        self.ports().values().try_for_each(|port| port.set_forwarding(true))
    }

    /// The processes in the host's network namespace, however they came to be there.
    ///
    /// # Errors
    /// `/proc` cannot be read.
    pub fn processes(&self) -> Result<Vec<u32>> {
        use std::os::unix::fs::MetadataExt as _;
        let inode = self.namespace.net_inode()?;
        let mut inside = Vec::new();
        for entry in fs::read_dir("/proc").context("/proc")? {
            let entry = entry.context("/proc")?;
            let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
            // A zombie has no namespaces any more, and the file of one that has just ended cannot be read.
            if fs::metadata(entry.path().join("ns/net")).is_ok_and(|net| net.ino() == inode) {
                inside.push(pid);
            }
        }
        Ok(inside)
    }

    fn ports(&self) -> MutexGuard<'_, BTreeMap<String, Port>> {
        self.ports.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A locally administered MAC address with the last bytes of an IP address.
fn mac_for(ip: IpAddr) -> [u8; 6] {
    match ip {
        IpAddr::V4(ip) => {
            let [a, b, c, d] = ip.octets();
            [0x02, 0x04, a, b, c, d]
        }
        IpAddr::V6(ip) => {
            let [.., a, b, c, d] = ip.octets();
            [0x02, 0x06, a, b, c, d]
        }
    }
}

fn parse_address(address: &str) -> Result<(IpAddr, u8)> {
    let parsed = address.split_once('/').and_then(|(ip, prefix)| Some((ip.parse().ok()?, prefix.parse().ok()?)));
    parsed.ok_or_else(|| anyhow!("{address} is no address of the form IP/PREFIX"))
}
