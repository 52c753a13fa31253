//! Links within the book and from the README to it, files that the book includes, and the table of contents. What lies on other servers is not
//! asked.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};

use crate::{chapters, root};

pub fn lead_somewhere() -> Result<()> {
    let contents = root().join("docs/src/SUMMARY.md");
    let contents = fs::read_to_string(&contents).context("the table of contents")?;
    let listed: BTreeSet<&str> = targets(&contents).into_iter().collect();
    let there: BTreeSet<String> = chapters()?.iter().map(|chapter| format!("{}.md", chapter.name)).collect();
    let there: BTreeSet<&str> = there.iter().map(String::as_str).collect();
    ensure!(listed == there, "the table of contents lists {listed:?}, and there are {there:?}");
    let mut count = 0;
    for chapter in chapters()? {
        for target in targets(&chapter.text) {
            check(&chapter.path, target).with_context(|| format!("{}: the link to {target:?}", chapter.name))?;
            count += 1;
        }
    }
    let readme = root().join("README.md");
    for target in targets(&fs::read_to_string(&readme)?) {
        leads_from(&readme, target).with_context(|| format!("README: the link to {target:?}"))?;
        count += 1;
    }
    for chapter in chapters()? {
        for rest in chapter.text.split("{{#include ").skip(1) {
            let file = rest.split("}}").next().unwrap_or_default();
            let path = chapter.path.parent().context("a folder")?.join(file);
            ensure!(path.is_file(), "{}: there is no {}", chapter.name, path.display());
        }
    }
    ensure!(count > 10, "only {count} links were found");
    Ok(())
}

fn check(from: &Path, target: &str) -> Result<()> {
    if target.starts_with("https://") {
        return Ok(());
    }
    ensure!(!target.contains('/'), "the pages that mdBook makes have nothing outside the book");
    leads_from(from, target)
}

fn leads_from(from: &Path, target: &str) -> Result<()> {
    let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
    let path = if file.is_empty() { from.to_owned() } else { from.parent().context("a folder")?.join(file) };
    let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    ensure!(anchor.is_empty() || headings(&text).contains(anchor), "there is no heading of it");
    Ok(())
}

/// What stands in the round brackets of links. Blocks of code have none.
fn targets(text: &str) -> Vec<&str> {
    let mut in_code = false;
    let mut targets = Vec::new();
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            in_code = !in_code;
        }
        if !in_code {
            let links = line.match_indices("](").filter_map(|(at, _)| line[at + 2..].split_once(')'));
            targets.extend(links.map(|(target, _)| target));
        }
    }
    targets
}

/// The anchors of headings, as mdBook makes them.
fn headings(text: &str) -> BTreeSet<String> {
    let titles = text.lines().filter_map(|line| line.strip_prefix('#').map(|rest| rest.trim_start_matches('#').trim()));
    titles.map(anchor).collect()
}

/// The anchor of a heading.
pub fn anchor(title: &str) -> String {
    let kept = title.chars().filter(|c| c.is_alphanumeric() || matches!(c, '_' | '-' | ' '));
    kept.map(|c| if c == ' ' { '-' } else { c.to_ascii_lowercase() }).collect()
}
