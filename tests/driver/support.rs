//! Network namespaces, veth pairs and addresses, made through netlink alone.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{IpAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd};
use std::time::{Duration, Instant};

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL, Parseable};
use netlink_packet_route::address::{AddressAttribute, AddressFlags, AddressMessage};
use netlink_packet_route::link::{
    InfoData, InfoKind, InfoVeth, LinkAttribute, LinkFlags, LinkInfo, LinkMessage, State,
};
use netlink_packet_route::neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourMessage};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::{CloneFlags, setns, unshare};
use vipd::driver::netlink::Netlink;
use vipd::types::MacAddr;

/// The longest wait for what should come at once; a machine under test may be busy.
pub const PATIENCE: Duration = Duration::from_secs(5);

/// Becomes root of a user namespace, unless it is root. To be called before any thread exists.
pub fn enter_user_namespace() {
    let (user, group) = (nix::unistd::getuid(), nix::unistd::getgid());
    if user.is_root() {
        return;
    }
    unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS)
        .expect("user namespaces are permitted");
    fs::write("/proc/self/setgroups", "deny").expect("setgroups can be denied");
    fs::write("/proc/self/uid_map", format!("0 {user} 1")).expect("a user id map can be written");
    fs::write("/proc/self/gid_map", format!("0 {group} 1")).expect("a group id map can be written");
}

/// Moves the calling thread into a new network namespace with loopback up.
pub fn enter_network_namespace() {
    unshare(CloneFlags::CLONE_NEWNET).expect("network namespaces are permitted");
    set_up("lo", true);
    // Duplicate detection takes seconds. Tests that are about it switch it on for their interface.
    sysctl("ipv6/conf/default/dad_transmits", "0");
}

/// Another host: a network namespace that lives as long as this value.
pub struct Host(File);

impl Host {
    /// A new one.
    pub fn new() -> Self {
        let thread = std::thread::spawn(|| {
            enter_network_namespace();
            File::open("/proc/thread-self/ns/net").expect("a thread may open its own namespace")
        });
        Self(thread.join().expect("a namespace was made"))
    }

    /// Does something in this host. Sockets made there stay there.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                setns(&self.0, CloneFlags::CLONE_NEWNET).expect("the namespace can be entered");
                work()
            });
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }
}

/// A veth pair: one end here, one in another host, or both here. Both are down.
pub fn veth(name: &str, peer_name: &str, peer: Option<&Host>) {
    let mut other = link(peer_name);
    other.attributes.extend(peer.map(|host| LinkAttribute::NetNsFd(host.0.as_raw_fd())));
    let mut message = link(name);
    message.attributes.push(LinkAttribute::LinkInfo(vec![
        LinkInfo::Kind(InfoKind::Veth),
        LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(other))),
    ]));
    change(RouteNetlinkMessage::NewLink(message), NLM_F_CREATE | NLM_F_EXCL);
}

/// A pair of hosts: this one and another, on one cable, both ends named `eth0` and up, with `10.0.0.1/24` and `10.0.0.2/24`.
pub fn pair() -> Host {
    let other = Host::new();
    veth("eth0", "eth0", Some(&other));
    other.run(|| {
        add_address("eth0", "10.0.0.2", 24);
        set_up("eth0", true);
    });
    add_address("eth0", "10.0.0.1", 24);
    set_up("eth0", true);
    await_carrying("eth0");
    other.run(|| await_carrying("eth0"));
    other
}

