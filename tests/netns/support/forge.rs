//! Frames that a hostile host sends: adverts, and what pretends to be one.

use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Result, bail};
use vipd::lab::{Host, Tap};
use vipd::types::{AdvertInterval, Family, MacAddr, Priority, Version, Vrid};
use vipd::wire::advert::{Advert, ChecksumForm, Endpoints, group};
use vipd::wire::frame;

const ETHERNET_LEN: usize = 14;
const IPV4_LEN: usize = 20;
const IPV6_LEN: usize = 40;

/// A host that sends whatever it wants.
pub struct Forger {
    tap: Tap,
    mac: MacAddr,
    v4: IpAddr,
    v6: IpAddr,
}

/// A packet of protocol 112 to the group.
pub struct Forgery {
    pub family: Family,
    pub hop_limit: u8,
    pub payload: Vec<u8>,
}

impl Forger {
    /// Sends from `eth0` of a host, from its addresses.
    pub fn new(host: &Host) -> Result<Self> {
        let mac = MacAddr(0x02, 0x66, 0x6f, 0x72, 0x67, 0x65);
        let (v4, v6) = ("10.9.0.66".parse()?, "fe80::66".parse()?);
        Ok(Self { tap: Tap::open(host, "eth0", Duration::from_millis(1))?, mac, v4, v6 })
    }

    /// The sender and receiver of a family, as checksums need them.
    pub fn endpoints(&self, family: Family) -> Endpoints {
        let source = match family {
            Family::V4 => self.v4,
            Family::V6 => self.v6,
        };
        Endpoints { source, destination: group(family) }
    }

    /// An advert's bytes, all of it right.
    pub fn advert(&self, family: Family, vrid: u8, priority: u8) -> Vec<u8> {
        let mut bytes = Vec::new();
        advert(family, vrid, priority).emit(self.endpoints(family), ChecksumForm::Rfc9568, &mut bytes);
        bytes
    }

    /// Whether a receiver may take a packet for an advert of a virtual router.
    pub fn is_advert_of(&self, forgery: &Forgery, vrid: u8) -> bool {
        let parsed = Advert::parse(&forgery.payload, self.endpoints(forgery.family));
        forgery.hop_limit == 255 && parsed.is_ok_and(|(advert, _)| advert.vrid.number() == vrid)
    }

    /// Sends a packet in a frame whose IP header is right, but for the hop limit.
    pub fn send(&self, forgery: &Forgery) -> Result<()> {
        let Forgery { family, hop_limit, payload } = forgery;
        let mut bytes = Vec::new();
        let source = self.endpoints(*family).source;
        frame::emit_advert(&advert(*family, 1, 1), ChecksumForm::Rfc9568, self.mac, source, &mut bytes);
        match family {
            Family::V4 => {
                bytes.truncate(ETHERNET_LEN + IPV4_LEN);
                let header = &mut bytes[ETHERNET_LEN..];
                header[2..4].copy_from_slice(&u16::try_from(IPV4_LEN + payload.len())?.to_be_bytes());
                header[8] = *hop_limit;
                header[10..12].fill(0);
                let sum = checksum(header);
                header[10..12].copy_from_slice(&sum.to_be_bytes());
            }
            Family::V6 => {
                bytes.truncate(ETHERNET_LEN + IPV6_LEN);
                let header = &mut bytes[ETHERNET_LEN..];
                header[4..6].copy_from_slice(&u16::try_from(payload.len())?.to_be_bytes());
                header[7] = *hop_limit;
            }
        }
        bytes.extend(payload);
        if bytes.len() > 1_514 {
            bail!("{} bytes are no frame", bytes.len());
        }
        Ok(self.tap.send(&bytes)?)
    }
}

fn advert(family: Family, vrid: u8, priority: u8) -> Advert {
    let address = match family {
        Family::V4 => super::V4,
        Family::V6 => super::V6,
    };
    Advert {
        version: Version::V3,
        vrid: Vrid::new(vrid).expect("no test forges VRID 0"),
        priority: Priority(priority),
        interval: AdvertInterval::from_centiseconds(10).expect("100 ms is an interval"),
        addresses: vec![super::ip(address)],
        password: None,
    }
}

/// RFC 1071, of an even number of bytes.
fn checksum(bytes: &[u8]) -> u16 {
    let words = bytes.chunks_exact(2).map(|word| u32::from(u16::from_be_bytes([word[0], word[1]])));
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).expect("folded to 16 bits")
}
