//! Whether an interface has a carrier, and how fast it is.

use nix::ifaddrs::getifaddrs;
use nix::net::if_::InterfaceFlags;

use super::Failure;

pub(super) fn run(name: &str, speed: Option<u32>) -> Result<String, Failure> {
    let mut all = getifaddrs().map_err(|error| Failure::Unable(format!("getifaddrs: {error}")))?;
    let Some(found) = all.find(|interface| interface.interface_name == name) else {
        return Err(Failure::Ill(format!("there is no interface {name}")));
    };
    // RUNNING: up, and the driver has a carrier (RFC 2863's operational state).
    if !found.flags.contains(InterfaceFlags::IFF_UP | InterfaceFlags::IFF_RUNNING) {
        return Err(Failure::Ill(format!("{name} is down or without carrier")));
    }
    let Some(wanted) = speed else { return Ok("carrier".to_owned()) };
    let file = format!("/sys/class/net/{name}/speed");
    let read = std::fs::read_to_string(&file).ok().and_then(|text| text.trim().parse::<u32>().ok());
    match read {
        Some(speed) if speed >= wanted => Ok(format!("{speed} Mbit/s")),
        Some(speed) => Err(Failure::Ill(format!("{name} has {speed} Mbit/s"))),
        None => Err(Failure::Unable(format!("{name} does not say its speed"))),
    }
}
