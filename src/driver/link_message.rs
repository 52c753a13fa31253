//! What vipd needs to know of an interface from the kernel's description of it.

use netlink_packet_core::NlasIterator;

use crate::types::MacAddr;

const IFLA_ADDRESS: u16 = 1;
const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;
const IFLA_LINK: u16 = 5;
const IFLA_LINKINFO: u16 = 18;
const IFLA_IFALIAS: u16 = 20;
const IFLA_INFO_KIND: u16 = 1;

/// An interface.
#[derive(Clone, Debug, Default)]
pub(super) struct LinkFacts {
    pub(super) ifindex: u32,
    /// `IFF_*`.
    pub(super) flags: u32,
    pub(super) name: String,
    pub(super) mac: Option<MacAddr>,
    /// Bytes.
    pub(super) mtu: u32,
    /// The index of the interface that it stands on.
    pub(super) parent: Option<u32>,
    /// `macvlan`, `veth`; empty for hardware.
    pub(super) kind: String,
    /// The free text that `ip link ... alias` sets.
    pub(super) alias: String,
}

impl LinkFacts {
    /// Reads the body of a link message; `None` where it is another family's view of the interface, such as its place
    /// in a bridge.
    ///
    /// Nothing but these attributes is looked at: kernels keep adding others, and none of them may hide an interface.
    pub(super) fn read(body: &[u8]) -> Option<Self> {
        let (header, attributes) = body.split_first_chunk::<16>()?;
        let [family, ifindex, flags, _] = header.as_chunks::<4>().0 else { return None };
        if family[0] != 0 {
            return None;
        }
        let mut link =
            Self { ifindex: u32::from_ne_bytes(*ifindex), flags: u32::from_ne_bytes(*flags), ..Self::default() };
        for attribute in NlasIterator::new(attributes).map_while(Result::ok) {
            let value = attribute.value();
            match attribute.kind() {
                IFLA_ADDRESS => link.mac = <[u8; 6]>::try_from(value).ok().map(MacAddr::from),
                IFLA_IFNAME => link.name = text(value),
                IFLA_MTU => link.mtu = number(value).unwrap_or(0),
                IFLA_LINK => link.parent = number(value),
                IFLA_LINKINFO => {
                    let mut parts = NlasIterator::new(value).map_while(Result::ok);
                    link.kind = parts
                        .find(|part| part.kind() == IFLA_INFO_KIND)
                        .map_or_else(String::new, |part| text(part.value()));
                }
                IFLA_IFALIAS => link.alias = text(value),
                _ => {}
            }
        }
        Some(link)
    }
}

fn text(value: &[u8]) -> String {
    String::from_utf8_lossy(value).trim_end_matches('\0').to_owned()
}

fn number(value: &[u8]) -> Option<u32> {
    value.first_chunk().map(|number| u32::from_ne_bytes(*number))
}
