//! What is dropped: one rule for each way in which a host can answer to an address, or speak as it.
//!
//! Each rule names a kind of packet and the field in it that holds the address; it drops the packet where that address is
//! managed and its lease does not run. ARP is read in the layout that it has on Ethernet (RFC 826 with 6-byte hardware addresses).

use netlink_packet_netfilter::nftables::{
    Bitwise, Cmp, DataAttribute, ExpressionAttribute, Expressions, Immediate, ListAttribute, Lookup, Meta, MetaKey,
    Operator, Payload, Register, Verdict, VerdictAttribute,
};

use super::table::Set;
use crate::types::Family;

/// The expressions of a rule, in their order.
pub(super) type Rule = Vec<ListAttribute<ExpressionAttribute>>;

const LINK_HEADER: u32 = 0;
const NETWORK_HEADER: u32 = 1;
const TRANSPORT_HEADER: u32 = 2;

const NF_DROP: u32 = 0;
const NF_ACCEPT: u32 = 1;

const ETHERTYPE_IPV4: u16 = 0x0800;
const ETHERTYPE_ARP: u16 = 0x0806;
const ETHERTYPE_IPV6: u16 = 0x86dd;
const ETHERTYPE_VLAN: u16 = 0x8100;
const ETHERTYPE_SERVICE_VLAN: u16 = 0x88a8;

const ARP_OPERATION_OFFSET: u32 = 6;
const ARP_SENDER_IP_OFFSET: u32 = 14;
const ARP_TARGET_IP_OFFSET: u32 = 24;
const ARP_REQUEST: u16 = 1;

const IPV4_SOURCE_OFFSET: u32 = 12;
const IPV4_DESTINATION_OFFSET: u32 = 16;
const IPV6_SOURCE_OFFSET: u32 = 8;
const IPV6_DESTINATION_OFFSET: u32 = 24;

const ICMPV6: u8 = 58;
const NEIGHBOR_SOLICITATION: u8 = 135;
const NEIGHBOR_ADVERTISEMENT: u8 = 136;
const ND_TARGET_OFFSET: u32 = 8;

const NFPROTO_IPV4: u8 = 2;
const NFPROTO_IPV6: u8 = 10;

const LOOPBACK: &str = "lo";
/// `IFNAMSIZ`
const INTERFACE_NAME_LEN: usize = 16;

/// `NFT_LOOKUP_F_INV`
const NOT_IN_SET: u32 = 1;

/// Of what comes in: questions for an address, and what is sent to it.
pub(super) fn ingress() -> Vec<Rule> {
    let arp_request = [protocol(ETHERTYPE_ARP), arp_request()];
    let ipv4 = [protocol(ETHERTYPE_IPV4), drop_unless_owned(NETWORK_HEADER, IPV4_DESTINATION_OFFSET, Family::V4)];
    let ipv6 = [protocol(ETHERTYPE_IPV6), drop_unless_owned(NETWORK_HEADER, IPV6_DESTINATION_OFFSET, Family::V6)];
    let solicitation = neighbor_discovery(NEIGHBOR_SOLICITATION);
    [tagged(), vec![arp_request.concat(), ipv4.concat(), ipv6.concat(), solicitation]].concat()
}

/// Of what goes out: announcements and answers, and what is sent from an address.
pub(super) fn egress() -> Vec<Rule> {
    let arp = [protocol(ETHERTYPE_ARP), drop_unless_owned(NETWORK_HEADER, ARP_SENDER_IP_OFFSET, Family::V4)];
    let ipv4 = [protocol(ETHERTYPE_IPV4), drop_unless_owned(NETWORK_HEADER, IPV4_SOURCE_OFFSET, Family::V4)];
    let ipv6 = [protocol(ETHERTYPE_IPV6), drop_unless_owned(NETWORK_HEADER, IPV6_SOURCE_OFFSET, Family::V6)];
    let advertisement = neighbor_discovery(NEIGHBOR_ADVERTISEMENT);
    [tagged(), vec![arp.concat(), ipv4.concat(), ipv6.concat(), advertisement]].concat()
}

