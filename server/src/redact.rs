//! Which arguments nobody else may see: passwords, in the slow log and in what MONITOR tells.

use crate::command::Command;
use crate::resp::Args;

/// What stands for a secret.
const REDACTED: &[u8] = b"(redacted)";

/// The arguments of a request, with secrets replaced.
pub(crate) fn shown<'a>(command: &Command, args: Args<'a>) -> Vec<&'a [u8]> {
    let arguments = args.iter().enumerate();
    let show = |(index, argument)| match argument {
        _ if is_secret(command, args, index) => REDACTED,
        argument => argument,
    };
    arguments.map(show).collect()
}

fn is_secret(command: &Command, args: Args<'_>, index: usize) -> bool {
    let follows = |word: &str, distance: usize| {
        index.checked_sub(distance).is_some_and(|before| args.is(before, word))
    };
    match command.name {
        "auth" => index > 0,
        // Wherever the word stands: rather too much than a password.
        "hello" => follows("auth", 1) || follows("auth", 2),
        "config|set" => index > 2 && follows("requirepass", 1),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::find;
    use crate::resp::OwnedRequest;

    fn shown_of(line: &str) -> String {
        let bytes: Vec<u8> = line.bytes().chain(*b"\r\n").collect();
        let mut parser = crate::resp::Parser::default();
        parser.parse(&bytes, &crate::resp::Limits::AUTHENTICATED).unwrap();
        let request = OwnedRequest::new(parser.args(&bytes));
        let command = find(request.args()).unwrap();
        let words = shown(command, request.args());
        words.iter().map(|word| String::from_utf8_lossy(word)).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn passwords_are_not_shown() {
        for (line, expected) in [
            ("AUTH p", "AUTH (redacted)"),
            ("auth u p", "auth (redacted) (redacted)"),
            ("HELLO 2 AUTH u p SETNAME n", "HELLO 2 AUTH (redacted) (redacted) SETNAME n"),
            ("CONFIG SET timeout 1 requirepass p", "CONFIG SET timeout 1 requirepass (redacted)"),
            ("CONFIG GET requirepass", "CONFIG GET requirepass"),
            ("SET auth p", "SET auth p"),
        ] {
            assert_eq!(shown_of(line), expected);
        }
    }
}
