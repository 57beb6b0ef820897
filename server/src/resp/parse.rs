//! The incremental parser of requests: arrays of bulk strings, and inline commands.
//!
//! It owns the state of one request that is not whole yet, never its bytes: those stay in the
//! connection's buffer, and arguments are spans of it. It never looks at a byte twice, recurses
//! nowhere, and allocates only in proportion to what has been received: the announced number of
//! arguments reserves nothing (invariant L3).

use std::ops::Range;

use crate::limits;

/// Where an argument stands, counted from the first byte of its request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    start: usize,
    end: usize,
}

impl Span {
    const fn range(self) -> Range<usize> {
        self.start..self.end
    }
}

/// The arguments of a request; the first is the command's name.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Args<'a> {
    bytes: &'a [u8],
    spans: &'a [Span],
}

impl<'a> Args<'a> {
    pub(crate) const fn new(bytes: &'a [u8], spans: &'a [Span]) -> Self {
        Self { bytes, spans }
    }

    pub(crate) const fn len(self) -> usize {
        self.spans.len()
    }

    /// # Panics
    /// Beyond the arguments, whose number the dispatcher has compared with the command's arity.
    pub(crate) fn at(self, index: usize) -> &'a [u8] {
        &self.bytes[self.spans[index].range()]
    }

    pub(crate) fn get(self, index: usize) -> Option<&'a [u8]> {
        self.spans.get(index).map(|span| &self.bytes[span.range()])
    }

    /// The arguments from `index` on.
    pub(crate) fn from(self, index: usize) -> Self {
        Self { bytes: self.bytes, spans: self.spans.get(index..).unwrap_or_default() }
    }

    pub(crate) fn iter(self) -> impl ExactSizeIterator<Item = &'a [u8]> + DoubleEndedIterator {
        self.spans.iter().map(move |span| &self.bytes[span.range()])
    }

    /// Whether argument `index` is this word, in any case.
    pub(crate) fn is(self, index: usize, word: &str) -> bool {
        self.get(index).is_some_and(|argument| argument.eq_ignore_ascii_case(word.as_bytes()))
    }
}

/// A request that outlives the connection's buffer.
#[derive(Clone, Debug)]
pub(crate) struct OwnedRequest {
    bytes: Vec<u8>,
    spans: Vec<Span>,
}

impl OwnedRequest {
    pub(crate) fn new(args: Args<'_>) -> Self {
        let mut bytes = Vec::with_capacity(args.iter().map(<[u8]>::len).sum());
        let spans = args.iter().map(|argument| push_span(&mut bytes, argument)).collect();
        Self { bytes, spans }
    }

    pub(crate) fn args(&self) -> Args<'_> {
        Args::new(&self.bytes, &self.spans)
    }

    /// Bytes that it keeps in memory.
    pub(crate) fn held_bytes(&self) -> usize {
        size_of::<Self>() + self.bytes.capacity() + self.spans.capacity() * size_of::<Span>()
    }
}

fn push_span(bytes: &mut Vec<u8>, argument: &[u8]) -> Span {
    let start = bytes.len();
    bytes.extend_from_slice(argument);
    Span { start, end: bytes.len() }
}

/// How much a client may send in one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limits {
    pub(crate) arguments: usize,
    pub(crate) bulk_bytes: usize,
    pub(crate) is_authenticated: bool,
}

impl Limits {
    pub(crate) const AUTHENTICATED: Self = Self {
        arguments: limits::ARGUMENTS_MAX,
        bulk_bytes: limits::BULK_BYTES_MAX,
        is_authenticated: true,
    };
    pub(crate) const BEFORE_AUTH: Self = Self {
        arguments: limits::ARGUMENTS_BEFORE_AUTH_MAX,
        bulk_bytes: limits::BULK_BYTES_BEFORE_AUTH_MAX,
        is_authenticated: false,
    };
}

/// Bytes that no client should send. The connection is closed behind the error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ProtocolError {
    /// With the text of the reply.
    Reply(String),
    /// A request of HTTP: closed without a word, so that a browser page cannot talk to us.
    Http,
}

impl ProtocolError {
    fn text(text: &str) -> Self {
        Self::Reply(format!("Protocol error: {text}"))
    }
}

/// What the bytes received so far are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Parsed {
    /// The beginning of a request.
    Partial,
    /// A request of this many bytes. One without arguments asks for nothing.
    Request(usize),
}

