//! Random commands: a table of what their arguments are drawn from. What two servers need not tell alike
//! (times to live in milliseconds, orders, sizes in memory) is not asked.

use super::wire::Command;
use crate::random::Random;

/// What an argument is drawn from.
#[derive(Debug)]
enum Draw {
    /// Exactly this.
    Word(&'static str),
    /// One of these.
    Of(&'static [&'static str]),
    Key,
    /// A key whose time to live counts from now, which nobody asks for.
    Passing,
    Bytes,
    Integer,
    Glob,
    /// One of these sequences.
    OneOf(&'static [&'static [Self]]),
    /// None to three times.
    Some(&'static Self),
    /// One to three times.
    Many(&'static [Self]),
}

use Draw::{Bytes, Glob, Integer, Key, Many, Of, OneOf, Passing, Some as Few, Word};

const REAL_KEY: Draw = Of(&["real0", "real1"]);
const FLOAT: Draw =
    Of(&["0.5", "-0.25", "1.75", "3", "-2", "1e2", "nan", "inf", "abc", "", "1e5000"]);
const OFFSET: Draw =
    Of(&["0", "1", "5", "20", "100", "-1", "536870912", "abc", "9223372036854775807"]);
const BIT_OFFSET: Draw =
    Of(&["0", "1", "7", "8", "15", "31", "100", "-1", "4294967296", "abc", "#1"]);
const BIT: Draw = Of(&["0", "1", "0", "1", "2", "-1", "abc"]);
const PLACE: Draw = Of(&[
    "-9223372036854775808",
    "-100",
    "-20",
    "-10",
    "-3",
    "-2",
    "-1",
    "0",
    "1",
    "2",
    "3",
    "10",
    "100",
    "9223372036854775807",
    "abc",
    "1.0",
]);
const DATABASE: Draw = Of(&["0", "1", "2", "0", "1", "2", "15", "16", "-1", "abc", "3000000000"]);
const PARAMETER: Draw = Of(&["timeout", "TIMEOUT", "maxclients", "databases", "nosuch"]);
const SETTING: Draw = Of(&["0", "0", "0mb", "-1", "abc", "+5", "007", ""]);
const SECONDS: Draw =
    Of(&["4000000000", "4000000001", "4000000007", "1", "0", "-1", "abc", "9223372036854775807"]);
const MILLISECONDS: Draw = Of(&[
    "4000000000000",
    "4000000000499",
    "4000000000500",
    "4000000001999",
    "1",
    "0",
    "-5",
    "abc",
]);
const CONDITION: Draw = Of(&["NX", "XX", "GT", "LT", "nx", "bad"]);
const UNIT: Draw = Of(&["BIT", "BYTE", "bit", "bad"]);
const FIELD: Draw =
    Of(&["u1", "u2", "u8", "u15", "u63", "u64", "i1", "i5", "i8", "i32", "i64", "i65", "x8", "8"]);
const FIELD_OFFSET: Draw = Of(&["0", "1", "3", "8", "#0", "#1", "#3", "-1", "abc", "4294967296"]);
/// Not times that have passed: such a key is there until somebody looks, which is a matter of time.
const SET_OPTION: Draw = OneOf(&[
    &[Word("NX")],
    &[Word("XX")],
    &[Word("GET")],
    &[Word("KEEPTTL")],
    &[Word("EXAT"), Of(&["4000000000", "4000000007", "0", "-1", "abc"])],
    &[Word("pxat"), Of(&["4000000000000", "4000000000500", "0", "-5", "abc"])],
    &[Word("EX"), Of(&["0", "-1", "abc", "9223372036854775807"])],
    &[Word("bad")],
]);
const GETEX_OPTION: Draw = OneOf(&[
    &[Word("PERSIST")],
    &[Word("EXAT"), SECONDS],
    &[Word("PXAT"), MILLISECONDS],
    &[Word("bad")],
]);
const FIELD_STEP: Draw = OneOf(&[
    &[Word("GET"), FIELD, FIELD_OFFSET],
    &[Word("SET"), FIELD, FIELD_OFFSET, Integer],
    &[Word("INCRBY"), FIELD, FIELD_OFFSET, Integer],
    &[Word("OVERFLOW"), Of(&["WRAP", "SAT", "bad"])],
]);
/// Where it fails, Redis makes the string longer and does not tell who watches the key; so no key that is
/// watched is given to it.
const FAILING_STEP: Draw = OneOf(&[&[FIELD_STEP], &[Word("OVERFLOW"), Word("FAIL"), FIELD_STEP]]);
const UNWATCHED_KEY: Draw = Of(&["field0", "field1"]);
const LCS_OPTION: Draw = OneOf(&[
    &[Word("LEN")],
    &[Word("IDX")],
    &[Word("IDX"), Word("MINMATCHLEN"), Of(&["0", "1", "2", "-1", "abc"])],
    &[Word("IDX"), Word("WITHMATCHLEN")],
]);

/// How often a command is drawn, its name, and its arguments.
const COMMANDS: &[(usize, &str, &[Draw])] = &[
    (8, "SET", &[Key, Bytes, Few(&SET_OPTION)]),
    (6, "GET", &[Key]),
    (2, "GETSET", &[Key, Bytes]),
    (2, "GETDEL", &[Key]),
    (3, "GETEX", &[Key, Few(&GETEX_OPTION)]),
    (2, "SETNX", &[Key, Bytes]),
    (2, "SETEX", &[Passing, Of(&["100000", "0", "-1", "abc"]), Bytes]),
    (1, "PSETEX", &[Passing, Of(&["100000000", "0", "-1", "abc"]), Bytes]),
    (2, "MGET", &[Many(&[Key])]),
    (2, "MSET", &[Many(&[Key, Bytes])]),
    (2, "MSETNX", &[Many(&[Key, Bytes])]),
    (3, "APPEND", &[Key, Bytes]),
    (2, "STRLEN", &[Key]),
    (3, "GETRANGE", &[Key, PLACE, PLACE]),
    (1, "SUBSTR", &[Key, PLACE, PLACE]),
    (3, "SETRANGE", &[Key, OFFSET, Bytes]),
    (3, "INCR", &[Key]),
    (2, "DECR", &[Key]),
    (3, "INCRBY", &[Key, Integer]),
    (2, "DECRBY", &[Key, Integer]),
    // Where a `long double` would round, Redis does, and the server does not.
    (3, "INCRBYFLOAT", &[REAL_KEY, FLOAT]),
    (1, "INCRBYFLOAT", &[Key, Of(&["nan", "inf", "abc", "", "1e5000"])]),
    (1, "SET", &[REAL_KEY, Of(&["3.0e3", "-1.5", "10", "abc", "1.25"])]),
    (2, "LCS", &[Key, Key, Few(&LCS_OPTION)]),
    (3, "SETBIT", &[Key, BIT_OFFSET, BIT]),
    (3, "GETBIT", &[Key, BIT_OFFSET]),
    (3, "BITCOUNT", &[Key]),
    (3, "BITCOUNT", &[Key, PLACE, PLACE, Few(&UNIT)]),
    (2, "BITPOS", &[Key, BIT]),
    (3, "BITPOS", &[Key, BIT, PLACE, OneOf(&[&[], &[PLACE], &[PLACE, UNIT]])]),
    (3, "BITOP", &[Of(&["AND", "or", "XOR", "NOT", "bad"]), Key, Many(&[Key])]),
    (3, "BITFIELD", &[Key, Many(&[FIELD_STEP])]),
    (3, "BITFIELD", &[UNWATCHED_KEY, Many(&[FAILING_STEP])]),
    (1, "BITFIELD_RO", &[Key, Many(&[FIELD_STEP])]),
    (3, "DEL", &[Many(&[Key])]),
    (1, "UNLINK", &[Many(&[Key])]),
    (2, "EXISTS", &[Many(&[Key])]),
    (1, "TOUCH", &[Many(&[Key])]),
    (1, "TYPE", &[Key]),
    (2, "RENAME", &[Key, Key]),
    (2, "RENAMENX", &[Key, Key]),
    (
        2,
        "COPY",
        &[Key, Key, Few(&OneOf(&[&[Word("REPLACE")], &[Word("DB"), DATABASE], &[Word("bad")]]))],
    ),
    (1, "MOVE", &[Key, DATABASE]),
    (1, "SWAPDB", &[DATABASE, DATABASE]),
    (2, "KEYS", &[Glob]),
    (2, "DBSIZE", &[]),
    (2, "EXPIRE", &[Key, Of(&["0", "-1", "abc", "9223372036854775807"]), Few(&CONDITION)]),
    (1, "PEXPIRE", &[Key, Of(&["0", "-1", "abc", "9223372036854775807"]), Few(&CONDITION)]),
    (4, "EXPIREAT", &[Key, SECONDS, Few(&CONDITION)]),
    (3, "PEXPIREAT", &[Key, MILLISECONDS, Few(&CONDITION)]),
    (2, "EXPIRETIME", &[Key]),
    (2, "PEXPIRETIME", &[Key]),
    (2, "PERSIST", &[OneOf(&[&[Key], &[Passing]])]),
    (1, "GET", &[Passing]),
    (4, "MULTI", &[]),
    (6, "EXEC", &[]),
    (1, "DISCARD", &[]),
    (3, "WATCH", &[Many(&[Key])]),
    (1, "UNWATCH", &[]),
    (3, "SELECT", &[DATABASE]),
    (1, "CONFIG", &[Word("SET"), Many(&[PARAMETER, SETTING]), Few(&Word("timeout"))]),
    (1, "PING", &[OneOf(&[&[], &[Bytes]])]),
    (1, "ECHO", &[Bytes]),
    (1, "FLUSHDB", &[OneOf(&[&[], &[Word("SYNC")], &[Word("bad")]])]),
    (1, "nonsense", &[Many(&[Integer])]),
    (1, "OBJECT", &[Of(&["nonsense", "ENCODING"])]),
];

/// A command, by chance with an argument too few or too many.
pub(super) fn draw(random: &mut Random) -> Command {
    let total = COMMANDS.iter().map(|(weight, ..)| weight).sum();
    let mut place = random.below_usize(total);
    let mut rows = COMMANDS.iter();
    let (name, arguments) = loop {
        let (weight, name, arguments) = rows.next().expect("the place is below the sum");
        match place.checked_sub(*weight) {
            Some(rest) => place = rest,
            None => break (name, arguments),
        }
    };
    let name = if random.one_in(8) { name.to_ascii_lowercase() } else { (*name).to_owned() };
    let mut command = vec![name.into_bytes()];
    arguments.iter().for_each(|argument| argument.draw(random, &mut command));
    match random.below(50) {
        0 if command.len() > 1 => drop(command.pop()),
        1 => command.push(b"more".to_vec()),
        _ => {}
    }
    command
}

fn one<'a, T: ?Sized>(random: &mut Random, all: &[&'a T]) -> &'a T {
    all[random.below_usize(all.len())]
}

