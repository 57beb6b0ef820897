//! Patterns of KEYS, SCAN, CONFIG GET and PSUBSCRIBE.
//!
//! Iterative: behind a star only the last one is ever tried again, so the work is bounded by pattern
//! times text, whatever a client sends.

/// Whether `text` matches `pattern`: `*`, `?`, `[a-c]`, `[^x]`, and a backslash before what is meant
/// as it stands.
pub(crate) fn matches(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    loop {
        if pattern.get(p) == Some(&b'*') {
            p += 1;
            star = Some((p, t));
            continue;
        }
        let step = match (pattern.get(p), text.get(t)) {
            (None, None) => return true,
            (Some(_), Some(&byte)) => match_one(&pattern[p..], byte),
            _ => None,
        };
        if let Some(length) = step {
            p += length;
            t += 1;
            continue;
        }
        match star {
            Some((behind, seen)) if seen < text.len() => {
                star = Some((behind, seen + 1));
                (p, t) = (behind, seen + 1);
            }
            _ => return false,
        }
    }
}

/// Whether one element of the pattern matches `byte`; returns the element's length.
fn match_one(pattern: &[u8], byte: u8) -> Option<usize> {
    match pattern {
        [b'?', ..] => Some(1),
        [b'\\', escaped, ..] => (*escaped == byte).then_some(2),
        [b'[', rest @ ..] => match_class(rest, byte).map(|length| length + 1),
        [plain, ..] => (*plain == byte).then_some(1),
        [] => None,
    }
}

fn match_class(class: &[u8], byte: u8) -> Option<usize> {
    let is_negated = class.first() == Some(&b'^');
    let mut at = usize::from(is_negated);
    let mut is_in = false;
    loop {
        match &class[at.min(class.len())..] {
            // A class that is not closed ends with the pattern.
            [] => break,
            [b']', ..] => {
                at += 1;
                break;
            }
            [b'\\', escaped, ..] => {
                is_in |= *escaped == byte;
                at += 2;
            }
            [first, b'-', last, ..] => {
                is_in |= (*first.min(last)..=*first.max(last)).contains(&byte);
                at += 3;
            }
            [plain, ..] => {
                is_in |= *plain == byte;
                at += 1;
            }
        }
    }
    (is_in != is_negated).then_some(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_as_in_redis() {
        for (pattern, text) in [
            ("*", ""),
            ("h?llo", "hello"),
            ("h*llo", "heeello"),
            ("h[ae]llo", "hallo"),
            ("h[^e]llo", "hallo"),
            ("h[a-b]llo", "hbllo"),
            ("h[b-a]llo", "hallo"),
            ("\\*", "*"),
            ("a*b*c", "axxbyyc"),
            ("[\\]]", "]"),
            ("foo*", "foo"),
            ("[a", "a"),
        ] {
            assert!(matches(pattern.as_bytes(), text.as_bytes()), "{pattern} {text}");
        }
        for (pattern, text) in
            [("", "a"), ("h?llo", "hllo"), ("h[^e]llo", "hello"), ("\\*", "a"), ("a*b", "ac")]
        {
            assert!(!matches(pattern.as_bytes(), text.as_bytes()), "{pattern} {text}");
        }
    }

    #[test]
    fn many_stars_take_no_exponential_time() {
        let pattern = b"a*".repeat(2000);
        let text = vec![b'a'; 1000];
        assert!(!matches(&[&pattern[..], b"b"].concat(), &text));
    }
}
