//! A file in parts: each `[[vip]]` with the tables below it on its own, and all that is left.
//!
//! Only where each part begins is looked at here, by lines; what they mean is the parser's business. A line that only looks like a header, in a
//! text or an array, leaves a part that is no TOML: then the file is read as one.

use std::ops::Range;

const HEADER: &str = "[[vip]]";

/// The vips of a file, in its order.
pub(super) struct Parts<'t> {
    text: &'t str,
    vips: Vec<Range<usize>>,
}

impl<'t> Parts<'t> {
    pub(super) fn of(text: &'t str) -> Self {
        let (mut vips, mut begun, mut at) = (Vec::new(), None, 0);
        for line in text.split_inclusive('\n') {
            let line_text = line.trim_start();
            let goes_on = line_text.starts_with("[vip.") || line_text.starts_with("[[vip.");
            if line_text.starts_with('[') && !goes_on {
                vips.extend(begun.take().map(|begin| begin..at));
                if line_text.starts_with(HEADER) {
                    begun = Some(at);
                }
            }
            at += line.len();
        }
        vips.extend(begun.map(|begin| begin..at));
        Self { text, vips }
    }

    /// What is left: the vips' bytes are spaces, so that all else stays where it is.
    pub(super) fn rest(&self) -> String {
        let mut rest = String::with_capacity(self.text.len());
        for vip in &self.vips {
            rest.push_str(self.text.get(rest.len()..vip.start).unwrap_or_default());
            rest.extend(std::iter::repeat_n(' ', vip.len()));
        }
        rest.push_str(self.text.get(rest.len()..).unwrap_or_default());
        rest
    }

    /// Each vip, and where it stands.
    pub(super) fn vips(&self) -> impl Iterator<Item = (usize, &'t str)> {
        self.vips.iter().filter_map(|vip| Some((vip.start, self.text.get(vip.clone())?)))
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.vips.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_ends_where_another_table_begins() {
        let text = "[node]\nname = \"a\"\n[[vip]] # one\nx = [\n 1 ]\n  [vip.hooks]\n[[vip.check]]\n[[vip]]\r\ny = \"ü\"\n[fence]\nz = 1\n";
        let parts = Parts::of(text);
        let vips: Vec<&str> = parts.vips().map(|(_, vip)| vip).collect();
        assert_eq!(vips, ["[[vip]] # one\nx = [\n 1 ]\n  [vip.hooks]\n[[vip.check]]\n", "[[vip]]\r\ny = \"ü\"\n"]);
        let rest = parts.rest();
        assert_eq!((rest.len(), rest.find("[fence]")), (text.len(), text.find("[fence]")));
        assert_eq!(rest.split_whitespace().collect::<Vec<_>>().join(" "), "[node] name = \"a\" [fence] z = 1");
        assert!(parts.vips().all(|(at, vip)| text[at..].starts_with(vip)));
    }
}
