//! Times as text: `100ms`, `1.5s`, `1m 30s`.

use std::fmt;
use std::ops::RangeInclusive;
use std::time::Duration;

use toml::de::DeValue;

use super::problem::{Findings, Kind};
use super::read::{Value, printable};

/// A value that is a time within limits. `of` completes "... is out of range", where the limits depend on another key.
pub(super) fn duration(
    value: Value<'_>,
    limits: RangeInclusive<Duration>,
    of: &str,
    example: &str,
    findings: &mut Findings,
) -> Option<Duration> {
    if let DeValue::Integer(_) | DeValue::Float(_) = value.raw() {
        let example = format!("the unit as well, in quotes, as in {example}");
        return value.wrong_type("a duration", &example, findings);
    }
    let text = value.text(example, findings)?;
    let Ok(duration) = humantime::parse_duration(text) else {
        let message = format!("`{}` is no duration", printable(text));
        let remedy = format!("write a number and one of ms, s, m, h, as in {example}");
        value.refuse(Kind::Invalid, message, "", remedy, findings);
        return None;
    };
    if !limits.contains(&duration) {
        let (least, most) = (Short(*limits.start()), Short(*limits.end()));
        let message = format!("`{}` is out of range{of}", value.key());
        let label = format!("not in {least} to {most}");
        value.refuse(
            Kind::OutOfRange,
            message,
            label,
            format!("write a time from \"{least}\" to \"{most}\""),
            findings,
        );
        return None;
    }
    Some(duration)
}

/// A time in one unit: whole hours, or seconds or milliseconds with at most three decimals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Short(pub Duration);

impl fmt::Display for Short {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(duration) = self;
        let (whole, thousandths, unit) = if duration.is_zero() {
            (0, 0, "s")
        } else if duration.subsec_nanos() == 0 && duration.as_secs() % 3600 == 0 {
            (duration.as_secs() / 3600, 0, "h")
        } else if *duration >= Duration::from_secs(1) {
            (duration.as_secs(), duration.subsec_millis(), "s")
        } else {
            (u64::from(duration.subsec_millis()), duration.subsec_micros() % 1000, "ms")
        };
        let number = format!("{whole}.{thousandths:03}");
        f.pad(&format!("{}{unit}", number.trim_end_matches('0').trim_end_matches('.')))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_times_name_one_unit() {
        for (micros, text) in [
            (0, "0s"),
            (337_500, "337.5ms"),
            (10_000, "10ms"),
            (3_609_375, "3.609s"),
            (40_950_000, "40.95s"),
            (60_000_000, "60s"),
            (86_400_000_000, "24h"),
        ] {
            assert_eq!(Short(Duration::from_micros(micros)).to_string(), text);
        }
    }

    #[test]
    fn short_times_are_read_back() {
        for millis in [1, 10, 100, 1_500, 40_950, 255_000, 3_600_000] {
            let duration = Duration::from_millis(millis);
            assert_eq!(humantime::parse_duration(&Short(duration).to_string()), Ok(duration));
        }
    }
}
