//! `vipd witness`: a voter that owns nothing.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use super::Exit;
use super::output::complain;
use super::run::{LogFormat, ended, start_log};
use crate::config::{self, LONGEST_GRANT, MissingInterface, System};
use crate::daemon::witness::{self, WitnessOptions};
use crate::wire::seal::is_name;

/// Run a witness: a third voter for pairs, on a host of its own
///
/// A pair that names it among its `[quorum] voters` has one owner at most, whatever is parted from what. It owns no address, keeps
/// nothing on disk, needs no privileges, and serves any number of pairs that share its key. SIGHUP has it read the key file again.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: vipd witness --listen 10.9.0.5 --name witness --key-file /etc/vipd/key")]
pub(super) struct Args {
    /// Where to listen: an address of this host, and a port unless it is 3112; all addresses where this is left out
    #[arg(long, value_name = "ADDR[:PORT]", value_parser = parse_place)]
    listen: Option<Place>,
    /// The file with the key that the nodes have too
    #[arg(long, value_name = "FILE", default_value = "/etc/vipd/key")]
    key_file: PathBuf,
    /// The name that the nodes' `[quorum] voters` have for it; the host name where this is left out
    #[arg(long, value_name = "NAME", value_parser = parse_name)]
    name: Option<String>,
    /// The longest grant, as `[quorum] longest_grant` of the nodes; it waits for so long before it votes
    #[arg(long, value_name = "TIME", value_parser = parse_grant, default_value = "3s")]
    longest_grant: Duration,
    /// Where to log, and how; the variable RUST_LOG says how much (`debug`; default: `info`)
    #[arg(long, value_name = "FORMAT", default_value = "auto")]
    log: LogFormat,
}

/// An address, a port, or both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    address: Option<IpAddr>,
    port: u16,
}

impl Args {
    pub(super) fn run(self) -> io::Result<Exit> {
        if let Err(exit) = start_log(self.log) {
            return Ok(exit);
        }
        let keys = match config::read_keys(&self.key_file) {
            Ok(keys) => keys,
            Err(error) => {
                complain(&format!("vipd: {error}\n"));
                return Ok(Exit::Configuration);
            }
        };
        let Place { address, port } = self.listen.unwrap_or(Place { address: None, port: config::DEFAULT_PORT });
        let options = WitnessOptions {
            name: self.name.unwrap_or_else(|| System::probe(MissingInterface::Ignore).host_name),
            address,
            port,
            key_file: self.key_file,
            longest_grant: self.longest_grant,
        };
        Ok(ended(witness::run(&options, &keys)))
    }
}

fn parse_place(text: &str) -> Result<Place, String> {
    let only_address = text.parse::<IpAddr>().map(|address| SocketAddr::new(address, config::DEFAULT_PORT));
    let place = only_address.or_else(|_| text.parse::<SocketAddr>());
    let place =
        place.map_err(|_| "write an address, as in 10.9.0.5, 10.9.0.5:3112 or [2001:db8::5]:3112".to_owned())?;
    if place.port() == 0 {
        return Err("the port is 0".to_owned());
    }
    // Either family where the host has it.
    let address = Some(place.ip()).filter(|address| !address.is_unspecified());
    Ok(Place { address, port: place.port() })
}

fn parse_name(text: &str) -> Result<String, String> {
    if is_name(text) { Ok(text.to_owned()) } else { Err("not 1 to 255 printable ASCII characters".to_owned()) }
}

fn parse_grant(text: &str) -> Result<Duration, String> {
    config::parse_duration(text, &LONGEST_GRANT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_an_address_with_or_without_a_port() {
        let place = |address: Option<&str>, port| Place { address: address.map(|it| it.parse().unwrap()), port };
        let cases = [
            ("10.9.0.5", place(Some("10.9.0.5"), 3112)),
            ("10.9.0.5:3113", place(Some("10.9.0.5"), 3113)),
            ("2001:db8::5", place(Some("2001:db8::5"), 3112)),
            ("[2001:db8::5]:3113", place(Some("2001:db8::5"), 3113)),
            ("0.0.0.0:3113", place(None, 3113)),
            ("::", place(None, 3112)),
        ];
        for (text, expected) in cases {
            assert_eq!(parse_place(text), Ok(expected), "{text}");
        }
        for wrong in ["", "3112", "host", "10.9.0.5:0", "10.9.0.5:70000"] {
            assert!(parse_place(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_default_of_the_longest_grant_is_that_of_the_nodes() {
        assert_eq!(parse_grant("3s"), Ok(config::DEFAULT_LONGEST_GRANT));
    }
}
