//! The world's time, and the clocks of the hosts, which run at rates of their own.

use std::time::Duration;

use vipd::engine::Instant;

/// Nanoseconds since the world began.
pub type Nanos = u64;

pub const MICROSECOND: Nanos = 1_000;
pub const MILLISECOND: Nanos = 1_000_000;
pub const SECOND: Nanos = 1_000_000_000;

pub fn nanos(duration: Duration) -> Nanos {
    u64::try_from(duration.as_nanos()).unwrap()
}

/// A host's monotonic clock.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    /// What it shows when the world begins.
    pub offset: Nanos,
    /// How much faster than the world it runs, in millionths.
    pub ppm: i32,
}

/// Up to here a clock is good: twice what NTP's discipline may do, and more than a bare crystal does.
pub const GOOD_PPM: i32 = 200;

impl Clock {
    pub fn is_good(self) -> bool {
        self.ppm.abs() <= GOOD_PPM
    }

    /// What it shows at a moment of the world.
    pub fn shows(self, world: Nanos) -> Instant {
        let elapsed = u128::from(world) * self.parts() / 1_000_000;
        Instant::from_nanos(self.offset + u64::try_from(elapsed).unwrap())
    }

    /// The first moment of the world at which it shows so much.
    pub fn when(self, shown: Instant) -> Nanos {
        let elapsed = u128::from(shown.as_nanos().saturating_sub(self.offset));
        u64::try_from((elapsed * 1_000_000).div_ceil(self.parts())).unwrap_or(Nanos::MAX)
    }

    fn parts(self) -> u128 {
        u128::try_from(1_000_000 + i64::from(self.ppm)).unwrap()
    }
}

#[test]
fn a_clock_is_read_back_exactly() {
    for ppm in [-100_000, -200, 0, 77, 200, 50_000] {
        let clock = Clock { offset: 12_345, ppm };
        for shown in (12_345..40_000_000_000).step_by(1_234_567_891) {
            let at = clock.when(Instant::from_nanos(shown));
            assert!(clock.shows(at) >= Instant::from_nanos(shown));
            assert!(at == 0 || clock.shows(at - 1) < Instant::from_nanos(shown), "{ppm} {shown}");
        }
    }
}