/// The state of one request.
#[derive(Debug, Default)]
pub(crate) struct Parser {
    spans: Vec<Span>,
    state: State,
    /// Everything before is parsed.
    at: usize,
    /// No line ends before.
    searched: usize,
    /// Arguments of an inline command, unquoted.
    inline: Vec<u8>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Start,
    Length {
        remaining: usize,
    },
    Bulk {
        remaining: usize,
        length: usize,
    },
    InlineDone,
    Done,
}

impl Parser {
    /// Goes on parsing a request, the first byte of which is the first of `bytes`; they only ever grow
    /// between the calls for one request.
    pub(crate) fn parse(&mut self, bytes: &[u8], limits: &Limits) -> Result<Parsed, ProtocolError> {
        loop {
            match self.state {
                State::Start => {
                    let Some(&first) = bytes.first() else { return Ok(Parsed::Partial) };
                    if first != b'*' {
                        return self.parse_inline(bytes);
                    }
                    let Some(line) = self.line(bytes, "too big mbulk count string")? else {
                        return Ok(Parsed::Partial);
                    };
                    let count = length(&bytes[line.start + 1..line.end])
                        .ok_or_else(|| ProtocolError::text("invalid multibulk length"))?;
                    self.begin_array(count, limits)?;
                }
                State::Length { remaining: 0 } | State::InlineDone => self.state = State::Done,
                State::Length { remaining } => {
                    let Some(line) = self.line(bytes, "too big bulk count string")? else {
                        return Ok(Parsed::Partial);
                    };
                    let length = bulk_length(&bytes[line], limits)?;
                    self.state = State::Bulk { remaining, length };
                }
                State::Bulk { remaining, length } => {
                    if bytes.len() - self.at < length + 2 {
                        return Ok(Parsed::Partial);
                    }
                    self.spans.push(Span { start: self.at, end: self.at + length });
                    self.at += length + 2;
                    self.searched = self.at;
                    self.state = State::Length { remaining: remaining - 1 };
                }
                State::Done => return Ok(Parsed::Request(self.at)),
            }
        }
    }

    fn begin_array(&mut self, count: i64, limits: &Limits) -> Result<(), ProtocolError> {
        let remaining = usize::try_from(count).unwrap_or(0);
        if remaining > limits.arguments {
            let why = if limits.is_authenticated {
                "invalid multibulk length"
            } else {
                "unauthenticated multibulk length"
            };
            return Err(ProtocolError::text(why));
        }
        self.state = State::Length { remaining };
        Ok(())
    }

    /// The line that begins at `at`, without its end, and goes behind it.
    fn line(
        &mut self,
        bytes: &[u8],
        too_long: &str,
    ) -> Result<Option<Range<usize>>, ProtocolError> {
        let Some(found) = bytes[self.searched..].iter().position(|&byte| byte == b'\n') else {
            self.searched = bytes.len();
            if bytes.len() - self.at > limits::LINE_BYTES_MAX {
                return Err(ProtocolError::text(too_long));
            }
            return Ok(None);
        };
        let newline = self.searched + found;
        let end =
            if newline > self.at && bytes[newline - 1] == b'\r' { newline - 1 } else { newline };
        let line = self.at..end;
        if line.len() > limits::LINE_BYTES_MAX {
            return Err(ProtocolError::text(too_long));
        }
        self.at = newline + 1;
        self.searched = self.at;
        Ok(Some(line))
    }

    fn parse_inline(&mut self, bytes: &[u8]) -> Result<Parsed, ProtocolError> {
        let Some(line) = self.line(bytes, "too big inline request")? else {
            return Ok(Parsed::Partial);
        };
        let line = &bytes[line];
        if !split_words(line, &mut self.inline, &mut self.spans) {
            return Err(ProtocolError::text("unbalanced quotes in request"));
        }
        let name = Args::new(&self.inline, &self.spans).get(0).unwrap_or_default();
        if name.eq_ignore_ascii_case(b"post") || name.eq_ignore_ascii_case(b"host:") {
            return Err(ProtocolError::Http);
        }
        self.state = State::InlineDone;
        Ok(Parsed::Request(self.at))
    }

    /// The arguments of the request that [`Parser::parse`] has found at the beginning of `bytes`.
    pub(crate) fn args<'a>(&'a self, bytes: &'a [u8]) -> Args<'a> {
        let bytes = if self.state == State::InlineDone { &self.inline } else { bytes };
        Args::new(bytes, &self.spans)
    }

