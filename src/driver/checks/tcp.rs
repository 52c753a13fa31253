//! Whether somebody accepts connections at an address.

use std::net::{SocketAddr, TcpStream};

use super::Failure;
use super::patience::Patience;

pub(super) fn run(address: SocketAddr, patience: &Patience<'_>) -> Result<String, Failure> {
    match TcpStream::connect_timeout(&address, patience.timeout()) {
        Ok(_) => Ok("connected".to_owned()),
        Err(error) => Err(Failure::Ill(format!("{address}: {error}"))),
    }
}
