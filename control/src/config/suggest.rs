//! "Did you mean": the nearest of the words that would have been right.

/// A question for the candidate that is closest, if one is close enough to be meant.
pub(crate) fn did_you_mean<'a>(
    word: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<String> {
    closest(word, candidates).map(|candidate| format!("did you mean `{candidate}`?"))
}

/// The candidate that is closest, if one is close enough to be meant.
pub(super) fn closest<'a>(
    word: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    let word = word.to_lowercase();
    let far = (word.chars().count() / 3).clamp(1, 3);
    candidates
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(&word, &candidate.to_lowercase()), candidate))
        .filter(|&(distance, candidate)| {
            distance <= far || (word.len() > 3 && candidate.starts_with(word.as_str()))
        })
        .min()
        .map(|(_, candidate)| candidate)
}

/// The candidates as people list them: `a`, `b` or `c`.
pub(super) fn one_of(candidates: &[&str]) -> String {
    listed(candidates, "or")
}

/// `a`, `b` and `c`.
pub(super) fn all_of(candidates: &[&str]) -> String {
    listed(candidates, "and")
}

fn listed(candidates: &[&str], join: &str) -> String {
    let quoted: Vec<_> = candidates.iter().map(|word| format!("`{word}`")).collect();
    match quoted.split_last() {
        None => String::from("nothing"),
        Some((only, [])) => only.clone(),
        Some((last, rest)) => format!("{} {join} {last}", rest.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_word_that_was_meant() {
        let keys = ["name", "address", "address6", "max_sessions"];
        let ask = |word| did_you_mean(word, keys);
        assert_eq!(ask("adress").as_deref(), Some("did you mean `address`?"));
        assert_eq!(ask("nmae").as_deref(), Some("did you mean `name`?"));
        assert_eq!(ask("max_session").as_deref(), Some("did you mean `max_sessions`?"));
        assert_eq!(ask("colour"), None);
        assert_eq!(ask(""), None);
    }

    #[test]
    fn lists_as_people_do() {
        assert_eq!(one_of(&["a"]), "`a`");
        assert_eq!(one_of(&["a", "b", "c"]), "`a`, `b` or `c`");
        assert_eq!(all_of(&["a", "b", "c"]), "`a`, `b` and `c`");
    }
}
