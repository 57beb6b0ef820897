//! BITFIELD: numbers of any width at any bit of a string.

use super::bits::bit_offset;
use super::strings::absent;
use super::{Args, Context, Failure, Outcome, integer};
use crate::limits::BULK_BYTES_MAX;

#[derive(Clone, Copy, Debug)]
struct Field {
    is_signed: bool,
    width: u32,
    offset: u64,
}

#[derive(Clone, Copy, Debug, Default)]
enum Overflow {
    #[default]
    Wrap,
    Saturate,
    Fail,
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Get,
    Set(i64, Overflow),
    Add(i64, Overflow),
}

/// Width and sign of a type such as `i16` or `u8`.
fn parse_type(argument: &[u8]) -> Outcome<(bool, u32)> {
    let invalid = "ERR Invalid bitfield type. Use something like i16 u8. Note that u64 is not supported but i64 is.";
    let parsed = match argument.split_first() {
        Some((b'i', digits)) => Some((true, digits, 64)),
        Some((b'u', digits)) => Some((false, digits, 63)),
        _ => None,
    };
    parsed
        .and_then(|(is_signed, digits, most)| {
            let width =
                super::number::parse_i64(digits).and_then(|width| u32::try_from(width).ok())?;
            (1..=most).contains(&width).then_some((is_signed, width))
        })
        .ok_or(Failure::fixed(invalid))
}

fn parse(args: Args<'_>, is_read_only: bool) -> Outcome<Vec<(Field, Step)>> {
    let mut steps = Vec::new();
    let mut overflow = Overflow::default();
    let mut index = 0;
    while index < args.len() {
        let left = args.len() - index - 1;
        if args.is(index, "overflow") && left >= 1 {
            overflow = match () {
                () if args.is(index + 1, "wrap") => Overflow::Wrap,
                () if args.is(index + 1, "sat") => Overflow::Saturate,
                () if args.is(index + 1, "fail") => Overflow::Fail,
                () => return Err(Failure::fixed("ERR Invalid OVERFLOW type specified")),
            };
            index += 2;
            continue;
        }
        let (is_get, is_set) = (args.is(index, "get"), args.is(index, "set"));
        let needed = if is_get { 2 } else { 3 };
        if !is_get && !is_set && !args.is(index, "incrby") || left < needed {
            return Err(Failure::SYNTAX);
        }
        let (is_signed, width) = parse_type(args.at(index + 1))?;
        let offset = bit_offset(args.at(index + 2), Some(width.into()))?;
        if !is_get && offset + u64::from(width) > BULK_BYTES_MAX as u64 * 8 {
            return Err(Failure::fixed("ERR bit offset is not an integer or out of range"));
        }
        let step = match (is_get, is_set) {
            (true, _) => Step::Get,
            (_, true) => Step::Set(integer(args.at(index + 3))?, overflow),
            _ => Step::Add(integer(args.at(index + 3))?, overflow),
        };
        steps.push((Field { is_signed, width, offset }, step));
        index += needed + 1;
    }
    if is_read_only && steps.iter().any(|(_, step)| !matches!(step, Step::Get)) {
        return Err(Failure::fixed("ERR BITFIELD_RO only supports the GET subcommand"));
    }
    Ok(steps)
}

impl Field {
    /// The field's bits; the string goes on with zeros.
    fn read(self, bytes: &[u8]) -> i64 {
        let mut bits: u64 = 0;
        for bit in self.offset..self.end() {
            let byte = usize::try_from(bit / 8).ok().and_then(|index| bytes.get(index));
            let is_one = byte.is_some_and(|byte| byte & (0x80 >> (bit % 8)) != 0);
            bits = bits << 1 | u64::from(is_one);
        }
        self.value_of(bits)
    }

    /// The number that the lowest bits stand for.
    fn value_of(self, bits: u64) -> i64 {
        let unused = 64 - self.width;
        let high = (bits << unused).cast_signed();
        if self.is_signed { high >> unused } else { (bits << unused >> unused).cast_signed() }
    }

    /// The bit behind it.
    fn end(self) -> u64 {
        self.offset + u64::from(self.width)
    }

