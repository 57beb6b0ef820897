//! SW.CAS: one key's value for another, as one step.

use super::{Args, Context, Outcome};

/// Sets a value where the key has the old one; its expiry stays, as with every command that changes a
/// value. Nothing stands for absence: SET with NX sets a key that is not there.
pub(super) fn cas(context: &mut Context<'_, '_>, args: Args<'_>) -> Outcome {
    let (key, old, new) = (args.at(1), args.at(2), args.at(3));
    let found = context.string(key)?.filter(|found| found.body == old);
    if let Some(found) = &found {
        context.put(key, found.expires_ms, new)?;
    }
    context.reply.truth(found.is_some());
    Ok(())
}
