//! Figures as a reply: a map of names and whole numbers.

use std::time::Duration;

use seawall::Lsn;

use crate::resp::Reply;

/// A number of a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Figure {
    Count(u64),
    Position(Lsn),
    /// Told in microseconds.
    Time(Duration),
    /// There is none.
    Nothing,
}

impl Figure {
    pub(super) fn or_nothing<T>(value: Option<T>, figure: fn(T) -> Self) -> Self {
        value.map_or(Self::Nothing, figure)
    }

    fn tell(self, reply: &mut Reply) {
        let number = match self {
            Self::Count(count) => u128::from(count),
            Self::Position(lsn) => u128::from(lsn.get()),
            Self::Time(time) => time.as_micros(),
            Self::Nothing => return reply.null(),
        };
        reply.integer(i64::try_from(number).unwrap_or(i64::MAX));
    }
}

/// Writes named figures, in front of `more` further pairs that the caller writes.
pub(super) fn tell(reply: &mut Reply, figures: &[(&str, Figure)], more: usize) {
    reply.map(figures.len() + more);
    for (name, figure) in figures {
        reply.bulk(name.as_bytes());
        figure.tell(reply);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_microseconds_and_what_is_absent_is_null() {
        let mut reply = Reply::default();
        let figures = [
            ("time_us", Figure::Time(Duration::from_millis(2))),
            ("age_us", Figure::or_nothing(None, Figure::Time)),
            ("most", Figure::Count(u64::MAX)),
        ];
        tell(&mut reply, &figures, 0);
        let told = "*6\r\n$7\r\ntime_us\r\n:2000\r\n$6\r\nage_us\r\n$-1\r\n$4\r\nmost\r\n:9223372036854775807\r\n";
        assert_eq!(String::from_utf8(reply.bytes).unwrap(), told);
    }
}