/// Another host, `10.0.0.2/24` and `2001:db8::2/64`, on a switch with this one, `10.0.0.1/24` and `2001:db8::1/64`;
/// the interfaces are named `eth0`.
pub fn switched_pair() -> (Host, Host) {
    let (switch, other) = (Host::new(), Host::new());
    veth("eth0", "port1", Some(&switch));
    other.run(|| veth("eth0", "port2", Some(&switch)));
    switch.run(|| {
        let mut bridge = link("br0");
        bridge.attributes.push(LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::Bridge)]));
        change(RouteNetlinkMessage::NewLink(bridge), NLM_F_CREATE | NLM_F_EXCL);
        for port in ["port1", "port2"] {
            let mut message = LinkMessage::default();
            message.header.index = index(port);
            message.attributes.push(LinkAttribute::Controller(index("br0")));
            change(RouteNetlinkMessage::SetLink(message), 0);
            set_up(port, true);
        }
        set_up("br0", true);
    });
    let configure = |host: u8| {
        set_up("eth0", true);
        add_address("eth0", &format!("10.0.0.{host}"), 24);
        add_address("eth0", &format!("2001:db8::{host}"), 64);
    };
    configure(1);
    other.run(|| configure(2));
    switch.run(|| ["port1", "port2", "br0"].map(await_carrying));
    let await_usable = || {
        await_carrying("eth0");
        await_no_tentative_address();
    };
    await_usable();
    other.run(await_usable);
    (switch, other)
}

/// Waits until an interface carries packets. The kernel has a cable noticed by a worker of its own, and drops what is sent
/// before, which on a busy machine is a while after the interface was set up.
fn await_carrying(name: &str) {
    let mut question = LinkMessage::default();
    question.header.index = index(name);
    eventually("the cable carries", || {
        let answer =
            Netlink::open().and_then(|mut netlink| netlink.ask(&RouteNetlinkMessage::GetLink(question.clone())));
        let answer = answer.expect("the interface is there");
        let link = LinkMessage::parse(&answer).expect("an interface is understood");
        link.attributes.contains(&LinkAttribute::OperState(State::Up)).then_some(())
    });
}

/// The MAC address that the calling thread's host knows for a neighbour.
pub fn neighbour(ip: IpAddr) -> Option<MacAddr> {
    let wanted = NeighbourAttribute::Destination(match ip {
        IpAddr::V4(ip) => NeighbourAddress::Inet(ip),
        IpAddr::V6(ip) => NeighbourAddress::Inet6(ip),
    });
    let mut found = None;
    let question = RouteNetlinkMessage::GetNeighbour(NeighbourMessage::default());
    let listed = Netlink::open().and_then(|mut netlink| {
        netlink.dump(&question, |_, body| {
            let message = NeighbourMessage::parse(body).expect("a neighbour is understood");
            if message.attributes.contains(&wanted) {
                found = message.attributes.iter().find_map(|attribute| match attribute {
                    NeighbourAttribute::LinkLayerAddress(mac) => <[u8; 6]>::try_from(mac.as_slice()).ok(),
                    _ => None,
                });
            }
            Ok(())
        })
    });
    listed.expect("neighbours are listed");
    found.map(MacAddr::from)
}

/// The MAC address of an interface of the calling thread's host.
pub fn mac(name: &str) -> MacAddr {
    let text = eventually("the MAC address", || {
        nix::ifaddrs::getifaddrs()
            .ok()?
            .filter(|found| found.interface_name == name)
            .find_map(|found| found.address.as_ref()?.as_link_addr()?.addr())
    });
    MacAddr::from(text)
}

/// Connects to an address, sends something, and has it echoed by `server`, which is this thread's host.
pub fn echo(client: &Host, address: IpAddr) {
    let listener = TcpListener::bind((address, 7000)).expect("the address can be listened on");
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let (mut stream, _) = listener.accept().expect("a client comes");
            let mut bytes = [0; 4];
            stream.read_exact(&mut bytes).expect("the client speaks");
            stream.write_all(&bytes).expect("the client listens");
        });
        client.run(|| {
            let mut stream =
                TcpStream::connect_timeout(&(address, 7000).into(), PATIENCE).expect("the server can be reached");
            stream.set_read_timeout(Some(PATIENCE)).expect("a timeout can be set");
            stream.write_all(b"echo").expect("the server listens");
            let mut bytes = [0; 4];
            stream.read_exact(&mut bytes).expect("the server answers");
            assert_eq!(&bytes, b"echo");
        });
    });
}

