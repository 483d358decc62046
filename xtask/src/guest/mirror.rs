//! Where this machine gets its Debian packages from.
//!
//! In: apt's own source files. Out: the addresses of the archive and of its security updates. Refused: machines whose
//! sources name no Debian archive.
//!
//! Read rather than written down, so that guests' kernels come from wherever the machine's other packages come from.

use std::fs;
use std::path::Path;

use anyhow::{Result, bail};

/// The archive's keys, by the name they have had so far and the one they are moving to.
const KEYS: [&str; 2] =
    ["/usr/share/keyrings/debian-archive-keyring.gpg", "/usr/share/keyrings/debian-archive-keyring.pgp"];

/// A Debian archive.
#[derive(PartialEq, Eq, Debug)]
pub(super) struct Mirror {
    pub(super) archive: String,
    pub(super) security: Option<String>,
    pub(super) keys: &'static str,
}

/// One address and one suite that it serves.
#[derive(PartialEq, Eq, Debug)]
struct Source {
    address: String,
    suite: String,
    has_main: bool,
    /// Whether it names Debian's own keys.
    debian_keys: bool,
}

/// Reads the machine's sources.
pub(super) fn of_this_machine() -> Result<Mirror> {
    let Some(keys) = KEYS.into_iter().find(|keys| Path::new(keys).exists()) else {
        bail!(
            "guests' kernels are Debian packages, and {} is not here (package debian-archive-keyring)",
            KEYS[0]
        );
    };
    let mut files = vec![Path::new("/etc/apt/sources.list").to_owned()];
    files.extend(
        fs::read_dir("/etc/apt/sources.list.d").into_iter().flatten().flatten().map(|entry| entry.path()),
    );
    files.sort();
    let mut sources = Vec::new();
    for file in files {
        let text = fs::read_to_string(&file).unwrap_or_default();
        match file.extension().and_then(|extension| extension.to_str()) {
            Some("list") => sources.extend(text.lines().filter_map(one_line)),
            Some("sources") => sources.extend(text.split("\n\n").flat_map(stanza)),
            _ => {}
        }
    }
    let codename = fs::read_to_string("/etc/os-release").unwrap_or_default();
    let codename = codename
        .lines()
        .find_map(|line| line.strip_prefix("VERSION_CODENAME="))
        .unwrap_or("sid")
        .trim_matches('"');
    match choose(&sources, codename) {
        Some((archive, security)) => Ok(Mirror { archive, security, keys }),
        None => bail!(
            "guests' kernels are Debian packages, and apt's sources here name no Debian archive for {codename}"
        ),
    }
}

/// Debian's archive is the source that serves this release's own suite; others serve it too, without Debian's keys.
fn choose(sources: &[Source], codename: &str) -> Option<(String, Option<String>)> {
    let suites = [codename, "stable", "testing", "unstable", "sid"];
    let archives =
        || sources.iter().filter(|source| source.has_main && suites.contains(&source.suite.as_str()));
    let ends = |source: &&Source| source.address.trim_end_matches('/').ends_with("/debian");
    let archive = archives().find(|source| source.debian_keys).or_else(|| archives().find(ends))?;
    let security = sources.iter().find(|source| source.has_main && source.suite.ends_with("-security"));
    Some((archive.address.clone(), security.map(|source| source.address.clone())))
}

/// Reads a line such as `deb [signed-by=KEYS] ADDRESS SUITE main`.
fn one_line(line: &str) -> Option<Source> {
    let rest = line.trim().strip_prefix("deb ")?.trim_start();
    let (options, rest) = match rest.strip_prefix('[') {
        Some(rest) => rest.split_once(']')?,
        None => ("", rest),
    };
    let mut words = rest.split_whitespace();
    Some(Source {
        address: words.next()?.to_owned(),
        suite: words.next()?.to_owned(),
        has_main: words.any(|component| component == "main"),
        debian_keys: options.contains("/debian-archive"),
    })
}

/// Reads a paragraph of `Types:`, `URIs:`, `Suites:`, `Components:`: one source per address and suite.
fn stanza(text: &str) -> Vec<Source> {
    let lines = || text.lines().filter(|line| !line.starts_with('#'));
    let field = |name: &str| {
        let value =
            lines().find_map(|line| line.split_once(':').filter(|(key, _)| key.eq_ignore_ascii_case(name)));
        value.map_or("", |(_, value)| value).split_whitespace().collect::<Vec<_>>()
    };
    if !field("Types").contains(&"deb") || field("Enabled") == ["no"] {
        return Vec::new();
    }
    let has_main = field("Components").contains(&"main");
    let debian_keys = field("Signed-By").iter().any(|keys| keys.contains("/debian-archive"));
    let suites = field("Suites");
    let each = |address: &str| {
        let address = address.to_owned();
        let source = move |suite: &&str| Source {
            address: address.clone(),
            suite: (*suite).to_owned(),
            has_main,
            debian_keys,
        };
        suites.iter().map(source).collect::<Vec<_>>()
    };
    field("URIs").into_iter().flat_map(each).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const STANZAS: &str = "Types: deb\n# a remark: http://old.example/debian\nURIs: http://mirror.example/debian\n\
        Suites: bookworm bookworm-updates\nComponents: main\nSigned-By: /usr/share/keyrings/debian-archive-keyring.gpg\n\n\
        Types: deb\nURIs: http://mirror.example/debian-security\nSuites: bookworm-security\nComponents: main\n\
        Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg\n\n\
        Types: deb\nEnabled: no\nURIs: http://off.example/debian\nSuites: bookworm\nComponents: main\n\n\
        Types: deb-src\nURIs: http://source.example/debian\nSuites: bookworm\nComponents: main\n";

    #[test]
    fn the_archive_is_read_from_stanzas() {
        let sources = STANZAS.split("\n\n").flat_map(stanza).collect::<Vec<_>>();
        assert_eq!(sources.len(), 3);
        let security = Some("http://mirror.example/debian-security".to_owned());
        assert_eq!(choose(&sources, "bookworm"), Some(("http://mirror.example/debian".to_owned(), security)));
    }

    #[test]
    fn the_archive_is_read_from_lines_and_others_are_passed_over() {
        let lines = "# deb http://remark.example/debian bookworm main\n\
            deb [arch=amd64] http://tools.example/apt bookworm main\n\
            deb http://other.example/linux/debian bookworm stable\n\
            deb-src http://mirror.example/debian bookworm main\n\
            deb http://mirror.example/debian/ bookworm main contrib\n";
        let sources = lines.lines().filter_map(one_line).collect::<Vec<_>>();
        assert_eq!(sources.len(), 3);
        assert_eq!(choose(&sources, "bookworm"), Some(("http://mirror.example/debian/".to_owned(), None)));
        assert_eq!(choose(&sources, "noble"), None);
    }

    #[test]
    fn debians_own_keys_decide() {
        let lines = "deb http://first.example/debian trixie main\n\
            deb [signed-by=/usr/share/keyrings/debian-archive-keyring.pgp] mirror+file:/etc/apt/mirrors.list trixie main\n";
        let sources = lines.lines().filter_map(one_line).collect::<Vec<_>>();
        assert_eq!(choose(&sources, "trixie"), Some(("mirror+file:/etc/apt/mirrors.list".to_owned(), None)));
    }
}
