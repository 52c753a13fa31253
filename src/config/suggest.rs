//! "Did you mean": the nearest known key, and what keepalived's words are called here.

/// What keepalived or habit calls it, what is to be written here instead, and the key of ours that this is, if any.
const OTHER_WORDS: [(&str, &str, Option<&str>); 17] = [
    ("virtual_router_id", "this is `vrid` here", Some("vrid")),
    ("advert_int", "this is `advert_interval = \"1s\"` here, with the unit written out", None),
    ("virtual_ipaddress", "this is `addresses = [\"10.20.0.100/24\"]` here", Some("addresses")),
    ("virtual_ipaddress_excluded", "list all addresses in `addresses`", Some("addresses")),
    ("auth_pass", "this is `password` here, for `version = 2` only", None),
    ("auth_type", "remove it: `password` alone selects plain text authentication", None),
    ("authentication", "this is `password` here, for `version = 2` only", None),
    ("unicast_peer", "this is `peers = [\"192.0.2.2\"]` here", None),
    ("unicast_src_ip", "remove it: adverts are sent from the interface's primary address", None),
    ("nopreempt", "this is `preempt = false` here", None),
    ("preempt_delay", "this is `preempt = { delay = \"30s\" }` here", None),
    ("use_vmac", "this is `mac = \"virtual\"` here", None),
    ("state", "remove it: a node starts as Backup, and as Active only with `priority = 255`", None),
    ("iface", "did you mean `interface`?", Some("interface")),
    ("device", "did you mean `interface`?", Some("interface")),
    ("dev", "did you mean `interface`?", Some("interface")),
    ("garp_master_refresh", "this is `announce = { refresh = \"60s\" }` here", None),
];

/// The remedy for an unknown key where `known` would have been understood, and the key that was probably meant.
pub(super) fn key(unknown: &str, known: &[&'static str]) -> (String, Option<&'static str>) {
    let lower = unknown.to_ascii_lowercase().replace('-', "_");
    if let Some((_, remedy, meant)) = OTHER_WORDS.iter().find(|(word, ..)| *word == lower) {
        return ((*remedy).to_string(), *meant);
    }
    match nearest(&lower, known) {
        Some(near) => (format!("did you mean `{near}`?"), Some(near)),
        None => {
            let mut known = known.to_vec();
            known.sort_unstable();
            (format!("remove it; known keys: {}", known.join(", ")), None)
        }
    }
}

/// The candidate that needs the fewest edits, if these are not more than a third of the word.
fn nearest(word: &str, candidates: &[&'static str]) -> Option<&'static str> {
    // A longer word is no typing error, and its distance would cost time.
    const MAX_WORD: usize = 40;
    if word.len() > MAX_WORD {
        return None;
    }
    let distance = |candidate: &&'static str| strsim::damerau_levenshtein(word, candidate);
    // A part of the word, or the word and more.
    let related = |near: &str| {
        let begins_or_ends = word.starts_with(near) || near.starts_with(word) || near.ends_with(word);
        near.len() >= 4 && word.len() >= 4 && begins_or_ends
    };
    let near = candidates.iter().copied().min_by_key(|near| (!related(near), distance(near)))?;
    (related(near) || distance(&near) <= near.len().max(word.len()).div_ceil(3)).then_some(near)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_typing_error_finds_its_key() {
        let known = ["name", "interface", "vrid", "priority", "addresses", "advert_interval"];
        for (wrong, right) in [
            ("prioritty", "priority"),
            ("address", "addresses"),
            ("VRID", "vrid"),
            ("advert", "advert_interval"),
            ("interval", "advert_interval"),
        ] {
            assert_eq!(key(wrong, &known), (format!("did you mean `{right}`?"), Some(right)));
        }
    }

    #[test]
    fn a_strange_word_gets_the_list() {
        assert_eq!(key("zebra", &["vrid", "name"]), ("remove it; known keys: name, vrid".to_string(), None));
        assert!(key(&"x".repeat(5000), &["vrid"]).0.starts_with("remove it"));
    }

    #[test]
    fn keepalived_words_are_translated() {
        assert_eq!(key("virtual_router_id", &["vrid"]), ("this is `vrid` here".to_string(), Some("vrid")));
    }
}
