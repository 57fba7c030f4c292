//! A connection does not outlive the certificate that opened it.
//!
//! A handshake looks at the peer's dates once. Whoever keeps a connection looks again, for as long as it lasts.

use std::time::Duration;

use jiff::Timestamp;
use rustls::time_provider::TimeProvider;

use super::now;

/// A clock may be set while a connection lasts, which no timer notices: it is read again this often.
const LOOK_AGAIN: Duration = Duration::from_secs(60);

/// When to look at the clock again for a certificate that is valid until `not_after`; `None`: it has expired.
/// As in the handshake, the second that `not_after` names is still good. Pure.
pub fn look_again(not_after: Timestamp, now: Timestamp) -> Option<Duration> {
    let left = (not_after.as_second() + 1) * 1000 - now.as_millisecond();
    let left = u64::try_from(left).ok().filter(|&left| left > 0)?;
    Some(Duration::from_millis(left).min(LOOK_AGAIN))
}

/// Waits until a certificate that is valid until `not_after` has expired by this clock. Cancel-safe.
pub async fn expired(not_after: Timestamp, clock: &dyn TimeProvider) {
    while let Some(wait) = look_again(not_after, now(clock)) {
        tokio::time::sleep(wait).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_good_to_the_end_of_its_last_second() {
        let until = Timestamp::from_second(1000).unwrap();
        let look = |ms: i64| look_again(until, Timestamp::from_millisecond(ms).unwrap());
        assert_eq!(look(999_000), Some(Duration::from_secs(2)));
        assert_eq!(look(1_000_000), Some(Duration::from_secs(1)));
        assert_eq!(look(1_000_999), Some(Duration::from_millis(1)));
        assert_eq!(look(1_001_000), None);
        assert_eq!(look(i64::from(i32::MAX)), None, "long over");
    }

    #[test]
    fn a_clock_that_is_set_is_noticed_within_a_minute() {
        assert_eq!(look_again(Timestamp::MAX, Timestamp::UNIX_EPOCH), Some(LOOK_AGAIN));
        assert_eq!(look_again(Timestamp::MAX, Timestamp::MAX), Some(Duration::from_millis(1)));
        assert_eq!(look_again(Timestamp::MIN, Timestamp::MAX), None);
    }
}
