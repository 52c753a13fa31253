//! The one place where clocks are read.

#![allow(clippy::disallowed_methods, reason = "all others ask here")]

use std::time::{Duration, SystemTime};

use nix::time::{ClockId, clock_gettime};

use crate::engine::Instant;

/// `CLOCK_BOOTTIME`: a step of the wall clock does not move it, and it goes on while the host is suspended. An owner that
/// resumes sees by it that its lease is over.
pub fn now() -> Instant {
    let time = clock_gettime(ClockId::CLOCK_BOOTTIME).expect("Linux has CLOCK_BOOTTIME");
    let time = Duration::from(time);
    Instant::from_nanos(u64::try_from(time.as_nanos()).expect("a host is up for less than 584 years"))
}

/// The same point as the standard library has it, whose clock stands still in a suspended host. One that has passed comes out
/// as now.
pub fn as_std(instant: Instant) -> std::time::Instant {
    let (now, std_now) = (now(), std::time::Instant::now());
    std_now + instant.since(now)
}

/// The wall clock, for what people read.
pub fn wall() -> SystemTime {
    SystemTime::now()
}

/// What the wall clock showed at a point that has passed, as far as it shows the right time now.
pub fn wall_of(instant: Instant) -> SystemTime {
    let wall = wall();
    wall.checked_sub(now().since(instant)).unwrap_or(wall)
}

/// What it will show at a point to come, as far as it shows the right time now. Not beyond what can be written down.
pub fn wall_at(instant: Instant) -> SystemTime {
    const LONGEST: Duration = Duration::from_secs(1_000 * 365 * 24 * 3600);
    wall() + instant.since(now()).min(LONGEST)
}

/// Which boot of the host this is; another after each. Empty where the kernel does not say.
pub fn boot_id() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id").map(|id| id.trim().to_owned()).unwrap_or_default()
}

/// As people and machines read it: RFC 3339, UTC, to the microsecond.
pub fn rfc3339(time: SystemTime) -> String {
    humantime::format_rfc3339_micros(time).to_string()
}
