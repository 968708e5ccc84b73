//! Which directories to configure for the backups of one cluster: as few as can be, in which backups that are still to
//! come are found too, and in which there are none of another cluster.

use std::path::{Path, PathBuf};

/// The directories that have all of `mine`, none of `others`, and lie at or below one of `roots`. A backup is found at
/// most `depth` levels below each.
pub(super) fn directories(mine: &[&Path], others: &[&Path], roots: &[PathBuf], depth: usize) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut left: Vec<&Path> = mine.to_vec();
    while let Some(first) = left.first() {
        // The root that lies deepest: what is named is meant.
        let root = roots.iter().filter(|root| first.starts_with(root)).max_by_key(|root| root.components().count());
        let root = root.map_or(*first, PathBuf::as_path);
        let (inside, outside): (Vec<&Path>, Vec<&Path>) = left.iter().partition(|path| path.starts_with(root));
        cover(root, &inside, others, depth, &mut found);
        left = outside;
    }
    found.sort();
    found.dedup();
    // One that lies in another one would have its backups found twice.
    let all = found.clone();
    found.retain(|path| !all.iter().any(|other| other != path && path.starts_with(other)));
    found
}

/// Covers `mine`, which all lie at or below `root`.
fn cover(root: &Path, mine: &[&Path], others: &[&Path], depth: usize, found: &mut Vec<PathBuf>) {
    let Some(shared) = shared_directory(mine, root) else { return };
    let is_near = mine.iter().all(|path| levels(&shared, path) <= depth);
    let is_clean = !others.iter().any(|other| other.starts_with(&shared) || shared.starts_with(other));
    if is_near && is_clean || mine.iter().any(|path| *path == shared) {
        return found.push(shared);
    }
    let below = |path: &Path| path.strip_prefix(&shared).ok()?.components().next().map(|child| shared.join(child));
    let mut left: Vec<&Path> = mine.to_vec();
    while let Some(child) = left.first().and_then(|path| below(path)) {
        let (inside, outside): (Vec<&Path>, Vec<&Path>) = left.iter().partition(|path| path.starts_with(&child));
        match inside.as_slice() {
            // Where its neighbours are another cluster's, a backup stands for itself.
            [only] if *only == child => found.push(child),
            _ => cover(&child, &inside, others, depth, found),
        }
        left = outside;
    }
}

/// The deepest directory that all of them lie in, not above `root`; the only one itself where that is `root`.
fn shared_directory(mine: &[&Path], root: &Path) -> Option<PathBuf> {
    let mut shared = mine.first()?.parent().unwrap_or(root).to_path_buf();
    while !mine.iter().all(|path| path.parent().is_some_and(|parent| parent.starts_with(&shared))) {
        if !shared.pop() {
            break;
        }
    }
    Some(if shared.starts_with(root) { shared } else { root.to_path_buf() })
}

fn levels(above: &Path, below: &Path) -> usize {
    below.strip_prefix(above).map_or(usize::MAX, |rest| rest.components().count())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn covered(mine: &[&str], others: &[&str], roots: &[&str]) -> String {
        let paths = |texts: &[&str]| texts.iter().map(PathBuf::from).collect::<Vec<_>>();
        let (mine, others) = (paths(mine), paths(others));
        let refer = |paths: &[PathBuf]| paths.to_vec();
        let (mine, others) = (refer(&mine), refer(&others));
        let mine: Vec<&Path> = mine.iter().map(PathBuf::as_path).collect();
        let others: Vec<&Path> = others.iter().map(PathBuf::as_path).collect();
        let found = directories(&mine, &others, &paths(roots), 3);
        found.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn a_directory_of_backups_is_named_and_not_each_of_them() {
        assert_eq!(covered(&["/b/base/1", "/b/base/2"], &[], &["/b"]), "/b/base");
        assert_eq!(covered(&["/b/base/1"], &[], &["/b"]), "/b/base", "there will be more");
        assert_eq!(covered(&["/b/base/1"], &[], &["/b/base/1"]), "/b/base/1", "not above what was named");
        assert_eq!(covered(&["/b/2026-01/1", "/b/2026-02/1"], &[], &["/b"]), "/b");
        assert_eq!(covered(&["/b/x/1", "/c/x/1"], &[], &["/b", "/c"]), "/b/x /c/x");
        assert_eq!(covered(&["/b/1", "/b/a/b/c/2"], &[], &["/b"]), "/b/1 /b/a/b/c", "too deep to be found from above");
    }

    #[test]
    fn what_is_anothers_is_kept_out() {
        assert_eq!(covered(&["/b/1", "/b/2"], &["/b/3"], &["/b"]), "/b/1 /b/2");
        assert_eq!(covered(&["/b/shop/1", "/b/shop/2"], &["/b/crm/1"], &["/b"]), "/b/shop");
        assert_eq!(covered(&["/b/shop/1", "/b/old/shop/2"], &["/b/crm/1"], &["/b"]), "/b/old/shop /b/shop");
    }

    fn path() -> impl Strategy<Value = PathBuf> {
        prop::collection::vec("[ab]", 1..6).prop_map(|parts| Path::new("/r").join(parts.join("/")))
    }

    proptest! {
        #[test]
        fn everything_is_covered_once_and_nothing_of_another(
            all in prop::collection::btree_set((path(), any::<bool>()), 1..12),
        ) {
            // A backup never lies in another one.
            let mut places: Vec<(PathBuf, bool)> = Vec::new();
            for (path, is_mine) in all {
                if !places.iter().any(|(other, _)| path.starts_with(other) || other.starts_with(&path)) {
                    places.push((path, is_mine));
                }
            }
            let of = |wanted: bool| {
                places.iter().filter(|(_, is)| *is == wanted).map(|(path, _)| path.as_path()).collect::<Vec<_>>()
            };
            let (mine, others) = (of(true), of(false));
            let found = directories(&mine, &others, &[PathBuf::from("/r")], 3);
            for path in &mine {
                let by: Vec<_> = found.iter().filter(|cover| path.starts_with(cover)).collect();
                prop_assert_eq!(by.len(), 1, "{:?} in {:?}", path, &found);
                prop_assert!(levels(by[0], path) <= 3);
            }
            for path in &others {
                prop_assert!(!found.iter().any(|cover| path.starts_with(cover)), "{:?} in {:?}", path, &found);
            }
        }
    }
}
