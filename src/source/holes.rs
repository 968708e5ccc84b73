//! Files with holes in tars, in the format that is not read: who looks into a tar says the same of it as who unpacks it.

/// What is said of a tar that has such a file.
pub(crate) const NOT_READ: &str =
    "it has a file with holes in a format that is not read (GNU tar writes another one with --format=gnu)";

/// Whether this key of a POSIX header describes the holes of a file, as GNU tar writes them with `--format=posix` (its
/// manual, “Storing Sparse Files”, versions 0.0 to 1.0 of the format).
pub(crate) fn is_of_holes(key: &[u8]) -> bool {
    key.starts_with(b"GNU.sparse.")
}
