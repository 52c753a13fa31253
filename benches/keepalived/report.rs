//! Tables of figures: medians, ranges, ratios.

use std::time::Duration;

/// Milliseconds of a duration.
pub(crate) fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

/// The median.
pub(crate) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => sorted[n / 2],
        n => f64::midpoint(sorted[n / 2 - 1], sorted[n / 2]),
    }
}

/// A part's headline and the table's head.
pub(crate) fn head(title: &str) {
    println!("\n{title}\n");
    println!("{:<34} {:>26} {:>26} {:>6}", "", "vipd", "keepalived", "RATIO");
}

/// A row: the medians of both with their ranges, and the ratio of the medians.
pub(crate) fn row(what: &str, unit: &str, values: &[Vec<f64>; 2]) {
    let cell = |values: &Vec<f64>| {
        let min = values.iter().copied().fold(f64::INFINITY, f64::min);
        let max = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let digits = if median(values) < 10.0 { 2 } else { 1 };
        if values.len() == 1 {
            format!("{:.digits$} {unit}", median(values))
        } else {
            format!("{:.digits$} ({min:.digits$}-{max:.digits$}) {unit}", median(values))
        }
    };
    let [a, b] = values;
    println!("{what:<34} {:>26} {:>26} {:>6.2}", cell(a), cell(b), median(a) / median(b));
}
