//! Version numbers, as far as setup compares them.
//!
//! In: text such as `1.97.0-nightly` or `1.96.0+dfsg1-1`. Out: its first two numbers. Refused: text without them.

use std::fmt;

/// Major and minor number.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Version(pub(super) u32, pub(super) u32);

impl Version {
    /// Reads the first two numbers of `text`.
    pub(super) fn read(text: &str) -> Option<Self> {
        let mut numbers = text.trim().splitn(3, '.');
        let major = numbers.next()?.parse().ok()?;
        let digits = numbers.next()?;
        let end = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
        Some(Self(major, digits[..end].parse().ok()?))
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.0, self.1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_the_tools_print() {
        assert_eq!(Version::read("1.97.0-nightly"), Some(Version(1, 97)));
        assert_eq!(Version::read("1.96.0+dfsg1-1~deb12u2"), Some(Version(1, 96)));
        assert_eq!(Version::read("0.13"), Some(Version(0, 13)));
        assert_eq!(Version::read("22.1-rc1"), Some(Version(22, 1)));
        assert_eq!(Version::read("nightly"), None);
        assert_eq!(Version::read("1:2.3"), None);
        assert_eq!(Version::read(""), None);
    }

    #[test]
    fn compares_by_number() {
        assert!(Version(1, 100) > Version(1, 88));
        assert!(Version(0, 9) < Version(0, 13));
    }
}