/// The same in the host's own IP, which sees what is for the host itself, whichever interface it came by. What the host
/// says to itself passes.
pub(super) fn ip_input() -> Vec<Rule> {
    let ipv4 = [of_family(NFPROTO_IPV4), drop_unless_owned(NETWORK_HEADER, IPV4_DESTINATION_OFFSET, Family::V4)];
    let ipv6 = [of_family(NFPROTO_IPV6), drop_unless_owned(NETWORK_HEADER, IPV6_DESTINATION_OFFSET, Family::V6)];
    let solicitation = [of_family(NFPROTO_IPV6), neighbor_discovery_of(NEIGHBOR_SOLICITATION)];
    let rules = [ipv4.concat(), ipv6.concat(), solicitation.concat()];
    rules.map(|rule| [not_at_home(MetaKey::Iifname), rule].concat()).to_vec()
}

/// What the host's own programs and its kernel say as an address. Not what they put on an interface as a whole frame.
pub(super) fn ip_output() -> Vec<Rule> {
    let ipv4 = [of_family(NFPROTO_IPV4), drop_unless_owned(NETWORK_HEADER, IPV4_SOURCE_OFFSET, Family::V4)];
    let ipv6 = [of_family(NFPROTO_IPV6), drop_unless_owned(NETWORK_HEADER, IPV6_SOURCE_OFFSET, Family::V6)];
    let advertisement = [of_family(NFPROTO_IPV6), neighbor_discovery_of(NEIGHBOR_ADVERTISEMENT)];
    let rules = [ipv4.concat(), ipv6.concat(), advertisement.concat()];
    rules.map(|rule| [not_at_home(MetaKey::Oifname), rule].concat()).to_vec()
}

/// Questions for an address.
pub(super) fn arp_input() -> Vec<Rule> {
    vec![arp_request()]
}

/// The kernel's answers, and its questions in the name of an address.
pub(super) fn arp_output() -> Vec<Rule> {
    vec![drop_unless_owned(NETWORK_HEADER, ARP_SENDER_IP_OFFSET, Family::V4)]
}

fn arp_request() -> Rule {
    let rule = [
        field(NETWORK_HEADER, ARP_OPERATION_OFFSET, 2, Operator::Equal, &ARP_REQUEST.to_be_bytes()),
        // An announcement has the form of a request (RFC 5227 §3). That of the owner shall reach this host's own ARP
        // cache; nobody expects an answer to it.
        vec![load(NETWORK_HEADER, ARP_SENDER_IP_OFFSET, 4), unless_in(Set::Managed(Family::V4))],
        drop_unless_owned(NETWORK_HEADER, ARP_TARGET_IP_OFFSET, Family::V4),
    ];
    rule.concat()
}

fn neighbor_discovery(kind: u8) -> Rule {
    [protocol(ETHERTYPE_IPV6), neighbor_discovery_of(kind)].concat()
}

fn neighbor_discovery_of(kind: u8) -> Rule {
    let rule = [
        vec![meta(MetaKey::L4Proto), compare(Operator::Equal, &[ICMPV6])],
        field(TRANSPORT_HEADER, 0, 1, Operator::Equal, &[kind]),
        drop_unless_owned(TRANSPORT_HEADER, ND_TARGET_OFFSET, Family::V6),
    ];
    rule.concat()
}

/// Lets frames of VLANs pass: they belong to interfaces of their own, with gates of their own. The kernel shows their
/// inner protocol, so the other rules would see the addresses of another network. VLAN 0 is no VLAN but a priority (IEEE
/// 802.1Q): such frames are the interface's own.
fn tagged() -> Vec<Rule> {
    let of_type = |ethertype: u16| {
        let rule = [
            field(LINK_HEADER, 12, 2, Operator::Equal, &ethertype.to_be_bytes()),
            vec![
                load(LINK_HEADER, 14, 2),
                bitwise(&[0x0f, 0xff], &[0, 0]),
                compare(Operator::NotEqual, &[0, 0]),
                decide(NF_ACCEPT),
            ],
        ];
        rule.concat()
    };
    vec![of_type(ETHERTYPE_VLAN), of_type(ETHERTYPE_SERVICE_VLAN)]
}

