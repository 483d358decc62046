//! Which addresses are one source. An IPv6 host has, and changes between, as many addresses as it likes within its /64;
//! IPv4 addresses are always kept apart.

use std::net::{IpAddr, Ipv6Addr};

/// How many leading bits of an IPv6 address tell sources apart: 1 to 128.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grouping(u8);

impl Default for Grouping {
    fn default() -> Self {
        Self(128)
    }
}

impl Grouping {
    /// Groups by `bits`; more than 128 are 128.
    pub const fn new(bits: u8) -> Self {
        Self(if bits > 128 { 128 } else { bits })
    }

    /// The source that an address belongs to: the first address of its prefix.
    pub fn source(self, address: IpAddr) -> IpAddr {
        match address {
            IpAddr::V6(address) => {
                let mask = u128::MAX.checked_shl(128 - u32::from(self.0)).unwrap_or(0);
                IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & mask))
            }
            IpAddr::V4(_) => address,
        }
    }

    /// The length of a source's prefix, if it stands for more than one address.
    pub const fn prefix(self, source: IpAddr) -> Option<u8> {
        if source.is_ipv6() && self.0 < 128 { Some(self.0) } else { None }
    }

    /// A source as people write it: with its prefix, if it has one.
    pub fn name(self, source: IpAddr) -> String {
        match self.prefix(source) {
            Some(bits) => format!("{source}/{bits}"),
            None => source.to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_ipv6_is_grouped_and_only_when_asked() {
        let (v4, v6) =
            (IpAddr::from([10, 1, 2, 3]), "2001:db8:1:2:3:4:5:6".parse().unwrap_or(IpAddr::from([0; 16])));
        for (bits, name) in [
            (128, "2001:db8:1:2:3:4:5:6"),
            (64, "2001:db8:1:2::/64"),
            (61, "2001:db8:1::/61"),
            (1, "::/1"),
            (200, "2001:db8:1:2:3:4:5:6"),
        ] {
            let grouping = Grouping::new(bits);
            assert_eq!(grouping.name(grouping.source(v6)), name);
            assert_eq!(grouping.name(grouping.source(v4)), "10.1.2.3");
        }
    }
}
