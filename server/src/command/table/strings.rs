//! Strings and their bits.

use super::{ALL, ONE, command};
use crate::command::flag::{DENYOOM, FAST, READONLY, WRITE};
use crate::command::{bitfield, bits, lcs, strings};

group!(
    STRINGS,
    "string",
    [
        (
            "append",
            3,
            WRITE | DENYOOM | FAST,
            ONE,
            "2.0.0",
            "Append a value to a key",
            strings::append
        ),
        (
            "decr",
            2,
            WRITE | DENYOOM | FAST,
            ONE,
            "1.0.0",
            "Decrement the integer value of a key by one",
            strings::decr
        ),
        (
            "decrby",
            3,
            WRITE | DENYOOM | FAST,
            ONE,
            "1.0.0",
            "Decrement the integer value of a key by a number",
            strings::decrby
        ),
        ("get", 2, READONLY | FAST, ONE, "1.0.0", "Get the value of a key", strings::get),
        (
            "getdel",
            2,
            WRITE | FAST,
            ONE,
            "6.2.0",
            "Get the value of a key and delete the key",
            strings::getdel
        ),
        (
            "getex",
            -2,
            WRITE | FAST,
            ONE,
            "6.2.0",
            "Get the value of a key and set when it expires",
            strings::getex
        ),
        (
            "getrange",
            4,
            READONLY,
            ONE,
            "2.4.0",
            "Get a part of the string stored at a key",
            strings::getrange
        ),
        (
            "getset",
            3,
            WRITE | DENYOOM | FAST,
            ONE,
            "1.0.0",
            "Set the value of a key and return the old one",
            strings::getset
        ),
        (
            "incr",
            2,
            WRITE | DENYOOM | FAST,
            ONE,
            "1.0.0",
            "Increment the integer value of a key by one",
            strings::incr
        ),
        (
            "incrby",
            3,
            WRITE | DENYOOM | FAST,
            ONE,
            "1.0.0",
            "Increment the integer value of a key by a number",
            strings::incrby
        ),
        (
            "incrbyfloat",
            3,
            WRITE | DENYOOM | FAST,
            ONE,
            "2.6.0",
            "Increment the decimal value of a key by a number",
            strings::incrbyfloat
        ),
        (
            "lcs",
            -3,
            READONLY,
            [1, 2, 1],
            "7.0.0",
            "Find the longest common subsequence of two strings",
            lcs::lcs
        ),
        (
            "mget",
            -2,
            READONLY | FAST,
            ALL,
            "1.0.0",
            "Get the values of all the keys",
            strings::mget
        ),
        (
            "mset",
            -3,
            WRITE | DENYOOM,
            [1, -1, 2],
            "1.0.1",
            "Set several keys to several values",
            strings::mset
        ),
        (
            "msetnx",
            -3,
            WRITE | DENYOOM,
            [1, -1, 2],
            "1.0.1",
            "Set several keys, if none of them exists",
            strings::msetnx
        ),
        (
            "psetex",
            4,
            WRITE | DENYOOM,
            ONE,
            "2.6.0",
            "Set the value of a key and its lifetime in milliseconds",
            strings::psetex
        ),
        ("set", -3, WRITE | DENYOOM, ONE, "1.0.0", "Set the string value of a key", strings::set),
        (
            "setex",
            4,
            WRITE | DENYOOM,
            ONE,
            "2.0.0",
            "Set the value of a key and its lifetime in seconds",
            strings::setex
        ),
        (
            "setnx",
            3,
            WRITE | DENYOOM | FAST,
            ONE,
            "1.0.0",
            "Set the value of a key, if it does not exist",
            strings::setnx
        ),
        (
            "setrange",
            4,
            WRITE | DENYOOM,
            ONE,
            "2.2.0",
            "Overwrite a part of a string",
            strings::setrange
        ),
        ("strlen", 2, READONLY | FAST, ONE, "2.2.0", "Get the length of a string", strings::strlen),
        (
            "substr",
            4,
            READONLY,
            ONE,
            "1.0.0",
            "Get a part of the string stored at a key",
            strings::getrange
        ),
    ]
);

group!(
    BITS,
    "bitmap",
    [
        (
            "bitcount",
            -2,
            READONLY,
            ONE,
            "2.6.0",
            "Count the bits of a string that are one",
            bits::bitcount
        ),
        (
            "bitfield",
            -2,
            WRITE | DENYOOM,
            ONE,
            "3.2.0",
            "Work with integers of any width in a string",
            bitfield::bitfield
        ),
        (
            "bitfield_ro",
            -2,
            READONLY | FAST,
            ONE,
            "6.0.0",
            "Read integers of any width in a string",
            bitfield::bitfield_ro
        ),
        (
            "bitop",
            -4,
            WRITE | DENYOOM,
            [2, -1, 1],
            "2.6.0",
            "Combine strings bit by bit",
            bits::bitop
        ),
        (
            "bitpos",
            -3,
            READONLY,
            ONE,
            "2.8.7",
            "Find the first bit that is one or zero",
            bits::bitpos
        ),
        ("getbit", 3, READONLY | FAST, ONE, "2.2.0", "Get a bit of a string", bits::getbit),
        (
            "setbit",
            4,
            WRITE | DENYOOM,
            ONE,
            "2.2.0",
            "Set or clear a bit of a string",
            bits::setbit
        ),
    ]
);
