//! Whether a host answers to an ICMP echo.

use std::net::IpAddr;
use std::os::fd::AsFd;

use super::Failure;
use crate::driver::echo::EchoSocket;
use crate::driver::patience::{Patience, readable};

/// Whom to ask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    /// Its address.
    pub address: IpAddr,
    /// Through which interface; `None`: as the routes say.
    pub interface: Option<String>,
}

pub(super) fn run(host: &Host, patience: &Patience<'_>) -> Result<String, Failure> {
    let Host { address, interface } = host;
    let socket =
        EchoSocket::open(interface.as_deref(), None, *address).map_err(|error| match error.raw_os_error() {
            // Without a way there is nothing wrong with the check.
            Some(libc::ENETUNREACH | libc::EHOSTUNREACH | libc::ENETDOWN) => Failure::Ill(error.to_string()),
            _ => Failure::Unable(error.to_string()),
        })?;
    socket.ask(0);
    loop {
        patience.wait([readable(socket.as_fd())])?;
        match socket.recv() {
            Ok(Some(answered)) => return Ok(format!("{answered} answers")),
            Ok(None) => {}
            Err(error) => return Err(Failure::Unable(error.to_string())),
        }
    }
}
