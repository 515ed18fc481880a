//! "Did you mean": the known word nearest to one that is not known.

/// What stands behind an unknown word in an error: a suggestion if one is near, then all that is known.
pub fn instead<'a>(found: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    let known: Vec<&str> = known.into_iter().collect();
    let all = known.join(", ");
    match closest(found, known) {
        Some(near) => format!("did you mean '{near}'? Expected one of {all}"),
        None => format!("expected one of {all}"),
    }
}

/// The nearest of the known words, if it is near enough to be meant.
pub fn closest<'a>(found: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let found = found.to_lowercase();
    let length = found.chars().count();
    // Every single letter is one letter away from every other: that is no slip of the finger.
    let enough = if length < 2 { 0 } else { (length / 3).max(1) };
    let ranked = known.into_iter().map(|word| (distance(&found, &word.to_lowercase()), word));
    ranked
        .filter(|(distance, _)| *distance <= enough)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, word)| word)
}

/// How many letters must be put in, taken out, replaced or swapped with their neighbour.
fn distance(left: &str, right: &str) -> usize {
    let left: Vec<char> = left.chars().collect();
    let right: Vec<char> = right.chars().collect();
    let mut rows: Vec<Vec<usize>> = vec![(0..=right.len()).collect()];
    for (i, &a) in left.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, &b) in right.iter().enumerate() {
            let mut least = (rows[i][j] + usize::from(a != b)).min(rows[i][j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && a == right[j - 1] && left[i - 1] == b {
                least = least.min(rows[i - 1][j - 1] + 1);
            }
            row.push(least);
        }
        rows.push(row);
    }
    rows[left.len()][right.len()]
}

#[cfg(test)]
#[path = "suggest_tests.rs"]
mod tests;
