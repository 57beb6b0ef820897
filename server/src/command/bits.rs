//! Bits of strings.

use super::strings::{absent, clamp_ends, is_turned};
use super::{Args, Context, Failure, Found, Outcome, integer};
use crate::limits::BULK_BYTES_MAX;

/// A bit's number, counted from the highest bit of the first byte.
pub(super) fn bit_offset(argument: &[u8], bits_per_step: Option<u64>) -> Outcome<u64> {
    let invalid = || Failure::fixed("ERR bit offset is not an integer or out of range");
    let (digits, factor) = match (argument.split_first(), bits_per_step) {
        (Some((b'#', digits)), Some(bits)) => (digits, bits),
        _ => (argument, 1),
    };
    let number = super::number::parse_i64(digits).and_then(|number| u64::try_from(number).ok());
    let offset = number.and_then(|number| number.checked_mul(factor)).ok_or_else(invalid)?;
    if offset >= BULK_BYTES_MAX as u64 * 8 {
        return Err(invalid());
    }
    Ok(offset)
}

fn byte_and_mask(offset: u64) -> (usize, u8) {
    let byte = usize::try_from(offset / 8).expect("strings are shorter than that");
    (byte, 0x80 >> (offset % 8))
}

pub(super) fn setbit(context: &mut Context<'_, '_>, args: Args<'_>) -> Outcome {
    let (byte, mask) = byte_and_mask(bit_offset(args.at(2), None)?);
    let invalid = Failure::fixed("ERR bit is not an integer or out of range");
    let is_one = match super::number::parse_i64(args.at(3)) {
        Some(0) => false,
        Some(1) => true,
        _ => return Err(invalid),
    };
    let mut found = context.string(args.at(1))?.unwrap_or_else(absent);
    let has_grown = found.body.len() <= byte;
    if has_grown {
        found.body.resize(byte + 1, 0);
    }
    let old = found.body[byte] & mask != 0;
    found.body[byte] = if is_one { found.body[byte] | mask } else { found.body[byte] & !mask };
    if has_grown || old != is_one {
        context.put(args.at(1), found.expires_ms, &found.body)?;
    }
    context.reply.truth(old);
    Ok(())
}

pub(super) fn getbit(context: &mut Context<'_, '_>, args: Args<'_>) -> Outcome {
    let (byte, mask) = byte_and_mask(bit_offset(args.at(2), None)?);
    let found = context.string(args.at(1))?.unwrap_or_else(absent);
    context.reply.truth(found.body.get(byte).is_some_and(|byte| byte & mask != 0));
    Ok(())
}

/// Whether positions are bits: the last argument of BITCOUNT and BITPOS.
fn is_in_bits(args: Args<'_>, index: usize) -> Outcome<bool> {
    match args.get(index) {
        None => Ok(false),
        Some(_) if args.is(index, "byte") => Ok(false),
        Some(_) if args.is(index, "bit") => Ok(true),
        Some(_) => Err(Failure::SYNTAX),
    }
}

/// The bits from `first` to `last` that are one; both are within the bytes.
fn count_ones(bytes: &[u8], first: usize, last: usize) -> usize {
    let (start, end) = (first / 8, last / 8);
    let ones: usize = bytes[start..=end].iter().map(|byte| byte.count_ones() as usize).sum();
    let before = (bytes[start] & !(0xff >> (first % 8))).count_ones() as usize;
    let behind = (bytes[end] & (0x7f >> (last % 8))).count_ones() as usize;
    ones - before - behind
}

pub(super) fn bitcount(context: &mut Context<'_, '_>, args: Args<'_>) -> Outcome {
    // As in Redis a key that is not there needs no sense in what follows.
    let Some(Found { body: bytes, .. }) = context.string(args.at(1))? else {
        context.reply.count(0);
        return Ok(());
    };
    let (start, end) = match args.len() {
        2 => (0, -1),
        4 | 5 => (integer(args.at(2))?, integer(args.at(3))?),
        _ => return Err(Failure::SYNTAX),
    };
    let bits = if is_turned(start, end) {
        None
    } else {
        bits_of(&bytes, start, end, is_in_bits(args, 4)?)
    };
    context.reply.count(bits.map_or(0, |(first, last)| count_ones(&bytes, first, last)));
    Ok(())
}

