//! What few vips have: takes memory only there, for a node may have a thousand of them.

use alloc::boxed::Box;
use core::ops::{Deref, DerefMut};

/// A value that is blank as a rule, and then takes no more memory than a pointer to it.
#[derive(Clone, Debug)]
pub(super) struct Rare<T>(Option<Box<T>>);

/// What is blank as a rule.
pub(super) trait Blank: Clone + PartialEq + 'static {
    /// As it is then.
    const BLANK: &'static Self;
}

impl<T> Rare<T> {
    pub(super) const BLANK: Self = Self(None);
}

impl<T: Blank> Rare<T> {
    /// Whether it is as a rule. One that was changed back counts as changed until [`Self::shed`].
    pub(super) const fn is_blank(&self) -> bool {
        self.0.is_none()
    }

    /// Gives back the memory of one that is blank again.
    pub(super) fn shed(&mut self) {
        if self.0.as_deref() == Some(T::BLANK) {
            self.0 = None;
        }
    }
}

impl<T: Blank> Deref for Rare<T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.0.as_deref().unwrap_or(T::BLANK)
    }
}

/// Takes the memory, if only to look for something to change: what every advert comes by asks [`Rare::is_blank`] first.
impl<T: Blank> DerefMut for Rare<T> {
    fn deref_mut(&mut self) -> &mut T {
        self.0.get_or_insert_with(|| Box::new(T::BLANK.clone()))
    }
}

impl<T: Blank> PartialEq for Rare<T> {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl<T: Blank + Eq> Eq for Rare<T> {}

#[cfg(test)]
mod tests {
    use super::*;

    impl Blank for u8 {
        const BLANK: &'static Self = &0;
    }

    #[test]
    fn takes_memory_where_it_is_not_blank_only() {
        let mut rare = Rare::<u8>::BLANK;
        assert_eq!((*rare, rare.is_blank()), (0, true));
        *rare = 7;
        rare.shed();
        assert_eq!((*rare, rare.is_blank()), (7, false));
        *rare = 0;
        assert_eq!(rare, Rare::BLANK, "the memory makes no difference");
        rare.shed();
        assert!(rare.is_blank());
    }
}
