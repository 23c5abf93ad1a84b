//! Which of these did they mean? The nearest name by edit distance.

/// The candidate that is nearest to `word`, if one is near enough to be what was meant: a third of its letters may be wrong, or
/// only case, `-` and `_` differ.
pub(crate) fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let plain_word = plain(word);
    // Of a single letter nothing would be left.
    let distance_max = (plain_word.len() / 3).max(1).min(plain_word.len().saturating_sub(1));
    candidates
        .into_iter()
        .filter(|candidate| plain_word.len().abs_diff(plain(candidate).len()) <= distance_max)
        .map(|candidate| (distance(&plain_word, &plain(candidate)), candidate))
        .filter(|(distance, _)| *distance <= distance_max)
        .min()
        .map(|(_, candidate)| candidate)
}

/// ``did you mean `x`?``, or the whole list if nothing is near.
pub(crate) fn help<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str> + Clone) -> String {
    if let Some(near) = nearest(word, candidates.clone()) {
        return format!("did you mean `{near}`?");
    }
    let mut all: Vec<String> = candidates.into_iter().map(|name| format!("`{name}`")).collect();
    match all.pop() {
        None => "there are none".to_owned(),
        Some(only) if all.is_empty() => format!("there is only {only}"),
        Some(last) => format!("there are {} and {last}", all.join(", ")),
    }
}

/// Long words are cut off: what is that long is no misspelling.
fn plain(word: &str) -> Vec<char> {
    word.chars()
        .filter(|character| !matches!(character, '-' | '_'))
        .take(WORD_CHARACTERS_MAX)
        .flat_map(char::to_lowercase)
        .collect()
}

/// Damerau's distance with neighbours swapped (optimal string alignment).
fn distance(one: &[char], other: &[char]) -> usize {
    let width = other.len() + 1;
    let mut before: Vec<usize> = vec![0; width];
    let mut previous: Vec<usize> = (0..width).collect();
    for (row, left) in one.iter().enumerate() {
        let mut current = vec![row + 1; width];
        for (column, right) in other.iter().enumerate() {
            let substituted = previous[column] + usize::from(left != right);
            let mut best = substituted.min(previous[column + 1] + 1).min(current[column] + 1);
            let swapped = 0 < row && 0 < column && one[row - 1] == *right && other[column - 1] == *left;
            if swapped {
                best = best.min(before[column - 1] + 1);
            }
            current[column + 1] = best;
        }
        before = std::mem::replace(&mut previous, current);
    }
    previous[other.len()]
}

const WORD_CHARACTERS_MAX: usize = 128;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_is_suggested_only_if_near() {
        let keys = ["topics", "targets", "clientId", "id"];
        for (word, near) in [
            ("topcis", Some("topics")),
            ("client_id", Some("clientId")),
            ("ID", Some("id")),
            ("target", Some("targets")),
            ("spec", None),
            ("", None),
            ("x", None),
        ] {
            assert_eq!(nearest(word, keys), near, "{word}");
        }
        assert_eq!(help("zzz", ["a", "b", "c"]), "there are `a`, `b` and `c`");
        assert_eq!(help("zzz", ["a"]), "there is only `a`");
        assert_eq!(help("zzz", []), "there are none");
    }

    #[test]
    fn distance_is_a_distance() {
        let of = |one: &str, other: &str| {
            distance(&one.chars().collect::<Vec<_>>(), &other.chars().collect::<Vec<_>>())
        };
        assert_eq!(of("kitten", "sitting"), 3);
        assert_eq!(of("ab", "ba"), 1);
        assert_eq!(of("", "abc"), 3);
        assert_eq!(of("abc", ""), 3);
        assert_eq!(of("same", "same"), 0);
    }
}
