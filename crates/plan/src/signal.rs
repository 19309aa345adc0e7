//! Signals by name, as images write them.

/// Names by number, from 1. See signal(7).
const NAMES: [&str; 31] = [
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE",
    "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ",
    "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
];
/// Other names of the same numbers.
const ALIASES: [(&str, i32); 4] = [("IOT", 6), ("CLD", 17), ("POLL", 29), ("UNUSED", 31)];
/// The first real-time signal that a C library leaves to programs.
const RTMIN: i32 = 34;
const RTMAX: i32 = 64;

/// SIGTERM: what ends a container whose image says nothing else.
pub(crate) const TERM: i32 = 15;

/// Returns the number of `SIGQUIT`, `quit`, `3`, `RTMIN+1` or `SIGRTMAX-2`.
pub(crate) fn number_of(text: &str) -> Option<i32> {
    if let Ok(number) = text.parse() {
        return (1..=RTMAX).contains(&number).then_some(number);
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    let number = NAMES.iter().position(|known| *known == name).and_then(|at| i32::try_from(at + 1).ok());
    let alias = || ALIASES.iter().find(|(alias, _)| *alias == name).map(|(_, number)| *number);
    number.or_else(alias).or_else(|| real_time(name))
}

fn real_time(name: &str) -> Option<i32> {
    let (base, rest) = match name.strip_prefix("RTMIN") {
        Some(rest) => (RTMIN, rest),
        None => (RTMAX, name.strip_prefix("RTMAX")?),
    };
    // Only ever inwards: RTMIN+n, RTMAX-n.
    let (sign, digits) = match (base, rest.chars().next()) {
        (_, None) => return Some(base),
        (RTMIN, Some('+')) => (1, &rest[1..]),
        (RTMAX, Some('-')) => (-1, &rest[1..]),
        _ => return None,
    };
    let offset: u8 = digits.parse().ok().filter(|_| digits.bytes().all(|b| b.is_ascii_digit()))?;
    Some(base + sign * i32::from(offset)).filter(|number| (RTMIN..=RTMAX).contains(number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_by_name_and_number() {
        for (text, expected) in [
            ("SIGTERM", Some(15)),
            ("TERM", Some(15)),
            ("sigquit", Some(3)),
            ("SIGSYS", Some(31)),
            ("SIGWINCH", Some(28)),
            ("SIGCLD", Some(17)),
            ("9", Some(9)),
            ("64", Some(64)),
            ("RTMIN", Some(34)),
            ("SIGRTMIN+3", Some(37)),
            ("RTMAX", Some(64)),
            ("RTMAX-14", Some(50)),
            ("RTMIN+30", Some(64)),
            ("RTMIN+31", None),
            ("RTMAX-31", None),
            ("RTMIN-1", None),
            ("RTMIN++1", None),
            ("RTMIN+", None),
            ("0", None),
            ("65", None),
            ("-1", None),
            ("SIG", None),
            ("", None),
            ("SIGSIGTERM", None),
            ("HANGUP", None),
        ] {
            assert_eq!(number_of(text), expected, "{text}");
        }
    }
}