fn drop_unless_owned(base: u32, offset: u32, family: Family) -> Rule {
    let len = match family {
        Family::V4 => 4,
        Family::V6 => 16,
    };
    // To the chain of its lease and back, where it has one.
    let lead = Lookup::DestinationRegister(Register::Verdict);
    vec![load(base, offset, len), lookup(Set::Leases(family), lead)]
}

/// What a lease's chain does. A rule can look up only what it has from the packet or from about it, so the number is made of
/// what is at hand: of a mark without all its bits, and with those of the number.
pub(super) fn drop_unless_running(lease: u32) -> Rule {
    vec![meta(MetaKey::Mark), bitwise(&[0; 4], &lease.to_ne_bytes()), unless_in(Set::Owned), decide(NF_DROP)]
}

/// What the chain of addresses without a lease does.
pub(super) fn closed() -> Rule {
    vec![decide(NF_DROP)]
}

fn protocol(ethertype: u16) -> Rule {
    vec![meta(MetaKey::EtherTypeProtocol), compare(Operator::Equal, &ethertype.to_be_bytes())]
}

/// In tables that see both families.
fn of_family(family: u8) -> Rule {
    vec![meta(MetaKey::Nfproto), compare(Operator::Equal, &[family])]
}

/// What goes through another interface than the loopback.
fn not_at_home(interface: MetaKey) -> Rule {
    let mut name = [0; INTERFACE_NAME_LEN];
    name.iter_mut().zip(LOOPBACK.bytes()).for_each(|(to, from)| *to = from);
    vec![meta(interface), compare(Operator::NotEqual, &name)]
}

fn field(base: u32, offset: u32, len: u32, operator: Operator, value: &[u8]) -> Rule {
    vec![load(base, offset, len), compare(operator, value)]
}

// All expressions share one register.

fn load(base: u32, offset: u32, len: u32) -> ListAttribute<ExpressionAttribute> {
    let payload = vec![
        Payload::DestinationRegister(Register::Reg1),
        Payload::Base(base),
        Payload::Offset(offset),
        Payload::Len(len),
    ];
    Expressions::Payload(payload).into()
}

fn meta(key: MetaKey) -> ListAttribute<ExpressionAttribute> {
    Expressions::Meta(vec![Meta::DestinationRegister(Register::Reg1), Meta::Key(key)]).into()
}

/// Keeps of the register the bits of the mask, and turns over those of the other.
fn bitwise(mask: &[u8], xor: &[u8]) -> ListAttribute<ExpressionAttribute> {
    let len = u32::try_from(mask.len()).expect("a mask is no longer than a register");
    let bitwise = vec![
        Bitwise::SourceRegister(Register::Reg1),
        Bitwise::DestinationRegister(Register::Reg1),
        Bitwise::Length(len),
        Bitwise::Mask(DataAttribute::Value(mask.to_vec())),
        Bitwise::Xor(DataAttribute::Value(xor.to_vec())),
    ];
    Expressions::Bitwise(bitwise).into()
}

fn compare(operator: Operator, value: &[u8]) -> ListAttribute<ExpressionAttribute> {
    let value = Cmp::Data(DataAttribute::Value(value.to_vec()));
    Expressions::Cmp(vec![Cmp::SourceRegister(Register::Reg1), Cmp::Op(operator), value]).into()
}

/// Goes on with the rule where what is in the register is not in the set.
fn unless_in(set: Set) -> ListAttribute<ExpressionAttribute> {
    lookup(set, Lookup::Flags(NOT_IN_SET))
}

fn lookup(set: Set, how: Lookup) -> ListAttribute<ExpressionAttribute> {
    Expressions::Lookup(vec![Lookup::Set(set.name().to_owned()), Lookup::SourceRegister(Register::Reg1), how]).into()
}

fn decide(verdict: u32) -> ListAttribute<ExpressionAttribute> {
    let verdict = DataAttribute::Verdict(vec![VerdictAttribute::Code(Verdict::Other(verdict))]);
    Expressions::Immediate(vec![Immediate::DestinationRegister(Register::Verdict), Immediate::Data(verdict)]).into()
}
