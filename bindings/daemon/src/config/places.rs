//! Where in the file a value stands, so that an error can name the line.

/// The first line, from 1, that sets `table.key`. For tables of which there are several (`account.key`, `jack.connect.key`): in
/// number `nth` (from 0) of them, or the line that opens it.
pub(super) fn line_of(text: &str, path: &str, nth: Option<usize>) -> Option<usize> {
    let (wanted_table, wanted_key) = path.rsplit_once('.')?;
    let mut table = "";
    let mut seen = 0;
    let mut opened = None;
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        let here = table == wanted_table && nth.is_none_or(|nth| seen == nth + 1);
        if line.starts_with('[') {
            table = line.split('#').next().unwrap_or_default().trim_matches(['[', ']', ' ']);
            if table == wanted_table {
                seen += 1;
                if nth.is_some_and(|nth| seen == nth + 1) {
                    opened = Some(number + 1);
                }
            }
        } else if here && line.split('=').next().is_some_and(|key| key.trim() == wanted_key) {
            return Some(number + 1);
        }
    }
    opened
}

#[cfg(test)]
mod tests {
    use super::line_of;

    const TEXT: &str =
        "[sip]\nbind = 1\n[[account]]\nuser = 1\n[[account]] # the second\n  srtp = 2\n  user = 3\n[media]\nuser = 4\n";

    #[test]
    fn a_value_of_the_second_account_has_the_second_line() {
        assert_eq!(line_of(TEXT, "account.user", Some(0)), Some(4));
        assert_eq!(line_of(TEXT, "account.user", Some(1)), Some(7));
        assert_eq!(line_of(TEXT, "account.srtp", Some(1)), Some(6));
    }

    #[test]
    fn a_table_within_a_table_has_its_lines_too() {
        const TEXT: &str = "[jack]\nfrom = 1\n[[jack.connect]]\nfrom = 2\n[[jack.connect]]\nto = 1\nfrom = 3\n";
        assert_eq!(line_of(TEXT, "jack.connect.from", Some(0)), Some(4));
        assert_eq!(line_of(TEXT, "jack.connect.from", Some(1)), Some(7));
        assert_eq!(line_of(TEXT, "jack.from", None), Some(2));
    }

    #[test]
    fn what_is_not_set_is_missing_where_its_table_opens() {
        assert_eq!(line_of(TEXT, "account.srtp", Some(0)), Some(3));
        assert_eq!(line_of(TEXT, "account.srtp", Some(7)), None);
        assert_eq!(line_of(TEXT, "sip.tcp", None), None);
    }
}