/// The bits from `start` to `end`, which number bytes or bits.
fn bits_of(bytes: &[u8], start: i64, end: i64, is_bits: bool) -> Option<(usize, usize)> {
    if is_bits {
        clamp_ends(start, end, bytes.len() * 8)
    } else {
        clamp_ends(start, end, bytes.len()).map(|(start, end)| (start * 8, end * 8 + 7))
    }
}

pub(super) fn bitpos(context: &mut Context<'_, '_>, args: Args<'_>) -> Outcome {
    let is_one = match integer(args.at(2))? {
        0 => false,
        1 => true,
        _ => return Err(Failure::fixed("ERR The bit argument must be 1 or 0.")),
    };
    let Some(Found { body: bytes, .. }) = context.string(args.at(1))? else {
        context.reply.integer(if is_one { -1 } else { 0 });
        return Ok(());
    };
    if args.len() > 6 {
        return Err(Failure::SYNTAX);
    }
    let start = args.get(3).map(integer).transpose()?.unwrap_or(0);
    let is_bits = is_in_bits(args, 5)?;
    let end = args.get(4).map(integer).transpose()?;
    let Some((first, last)) = bits_of(&bytes, start, end.unwrap_or(-1), is_bits) else {
        context.reply.integer(-1);
        return Ok(());
    };
    match find_bit(&bytes, first, last, is_one) {
        Some(position) => context.reply.count(position),
        // Behind the string are zeros, unless the client has said where it ends.
        None if !is_one && end.is_none() => context.reply.count(bytes.len() * 8),
        None => context.reply.integer(-1),
    }
    Ok(())
}

fn find_bit(bytes: &[u8], first: usize, last: usize, is_one: bool) -> Option<usize> {
    let skipped = if is_one { 0 } else { 0xff };
    let mut bit = first;
    while bit <= last {
        let byte = bytes[bit / 8];
        if bit.is_multiple_of(8) && byte == skipped {
            bit += 8;
            continue;
        }
        if (byte & (0x80 >> (bit % 8)) != 0) == is_one {
            return Some(bit);
        }
        bit += 1;
    }
    None
}

pub(super) fn bitop(context: &mut Context<'_, '_>, args: Args<'_>) -> Outcome {
    let names = ["and", "or", "xor", "not"];
    let operation = names.iter().position(|name| args.is(1, name)).ok_or(Failure::SYNTAX)?;
    if operation == 3 && args.len() != 4 {
        let why = "ERR BITOP NOT must be called with a single source key.";
        return Err(Failure::fixed(why));
    }
    // One source at a time: there may be thousands of them.
    let mut result = context.string(args.at(3))?.unwrap_or_else(absent).body;
    if operation == 3 {
        result.iter_mut().for_each(|byte| *byte = !*byte);
    }
    for key in args.from(4).iter() {
        let source = context.string(key)?.unwrap_or_else(absent).body;
        result.resize(result.len().max(source.len()), 0);
        for (index, byte) in result.iter_mut().enumerate() {
            let other = source.get(index).copied().unwrap_or(0);
            *byte = match operation {
                0 => *byte & other,
                1 => *byte | other,
                _ => *byte ^ other,
            };
        }
    }
    if result.is_empty() {
        context.remove(args.at(2))?;
    } else {
        context.put(args.at(2), None, &result)?;
    }
    context.reply.count(result.len());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partial_bytes_count_only_their_part() {
        assert_eq!(count_ones(&[0xff, 0xff], 0, 15), 16);
        assert_eq!(count_ones(&[0xff, 0xff], 5, 9), 5);
        assert_eq!(count_ones(&[0b0010_0000], 2, 2), 1);
        assert_eq!(find_bit(&[0xff, 0xef], 0, 15, false), Some(11));
        assert_eq!(find_bit(&[0, 1], 3, 14, true), None);
    }
}
