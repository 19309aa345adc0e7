//! "Did you mean": the known name nearest to a mistyped one.

/// Returns the name that was probably meant.
///
/// A name that differs in case alone wins; otherwise about one mistake per three letters is forgiven.
pub(crate) fn suggest<'a>(typed: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let typed = typed.to_lowercase();
    let allowed = (typed.chars().count() / 3).clamp(1, 4);
    known
        .map(|name| (distance(&typed, &name.to_lowercase()), name))
        .min_by_key(|(distance, _)| *distance)
        .filter(|(distance, _)| *distance <= allowed)
        .map(|(_, name)| name)
}

/// Returns how many insertions, deletions, changes and swaps of neighbours lead from one word to the other.
fn distance(from: &str, to: &str) -> usize {
    let from: Vec<char> = from.chars().collect();
    let to: Vec<char> = to.chars().collect();
    let mut before_previous = Vec::new();
    let mut previous: Vec<usize> = (0..=to.len()).collect();
    for (i, a) in from.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, b) in to.iter().enumerate() {
            let change = previous[j] + usize::from(a != b);
            let mut best = change.min(previous[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && *a == to[j - 1] && from[i - 1] == *b {
                let swapped: &Vec<usize> = &before_previous;
                best = best.min(swapped[j - 1] + 1);
            }
            row.push(best);
        }
        before_previous = std::mem::replace(&mut previous, row);
    }
    previous[to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_is_suggested() {
        let known = ["image", "imagePullPolicy", "name", "command", "env", "envFrom", "tty"];
        let table = [
            ("imgae", Some("image")),
            ("imagePullPolcy", Some("imagePullPolicy")),
            ("imagepullpolicy", Some("imagePullPolicy")),
            ("Name", Some("name")),
            ("comand", Some("command")),
            ("envfrom", Some("envFrom")),
            ("nonsense", None),
            ("x", None),
        ];
        for (typed, expected) in table {
            assert_eq!(suggest(typed, known.into_iter()), expected, "{typed}");
        }
    }
}
