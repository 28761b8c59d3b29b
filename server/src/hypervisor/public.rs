//! What of a hypervisor's words may go to a caller: everything but the paths of this host.

/// Stands where a path stood.
const HIDDEN: &str = "<path>";

/// `words` without absolute paths. The operator finds them in the log.
pub fn public(words: &str) -> String {
    let mut shown = String::with_capacity(words.len());
    let mut rest = words;
    while let Some(at) = path(rest) {
        shown.push_str(&rest[..at]);
        shown.push_str(HIDDEN);
        let quote = rest[..at].chars().next_back();
        rest = &rest[at + length(quote, &rest[at..])..];
    }
    shown + rest
}

/// What an emulator says of a disk that it cannot open, and could not at another time, until somebody mends it.
const STAYS: [&str; 4] = [
    "Permission denied",
    "Operation not permitted",
    "No such file or directory",
    "Authentication failure",
];

/// Whether words of an emulator that cannot open a disk tell of a fault that does not pass.
pub(super) fn stays(words: &str) -> bool {
    STAYS.iter().any(|said| words.contains(said))
}

/// Where a path begins: a slash that neither divides two words (`I/O`) nor stands alone.
fn path(words: &str) -> Option<usize> {
    let mut before = None;
    for (at, c) in words.char_indices() {
        let joins = before.is_some_and(|c: char| c.is_alphanumeric() || "._-%".contains(c));
        let next = words[at..].chars().nth(1);
        if c == '/' && !joins && next.is_some_and(|c| !c.is_whitespace() && !ends(c)) {
            return Some(at);
        }
        before = Some(c);
    }
    None
}

/// How long the path is that begins `words`; `quote` is what stands before it.
fn length(quote: Option<char>, words: &str) -> usize {
    let quoted = quote.filter(|c| matches!(c, '\'' | '"' | '`'));
    if let Some(end) = quoted.and_then(|quote| words.find(quote)) {
        return end;
    }
    let end = words.find(|c: char| c.is_whitespace() || ends(c));
    // A path may hold these, but hardly at its end.
    words[..end.unwrap_or(words.len())]
        .trim_end_matches([':', ',', ';', '.'])
        .len()
}

/// Whether a path that is not quoted ends before `c`.
fn ends(c: char) -> bool {
    "'\"`()[]{}<>".contains(c)
}

#[cfg(test)]
mod tests {
    use super::public;

    #[test]
    fn paths_are_hidden_and_all_else_is_told() {
        for (words, shown) in [
            (
                "Cannot access storage file '/var/lib/my files/disk' (as uid:64055, gid:993): No such file or directory",
                "Cannot access storage file '<path>' (as uid:64055, gid:993): No such file or directory",
            ),
            (
                "Failed to connect socket to '/run/libvirt/libvirt-sock': Connection refused",
                "Failed to connect socket to '<path>': Connection refused",
            ),
            (
                r#"-blockdev {"driver":"file","filename":"/a/b c","node-name":"x"}: Could not open '/a/b c': I/O error"#,
                r#"-blockdev {"driver":"file","filename":"<path>","node-name":"x"}: Could not open '<path>': I/O error"#,
            ),
            (
                "unable to open /etc/x.conf: denied",
                "unable to open <path>: denied",
            ),
            (
                "file=/a/b,format=raw was refused",
                "file=<path> was refused",
            ),
            ("qemu:///embed?root=%2Fsrv", "qemu:<path>"),
            ("(see /var/log/x.log).", "(see <path>)."),
            ("/a", "<path>"),
            ("'/a and no end", "'<path> and no end"),
            ("/ä/ö 'ü/é'", "<path> 'ü/é'"),
        ] {
            assert_eq!(public(words), shown);
        }
    }

    #[test]
    fn words_without_a_path_stay_as_they_are() {
        for words in [
            "",
            "/",
            "1 / 2",
            "I/O error on read/write",
            "Requested operation is not valid: domain is not running",
            "cfq, noop and/or deadline; a (/) b",
        ] {
            assert_eq!(public(words), words);
        }
    }
}
