//! Failing workloads made small: what is not needed for the failure is left out. What is left is
//! named by its places in the whole workload, so that a seed and a few numbers bring it back.

use std::ops::RangeInclusive;

/// Leaves out of `0..count` what is not needed for `fails` to be true of the rest, which it is asked no
/// more than `tries_max` times.
pub fn shrink(
    count: usize,
    tries_max: usize,
    mut fails: impl FnMut(&[usize]) -> bool,
) -> Vec<usize> {
    let mut kept: Vec<usize> = (0..count).collect();
    let mut tries = 0;
    let mut size = count.div_ceil(2);
    while size > 0 {
        let mut start = 0;
        while start < kept.len() && tries < tries_max {
            let mut fewer = kept.clone();
            fewer.drain(start..(start + size).min(kept.len()));
            tries += 1;
            if fails(&fewer) {
                kept = fewer;
            } else {
                start += size;
            }
        }
        size /= 2;
    }
    kept
}

/// Places as a list of numbers and ranges: `0,4-7,9`.
#[must_use]
pub fn show(kept: &[usize]) -> String {
    let mut ranges: Vec<RangeInclusive<usize>> = Vec::new();
    for &place in kept {
        match ranges.last_mut() {
            Some(range) if *range.end() + 1 == place => *range = *range.start()..=place,
            _ => ranges.push(place..=place),
        }
    }
    let show = |range: &RangeInclusive<usize>| match (range.start(), range.end()) {
        (start, end) if start == end => start.to_string(),
        (start, end) => format!("{start}-{end}"),
    };
    ranges.iter().map(show).collect::<Vec<_>>().join(",")
}

/// The places that [`show`] has written.
///
/// # Panics
/// When the text is something else.
#[must_use]
pub fn parse(text: &str) -> Vec<usize> {
    let number = |text: &str| text.parse::<usize>().expect("a place in the workload");
    let places = |part: &str| match part.split_once('-') {
        Some((start, end)) => number(start)..=number(end),
        None => number(part)..=number(part),
    };
    text.split(',').flat_map(places).collect()
}

#[cfg(test)]
mod tests {
    use super::{parse, show, shrink};

    #[test]
    fn what_is_needed_is_left_and_nothing_else() {
        let needed = [3, 4, 5, 60, 99];
        let kept = shrink(120, 500, |kept| needed.iter().all(|place| kept.contains(place)));
        assert_eq!(kept, needed);
        assert_eq!(show(&kept), "3-5,60,99");
        assert_eq!(parse(&show(&kept)), kept);
    }

    #[test]
    fn what_fails_by_itself_shrinks_to_nothing() {
        assert!(shrink(50, 100, |_| true).is_empty());
        assert_eq!(shrink(50, 0, |_| true).len(), 50);
        assert_eq!(show(&[]), "");
        assert_eq!(parse("7"), [7]);
    }
}
