//! Numbers that nobody can foresee.
#![allow(unsafe_code)] // No safe wrapper at hand; a file in /dev may be missing in a sandbox, and this call cannot.

use std::io;

use super::error::context;

/// 32 bytes from the kernel. Waits, early at boot, until the kernel has some.
///
/// # Errors
///
/// Where a sandbox forbids the call.
pub fn seed() -> io::Result<[u8; 32]> {
    let mut seed = [0; 32];
    loop {
        // SAFETY: the pointer and the length describe `seed`, which outlives the call.
        let got = unsafe { libc::getrandom(seed.as_mut_ptr().cast(), seed.len(), 0) };
        // So few bytes come whole or not at all (getrandom(2)).
        if usize::try_from(got).is_ok_and(|got| got == seed.len()) {
            return Ok(seed);
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(context("ask the kernel for random bytes")(error));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::seed;

    #[test]
    fn no_two_seeds_are_the_same() {
        let [a, b] = [seed(), seed()].map(|seed| seed.expect("Linux has getrandom"));
        assert_ne!(a, b);
        assert_ne!(a, [0; 32]);
    }
}
