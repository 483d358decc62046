//! The kernel's version, for the few things that nothing else tells.

/// Major and minor number of the running kernel; `None` where its release does not begin with them.
pub fn version() -> Option<(u32, u32)> {
    parse(&rustix::system::uname().release().to_string_lossy())
}

/// Whether a program on a tracepoint can be preempted, which makes the kernel skip it for the tasks that run meanwhile.
/// Seen on 7.2 and not on 6.18; a kernel whose version is not known is taken for one that does.
pub(super) fn tracepoints_are_preemptible() -> bool {
    version().is_none_or(|version| version >= (6, 19))
}

fn parse(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn versions_are_read_off_releases() {
        assert_eq!(parse("6.18.44-fc-v669"), Some((6, 18)));
        assert_eq!(parse("5.10.0-28-cloud-amd64"), Some((5, 10)));
        assert_eq!(parse("5.4"), Some((5, 4)));
        assert_eq!(parse("unknown"), None);
        assert_eq!(parse(""), None);
    }
}