/// Administratively up or down.
pub fn set_up(name: &str, up: bool) {
    let mut message = LinkMessage::default();
    message.header.index = index(name);
    message.header.flags = if up { LinkFlags::Up } else { LinkFlags::empty() };
    message.header.change_mask = LinkFlags::Up;
    change(RouteNetlinkMessage::SetLink(message), 0);
}

/// Removes an interface.
pub fn delete_link(name: &str) {
    let mut message = LinkMessage::default();
    message.header.index = index(name);
    change(RouteNetlinkMessage::DelLink(message), 0);
}

/// Adds an address as an operator does; IPv6 without duplicate detection.
pub fn add_address(name: &str, ip: &str, prefix_len: u8) {
    change(RouteNetlinkMessage::NewAddress(address(name, ip, prefix_len)), NLM_F_CREATE | NLM_F_EXCL);
}

/// Waits until the calling thread's host answers for its IPv6 addresses. A worker of the kernel lets it, after the address
/// was added, with duplicate detection or without.
pub fn await_no_tentative_address() {
    const TENTATIVE: u8 = 0x40;
    eventually("addresses that are not tentative", || {
        // Address, interface, prefix length, scope, flags, name.
        let list = fs::read_to_string("/proc/thread-self/net/if_inet6").expect("the kernel lists its addresses");
        let flags = |line: &str| line.split_whitespace().nth(4).and_then(|it| u8::from_str_radix(it, 16).ok());
        list.lines().all(|line| flags(line).is_some_and(|flags| flags & TENTATIVE == 0)).then_some(())
    });
}

/// Removes an address as an operator does.
pub fn delete_address(name: &str, ip: &str, prefix_len: u8) {
    change(RouteNetlinkMessage::DelAddress(address(name, ip, prefix_len)), 0);
}

/// The index of an interface of the calling thread's namespace.
pub fn index(name: &str) -> u32 {
    nix::net::if_::if_nametoindex(name).unwrap_or_else(|error| panic!("no interface {name}: {error}"))
}

/// Sends a change to the kernel, which must agree.
pub fn change(message: RouteNetlinkMessage, flags: u16) {
    let shown = format!("{message:?}");
    let result = Netlink::open().and_then(|mut netlink| netlink.change(message, flags));
    result.unwrap_or_else(|error| panic!("{error}: {shown}"));
}

/// A message about an interface of that name.
pub fn link(name: &str) -> LinkMessage {
    let mut message = LinkMessage::default();
    message.attributes.push(LinkAttribute::IfName(name.to_owned()));
    message
}

/// Writes a network sysctl of the calling thread's namespace.
pub fn sysctl(name: &str, value: &str) {
    fs::write(format!("/proc/sys/net/{name}"), value).unwrap_or_else(|error| panic!("{name}: {error}"));
}

/// Waits until a descriptor is readable.
pub fn await_readable(fd: impl AsFd) {
    let mut fds = [PollFd::new(fd.as_fd(), PollFlags::POLLIN)];
    let timeout = PollTimeout::try_from(PATIENCE).expect("a few seconds");
    let ready = poll(&mut fds, timeout).expect("a descriptor can be polled");
    assert_eq!(ready, 1, "nothing came within {PATIENCE:?}");
}

/// Asks until the answer is there.
pub fn eventually<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(start.elapsed() < PATIENCE, "{what}: not within {PATIENCE:?}");
        // Until it is there, not for so long: what is read in /proc, or asked of a gate, tells nobody when it changes.
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// An address from its text.
pub fn ip(text: &str) -> IpAddr {
    text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn address(name: &str, text: &str, prefix_len: u8) -> AddressMessage {
    let ip = ip(text);
    let mut message = AddressMessage::default();
    message.header.family = if ip.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    message.header.prefix_len = prefix_len;
    message.header.index = index(name);
    message.attributes = vec![AddressAttribute::Local(ip), AddressAttribute::Address(ip)];
    if ip.is_ipv6() {
        message.attributes.push(AddressAttribute::Flags(AddressFlags::Nodad));
    }
    message
}
