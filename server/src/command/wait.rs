//! WAIT and WAITAOF: for replicas, of which there are none, and for the log.
//!
//! Only the connection waits, and no thread. Between MULTI and EXEC nothing waits, as in Redis.

use std::future::{Future, pending};
use std::sync::Arc;
use std::time::Duration;

use seawall::Lsn;

use super::{Args, Context, Failure, Outcome, integer, number};
use crate::blocked::Unblock;
use crate::clients::Client;
use crate::job::Job;
use crate::keyspace::Keyspace;
use crate::resp::Reply;

/// Answers how many replicas have what this connection has written: none.
pub(super) fn wait(context: &mut Context<'_, '_>, args: Args<'_>) -> Outcome {
    let replicas = integer(args.at(1))?;
    let timeout = timeout(args.at(2))?;
    if replicas <= 0 || context.session.is_executing {
        context.reply.integer(0);
        return Ok(());
    }
    let client = Arc::clone(&context.session.client);
    let waited = limited(client, timeout, pending());
    context.session.job = Some(Job::wait(waited, |reply| reply.integer(0)));
    Ok(())
}

/// Answers whether this connection's last commit is durable, and how many replicas have it: none.
pub(super) fn waitaof(context: &mut Context<'_, '_>, args: Args<'_>) -> Outcome {
    let wants_local = match integer(args.at(1))? {
        0 => false,
        1 => true,
        _ => {
            return Err(Failure::fixed("ERR value is out of range, value must between 0 and 1"));
        }
    };
    let wants_replicas = match integer(args.at(2))? {
        0 => false,
        replicas if replicas > 0 => true,
        _ => return Err(Failure::fixed("ERR value is out of range, must be positive")),
    };
    let timeout = timeout(args.at(3))?;
    let keyspace = Arc::clone(context.server.keyspace().ok_or(Failure::LOADING)?);
    let lsn = context.session.last_commit;
    let is_met = !wants_replicas && (!wants_local || is_durable(&keyspace, lsn));
    if is_met || context.session.is_executing {
        answer(context.reply, is_durable(&keyspace, lsn));
        return Ok(());
    }
    let flushed = keyspace.engine.durable_async(lsn)?;
    let reached = async move {
        flushed.await?;
        if wants_replicas { pending().await } else { Ok(()) }
    };
    let waited = limited(Arc::clone(&context.session.client), timeout, reached);
    let told = move |reply: &mut Reply| answer(reply, is_durable(&keyspace, lsn));
    context.session.job = Some(Job::wait(waited, told));
    Ok(())
}

fn is_durable(keyspace: &Keyspace, lsn: Lsn) -> bool {
    lsn <= keyspace.engine.durable_lsn()
}

fn answer(reply: &mut Reply, is_durable: bool) {
    reply.array(2);
    reply.truth(is_durable);
    reply.integer(0);
}

/// Milliseconds; without end where they are 0.
fn timeout(argument: &[u8]) -> Outcome<Option<Duration>> {
    let why = "ERR timeout is not an integer or out of range";
    let ms = number::parse_i64(argument).ok_or(Failure::fixed(why))?;
    let ms = u64::try_from(ms).map_err(|_| Failure::fixed("ERR timeout is negative"))?;
    Ok((ms > 0).then(|| Duration::from_millis(ms)))
}

/// Waits for `reached`, at most until the time is over or another client ends it. The client counts as
/// blocked from the call on.
fn limited(
    client: Arc<Client>,
    timeout: Option<Duration>,
    reached: impl Future<Output = Outcome>,
) -> impl Future<Output = Outcome> {
    let unblocked = client.blocked.begin();
    async move {
        let ended = tokio::select! {
            ended = reached => ended,
            () = over(timeout) => Ok(()),
            how = unblocked => match how {
                Ok(Unblock::Error) => {
                    Err(Failure::fixed("UNBLOCKED client unblocked via CLIENT UNBLOCK"))
                }
                Ok(Unblock::Timeout) | Err(_) => Ok(()),
            },
        };
        client.blocked.end();
        ended
    }
}

async fn over(timeout: Option<Duration>) {
    match timeout {
        Some(timeout) => tokio::time::sleep(timeout).await,
        None => pending().await,
    }
}
