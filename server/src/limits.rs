//! What a client may ask for: every bound of the server, by name.

use std::time::Duration;

/// Longest key: the time index puts eight bytes before it, and the engine's keys have at most 1024.
pub const KEY_BYTES_MAX: usize = seawall::MAX_KEY_BYTES - 8;
/// Longest string value, and longest argument of an authenticated client.
pub const BULK_BYTES_MAX: usize = 512 << 20;
/// Most arguments of one command of an authenticated client.
pub const ARGUMENTS_MAX: usize = 1 << 20;
/// Longest argument before AUTH, where a password is asked for.
pub const BULK_BYTES_BEFORE_AUTH_MAX: usize = 16 << 10;
/// Most arguments before AUTH, where a password is asked for.
pub const ARGUMENTS_BEFORE_AUTH_MAX: usize = 10;
/// Longest inline command, and longest line that gives a count or a length.
pub const LINE_BYTES_MAX: usize = 64 << 10;
/// Databases that SELECT takes.
pub const DATABASES: usize = 16;
/// Most bytes that a client may have sent of one request.
pub const QUERY_BYTES_MAX: usize = 1 << 30;
/// Commands of one pipeline that are executed before the connection lets others have their turn.
pub const TURN_COMMANDS_MAX: usize = 1024;
/// How long a connection executes commands before it lets others have their turn; the one under way is
/// ended first.
pub const TURN_TIME_MAX: Duration = Duration::from_millis(5);
/// Reply bytes after which the connection stops executing, and sends them.
pub const TURN_REPLY_BYTES_MAX: usize = 1 << 20;
/// Most commands between MULTI and EXEC.
pub const QUEUED_COMMANDS_MAX: usize = 1 << 20;
/// Most argument bytes between MULTI and EXEC.
pub const QUEUED_BYTES_MAX: usize = 512 << 20;
/// Most keys that one connection may watch.
pub const WATCHED_KEYS_MAX: usize = 1 << 16;
/// Connections at once, unless `maxclients` says otherwise, or the system has no room for so many.
pub const CLIENTS_DEFAULT: u64 = 10_000;
/// Scans under way whose place is remembered; an older one begins again.
pub const CURSORS_MAX: usize = 1 << 16;
/// Keys for which a command locks one by one; with more it locks all.
pub const LOCKED_KEYS_MAX: usize = 32;
/// Most keys that SW.RANGE and SW.PREFIX tell where no LIMIT is given; with more they fail.
pub const RANGE_KEYS_DEFAULT: usize = 10_000;
/// Greatest LIMIT of SW.RANGE and SW.PREFIX.
pub const RANGE_KEYS_MAX: usize = 1 << 20;
/// Reply bytes beyond which SW.RANGE and SW.PREFIX fail, but for a single key.
pub const RANGE_REPLY_BYTES_MAX: usize = 64 << 20;
/// Reply bytes behind which a command, or an EXEC, adds no further value: it fails instead.
pub const REPLY_BYTES_MAX: usize = 256 << 20;
/// How long a transaction of SW.BEGIN may last unless it says otherwise, in milliseconds.
pub const BEGUN_MS_DEFAULT: u64 = 5_000;
/// Greatest TIMEOUT of SW.BEGIN, in milliseconds.
pub const BEGUN_MS_MAX: u64 = 60_000;
/// Most bytes of keys and values that a transaction of SW.BEGIN may write.
pub const OPEN_BYTES_MAX: usize = 64 << 20;
/// Bytes of messages that a connection may leave behind: with more it is closed, so that nobody who publishes
/// waits for it, as Redis does with `client-output-buffer-limit pubsub 32mb`. Those on their way to the socket
/// count.
pub const PUSHED_BYTES_MAX: usize = 32 << 20;
/// Most subscriptions of one connection: channels, patterns and channels of shards together.
pub const SUBSCRIPTIONS_MAX: usize = 1 << 16;
/// Most bytes of the names to which one connection subscribes.
pub const SUBSCRIBED_BYTES_MAX: usize = 16 << 20;
/// Arguments that the slow log keeps of a command; of more the last place tells how many are left out.
pub const SLOWLOG_ARGUMENTS_MAX: usize = 32;
/// Bytes that the slow log keeps of an argument.
pub const SLOWLOG_ARGUMENT_BYTES_MAX: usize = 128;
/// Greatest `slowlog-max-len`.
pub const SLOWLOG_ENTRIES_MAX: u64 = 1 << 16;
/// Seconds with a spike of latency that are kept of each event.
pub const LATENCY_SAMPLES_MAX: usize = 160;
/// Keys that one step of the purge of expired keys removes.
pub const PURGE_KEYS_MAX: usize = 256;
