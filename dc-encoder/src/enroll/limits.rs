//! How often somebody may try. Pure: `now` comes from outside.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::time::Instant;

use crate::session::rates::Bucket;

/// Attempts at once from one address: a person who mistypes, behind an address that a site shares.
const AT_ONCE: f64 = 10.0;
/// And then one in six seconds.
const PER_SECOND: f64 = 1.0 / 6.0;
/// Attempts a second of all together: each costs two signatures and two writes.
const TOGETHER: f64 = 20.0;
/// Addresses that are remembered; they have proven that they receive there.
const ADDRESSES: usize = 4096;

/// Counts attempts by address, and all together.
#[derive(Debug)]
pub struct Attempts {
    together: Bucket,
    by_address: HashMap<IpAddr, Bucket>,
}

impl Attempts {
    /// Nobody has tried.
    #[must_use]
    pub fn new(now: Instant) -> Self {
        Self { together: Bucket::new(TOGETHER, TOGETHER, now), by_address: HashMap::new() }
    }

    /// Whether one more may be made from there; if so, it is counted.
    pub fn admit(&mut self, from: IpAddr, now: Instant) -> bool {
        let from = network(from);
        if self.by_address.len() >= ADDRESSES && !self.by_address.contains_key(&from) {
            // Those who have not tried lately are as good as new.
            self.by_address.retain(|_, bucket| !bucket.fits(AT_ONCE, now));
            if self.by_address.len() >= ADDRESSES {
                return false;
            }
        }
        let bucket = self.by_address.entry(from).or_insert_with(|| Bucket::new(PER_SECOND, AT_ONCE, now));
        if !bucket.fits(1.0, now) || !self.together.fits(1.0, now) {
            return false;
        }
        bucket.take(1.0);
        self.together.take(1.0);
        true
    }
}

/// Whoever has an IPv6 address has its whole /64.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => {
            let [a, b, c, d, ..] = v6.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn one_address_does_not_keep_others_out() {
        let now = Instant::now();
        let mut attempts = Attempts::new(now);
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        let first = (0..20).filter(|_| attempts.admit(ip("192.0.2.1"), now)).count();
        assert_eq!(first, 10);
        assert!(attempts.admit(ip("192.0.2.2"), now));
        assert!(!attempts.admit(ip("::ffff:192.0.2.1"), now));
        let later = now + Duration::from_secs(7);
        assert!(attempts.admit(ip("192.0.2.1"), later) && !attempts.admit(ip("192.0.2.1"), later));
    }

    #[test]
    fn neither_many_addresses_of_one_network_nor_many_networks_get_more() {
        let now = Instant::now();
        let mut attempts = Attempts::new(now);
        let one = (0..20_u16)
            .filter(|n| attempts.admit(Ipv6Addr::new(1, 2, 3, 4, 0, 0, 0, *n).into(), now))
            .count();
        assert_eq!(one, 10);
        let many = (0..9000_u16)
            .filter(|n| attempts.admit(Ipv6Addr::new(9, *n, 0, 0, 0, 0, 0, 0).into(), now))
            .count();
        assert_eq!(many, 10, "twenty a second, all together");
        assert!(attempts.by_address.len() <= ADDRESSES);
    }
}
