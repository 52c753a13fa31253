//! A firewall on a host that stops VRRP on its way in: what a rule set without protocol 112 does.

use anyhow::{Context as _, Result};
use netlink_packet_core::{NLM_F_APPEND, NLM_F_CREATE};
use netlink_packet_netfilter::NetfilterProtoFamily;
use netlink_packet_netfilter::nftables::{
    ChainAttribute, ChainMessage, Cmp, DataAttribute, DevHookNumber, ExpressionAttribute, Expressions, Hook,
    HookNumber, Immediate, ListAttribute, Meta, MetaKey, NfTablesMessage, Operator, Payload, Register, RuleAttribute,
    RuleMessage, TableAttribute, TableMessage, Verdict, VerdictAttribute,
};

use super::Host;
use crate::driver::nftables::{Change, Nftables};

const TABLE: &str = "lab-firewall";
const CHAIN: &str = "in";
/// Before all others.
const PRIORITY: i32 = -1_000;

/// Where the protocol of what follows stands in the headers of IPv4 and IPv6.
const PROTOCOLS: [(u16, u32); 2] = [(0x0800, 9), (0x86dd, 6)];
const VRRP: u8 = 112;

const NETWORK_HEADER: u32 = 1;
const NF_DROP: u32 = 0;

/// Has a host drop the adverts that come in on an interface, or no longer. All else passes.
///
/// # Errors
/// The kernel's refusal: it has no nftables, or the interface is missing.
pub fn set_firewall(host: &Host, interface: &str, stops_adverts: bool) -> Result<()> {
    let table = || vec![TableAttribute::Name(TABLE.to_owned())];
    let change = |message: &NfTablesMessage, flags| Change::new(NetfilterProtoFamily::NetDev, message, flags);
    let new = |message: NfTablesMessage, flags| change(&message, NLM_F_CREATE | flags);
    // Whatever was there is replaced.
    let mut changes = vec![
        new(NfTablesMessage::NewTable(TableMessage { attributes: table() }), 0),
        change(&NfTablesMessage::DeleteTable(TableMessage { attributes: table() }), 0),
    ];
    if stops_adverts {
        let chain = vec![
            ChainAttribute::Table(TABLE.to_owned()),
            ChainAttribute::Name(CHAIN.to_owned()),
            ChainAttribute::Hook(vec![
                Hook::Number(HookNumber::Dev(DevHookNumber::Ingress)),
                Hook::Priority(PRIORITY.cast_unsigned()),
                Hook::NetDeviceName(interface.to_owned()),
            ]),
            ChainAttribute::Type("filter".to_owned()),
        ];
        changes.push(new(NfTablesMessage::NewTable(TableMessage { attributes: table() }), 0));
        changes.push(new(NfTablesMessage::NewChain(ChainMessage { attributes: chain }), 0));
        for (ethertype, offset) in PROTOCOLS {
            let rule = vec![
                RuleAttribute::Table(TABLE.to_owned()),
                RuleAttribute::Chain(CHAIN.to_owned()),
                RuleAttribute::Expressions(rule(ethertype, offset)),
            ];
            changes.push(new(NfTablesMessage::NewRule(RuleMessage { attributes: rule }), NLM_F_APPEND));
        }
    }
    let committed = host.run_in(|| Nftables::open()?.commit(changes))?;
    committed.with_context(|| format!("the firewall of {}", host.name()))
}

fn rule(ethertype: u16, offset: u32) -> Vec<ListAttribute<ExpressionAttribute>> {
    let compare = |value: &[u8]| {
        let value = Cmp::Data(DataAttribute::Value(value.to_vec()));
        Expressions::Cmp(vec![Cmp::SourceRegister(Register::Reg1), Cmp::Op(Operator::Equal), value]).into()
    };
    let load = vec![
        Payload::DestinationRegister(Register::Reg1),
        Payload::Base(NETWORK_HEADER),
        Payload::Offset(offset),
        Payload::Len(1),
    ];
    let verdict = DataAttribute::Verdict(vec![VerdictAttribute::Code(Verdict::Other(NF_DROP))]);
    vec![
        Expressions::Meta(vec![Meta::DestinationRegister(Register::Reg1), Meta::Key(MetaKey::EtherTypeProtocol)])
            .into(),
        compare(&ethertype.to_be_bytes()),
        Expressions::Payload(load).into(),
        compare(&[VRRP]),
        Expressions::Immediate(vec![Immediate::DestinationRegister(Register::Verdict), Immediate::Data(verdict)])
            .into(),
    ]
}