    /// Length of a string that ends with this field's last byte.
    fn end_bytes(self) -> usize {
        usize::try_from(self.end().div_ceil(8)).expect("strings are shorter than that")
    }

    fn write(self, bytes: &mut [u8], value: i64) {
        for (index, bit) in (self.offset..self.end()).rev().enumerate() {
            let byte = usize::try_from(bit / 8).expect("within the string");
            let mask = 0x80 >> (bit % 8);
            let is_one = value.cast_unsigned() >> index & 1 == 1;
            bytes[byte] = if is_one { bytes[byte] | mask } else { bytes[byte] & !mask };
        }
    }

    /// The number that is meant where a field is set: a negative one is a large one to an unsigned field.
    fn given(self, value: i64) -> i128 {
        if self.is_signed { value.into() } else { value.cast_unsigned().into() }
    }

    /// What a number becomes in this field; `None`: it does not fit, and that fails.
    fn fit(self, value: i128, overflow: Overflow) -> Option<i64> {
        let (least, most) = if self.is_signed {
            (-(1_i128 << (self.width - 1)), (1_i128 << (self.width - 1)) - 1)
        } else {
            (0, (1_i128 << self.width) - 1)
        };
        if (least..=most).contains(&value) {
            return i64::try_from(value).ok();
        }
        match overflow {
            Overflow::Wrap => {
                let bits = u64::try_from(value & i128::from(u64::MAX)).ok()?;
                Some(self.value_of(bits))
            }
            Overflow::Saturate => i64::try_from(value.clamp(least, most)).ok(),
            Overflow::Fail => None,
        }
    }
}

fn run(context: &mut Context<'_, '_>, args: Args<'_>, is_read_only: bool) -> Outcome {
    let steps = parse(args.from(2), is_read_only)?;
    let mut found = context.string(args.at(1))?.unwrap_or_else(absent);
    // The string grows for everything that may be written, also where nothing is.
    let writes = steps.iter().filter(|(_, step)| !matches!(step, Step::Get));
    let needed = writes.map(|(field, _)| field.end_bytes()).max().unwrap_or(0);
    let mut is_changed = found.body.len() < needed;
    if is_changed {
        found.body.resize(needed, 0);
    }
    context.reply.array(steps.len());
    for (field, step) in steps {
        let old = field.read(&found.body);
        let (value, overflow) = match step {
            Step::Get => {
                context.reply.integer(old);
                continue;
            }
            Step::Set(value, overflow) => (field.given(value), overflow),
            Step::Add(value, overflow) => (i128::from(old) + i128::from(value), overflow),
        };
        let Some(new) = field.fit(value, overflow) else {
            context.reply.null();
            continue;
        };
        field.write(&mut found.body, new);
        is_changed |= new != old;
        context.reply.integer(if matches!(step, Step::Add(..)) { new } else { old });
    }
    if is_changed {
        context.put(args.at(1), found.expires_ms, &found.body)?;
    }
    Ok(())
}

pub(super) fn bitfield(context: &mut Context<'_, '_>, args: Args<'_>) -> Outcome {
    run(context, args, false)
}

pub(super) fn bitfield_ro(context: &mut Context<'_, '_>, args: Args<'_>) -> Outcome {
    run(context, args, true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_wrap_saturate_and_fail() {
        let field = |is_signed, width| Field { is_signed, width, offset: 3 };
        assert_eq!(field(false, 8).fit(257, Overflow::Wrap), Some(1));
        assert_eq!(field(false, 8).fit(-1, Overflow::Saturate), Some(0));
        assert_eq!(field(true, 8).fit(128, Overflow::Wrap), Some(-128));
        assert_eq!(field(true, 64).fit(i128::from(i64::MAX) + 1, Overflow::Fail), None);
        assert_eq!(field(false, 8).fit(field(false, 8).given(-1), Overflow::Saturate), Some(255));
        assert_eq!(field(true, 8).fit(field(true, 8).given(-1), Overflow::Saturate), Some(-1));
        let mut bytes = vec![0; field(true, 5).end_bytes()];
        field(true, 5).write(&mut bytes, -3);
        assert_eq!((bytes.len(), field(true, 5).read(&bytes)), (1, -3));
    }
}
