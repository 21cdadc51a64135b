//! The clock: tokens and certificates are good for a time.

use jiff::{SignedDuration, Timestamp};

use super::Finding;

/// As far as token verification goes.
const TOLERANCE: SignedDuration = SignedDuration::from_secs(30);
/// When this was written (2026-01-01): no clock that is right shows less.
const WRITTEN: i64 = 1_767_225_600;
const SUBJECT: &str = "clock";

/// `ahead`: how far this host's clock is ahead of others'.
pub fn check(ahead: &[SignedDuration]) -> Finding {
    judge(Timestamp::now(), ahead, synchronised())
}

fn judge(now: Timestamp, ahead: &[SignedDuration], synchronised: bool) -> Finding {
    let advice = "set it, and have it kept right (timedatectl set-ntp true)";
    // Programs are built before they run, unless the clock is wrong. The tests' stand-ins have no clocks of their own.
    if now.as_second() < WRITTEN && ahead.is_empty() {
        let says = format!("it shows {now}, which is before this program was written");
        return Finding::warn(SUBJECT, says, advice);
    }
    if let Some(off) = ahead.iter().max_by_key(|off| off.abs())
        && off.abs() > TOLERANCE
    {
        let says = format!(
            "it is {} s off from an issuer's: good tokens would be refused and expired ones taken",
            off.as_secs()
        );
        return Finding::fail(SUBJECT, says, advice);
    }
    let compared = match ahead.len() {
        0 => "",
        _ => ", as the issuers' do",
    };
    if synchronised {
        return Finding::ok(
            SUBJECT,
            format!("it is kept right and shows {now:.0}{compared}"),
        );
    }
    let says = format!("it shows {now:.0}{compared}, but nothing keeps it right");
    Finding::warn(SUBJECT, says, advice)
}

/// Whether the kernel is told by somebody what time it is (`STA_UNSYNC` of adjtimex(2)).
fn synchronised() -> bool {
    // SAFETY: all zero is a valid timex, which asks for no change.
    let mut timex: libc::timex = unsafe { std::mem::zeroed() };
    // SAFETY: writes one timex.
    let state = unsafe { libc::adjtimex(&raw mut timex) };
    state != -1 && timex.status & libc::STA_UNSYNC == 0
}

#[cfg(test)]
mod tests {
    use super::{super::Grade, *};

    #[test]
    fn a_clock_that_is_off_fails() {
        let now = Timestamp::from_second(WRITTEN + 1000).expect("a time");
        let seconds = SignedDuration::from_secs;
        assert_eq!(judge(now, &[seconds(2)], true).grade, Grade::Ok);
        assert_eq!(judge(now, &[seconds(2)], false).grade, Grade::Warn);
        assert_eq!(
            judge(now, &[seconds(1), seconds(-40)], true).grade,
            Grade::Fail
        );
        let early = Timestamp::from_second(1000).expect("a time");
        assert_eq!(judge(early, &[], true).grade, Grade::Warn);
    }
}
