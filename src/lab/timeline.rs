//! Who answered when, as one line of letters.

use std::time::{Duration, Instant};

use super::frames::Kind;
use super::probe::Answer;

/// What stands in a cell of a strip: `A`, `B`, `2` for both, `.` for neither.
pub fn strip<'a>(
    answers: impl IntoIterator<Item = &'a Answer>,
    from: Instant,
    cell: Duration,
    cells: usize,
    [a, b]: [&[[u8; 6]]; 2],
) -> String {
    let mut seen = vec![(false, false); cells];
    for answer in answers {
        let Some(since) = answer.at.checked_duration_since(from) else { continue };
        let index = since.as_micros() / cell.as_micros().max(1);
        let Some(seen) = usize::try_from(index).ok().and_then(|index| seen.get_mut(index)) else { continue };
        if answer.kind != Kind::Announcement {
            seen.0 |= a.contains(&answer.from);
            seen.1 |= b.contains(&answer.from);
        }
    }
    let letter = |seen: &(bool, bool)| match seen {
        (true, true) => '2',
        (true, false) => 'A',
        (false, true) => 'B',
        (false, false) => '.',
    };
    seen.iter().map(letter).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_strip_shows_owners_gaps_and_both() {
        let (a, b) = ([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]);
        let from = Instant::now();
        let answer = |ms, mac, kind| Answer { at: from + Duration::from_millis(ms), from: mac, kind };
        let answers = [
            answer(1, a, Kind::Neighbour),
            answer(19, a, Kind::Neighbour),
            answer(25, b, Kind::Announcement),
            answer(31, b, Kind::Echo(0)),
            answer(39, a, Kind::Neighbour),
            answer(45, b, Kind::Neighbour),
        ];
        assert_eq!(strip(&answers, from, Duration::from_millis(10), 6, [&[a], &[b]]), "AA.2B.");
    }
}