    /// Bytes that have to be there before it is worth asking again, if that is known.
    pub(crate) fn wanted(&self) -> usize {
        match self.state {
            State::Bulk { length, .. } => self.at + length + 2,
            _ => 0,
        }
    }

    /// Forgets the request; the next one begins. The room of an exceptional one is given back.
    pub(crate) fn next(&mut self) {
        self.spans.clear();
        self.spans.shrink_to(1024);
        self.inline.clear();
        self.inline.shrink_to(4096);
        self.state = State::Start;
        self.at = 0;
        self.searched = 0;
    }
}

/// A whole decimal number: a minus sign, digits, nothing else.
fn length(digits: &[u8]) -> Option<i64> {
    crate::number::parse_i64(digits)
}

fn bulk_length(line: &[u8], limits: &Limits) -> Result<usize, ProtocolError> {
    match line.split_first() {
        Some((b'$', digits)) => {
            let length = length(digits)
                .and_then(|length| usize::try_from(length).ok())
                .filter(|&length| length <= limits::BULK_BYTES_MAX)
                .ok_or_else(|| ProtocolError::text("invalid bulk length"))?;
            if length > limits.bulk_bytes {
                return Err(ProtocolError::text("unauthenticated bulk length"));
            }
            Ok(length)
        }
        other => {
            let found = other.map_or('\r', |(&byte, _)| char::from(byte));
            Err(ProtocolError::text(&format!("expected '$', got '{found}'")))
        }
    }
}

/// Splits a line into words as `redis-cli` quotes them. `false`: a quote is not closed, or is closed
/// inside of a word.
fn split_words(line: &[u8], words: &mut Vec<u8>, spans: &mut Vec<Span>) -> bool {
    let mut at = 0;
    loop {
        while line.get(at).is_some_and(u8::is_ascii_whitespace) {
            at += 1;
        }
        if at == line.len() {
            return true;
        }
        let start = words.len();
        let Some(end) = read_word(line, at, words) else { return false };
        at = end;
        spans.push(Span { start, end: words.len() });
    }
}

/// Reads one word from `at` on; returns where it ends.
fn read_word(line: &[u8], mut at: usize, word: &mut Vec<u8>) -> Option<usize> {
    let mut quote = None;
    loop {
        let Some(&byte) = line.get(at) else { return quote.is_none().then_some(at) };
        at += 1;
        match (quote, byte) {
            (None, b'"' | b'\'') => quote = Some(byte),
            (None, _) if byte.is_ascii_whitespace() => return Some(at),
            (Some(b'"'), b'\\') => at = read_escape(line, at, word)?,
            (Some(b'\''), b'\\') if line.get(at) == Some(&b'\'') => {
                word.push(b'\'');
                at += 1;
            }
            (Some(open), _) if open == byte => {
                let is_end = line.get(at).is_none_or(u8::is_ascii_whitespace);
                return is_end.then_some(at);
            }
            _ => word.push(byte),
        }
    }
}

