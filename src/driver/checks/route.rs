//! Whether the kernel's main table has a route.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use super::Failure;

/// Routes that refuse (`RTF_REJECT`) lead nowhere.
const REJECT: u32 = 0x200;

/// Where a route leads, and through which interface.
type Route = (Destination, String);

/// Where a route leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Destination {
    network: IpAddr,
    prefix_len: u8,
}

impl FromStr for Destination {
    type Err = ();

    /// `default` (IPv4), or a network such as `::/0` or `10.0.0.0/8`.
    fn from_str(text: &str) -> Result<Self, ()> {
        if text == "default" {
            return Ok(Self { network: IpAddr::V4(Ipv4Addr::UNSPECIFIED), prefix_len: 0 });
        }
        let (network, prefix_len) = text.split_once('/').ok_or(())?;
        let network: IpAddr = network.parse().map_err(|_| ())?;
        let prefix_len: u8 = prefix_len.parse().map_err(|_| ())?;
        let host_bits = match network {
            IpAddr::V4(network) => {
                32_u8.checked_sub(prefix_len).map(|bits| u128::from(u32::from(network)) & !(u128::MAX << bits))
            }
            IpAddr::V6(network) => 128_u8
                .checked_sub(prefix_len)
                .map(|bits| u128::from(network) & !u128::MAX.checked_shl(bits.into()).unwrap_or(0)),
        };
        if host_bits == Some(0) { Ok(Self { network, prefix_len }) } else { Err(()) }
    }
}

pub(super) fn run(destination: Destination) -> Result<String, Failure> {
    let (file, parse): (_, fn(&str) -> Option<Route>) = match destination.network {
        IpAddr::V4(_) => ("/proc/thread-self/net/route", route_v4),
        IpAddr::V6(_) => ("/proc/thread-self/net/ipv6_route", route_v6),
    };
    let table = fs::read_to_string(file).map_err(|error| Failure::Unable(format!("{file}: {error}")))?;
    let Destination { network, prefix_len } = destination;
    match table.lines().filter_map(parse).find(|(found, _)| *found == destination) {
        Some((_, interface)) => Ok(format!("through {interface}")),
        None => Err(Failure::Ill(format!("no route to {network}/{prefix_len}"))),
    }
}

/// `Iface Destination Gateway Flags RefCnt Use Metric Mask ...`, addresses in hexadecimal as they are in memory.
fn route_v4(line: &str) -> Option<Route> {
    let mut fields = line.split_whitespace();
    let interface = fields.next()?.to_owned();
    let hex = |field: Option<&str>| u32::from_str_radix(field?, 16).ok();
    let network = Ipv4Addr::from(hex(fields.next())?.to_ne_bytes());
    let flags = hex(fields.nth(1))?;
    let mask = u32::from_be_bytes(hex(fields.nth(3))?.to_ne_bytes());
    let prefix_len = u8::try_from(mask.count_ones()).ok()?;
    (flags & REJECT == 0).then_some((Destination { network: IpAddr::V4(network), prefix_len }, interface))
}

/// `Destination Length Source Length NextHop Metric RefCnt Use Flags Iface`, all in hexadecimal.
fn route_v6(line: &str) -> Option<Route> {
    let mut fields = line.split_whitespace();
    let network = Ipv6Addr::from(u128::from_str_radix(fields.next()?, 16).ok()?);
    let prefix_len = u8::from_str_radix(fields.next()?, 16).ok()?;
    let flags = u32::from_str_radix(fields.nth(6)?, 16).ok()?;
    let interface = fields.next()?.to_owned();
    (flags & REJECT == 0).then_some((Destination { network: IpAddr::V6(network), prefix_len }, interface))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn destinations_are_networks() {
        for good in ["default", "0.0.0.0/0", "10.0.0.0/8", "10.1.2.3/32", "::/0", "2001:db8::/32", "::1/128"] {
            assert!(good.parse::<Destination>().is_ok(), "{good}");
        }
        for bad in ["", "10.0.0.1/8", "10.0.0.0", "10.0.0.0/33", "::1/64", "::/129", "x/8"] {
            assert!(bad.parse::<Destination>().is_err(), "{bad}");
        }
    }

    #[test]
    #[cfg(target_endian = "little")]
    fn the_kernels_tables_are_read() {
        let v4 = "eth0\t0000000A\t00000000\t0001\t0\t0\t0\t000000FF\t0\t0\t0";
        assert_eq!(route_v4(v4).map(|(found, _)| found), "10.0.0.0/8".parse().ok());
        assert_eq!(route_v4("Iface\tDestination\tGateway"), None);
        let zeros = "0".repeat(32);
        let v6 = |flags: &str| format!("{zeros} 00 {zeros} 00 {zeros} 00000400 00000001 00000000 {flags}     eth0");
        assert_eq!(route_v6(&v6("00000003")).map(|(found, _)| found), "::/0".parse().ok());
        assert_eq!(route_v6(&v6("00200200")), None);
    }
}
