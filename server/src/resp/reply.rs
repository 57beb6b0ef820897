//! Replies, in the protocol that the client has chosen.
//!
//! A reply is written straight into the connection's output. Types that only RESP3 has are written
//! as RESP2 clients of Redis get them.

use std::io::Write as _;

/// Which protocol a client speaks; HELLO changes it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Protocol {
    #[default]
    Resp2,
    Resp3,
}

/// The output of a connection.
#[derive(Debug, Default)]
pub(crate) struct Reply {
    pub(crate) bytes: Vec<u8>,
    pub(crate) protocol: Protocol,
}

impl Reply {
    pub(crate) fn ok(&mut self) {
        self.simple("OK");
    }

    /// A simple string, which has no line ends.
    pub(crate) fn simple(&mut self, text: &str) {
        self.line(b'+', text.as_bytes());
    }

    /// A simple string of bytes that has no line ends either.
    pub(crate) fn raw_line(&mut self, bytes: &[u8]) {
        self.line(b'+', bytes);
    }

    /// An error; its text begins with a code. Line ends, which would end it, become blanks.
    pub(crate) fn error(&mut self, text: &str) {
        let text: Vec<u8> = text
            .bytes()
            .map(|byte| if matches!(byte, b'\r' | b'\n') { b' ' } else { byte })
            .collect();
        self.line(b'-', &text);
    }

    fn line(&mut self, kind: u8, text: &[u8]) {
        self.bytes.push(kind);
        self.bytes.extend_from_slice(text);
        self.bytes.extend_from_slice(b"\r\n");
    }

    fn header(&mut self, kind: u8, count: usize) {
        write!(self.bytes, "{}{count}\r\n", char::from(kind)).expect("writing to memory");
    }

    pub(crate) fn integer(&mut self, value: i64) {
        write!(self.bytes, ":{value}\r\n").expect("writing to memory");
    }

    /// A number that cannot be that large: lengths, counts.
    pub(crate) fn count(&mut self, value: usize) {
        self.integer(i64::try_from(value).unwrap_or(i64::MAX));
    }

    pub(crate) fn truth(&mut self, value: bool) {
        self.integer(i64::from(value));
    }

    pub(crate) fn bulk(&mut self, bytes: &[u8]) {
        self.header(b'$', bytes.len());
        self.bytes.extend_from_slice(bytes);
        self.bytes.extend_from_slice(b"\r\n");
    }

    pub(crate) fn bulk_or_null(&mut self, bytes: Option<&[u8]>) {
        match bytes {
            Some(bytes) => self.bulk(bytes),
            None => self.null(),
        }
    }

    /// Absence of a value.
    pub(crate) fn null(&mut self) {
        self.bytes.extend_from_slice(match self.protocol {
            Protocol::Resp2 => b"$-1\r\n",
            Protocol::Resp3 => b"_\r\n",
        });
    }

    /// Absence of an array: an aborted EXEC.
    pub(crate) fn null_array(&mut self) {
        self.bytes.extend_from_slice(match self.protocol {
            Protocol::Resp2 => b"*-1\r\n",
            Protocol::Resp3 => b"_\r\n",
        });
    }

    pub(crate) fn array(&mut self, count: usize) {
        self.header(b'*', count);
    }

    /// The header of an array whose `count` elements stand behind `at` already.
    pub(crate) fn array_at(&mut self, at: usize, count: usize) {
        let header = format!("*{count}\r\n");
        drop(self.bytes.splice(at..at, header.bytes()));
    }

    /// A map of `pairs`, each a key and a value that follow.
    pub(crate) fn map(&mut self, pairs: usize) {
        match self.protocol {
            Protocol::Resp2 => self.header(b'*', pairs * 2),
            Protocol::Resp3 => self.header(b'%', pairs),
        }
    }

    /// The header of what RESP3 tells from replies: `count` elements that the client gets unasked.
    pub(crate) fn push(&mut self, count: usize) {
        match self.protocol {
            Protocol::Resp2 => self.header(b'*', count),
            Protocol::Resp3 => self.header(b'>', count),
        }
    }

    pub(crate) fn set(&mut self, count: usize) {
        match self.protocol {
            Protocol::Resp2 => self.header(b'*', count),
            Protocol::Resp3 => self.header(b'~', count),
        }
    }

    /// What a container of subcommands says of them.
    pub(crate) fn help(&mut self, container: &str, lines: &[&str]) {
        self.array(lines.len() + 3);
        self.simple(&format!(
            "{container} <subcommand> [<arg> [value] [opt] ...]. Subcommands are:"
        ));
        lines.iter().for_each(|line| self.simple(line));
        self.simple("HELP");
        self.simple("    Prints this help.");
    }

    /// Text for people, which RESP3 marks as such.
    pub(crate) fn verbatim(&mut self, text: &str) {
        match self.protocol {
            Protocol::Resp2 => self.bulk(text.as_bytes()),
            Protocol::Resp3 => {
                self.header(b'=', text.len() + 4);
                write!(self.bytes, "txt:{text}\r\n").expect("writing to memory");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(protocol: Protocol, write: impl FnOnce(&mut Reply)) -> String {
        let mut reply = Reply { protocol, ..Reply::default() };
        write(&mut reply);
        String::from_utf8(reply.bytes).unwrap()
    }

    #[test]
    fn each_protocol_has_its_own_bytes() {
        let all = |reply: &mut Reply| {
            reply.ok();
            reply.error("ERR no");
            reply.integer(-7);
            reply.bulk(b"ab");
            reply.null();
            reply.null_array();
            reply.array(1);
            reply.map(2);
            reply.set(3);
            reply.push(3);
            reply.verbatim("hi");
        };
        let both = "+OK\r\n-ERR no\r\n:-7\r\n$2\r\nab\r\n";
        let two = "$-1\r\n*-1\r\n*1\r\n*4\r\n*3\r\n*3\r\n$2\r\nhi\r\n";
        let three = "_\r\n_\r\n*1\r\n%2\r\n~3\r\n>3\r\n=6\r\ntxt:hi\r\n";
        assert_eq!(write(Protocol::Resp2, all), format!("{both}{two}"));
        assert_eq!(write(Protocol::Resp3, all), format!("{both}{three}"));
    }

    #[test]
    fn an_array_may_be_counted_behind_its_elements() {
        let counted = write(Protocol::Resp2, |reply| {
            reply.ok();
            let at = reply.bytes.len();
            reply.integer(7);
            reply.array_at(at, 1);
        });
        assert_eq!(counted, "+OK\r\n*1\r\n:7\r\n");
    }

    #[test]
    fn an_error_stays_on_its_line() {
        assert_eq!(write(Protocol::Resp2, |reply| reply.error("ERR a\r\n+OK")), "-ERR a  +OK\r\n");
    }
}
