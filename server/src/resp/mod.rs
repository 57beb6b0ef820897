//! RESP2 and RESP3: requests out of a stream of bytes, replies into one.

mod parse;
mod reply;

pub(crate) use parse::{Args, Limits, OwnedRequest, Parsed, Parser, ProtocolError};
pub(crate) use reply::{Protocol, Reply};
