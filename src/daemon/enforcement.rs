//! What takes the addresses from an agent that does not renew its lease, and what that is worth.

use std::fmt;
use std::io;
use std::time::Duration;

use tracing::{info, warn};

use super::lifetimes;
use crate::driver::gate::{Gate, Layer};
use crate::engine::VipSettings;

/// The strongest that this kernel has, or that was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Enforcement {
    /// nftables at the interface.
    Netdev,
    /// nftables in the host's IP and ARP.
    #[value(name = "inet+arp")]
    InetArp,
    /// The addresses' own lifetimes, which run beside the others as well.
    Lifetime,
}

impl Enforcement {
    /// As `vipd status` names it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Netdev => Layer::Netdev.name(),
            Self::InetArp => Layer::InetArp.name(),
            Self::Lifetime => "lifetime",
        }
    }

    /// How long after the end of its lease a host may still answer, at most, where its agent is dead or frozen.
    pub fn resolution<'a>(self, vips: impl IntoIterator<Item = &'a VipSettings>) -> Duration {
        match self {
            // The kernel ends the lease some milliseconds early, and never late.
            Self::Netdev | Self::InetArp => Duration::ZERO,
            Self::Lifetime => lifetimes::resolution(vips),
        }
    }

    /// Whether the addresses stop to answer before a successor claims them.
    pub const fn is_in_time(self) -> bool {
        match self {
            Self::Netdev | Self::InetArp => true,
            Self::Lifetime => false,
        }
    }

    /// What it is worth, for an operator.
    pub fn promise(self, resolution: Duration) -> Promise {
        Promise { enforcement: self, resolution }
    }

    /// What this kernel has, and the gate for it. Says so.
    pub(super) fn open(wanted: Option<Self>) -> (Self, Option<Gate>) {
        let opened = match wanted {
            None => Gate::open(),
            Some(Self::Netdev) => Gate::open_in(Layer::Netdev),
            Some(Self::InetArp) => Gate::open_in(Layer::InetArp),
            Some(Self::Lifetime) => Err(io::Error::other("nothing else is wanted")),
        };
        match opened {
            Ok(mut gate) => {
                if let Err(error) = gate.remove_other_layers() {
                    warn!("{error}");
                }
                (Self::of(gate.layer()), Some(gate))
            }
            Err(error) => {
                warn!("no nftables gate: {error}");
                (Self::Lifetime, None)
            }
        }
    }

    /// What this kernel has, as far as it tells this user. Leaves nothing behind.
    ///
    /// # Errors
    ///
    /// The kernel tells it to nobody who may not set it.
    pub fn probe() -> io::Result<Self> {
        Ok(Gate::strongest()?.map_or(Self::Lifetime, Self::of))
    }

    pub(super) fn tell(self, resolution: Duration) {
        let (layer, promise) = (self.name(), self.promise(resolution));
        if self.is_in_time() {
            info!(layer, "{promise}");
        } else {
            warn!(layer, "{promise}");
        }
    }

    const fn of(layer: Layer) -> Self {
        match layer {
            Layer::Netdev => Self::Netdev,
            Layer::InetArp => Self::InetArp,
        }
    }
}

/// One line.
#[derive(Clone, Copy, Debug)]
pub struct Promise {
    enforcement: Enforcement,
    resolution: Duration,
}

impl fmt::Display for Promise {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.enforcement {
            Enforcement::Netdev => f.write_str("leases are enforced by the kernel, at the interface (nftables, netdev)"),
            Enforcement::InetArp => f.write_str(
                "leases are enforced by the kernel, in its IP and ARP (nftables, inet and arp: this kernel has no egress \
                 hook); an announcement that is sent too late is not stopped",
            ),
            Enforcement::Lifetime => write!(
                f,
                "leases are enforced by the addresses' lifetimes ALONE (this kernel has no nftables for it): where an agent is \
                 killed or frozen, two hosts may answer for up to {:.1} s",
                self.resolution.as_secs_f64()
            ),
        }
    }
}
