//! What came of looking at something or of doing it, where that may fail in three ways: a check, a hook, an alert, a fencing.

use std::fmt;

/// How much of what was said is kept: a line of a log.
const MAX_OUTPUT: usize = 200;

/// Why it cannot be tried at all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unable {
    /// What is wrong, in one line.
    pub problem: String,
    /// What to do about it.
    pub remedy: &'static str,
}

impl fmt::Display for Unable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.problem, self.remedy)
    }
}

/// Why it did not go well.
#[derive(Debug)]
pub(super) enum Failure {
    /// It was tried, and this is not well.
    Ill(String),
    /// It could not be tried.
    Unable(String),
    /// Nobody wants to know any more.
    Stopped,
}

impl From<Unable> for Failure {
    fn from(unable: Unable) -> Self {
        Self::Unable(unable.to_string())
    }
}

/// Safe for a terminal, and not longer than a line.
pub(super) fn one_line(text: &str) -> String {
    text.trim().chars().map(|c| if c.is_control() { ' ' } else { c }).take(MAX_OUTPUT).collect()
}
