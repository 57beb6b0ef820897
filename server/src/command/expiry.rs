//! When keys expire.

use super::{Args, Context, Failure, Outcome, integer};
use crate::keyspace::Row;

/// Unit of a time that a client gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TimeUnit {
    Seconds,
    Milliseconds,
}

/// What it is counted from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Base {
    Now,
    Epoch,
}

/// How long a key is to live, as the client said it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lifetime {
    /// `Err`: not a number.
    pub(super) value: Result<i64, ()>,
    pub(super) unit: TimeUnit,
    pub(super) base: Base,
}

/// Unit and base of an option of SET or GETEX.
pub(super) fn unit_of(option: &[u8]) -> Option<(TimeUnit, Base)> {
    let options = [
        ("ex", TimeUnit::Seconds, Base::Now),
        ("px", TimeUnit::Milliseconds, Base::Now),
        ("exat", TimeUnit::Seconds, Base::Epoch),
        ("pxat", TimeUnit::Milliseconds, Base::Epoch),
    ];
    let found = options.iter().find(|(name, ..)| option.eq_ignore_ascii_case(name.as_bytes()));
    found.map(|&(_, unit, base)| (unit, base))
}

impl Lifetime {
    /// When the key expires; only times to come are asked for by the commands that set a value.
    pub(super) fn expires_ms(self, now_ms: u64, command: &str) -> Outcome<u64> {
        let value = self.value.map_err(|()| Failure::NOT_INTEGER)?;
        let at = if value > 0 { self.at_ms(now_ms) } else { None };
        at.and_then(|at| u64::try_from(at).ok()).ok_or_else(|| invalid(command))
    }

    /// The moment, which may lie before 1970; `None` where it cannot be told in 64 bits.
    fn at_ms(self, now_ms: u64) -> Option<i64> {
        let value = self.value.ok()?;
        let ms = match self.unit {
            TimeUnit::Seconds => value.checked_mul(1000)?,
            TimeUnit::Milliseconds => value,
        };
        match self.base {
            Base::Now => ms.checked_add(i64::try_from(now_ms).ok()?),
            Base::Epoch => Some(ms),
        }
    }
}

fn invalid(command: &str) -> Failure {
    Failure::new(format!("ERR invalid expire time in '{command}' command"))
}

#[derive(Debug, Default)]
struct Conditions {
    nx: bool,
    xx: bool,
    gt: bool,
    lt: bool,
}

impl Conditions {
    fn parse(args: Args<'_>) -> Outcome<Self> {
        let mut conditions = Self::default();
        for (index, argument) in args.iter().enumerate() {
            let flag = match () {
                () if args.is(index, "nx") => &mut conditions.nx,
                () if args.is(index, "xx") => &mut conditions.xx,
                () if args.is(index, "gt") => &mut conditions.gt,
                () if args.is(index, "lt") => &mut conditions.lt,
                () => {
                    let option = String::from_utf8_lossy(argument);
                    return Err(Failure::new(format!("ERR Unsupported option {option}")));
                }
            };
            *flag = true;
        }
        if conditions.nx && (conditions.xx || conditions.gt || conditions.lt) {
            let why = "ERR NX and XX, GT or LT options at the same time are not compatible";
            return Err(Failure::fixed(why));
        }
        if conditions.gt && conditions.lt {
            let why = "ERR GT and LT options at the same time are not compatible";
            return Err(Failure::fixed(why));
        }
        Ok(conditions)
    }

    /// Whether a key with this expiry gets the new one. None at all counts as never.
    fn allow(&self, old_ms: Option<u64>, at_ms: i64) -> bool {
        let old = old_ms.map(|old_ms| i64::try_from(old_ms).unwrap_or(i64::MAX));
        !(self.nx && old.is_some()
            || self.xx && old.is_none()
            || self.gt && old.is_none_or(|old| at_ms <= old)
            || self.lt && old.is_some_and(|old| at_ms >= old))
    }
}

