//! Which numbers came: nothing is taken twice, and what was overtaken by a few is taken still.

/// The highest number, and which of the 63 below it came. What is lower still counts as come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Numbers {
    highest: u64,
    /// Bit n: the highest less n.
    seen: u64,
}

impl Numbers {
    /// None but 0, which nothing has.
    pub(super) const NONE: Self = Self { highest: 0, seen: 1 };

    /// This one alone.
    pub(super) const fn from(first: u64) -> Self {
        Self { highest: first, seen: 1 }
    }

    /// Whether all that came is lower.
    pub(super) const fn is_newest(&self, number: u64) -> bool {
        number > self.highest
    }

    /// Whether a number is new; from then on it is not.
    pub(super) fn admit(&mut self, number: u64) -> bool {
        let ahead = number.saturating_sub(self.highest);
        if ahead > 0 {
            self.seen = shift(self.seen, ahead).unwrap_or(0) | 1;
            self.highest = number;
            return true;
        }
        match shift(1, self.highest.saturating_sub(number)) {
            Some(bit) if self.seen & bit == 0 => {
                self.seen |= bit;
                true
            }
            Some(_) | None => false,
        }
    }
}

fn shift(bits: u64, by: u64) -> Option<u64> {
    u32::try_from(by).ok().and_then(|by| bits.checked_shl(by))
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use super::Numbers;

    proptest::proptest! {
        /// The window against a plain list of what came.
        #[test]
        fn the_window_admits_each_number_at_most_once(
            first in 0..100_u64, numbers in proptest::collection::vec(0..300_u64, 0..200),
        ) {
            let mut window = Numbers::from(first);
            let mut came = vec![first];
            for number in numbers {
                let highest = came.iter().copied().max().unwrap_or(0);
                let new = !came.contains(&number) && number + 63 >= highest;
                proptest::prop_assert_eq!(window.is_newest(number), number > highest);
                proptest::prop_assert_eq!(window.admit(number), new, "{}", number);
                if new {
                    came.push(number);
                }
            }
        }
    }
}
