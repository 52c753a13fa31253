//! Tells the neighbours which MAC address has an address from now on: gratuitous ARP, unsolicited NA.
//!
//! An announcement is a burst that may fill a queue. It goes out behind the adverts, in batches, and with pauses once
//! it is long.

#![allow(clippy::disallowed_methods, reason = "runs on a thread of its own, which paces a burst")]

use std::io;
use std::net::IpAddr;
use std::thread;
use std::time::Duration;

use super::error::{context, errno};
use super::frames::{BATCH, FrameSocket, Urgency};
use crate::types::{MacAddr, VirtualAddress};
use crate::wire::arp::Arp;
use crate::wire::ndisc::NeighborAdvertisement;

/// Frames sent without a pause: 1,000 IPv4 addresses in both forms, which take a 1 Gb/s interface 1.4 ms. Its queue is
/// drained about as fast as it is filled.
const UNPAUSED_FRAMES: usize = 2_048;

/// Between batches after that.
const PAUSE: Duration = Duration::from_millis(1);

/// How often a full queue is tried again, for the whole of an announcement, and after what pause. A queue that does not
/// move for 20 ms belongs to an interface that sends nothing, and the announcement is repeated anyway.
const RETRIES: usize = 20;
const RETRY_PAUSE: Duration = Duration::from_millis(1);

/// Sends announcements. Blocks for a few milliseconds: not for the loop.
#[derive(Debug)]
pub struct Announcer {
    socket: FrameSocket,
}

impl Announcer {
    /// An announcer for all interfaces in the network namespace of the calling thread.
    ///
    /// # Errors
    ///
    /// What was tried in vain; `PermissionDenied` without `CAP_NET_RAW`.
    pub fn open() -> io::Result<Self> {
        Ok(Self { socket: FrameSocket::open(Urgency::Ordinary)? })
    }

    /// Says through an interface that `mac` has all these addresses: each IPv4 address by an ARP request and by an ARP reply,
    /// because some switches heed only one of them; each IPv6 address by a neighbour advertisement.
    ///
    /// # Errors
    ///
    /// How far it came, and why not farther.
    pub fn announce(&self, ifindex: u32, mac: MacAddr, addresses: &[VirtualAddress]) -> io::Result<()> {
        let frames = frames(mac, addresses);
        let mut sent = 0;
        let mut retries = 0;
        while let Some(rest) = frames.get(sent..).filter(|rest| !rest.is_empty()) {
            if sent >= UNPAUSED_FRAMES {
                thread::sleep(PAUSE);
            }
            let batch = rest.get(..BATCH).unwrap_or(rest);
            match self.socket.send(ifindex, batch) {
                Ok(count) => sent += count,
                Err(error) if is_full(&error) && retries < RETRIES => {
                    retries += 1;
                    thread::sleep(RETRY_PAUSE);
                }
                Err(error) => {
                    let tried = format!("announce {mac} beyond frame {sent} of {}", frames.len());
                    return Err(context(&tried)(error));
                }
            }
        }
        Ok(())
    }
}

/// First each address once, then the IPv4 ones in the other form: so that all are known soonest.
fn frames(mac: MacAddr, addresses: &[VirtualAddress]) -> Vec<Vec<u8>> {
    let first = addresses.iter().map(|address| {
        let mut frame = Vec::new();
        match address.ip {
            IpAddr::V4(ip) => Arp::gratuitous_request(mac, ip).emit(&mut frame),
            IpAddr::V6(ip) => NeighborAdvertisement::unsolicited(mac, ip).emit(mac, &mut frame),
        }
        frame
    });
    let second = addresses.iter().filter_map(|address| match address.ip {
        IpAddr::V4(ip) => {
            let mut frame = Vec::new();
            Arp::gratuitous_reply(mac, ip).emit(&mut frame);
            Some(frame)
        }
        IpAddr::V6(_) => None,
    });
    first.chain(second).collect()
}

fn is_full(error: &io::Error) -> bool {
    matches!(errno(error), Some(libc::ENOBUFS | libc::EAGAIN))
}
