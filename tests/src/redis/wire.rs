//! A client that keeps what a server has said: it sends commands, and gives replies back as they came.

use std::fmt;
use std::io::{BufRead, BufReader, Error, ErrorKind, Read, Result, Write};

/// What connects a client with its server.
pub(super) trait Stream: Read + Write {}

impl<S: Read + Write> Stream for S {}

/// A command: its name and its arguments.
pub(super) type Command = Vec<Vec<u8>>;

/// A reply, of either protocol. The first byte is its type.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Reply {
    /// What fits on a line: a status, an error, a number, a null of the third protocol.
    Line(u8, Vec<u8>),
    Bulk(u8, Vec<u8>),
    /// The absence of a string or a list in the second protocol.
    Absent(u8),
    /// Elements of an array, a set, or keys and values of a map.
    List(u8, Vec<Self>),
}

impl fmt::Debug for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text =
            |kind: &u8, bytes: &[u8]| format!("{}{}", char::from(*kind), bytes.escape_ascii());
        match self {
            Self::Line(kind, bytes) | Self::Bulk(kind, bytes) => f.write_str(&text(kind, bytes)),
            Self::Absent(kind) => f.write_str(&text(kind, b"-1")),
            Self::List(_, elements) => f.debug_list().entries(elements).finish(),
        }
    }
}

impl Reply {
    /// The same with the elements of a list in order.
    pub(super) fn sorted(mut self) -> Self {
        if let Self::List(_, elements) = &mut self {
            elements.sort();
        }
        self
    }

    /// The same with the elements of each list in this list in order.
    pub(super) fn sorted_within(mut self) -> Self {
        if let Self::List(_, elements) = &mut self {
            *elements = elements.drain(..).map(Self::sorted).collect();
        }
        self
    }
}

/// A connection.
pub(super) struct Client(BufReader<Box<dyn Stream>>);

impl Client {
    pub(super) fn new(stream: impl Stream + 'static) -> Self {
        Self(BufReader::new(Box::new(stream)))
    }

    /// Sends a command and waits for its reply.
    pub(super) fn call(&mut self, command: &[Vec<u8>]) -> Result<Reply> {
        let mut bytes = format!("*{}\r\n", command.len()).into_bytes();
        for argument in command {
            bytes.extend_from_slice(format!("${}\r\n", argument.len()).as_bytes());
            bytes.extend_from_slice(argument);
            bytes.extend_from_slice(b"\r\n");
        }
        self.0.get_mut().write_all(&bytes)?;
        self.reply()
    }

    fn reply(&mut self) -> Result<Reply> {
        let mut line = Vec::new();
        self.0.read_until(b'\n', &mut line)?;
        let line = line.strip_suffix(b"\r\n").ok_or(ErrorKind::UnexpectedEof)?;
        let (&kind, text) = line.split_first().ok_or_else(|| Error::other("an empty line"))?;
        let per_element = match kind {
            b'+' | b'-' | b':' | b'_' | b'#' | b',' | b'(' => {
                return Ok(Reply::Line(kind, text.to_vec()));
            }
            b'%' => 2,
            _ => 1,
        };
        let count = std::str::from_utf8(text).ok().and_then(|text| text.parse::<i64>().ok());
        let count = count.ok_or_else(|| Error::other(format!("{:?} is no count", text)))?;
        let Ok(count) = usize::try_from(count) else { return Ok(Reply::Absent(kind)) };
        match kind {
            b'$' | b'=' => {
                let mut bytes = vec![0; count + 2];
                self.0.read_exact(&mut bytes)?;
                bytes.truncate(count);
                Ok(Reply::Bulk(kind, bytes))
            }
            b'*' | b'~' | b'%' => {
                let elements = (0..count * per_element).map(|_| self.reply());
                Ok(Reply::List(kind, elements.collect::<Result<_>>()?))
            }
            _ => Err(Error::other(format!("a reply of type {}", kind.escape_ascii()))),
        }
    }
}
