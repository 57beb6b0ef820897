//! The server's own commands, asked by a real client over a loopback connection.

#![expect(clippy::unwrap_used, reason = "what fails, fails the test")]

mod engine;
mod ranges;
#[path = "../served/mod.rs"]
mod served;
mod snapshot;
mod transactions;

use redis::{Connection, RedisResult, Value};

/// Sends a command of these words.
fn ask(connection: &mut Connection, words: &[&[u8]]) -> RedisResult<Value> {
    let mut command = redis::Cmd::new();
    command.arg(words);
    command.query(connection)
}

/// The same for a line whose words are split at blanks; `''` stands for nothing between two of them.
fn tell(connection: &mut Connection, line: &str) -> RedisResult<Value> {
    let words = line.split(' ').map(|word| if word == "''" { &b""[..] } else { word.as_bytes() });
    ask(connection, &words.collect::<Vec<_>>())
}

/// The bytes in a reply, in order.
fn bytes(value: Value) -> Vec<Vec<u8>> {
    match value {
        Value::BulkString(bytes) => vec![bytes],
        Value::SimpleString(text) => vec![text.into_bytes()],
        Value::Array(values) => values.into_iter().flat_map(bytes).collect(),
        other => panic!("neither bytes nor an array: {other:?}"),
    }
}

fn texts(value: Value) -> Vec<String> {
    bytes(value).into_iter().map(|bytes| String::from_utf8(bytes).unwrap()).collect()
}

/// A figure of a map of figures; `None` where it is null.
fn figure(map: Value, name: &str) -> Option<i64> {
    let Value::Array(values) = map else { panic!("no map of RESP2: {map:?}") };
    let is_it = |value: &Value| *value == Value::BulkString(name.into());
    let at = values.iter().position(is_it).unwrap();
    match values[at + 1] {
        Value::Int(number) => Some(number),
        Value::Nil => None,
        ref other => panic!("{name} is no figure: {other:?}"),
    }
}
