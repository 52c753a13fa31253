//! Writing to standard output and standard error without ever panicking.

use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use crate::config::Colour;

/// Writes an answer to standard output. A reader that has gone away has all that it wants: no error, so that the exit
/// code stays the answer's.
pub(super) fn print(text: &str) -> io::Result<()> {
    print_on(text).map(|_| ())
}

/// The same, for an answer that goes on. Whether anybody still reads it.
pub(super) fn print_on(text: &str) -> io::Result<bool> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        result => result.map(|()| true),
    }
}

/// Writes to standard error. There is nowhere to complain if that fails.
pub(super) fn complain(text: &str) {
    io::stderr().lock().write_all(text.as_bytes()).ok();
}

/// Whether standard error is a terminal whose user wants colours (<https://no-color.org>).
pub(super) fn stderr_colour() -> Colour {
    let unwanted = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    if io::stderr().is_terminal() && !unwanted { Colour::On } else { Colour::Off }
}

/// A time span as one reads it at a glance: its largest two units.
pub(super) fn span(time: Duration) -> String {
    let whole = time.as_secs();
    if whole == 0 {
        return format!("{:.0}ms", time.as_secs_f64() * 1e3);
    }
    let (days, hours, minutes, seconds) = (whole / 86_400, whole / 3_600 % 24, whole / 60 % 60, whole % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, _) => format!("{minutes}m{seconds:02}s"),
        (0, _, _) => format!("{hours}h{minutes:02}m"),
        (_, _, _) => format!("{days}d{hours:02}h"),
    }
}

/// Lays rows out in columns, two spaces between them, without trailing spaces. The first row is the header.
pub(super) fn table<const N: usize>(rows: &[[String; N]]) -> String {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; N] = std::array::from_fn(width);
    let mut out = String::new();
    for row in rows {
        let cells: Vec<String> = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        out.push_str(cells.join("  ").trim_end());
        out.push('\n');
    }
    out
}
