//! Conversations, byte by byte: what bare connections get unasked, and what the server tells of itself.

#![expect(clippy::unwrap_used, reason = "what fails, fails the test")]

mod latency;
mod monitor;
mod pubsub;
#[expect(dead_code, reason = "not all of it is asked here")]
#[path = "../served/mod.rs"]
mod served;
mod slowlog;
mod wait;

use std::io::{BufReader, Read as _, Write as _};
use std::net::TcpStream;

use served::Served;

/// A bare connection.
struct Talk(BufReader<TcpStream>);

impl Talk {
    /// Once the database is open.
    fn new(served: &Served) -> Self {
        drop(served.connect());
        Self(BufReader::new(served.stream()))
    }

    /// The same, in RESP3.
    fn resp3(served: &Served) -> Self {
        let mut talk = Self::new(served);
        talk.say("HELLO 3");
        talk.hear_up_to("modules\r\n*0\r\n");
        talk
    }

    /// Sends inline commands.
    fn say(&mut self, lines: &str) {
        self.0.get_mut().write_all(format!("{lines}\r\n").as_bytes()).unwrap();
    }

    /// What comes next has to be this, and not a byte else; `|` stands for the end of a line.
    fn hear(&mut self, expected: &str) {
        let expected = expected.replace('|', "\r\n");
        let mut heard = Vec::new();
        for byte in expected.bytes() {
            let mut one = [0];
            self.0.read_exact(&mut one).unwrap();
            heard.push(one[0]);
            assert!(
                one[0] == byte,
                "{:?} instead of {expected:?}",
                String::from_utf8_lossy(&heard)
            );
        }
    }

    /// All that comes, up to this.
    fn hear_up_to(&mut self, end: &str) -> String {
        let mut heard = Vec::new();
        while !heard.ends_with(end.as_bytes()) {
            let mut one = [0];
            self.0.read_exact(&mut one).unwrap();
            heard.push(one[0]);
        }
        String::from_utf8(heard).unwrap()
    }

    fn ask(&mut self, lines: &str, expected: &str) {
        self.say(lines);
        self.hear(expected);
    }

    /// A line of the reply to a command that answers in lines, by its beginning.
    fn line_of(&mut self, command: &str, beginning: &str) -> String {
        self.say(&format!("{command}\r\nECHO that-is-all"));
        let heard = self.hear_up_to("$11\r\nthat-is-all\r\n");
        let found = heard.lines().find(|line| line.contains(beginning));
        found.unwrap_or_else(|| panic!("{beginning} is not in {heard}")).to_owned()
    }
}