impl Draw {
    fn draw(&self, random: &mut Random, out: &mut Command) {
        let argument = match self {
            Word(word) => (*word).as_bytes().to_vec(),
            Of(words) => one(random, words).as_bytes().to_vec(),
            Key => format!("k{}", random.below(6)).into_bytes(),
            Passing => format!("passing{}", random.below(2)).into_bytes(),
            Bytes => bytes(random),
            Integer => integer(random),
            Glob => glob(random),
            OneOf(sequences) => {
                let sequence = one(random, sequences);
                return sequence.iter().for_each(|argument| argument.draw(random, out));
            }
            Few(argument) => {
                let count = random.below(4) * random.below(2);
                return (0..count).for_each(|_| argument.draw(random, out));
            }
            Many(sequence) => {
                for _ in 0..=random.below(3) {
                    sequence.iter().for_each(|argument| argument.draw(random, out));
                }
                return;
            }
        };
        out.push(argument);
    }
}

fn bytes(random: &mut Random) -> Vec<u8> {
    match random.below(4) {
        0 => integer(random),
        1 => one(
            random,
            &["", "0.5", "1.25", "-3.5", "abc", "abcabd", "xabcx", "10", "+1", " 1", "01"],
        )
        .into(),
        2 => (0..random.below(12)).map(|_| random.next().to_le_bytes()[0]).collect(),
        _ => (0..random.below(40)).map(|_| b'a' + random.next().to_le_bytes()[0] % 3).collect(),
    }
}

fn integer(random: &mut Random) -> Vec<u8> {
    let edges = [
        "9223372036854775807",
        "-9223372036854775808",
        "9223372036854775806",
        "9223372036854775808",
        "255",
        "256",
        "-129",
        "abc",
        "1.5",
        "",
    ];
    if random.one_in(4) {
        return one(random, &edges).into();
    }
    let size = random.below(200);
    if random.one_in(2) { size.to_string() } else { format!("-{size}") }.into_bytes()
}

fn glob(random: &mut Random) -> Vec<u8> {
    if random.one_in(2) {
        return b"*".to_vec();
    }
    let parts =
        ["k", "*", "?", "[0-3]", "[^2]", "[3-0]", "[", "\\k", "1", "passing", "]", "[a-", "\\"];
    (0..random.below(5)).flat_map(|_| one(random, &parts).bytes()).collect()
}
