//! Hides what may be a password in the text of a file before any of it is shown.
//!
//! Works on lines as well as on parsed values, so that it holds for a file with broken syntax and for a misspelled key.
//! It rather hides too much. Lengths in bytes stay the same, so that places in the text stay valid.

use std::ops::Range;

use toml::de::{DeTable, DeValue};

/// The text with each value of a secret key replaced by asterisks.
pub(super) fn masked(text: &str) -> String {
    let mut hidden = Vec::new();
    let (document, _) = DeTable::parse_recoverable(text);
    values(document.get_ref(), &mut hidden);
    lines(text, &mut hidden);
    let mut hides = vec![false; text.len()];
    for range in hidden {
        hides[range].fill(true);
    }
    text.char_indices()
        .map(|(at, c)| match c {
            '\n' | '\r' | '\t' | ' ' | '"' | '\'' => c.to_string(),
            c if hides[at] => "*".repeat(c.len_utf8()),
            c => c.to_string(),
        })
        .collect()
}

/// What stands behind a secret key, as the parser sees it: also over several lines.
fn values(table: &DeTable<'_>, hidden: &mut Vec<Range<usize>>) {
    for (key, value) in table {
        if is_secret(key.get_ref()) {
            hidden.push(value.span());
        }
        inner(value.get_ref(), hidden);
    }
}

fn inner(value: &DeValue<'_>, hidden: &mut Vec<Range<usize>>) {
    match value {
        DeValue::Table(table) => values(table, hidden),
        DeValue::Array(array) => array.iter().for_each(|element| inner(element.get_ref(), hidden)),
        _ => {}
    }
}

/// What stands behind `secret =` on a line; to the end of the text where a string of several lines begins there.
fn lines(text: &str, hidden: &mut Vec<Range<usize>>) {
    let mut start = 0;
    for line in text.split_inclusive('\n') {
        let mut key_start = 0;
        for (equals, _) in line.match_indices('=') {
            if line[key_start..equals].split(|c: char| !c.is_alphanumeric() && c != '_' && c != '-').any(is_secret) {
                let rest = &line[equals..];
                let open_end = rest.matches("\"\"\"").count() == 1 || rest.matches("'''").count() == 1;
                let end = if open_end { text.len() } else { start + line.len() };
                hidden.push(start + equals + 1..end);
                break;
            }
            key_start = equals + 1;
        }
        // A user with a password in an address.
        for (at, mark) in line.match_indices("://") {
            let user = at + mark.len();
            hidden.extend(line[user..].rfind('@').map(|end| start + user..start + user + end));
        }
        start += line.len();
    }
}

/// Whether a key is a password's, or somebody's attempt at writing one.
fn is_secret(key: &str) -> bool {
    const PARTS: [&str; 6] = ["pass", "pasw", "pwd", "secret", "auth", "token"];
    // Longer words are no typing error.
    const MAX_WORD: usize = 16;
    let key = key.to_ascii_lowercase();
    // A key belongs into a file of its own. Who writes one here anyhow shall not see it in a log.
    let is_key = key.contains("key") && !key.contains("file");
    is_key
        || PARTS.iter().any(|part| key.contains(part))
        || ((5..=MAX_WORD).contains(&key.len()) && strsim::damerau_levenshtein(&key, "password") <= 3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_form_of_a_password_survives() {
        for text in [
            "password = \"hunter2\"",
            "password=\"hunter2\" # hunter2",
            "password = 'hunter2'",
            "pasword = \"hunter2",
            "psswrd = hunter2",
            "\"password\" = \"hunter2\"",
            "vip = [{ vrid = 1, password = \"hunter2\" }]",
            "password = \"\"\"\nhunter2\"\"\"",
            "password = \"\"\"\nhunter2",
            "password = [\n\"hunter2\"\n]",
            "postgres = \"postgresql://vipd:hunter2@db-a/postgres\"",
            "postgres = \"host=db-a password=hunter2 user=vipd\"",
            "auth_pass = \"hunter2\"",
            "password \"hunter2\" = 1\npassword.x = \"hunter2\"",
            "[seal]\nkey = \"hunter2\"",
            "[[vip]\npassword = \"hünter2 hunter2\"",
        ] {
            let masked = masked(text);
            assert_eq!(masked.len(), text.len(), "{text}");
            let secret_is_a_key = text.starts_with("password \"");
            assert!(secret_is_a_key || !masked.contains("hunter2"), "{text}\n{masked}");
        }
    }

    #[test]
    fn other_keys_stay_readable() {
        let text = "[[vip]]\nname = \"db\"\naddresses = [\"10.20.0.100/24\"]\nadvert_interval = \"1s\"\n";
        assert_eq!(masked(text), text);
    }
}
