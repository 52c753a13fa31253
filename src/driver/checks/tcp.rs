//! Whether somebody accepts connections.

use super::Failure;
use super::place::{Lookup, Place};
use crate::driver::patience::Patience;

pub(super) fn run(place: &Place, patience: &Patience<'_>, lookup: &mut Option<Lookup>) -> Result<String, Failure> {
    place.connect(patience, lookup).map(|_| "connected".to_owned())
}
