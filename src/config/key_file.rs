//! The file with the keys that all nodes of a group share: who may read it, and what stands in it.
//!
//! One key a line, in hexadecimal or base64; empty lines and those that begin with `#` are passed over. At most two: the first
//! seals, both are believed. Nothing of its content is ever shown.

use std::io::Read;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use crate::wire::seal::{Key, Keys};

/// Two keys of the greatest length and some remarks fit well within.
const MAX_BYTES: u64 = 16 * 1024;

/// What is wrong with a file, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Unusable {
    pub(super) message: String,
    pub(super) remedy: String,
}

/// Reads the keys.
pub(super) fn read(path: &Path) -> Result<Keys, Unusable> {
    let shown = path.display();
    let unusable = |message: String, remedy: String| Unusable { message, remedy };
    let mut options = std::fs::OpenOptions::new();
    // A pipe in its place must not hold up the start.
    let file = options.read(true).custom_flags(libc::O_NONBLOCK).open(path).map_err(|error| {
        let remedy = match error.kind() {
            std::io::ErrorKind::NotFound => {
                format!("copy it from another node of the group; the first is made by `(umask 027; vipd keygen > {shown}; chgrp vipd {shown})`")
            }
            std::io::ErrorKind::PermissionDenied => {
                format!("let the agent read it: chown root:vipd {shown}; chmod 640 {shown}")
            }
            _ => "name a file with a key".to_owned(),
        };
        unusable(format!("cannot read {shown}: {error}"), remedy)
    })?;
    let metadata = file.metadata().map_err(|error| unusable(format!("cannot read {shown}: {error}"), String::new()))?;
    if !metadata.is_file() {
        return Err(unusable(format!("{shown} is not a file"), "name a file with a key".to_owned()));
    }
    if metadata.mode() & 0o007 != 0 {
        return Err(unusable(
            format!("everybody on this host can read or change {shown} (mode {:03o})", metadata.mode() & 0o777),
            format!("chmod o= {shown}; and if others may have read it, replace the key"),
        ));
    }
    let mut text = Vec::new();
    file.take(MAX_BYTES)
        .read_to_end(&mut text)
        .map_err(|error| unusable(format!("cannot read {shown}: {error}"), "name a file with a key".to_owned()))?;
    parse(&text).map_err(|(line, message)| {
        let place = line.map_or_else(String::new, |line| format!(", line {line}"));
        let remedy = "write one key a line, as `vipd keygen` prints it: 64 to 256 hexadecimal digits, or base64";
        unusable(format!("{shown}{place}: {message}"), remedy.to_owned())
    })
}

/// The keys in a text; or the line that is wrong, and why.
fn parse(text: &[u8]) -> Result<Keys, (Option<usize>, String)> {
    let mut keys = Vec::new();
    for (line, text) in (1..).zip(text.split(|byte| *byte == b'\n')) {
        let text = text.trim_ascii();
        if text.is_empty() || text.starts_with(b"#") {
            continue;
        }
        let bytes = hex(text).or_else(|| base64(text));
        let bytes = bytes.ok_or_else(|| (Some(line), "neither hexadecimal nor base64".to_owned()))?;
        let key = Key::new(&bytes).map_err(|error| (Some(line), format!("the key has {error}")))?;
        if keys.contains(&key) {
            return Err((Some(line), "the same key again".to_owned()));
        }
        if keys.len() == 2 {
            return Err((Some(line), "a third key: two are enough to change from one to the other".to_owned()));
        }
        keys.push(key);
    }
    let mut keys = keys.into_iter();
    let current = keys.next().ok_or_else(|| (None, "there is no key in it".to_owned()))?;
    Ok(Keys::new(current, keys.next()))
}

fn hex(text: &[u8]) -> Option<Vec<u8>> {
    let digit = |digit: u8| char::from(digit).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let (pairs, rest) = text.as_chunks::<2>();
    let bytes = pairs.iter().map(|[high, low]| Some(digit(*high)? << 4 | digit(*low)?)).collect();
    if rest.is_empty() { bytes } else { None }
}

