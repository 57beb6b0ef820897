//! One connection: reads what is there, executes it, waits once, replies.
//!
//! 1. Whatever the socket has is read into the buffer.
//! 2. All whole requests in it are executed in order, up to a turn's worth; replies gather.
//! 3. If any of them rests on a commit that is not durable, one flush is awaited. The commits of all
//!    connections are in the log by then, so that they share it.
//! 4. The replies leave in one write, and behind them what others have pushed.
//! 5. If the last command has left work in a thread of its own, or a wait, that is awaited; its reply
//!    leaves with those of the next turn.
//!
//! If we crash in 3, the client has been told nothing of this turn. While a connection waits, its thread
//! serves the others. No lock is held across an `await`.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use seawall::Lsn;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{sleep, sleep_until};

use crate::begun::Begun;
use crate::clients::Client;
use crate::dispatch;
use crate::failure::Outcome;
use crate::job::{Job, Tell};
use crate::limits::{QUERY_BYTES_MAX, TURN_COMMANDS_MAX, TURN_REPLY_BYTES_MAX, TURN_TIME_MAX};
use crate::resp::{Parsed, Parser, ProtocolError, Reply};
use crate::server::{Server, Stage};
use crate::session::Session;

/// Room for one read.
const READ_BYTES: usize = 16 << 10;
/// A buffer longer than this is given back when it is empty.
const KEPT_BYTES: usize = 64 << 10;
/// Most bytes for which room is made before they have come.
const AHEAD_BYTES_MAX: usize = 1 << 20;
/// How long a connection that stops may take to send its last replies.
const LAST_REPLY: Duration = Duration::from_secs(1);

/// Why a turn ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Turn {
    /// Nothing whole is left in the buffer.
    Dry,
    /// There may be more in it; others have their turn first.
    More,
    /// The connection ends behind its replies.
    Last,
}

struct Connection {
    server: Arc<Server>,
    stream: TcpStream,
    session: Session,
    parser: Parser,
    reply: Reply,
    buffer: Vec<u8>,
    /// Requests before are done.
    done: usize,
}

/// Serves a connection until it ends.
pub(crate) async fn serve(server: Arc<Server>, stream: TcpStream, client: Arc<Client>) {
    let is_authenticated = !server.settings.asks_password();
    let mut connection = Connection {
        session: Session::new(client, is_authenticated),
        server,
        stream,
        parser: Parser::default(),
        reply: Reply::default(),
        buffer: Vec::new(),
        done: 0,
    };
    // Whatever ended it, the peer is gone or has been told.
    drop(connection.run().await);
}

/// What it had, and its place, are given back by a handler that panics as well.
impl Drop for Connection {
    fn drop(&mut self) {
        self.session.discard(self.server.keyspace().map(Arc::as_ref));
        self.server.leave(&mut self.session);
        (self.session.begun, self.session.view) = (None, None);
        self.server.clients.leave(self.session.client.id);
    }
}

impl Connection {
    async fn run(&mut self) -> io::Result<()> {
        let mut stage = self.server.stage();
        let client = Arc::clone(&self.session.client);
        loop {
            let (turn, rests_on) = self.execute_turn();
            self.settle(rests_on).await?;
            if turn != Turn::Last && self.session.is_listening() {
                self.session.take_pushes(&mut self.reply);
            }
            self.send_unless_killed().await?;
            if let Some(job) = self.session.job.take() {
                let is_heard = job.is_heard;
                let ended = self.end_of(job).await?;
                if is_heard {
                    dispatch::answer(&self.server, ended, &mut self.reply);
                }
                // Its reply leaves with those of the next turn.
                continue;
            }
            if turn == Turn::Last || client.is_killed() {
                return tokio::time::timeout(LAST_REPLY, self.stream.shutdown()).await?;
            }
            if turn == Turn::More {
                tokio::task::yield_now().await;
                continue;
            }
            if *stage.borrow() == Stage::Stopping {
                return Ok(());
            }
            self.make_room();
            let until = self.session.begun.as_ref().and_then(Begun::until);
            let is_listening = self.session.is_listening();
            // Who listens may be silent.
            let idle = self.server.settings.idle_time_max().filter(|_| !is_listening);
            let read = tokio::select! {
                biased;
                read = self.stream.read_buf(&mut self.buffer) => read?,
                () = killed(&client) => return Ok(()),
                _ = stage.changed() => continue,
                () = pushed(&client, is_listening) => continue,
                () = passed(until) => {
                    self.expire();
                    continue;
                }
                () = idle_for(idle) => return Ok(()),
            };
            self.has_read(read)?;
        }
    }

    /// Notes what was read. An error at the end of the stream.
    fn has_read(&self, read: usize) -> io::Result<()> {
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let read = u64::try_from(read).unwrap_or(u64::MAX);
        self.server.stats.input_bytes.fetch_add(read, Ordering::Relaxed);
        Ok(())
    }