/// Reads what stands behind a backslash; returns where it ends.
fn read_escape(line: &[u8], at: usize, word: &mut Vec<u8>) -> Option<usize> {
    let hex = |index: usize| char::from(*line.get(index)?).to_digit(16);
    if line.get(at) == Some(&b'x')
        && let (Some(high), Some(low)) = (hex(at + 1), hex(at + 2))
    {
        word.push(u8::try_from(high * 16 + low).ok()?);
        return Some(at + 3);
    }
    word.push(match line.get(at)? {
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        b'b' => 8,
        b'a' => 7,
        &other => other,
    });
    Some(at + 1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn encode(arguments: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = format!("*{}\r\n", arguments.len()).into_bytes();
        for argument in arguments {
            bytes.extend(format!("${}\r\n", argument.len()).bytes());
            bytes.extend_from_slice(argument);
            bytes.extend_from_slice(b"\r\n");
        }
        bytes
    }

    fn words(line: &str) -> Result<Vec<Vec<u8>>, ProtocolError> {
        let mut parser = Parser::default();
        let bytes = line.as_bytes();
        assert_eq!(parser.parse(bytes, &Limits::AUTHENTICATED)?, Parsed::Request(bytes.len()));
        Ok(parser.args(bytes).iter().map(<[u8]>::to_vec).collect())
    }

    fn refusal(bytes: &[u8], limits: &Limits) -> String {
        match Parser::default().parse(bytes, limits) {
            Err(ProtocolError::Reply(text)) => text,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn inline_commands_are_split_as_redis_cli_quotes() {
        assert_eq!(words("set k \"a b\\x41\\n\"\r\n").unwrap(), [&b"set"[..], b"k", b"a bA\n"]);
        assert_eq!(words("echo 'it\\'s'\n").unwrap(), [&b"echo"[..], b"it's"]);
        assert!(words("\r\n").unwrap().is_empty());
        for unbalanced in ["set \"\"\"x\" k\r\n", "echo \"a\r\n", "echo 'a'b\r\n"] {
            assert_eq!(
                refusal(unbalanced.as_bytes(), &Limits::AUTHENTICATED),
                "Protocol error: unbalanced quotes in request"
            );
        }
    }

    #[test]
    fn bad_bytes_get_the_texts_of_redis() {
        let all = &Limits::AUTHENTICATED;
        for (bytes, text) in [
            (&b"*3\r\n$3\r\nSET\r\n$1\r\nx\r\nfooz\r\n"[..], "expected '$', got 'f'"),
            (b"*1\r\n$-10\r\n", "invalid bulk length"),
            (b"*1\r\n$2000000000\r\n", "invalid bulk length"),
            (b"*20000000\r\n", "invalid multibulk length"),
            (b"*1x\r\n", "invalid multibulk length"),
            (b"*1\r\n$blabla\r\n", "invalid bulk length"),
        ] {
            assert_eq!(refusal(bytes, all), format!("Protocol error: {text}"));
        }
        let before = &Limits::BEFORE_AUTH;
        assert_eq!(refusal(b"*11\r\n", before), "Protocol error: unauthenticated multibulk length");
        assert_eq!(
            refusal(b"*1\r\n$16385\r\n", before),
            "Protocol error: unauthenticated bulk length"
        );
        let long = vec![b'a'; limits::LINE_BYTES_MAX + 1];
        assert_eq!(refusal(&long, all), "Protocol error: too big inline request");
    }

    #[test]
    fn an_announced_count_reserves_nothing() {
        let mut parser = Parser::default();
        let bytes = b"*1048576\r\n$536870912\r\n";
        assert_eq!(parser.parse(bytes, &Limits::AUTHENTICATED), Ok(Parsed::Partial));
        assert_eq!(parser.spans.capacity(), 0);
    }

    #[test]
    fn empty_arguments_of_a_kept_request_count_as_what_they_take() {
        let mut parser = Parser::default();
        let bytes = encode(&vec![Vec::new(); 1000]);
        assert_eq!(parser.parse(&bytes, &Limits::AUTHENTICATED), Ok(Parsed::Request(bytes.len())));
        let held_bytes = OwnedRequest::new(parser.args(&bytes)).held_bytes();
        assert!(held_bytes >= 1000 * size_of::<Span>(), "{held_bytes}");
    }

    #[test]
    fn requests_of_http_are_told() {
        let post = Parser::default().parse(b"POST / HTTP/1.1\r\n", &Limits::AUTHENTICATED);
        assert_eq!(post, Err(ProtocolError::Http));
    }

    proptest! {
        #[test]
        fn a_request_is_the_same_however_it_is_cut(
            arguments in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 1..8),
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..8),
            behind in prop::collection::vec(any::<u8>(), 0..20),
        ) {
            let request = encode(&arguments);
            let mut bytes = request.clone();
            bytes.extend_from_slice(&behind);
            let mut ends: Vec<_> = cuts.iter().map(|cut| cut.index(request.len())).collect();
            ends.sort_unstable();
            let mut parser = Parser::default();
            for end in ends {
                let parsed = parser.parse(&bytes[..end], &Limits::AUTHENTICATED);
                prop_assert_eq!(parsed, Ok(Parsed::Partial));
            }
            let parsed = parser.parse(&bytes, &Limits::AUTHENTICATED);
            prop_assert_eq!(parsed, Ok(Parsed::Request(request.len())));
            let found: Vec<_> = parser.args(&bytes).iter().map(<[u8]>::to_vec).collect();
            prop_assert_eq!(found, arguments);
        }

        #[test]
        fn no_bytes_make_it_panic_or_hold_more_than_they_are(
            bytes in prop::collection::vec(prop::sample::select(b"*$12-0\r\n a\"'\\x".to_vec()), 0..64),
        ) {
            let mut parser = Parser::default();
            for end in 0..=bytes.len() {
                if !matches!(parser.parse(&bytes[..end], &Limits::BEFORE_AUTH), Ok(Parsed::Partial)) {
                    break;
                }
            }
            prop_assert!(parser.spans.len() <= bytes.len());
        }
    }
}
