//! When to try again. No IO, no clock.

use std::time::Duration;

use http::HeaderValue;
use jiff::{Timestamp, fmt::rfc2822};

const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(300);

/// How long to wait after so many failures (1 and more). `dice` is any number: receivers that come back are not to be met by everybody
/// at once, so half of the time is up to it.
pub(crate) fn pause(failures: u32, dice: u32) -> Duration {
    let whole = FIRST
        .saturating_mul(2_u32.saturating_pow(failures.saturating_sub(1)))
        .min(LONGEST);
    let half = whole / 2;
    half + half.mul_f64(f64::from(dice) / f64::from(u32::MAX))
}

/// What `Retry-After` asks for (RFC 9110, section 10.2.3): seconds or a date.
pub(super) fn retry_after(value: &HeaderValue, now: Timestamp) -> Option<Duration> {
    let text = value.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse::<u32>() {
        return Some(Duration::from_secs(seconds.into()));
    }
    let date = rfc2822::parse(text).ok()?.timestamp();
    Duration::try_from(date.duration_since(now)).ok()
}

/// Any number.
pub(crate) fn dice() -> u32 {
    let mut bytes = [0; 4];
    // Without dice everybody comes at once: no harm to us.
    let _ = getrandom::fill(&mut bytes);
    u32::from_ne_bytes(bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_grows_up_to_a_limit_and_never_is_nothing(failures in 1_u32.., dice: u32) {
            let pause = pause(failures, dice);
            prop_assert!(pause >= FIRST / 2 && pause <= LONGEST, "{pause:?}");
        }

        #[test]
        fn any_header_is_read_or_not(bytes in proptest::collection::vec(32_u8..127, 0..60)) {
            let value = HeaderValue::from_bytes(&bytes).expect("visible ASCII");
            let _ = retry_after(&value, Timestamp::UNIX_EPOCH);
        }
    }

    #[test]
    fn each_failure_doubles_it() {
        let most = |failures| pause(failures, u32::MAX).as_secs_f64().round();
        assert_eq!(
            [most(1), most(2), most(3), most(9), most(10)],
            [1., 2., 4., 256., 300.]
        );
        assert_eq!(pause(3, 0), Duration::from_secs(2));
    }

    #[test]
    fn seconds_and_dates_are_understood() {
        let now = Timestamp::from_second(1_445_412_420).expect("a time");
        let after = |text| retry_after(&HeaderValue::from_static(text), now);
        assert_eq!(after("120"), Some(Duration::from_secs(120)));
        assert_eq!(
            after("Wed, 21 Oct 2015 07:28:00 GMT"),
            Some(Duration::from_secs(60))
        );
        assert_eq!(after("Wed, 21 Oct 2015 07:20:00 GMT"), None, "over");
        assert_eq!(after("soon"), None);
    }
}