    /// Executes requests of the buffer. Returns what the replies rest on.
    fn execute_turn(&mut self) -> (Turn, Lsn) {
        let mut rests_on = Lsn::default();
        let mut commands = 0;
        let begun = Instant::now();
        loop {
            let is_over = commands == TURN_COMMANDS_MAX
                || self.reply.bytes.len() > TURN_REPLY_BYTES_MAX
                || (commands > 0 && begun.elapsed() > TURN_TIME_MAX);
            if is_over {
                return (Turn::More, rests_on);
            }
            let request = &self.buffer[self.done..];
            let length = match self.parser.parse(request, &self.session.limits()) {
                Ok(Parsed::Request(length)) => length,
                Ok(Parsed::Partial) if request.len() > QUERY_BYTES_MAX => {
                    self.reply.error("ERR Protocol error: the request is too long");
                    return (Turn::Last, rests_on);
                }
                Ok(Parsed::Partial) => return (Turn::Dry, rests_on),
                Err(ProtocolError::Reply(text)) => {
                    self.reply.error(&format!("ERR {text}"));
                    return (Turn::Last, rests_on);
                }
                Err(ProtocolError::Http) => return (Turn::Last, rests_on),
            };
            let args = self.parser.args(request);
            if args.len() > 0 {
                let lsn = dispatch::execute(&self.server, &mut self.session, args, &mut self.reply);
                rests_on = rests_on.max(lsn);
                commands += 1;
            }
            self.done += length;
            self.parser.next();
            if self.session.is_quitting {
                return (Turn::Last, rests_on);
            }
            if self.session.job.is_some() {
                return (Turn::More, rests_on);
            }
        }
    }

    /// Waits until the log is durable up to what the replies rest on.
    async fn settle(&mut self, rests_on: Lsn) -> io::Result<()> {
        let Some(keyspace) = self.server.keyspace() else { return Ok(()) };
        if rests_on <= keyspace.engine.durable_lsn() {
            return Ok(());
        }
        let flushed = match keyspace.engine.durable_async(rests_on) {
            Ok(future) => future.await,
            Err(error) => Err(error),
        };
        flushed.map(drop).map_err(|error| {
            // Which of the replies would be true is not known: none leaves, and the connection ends.
            io::Error::other(error)
        })
    }

    /// Waits for what the last command has left; what others push leaves meanwhile.
    async fn end_of(&mut self, mut job: Job) -> io::Result<Outcome<Tell>> {
        let client = Arc::clone(&self.session.client);
        let mut stage = self.server.stage();
        let (is_wait, gone) = (job.is_wait, io::ErrorKind::ConnectionAborted);
        loop {
            // A wait ends with its client; what that has sent already is read to see it go.
            let reads = is_wait && self.buffer.len() < AHEAD_BYTES_MAX;
            tokio::select! {
                ended = job.ended() => return Ok(ended),
                () = killed(&client) => return Err(gone.into()),
                _ = stage.wait_for(|stage| *stage == Stage::Stopping), if is_wait => {
                    return Err(gone.into());
                }
                read = self.stream.read_buf(&mut self.buffer), if reads => self.has_read(read?)?,
                () = pushed(&client, self.session.is_listening()) => {
                    self.session.take_pushes(&mut self.reply);
                    self.send_unless_killed().await?;
                }
            }
        }
    }

    /// Sends the replies, if there are any. An error where somebody ends the connection meanwhile.
    async fn send_unless_killed(&mut self) -> io::Result<()> {
        if self.reply.bytes.is_empty() {
            return Ok(());
        }
        let client = Arc::clone(&self.session.client);
        tokio::select! {
            sent = self.send() => sent,
            () = killed(&client) => Err(io::ErrorKind::ConnectionAborted.into()),
        }
    }

    /// Sends the replies. The time of a transaction that the client holds open runs on, and a client that
    /// takes nothing for as long as it may be idle has gone.
    async fn send(&mut self) -> io::Result<()> {
        let mut sent = 0;
        while sent < self.reply.bytes.len() {
            let until = self.session.begun.as_ref().and_then(Begun::until);
            let idle = self.server.settings.idle_time_max();
            tokio::select! {
                biased;
                taken = self.stream.write(&self.reply.bytes[sent..]) => match taken? {
                    0 => return Err(io::ErrorKind::WriteZero.into()),
                    taken => sent += taken,
                },
                () = passed(until) => self.expire(),
                () = idle_for(idle) => return Err(io::ErrorKind::TimedOut.into()),
            }
        }
        let sent = u64::try_from(self.reply.bytes.len()).unwrap_or(u64::MAX);
        self.server.stats.output_bytes.fetch_add(sent, Ordering::Relaxed);
        self.reply.bytes.clear();
        self.reply.bytes.shrink_to(KEPT_BYTES);
        if std::mem::take(&mut self.session.has_pushes) {
            self.session.client.outbox.sent();
        }
        self.session.client.active(crate::clock::now_ms());
        Ok(())
    }

    fn expire(&mut self) {
        if let Some(begun) = &mut self.session.begun {
            begun.expire(Instant::now());
        }
    }

    /// Makes room for the next read: never much more than has come already.
    fn make_room(&mut self) {
        self.buffer.drain(..self.done);
        self.done = 0;
        if self.buffer.is_empty() && self.buffer.capacity() > KEPT_BYTES {
            self.buffer = Vec::new();
        }
        let wanted = self.parser.wanted().saturating_sub(self.buffer.len());
        let ahead = AHEAD_BYTES_MAX.max(self.buffer.len());
        self.buffer.reserve(wanted.clamp(READ_BYTES, ahead));
    }
}

/// Resolves at that time, where there is one.
async fn passed(until: Option<Instant>) {
    match until {
        Some(until) => sleep_until(until.into()).await,
        None => std::future::pending().await,
    }
}

/// Resolves after so long, where there is a bound.
async fn idle_for(most: Option<Duration>) {
    match most {
        Some(most) => sleep(most).await,
        None => std::future::pending().await,
    }
}

/// Resolves when something was pushed to a connection that listens.
async fn pushed(client: &Client, is_listening: bool) {
    if is_listening {
        client.outbox.filled().await;
    } else {
        std::future::pending().await
    }
}

/// Resolves when somebody ends the connection.
async fn killed(client: &Client) {
    while !client.is_killed() {
        client.woken.notified().await;
    }
}