fn set_expiry(
    context: &mut Context<'_, '_>,
    args: Args<'_>,
    (unit, base): (TimeUnit, Base),
    command: &str,
) -> Outcome {
    let conditions = Conditions::parse(args.from(3))?;
    let value = Ok(integer(args.at(2))?);
    let now_ms = context.now_ms();
    let at_ms = Lifetime { value, unit, base }.at_ms(now_ms).ok_or_else(|| invalid(command))?;
    let database = context.session.database;
    let key = args.at(1);
    let found = context.unit()?.find(database, key)?;
    let allowed = found.filter(|found| conditions.allow(found.expires_ms, at_ms));
    let Some(found) = allowed else {
        context.reply.integer(0);
        return Ok(());
    };
    match u64::try_from(at_ms) {
        Ok(expires_ms) if expires_ms > now_ms => {
            let row = Row { kind: found.kind, expires_ms: Some(expires_ms), body: &found.body };
            context.unit()?.put(database, key, &row)?;
        }
        _ => {
            context.remove(key)?;
        }
    }
    context.reply.integer(1);
    Ok(())
}

pub(super) fn expire(context: &mut Context<'_, '_>, args: Args<'_>) -> Outcome {
    set_expiry(context, args, (TimeUnit::Seconds, Base::Now), "expire")
}

pub(super) fn pexpire(context: &mut Context<'_, '_>, args: Args<'_>) -> Outcome {
    set_expiry(context, args, (TimeUnit::Milliseconds, Base::Now), "pexpire")
}

pub(super) fn expireat(context: &mut Context<'_, '_>, args: Args<'_>) -> Outcome {
    set_expiry(context, args, (TimeUnit::Seconds, Base::Epoch), "expireat")
}

pub(super) fn pexpireat(context: &mut Context<'_, '_>, args: Args<'_>) -> Outcome {
    set_expiry(context, args, (TimeUnit::Milliseconds, Base::Epoch), "pexpireat")
}

/// Replies -2 without a key, -1 without an expiry, or else what `tell` makes of expiry and now.
fn tell(context: &mut Context<'_, '_>, args: Args<'_>, tell: fn(i64, i64) -> i64) -> Outcome {
    let database = context.session.database;
    let now_ms = i64::try_from(context.now_ms()).unwrap_or(i64::MAX);
    let found = context.unit()?.read(database, args.at(1), |row| row.expires_ms)?;
    context.reply.integer(match found {
        None => -2,
        Some(None) => -1,
        Some(Some(expires_ms)) => tell(i64::try_from(expires_ms).unwrap_or(i64::MAX), now_ms),
    });
    Ok(())
}

pub(super) fn ttl(context: &mut Context<'_, '_>, args: Args<'_>) -> Outcome {
    tell(context, args, |expires_ms, now_ms| (expires_ms - now_ms + 500) / 1000)
}

pub(super) fn pttl(context: &mut Context<'_, '_>, args: Args<'_>) -> Outcome {
    tell(context, args, |expires_ms, now_ms| expires_ms - now_ms)
}

pub(super) fn expiretime(context: &mut Context<'_, '_>, args: Args<'_>) -> Outcome {
    tell(context, args, |expires_ms, _| expires_ms.saturating_add(500) / 1000)
}

pub(super) fn pexpiretime(context: &mut Context<'_, '_>, args: Args<'_>) -> Outcome {
    tell(context, args, |expires_ms, _| expires_ms)
}

pub(super) fn persist(context: &mut Context<'_, '_>, args: Args<'_>) -> Outcome {
    let database = context.session.database;
    let found = context.unit()?.find(database, args.at(1))?;
    let found = found.filter(|found| found.expires_ms.is_some());
    if let Some(found) = &found {
        let row = Row { kind: found.kind, expires_ms: None, body: &found.body };
        context.unit()?.put(database, args.at(1), &row)?;
    }
    context.reply.truth(found.is_some());
    Ok(())
}
