//! System errors that say what was tried, and still give their number.

use std::fmt;
use std::io;

use super::netlink::Refusal;

/// The number of a system error, however many words stand around it.
pub fn errno(error: &io::Error) -> Option<i32> {
    let inner = error.get_ref();
    let tried = inner.and_then(|inner| inner.downcast_ref::<Tried>()).and_then(|tried| errno(&tried.error));
    let refused = inner.and_then(|inner| inner.downcast_ref::<Refusal>()).map(|refusal| refusal.errno);
    error.raw_os_error().or(tried).or(refused)
}

/// Puts what was tried in front of an error.
pub(super) fn context(tried: &str) -> impl FnOnce(io::Error) -> io::Error {
    move |error| io::Error::new(error.kind(), Tried { tried: tried.to_owned(), error })
}

#[derive(Debug)]
struct Tried {
    tried: String,
    error: io::Error,
}

impl fmt::Display for Tried {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot {}: {}", self.tried, self.error)
    }
}

impl std::error::Error for Tried {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_survives_the_words() {
        let system = io::Error::from_raw_os_error(libc::ENODEV);
        let told = context("do this")(context("do that")(system));
        assert_eq!(errno(&told), Some(libc::ENODEV));
        assert!(told.to_string().starts_with("cannot do this: cannot do that: No such device"));
        let refused = context("do this")(Refusal { errno: libc::EPERM, text: None }.into());
        assert_eq!((errno(&refused), refused.kind()), (Some(libc::EPERM), io::ErrorKind::PermissionDenied));
    }
}
