//! LCS: the longest common subsequence of two strings.

use super::strings::absent;
use super::{Args, Context, Failure, Outcome, integer};

/// Most cells of the table: what memory it may take, in u32.
const CELLS_MAX: usize = 64 << 20;

/// Ranges of both strings that match, from the end backwards.
type Match = ((usize, usize), (usize, usize));

pub(super) fn lcs(context: &mut Context<'_, '_>, args: Args<'_>) -> Outcome {
    let (mut is_len, mut is_idx, mut has_lengths, mut least) = (false, false, false, 0);
    let mut index = 3;
    while index < args.len() {
        match () {
            () if args.is(index, "len") => is_len = true,
            () if args.is(index, "idx") => is_idx = true,
            () if args.is(index, "withmatchlen") => has_lengths = true,
            () if args.is(index, "minmatchlen") && index + 1 < args.len() => {
                index += 1;
                least = usize::try_from(integer(args.at(index))?).unwrap_or(0);
            }
            () => return Err(Failure::SYNTAX),
        }
        index += 1;
    }
    if is_len && is_idx {
        let why = "ERR If you want both the length and indexes, please just use IDX.";
        return Err(Failure::fixed(why));
    }
    let types = |_| Failure::fixed("ERR The specified keys must contain string values");
    let mut string = |index: usize| match context.string(args.at(index)) {
        Err(error @ Failure::Engine(_)) => Err(error),
        found => found.map_err(types),
    };
    let a = string(1)?.unwrap_or_else(absent).body;
    let b = string(2)?.unwrap_or_else(absent).body;
    let cells = (a.len() + 1).checked_mul(b.len() + 1).filter(|&cells| cells <= CELLS_MAX);
    if cells.is_none() {
        return Err(Failure::fixed(
            "ERR Insufficient memory, transient memory for LCS exceeds proto-max-bulk-len",
        ));
    }
    let (subsequence, matches) = find(&a, &b);
    let reply = &mut *context.reply;
    if is_len {
        reply.count(subsequence.len());
        return Ok(());
    }
    if !is_idx {
        reply.bulk(&subsequence);
        return Ok(());
    }
    reply.map(2);
    reply.bulk(b"matches");
    let shown: Vec<_> =
        matches.iter().filter(|((start, end), _)| end - start + 1 >= least).collect();
    reply.array(shown.len());
    for ((a_start, a_end), (b_start, b_end)) in shown {
        reply.array(if has_lengths { 3 } else { 2 });
        for (start, end) in [(a_start, a_end), (b_start, b_end)] {
            reply.array(2);
            reply.count(*start);
            reply.count(*end);
        }
        if has_lengths {
            reply.count(a_end - a_start + 1);
        }
    }
    reply.bulk(b"len");
    reply.count(subsequence.len());
    Ok(())
}

/// The subsequence, and the ranges it consists of (Wagner and Fischer's table, walked backwards).
fn find(a: &[u8], b: &[u8]) -> (Vec<u8>, Vec<Match>) {
    let width = b.len() + 1;
    let mut table = vec![0_u32; (a.len() + 1) * width];
    for i in 1..=a.len() {
        for j in 1..=b.len() {
            table[i * width + j] = if a[i - 1] == b[j - 1] {
                table[(i - 1) * width + j - 1] + 1
            } else {
                table[(i - 1) * width + j].max(table[i * width + j - 1])
            };
        }
    }
    let (mut i, mut j) = (a.len(), b.len());
    let (mut found, mut matches): (_, Vec<Match>) = (Vec::new(), Vec::new());
    while i > 0 && j > 0 {
        if a[i - 1] == b[j - 1] {
            found.push(a[i - 1]);
            (i, j) = (i - 1, j - 1);
            match matches.last_mut() {
                Some((in_a, in_b)) if in_a.0 == i + 1 && in_b.0 == j + 1 => {
                    (in_a.0, in_b.0) = (i, j)
                }
                _ => matches.push(((i, i), (j, j))),
            }
        } else if table[(i - 1) * width + j] > table[i * width + j - 1] {
            i -= 1;
        } else {
            j -= 1;
        }
    }
    found.reverse();
    (found, matches)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ranges_of_the_documented_example() {
        let (found, matches) = find(b"ohmytext", b"mynewtext");
        assert_eq!(found, b"mytext");
        assert_eq!(matches, [((4, 7), (5, 8)), ((2, 3), (0, 1))]);
    }
}