/// RFC 4648 §4; the padding may be missing.
fn base64(text: &[u8]) -> Option<Vec<u8>> {
    let digits = text.iter().rposition(|byte| *byte != b'=').map_or(0, |last| last + 1);
    let mut bytes = Vec::with_capacity(digits * 3 / 4);
    for group in text.get(..digits)?.chunks(4) {
        let mut bits = 0_u32;
        for digit in group {
            bits = bits << 6 | u32::from(base64_digit(*digit)?);
        }
        // A group of n digits has 6 n bits, of which whole bytes count; a single digit has none.
        bits <<= 6 * (4 - group.len());
        let [_, decoded @ ..] = bits.to_be_bytes();
        bytes.extend(decoded.get(..group.len().checked_sub(1).filter(|len| *len > 0)?)?);
    }
    Some(bytes)
}

const fn base64_digit(digit: u8) -> Option<u8> {
    match digit {
        b'A'..=b'Z' => Some(digit - b'A'),
        b'a'..=b'z' => Some(digit - b'a' + 26),
        b'0'..=b'9' => Some(digit - b'0' + 52),
        b'+' => Some(62),
        b'/' => Some(63),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    const HEX: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";
    /// The same bytes.
    const BASE64: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
    const OTHER: &str = "ff0102030405060708090A0B0C0D0E0F101112131415161718191a1b1c1d1e1f";

    fn key(hexadecimal: &str) -> Key {
        Key::new(&hex(hexadecimal.as_bytes()).expect("hexadecimal")).expect("32 bytes")
    }

    #[test]
    fn a_key_is_hexadecimal_or_base64() {
        for text in [HEX, BASE64, BASE64.trim_end_matches('='), &format!("\n# old\n  {HEX}  \r\n\n")] {
            assert_eq!(parse(text.as_bytes()), Ok(Keys::new(key(HEX), None)), "{text}");
        }
        let both = format!("{OTHER}\n{BASE64}\n");
        assert_eq!(parse(both.as_bytes()), Ok(Keys::new(key(OTHER), Some(key(HEX)))));
    }

    #[test]
    fn base64_is_read_as_it_is_defined() {
        // RFC 4648 §10.
        for (text, bytes) in
            [("Zg==", "f"), ("Zm8=", "fo"), ("Zm9v", "foo"), ("Zm9vYg", "foob"), ("Zm9vYmFy", "foobar")]
        {
            assert_eq!(base64(text.as_bytes()).as_deref(), Some(bytes.as_bytes()), "{text}");
        }
        for wrong in ["Z", "Zm9vY", "Zm 9", "Zm=9v", "Zm9_"] {
            assert_eq!(base64(wrong.as_bytes()), None, "{wrong}");
        }
    }

    #[test]
    fn what_is_wrong_is_said_without_the_key() {
        let cases = [
            (String::new(), None, "no key"),
            (format!("{HEX}\n{}", &HEX[2..]), Some(2), "31 bytes"),
            ("# a\nhunter2!".to_owned(), Some(2), "neither"),
            (format!("{HEX}\n{BASE64}"), Some(2), "again"),
            (format!("{HEX}\n{OTHER}\n{}", OTHER.replace("ff", "fe")), Some(3), "third"),
        ];
        for (text, line, words) in cases {
            let (at, message) = parse(text.as_bytes()).expect_err("it is wrong");
            assert!(at == line && message.contains(words) && !message.contains("hunter2"), "{at:?} {message}");
        }
    }

    #[test]
    fn a_file_that_everybody_can_read_is_refused() {
        let path = std::env::temp_dir().join(format!("vipd-key-file-{}", std::process::id()));
        std::fs::write(&path, HEX).expect("a file");
        let read_as = |mode| {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).expect("a mode");
            read(&path)
        };
        assert_eq!(read_as(0o640), Ok(Keys::new(key(HEX), None)));
        let refused = [0o644, 0o642].map(|mode| read_as(mode).expect_err("everybody"));
        assert!(
            refused.iter().all(|refused| refused.message.contains("everybody") && refused.remedy.contains("chmod o="))
        );
        std::fs::remove_file(&path).expect("it is there");
        let gone = read(&path).expect_err("gone");
        assert!(gone.remedy.contains("vipd keygen"), "{gone:?}");
    }
}
