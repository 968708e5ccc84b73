//! Looks at the room for archives and backups. Changes nothing.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::host::space::{device_of, room_on};
use crate::plan::archiving::Space;

/// The room on the file systems of these directories, each file system once.
#[must_use]
pub fn space<'a>(directories: impl Iterator<Item = &'a PathBuf>) -> Vec<Space> {
    let mut found: Vec<Space> = Vec::new();
    let mut places: BTreeMap<u64, usize> = BTreeMap::new();
    for directory in directories {
        let known = device_of(directory).and_then(|device| places.get(&device).copied());
        match known.and_then(|place| found.get_mut(place)) {
            Some(space) => space.directories.push(directory.clone()),
            None => {
                places.extend(device_of(directory).map(|device| (device, found.len())));
                found.push(Space { directories: vec![directory.clone()], bytes: room(directory) });
            }
        }
    }
    found
}

fn room(directory: &Path) -> std::result::Result<(u64, u64), String> {
    room_on(directory).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories_of_one_file_system_are_one() {
        let directory = tempfile::tempdir().unwrap();
        let [one, two] = ["one", "two"].map(|name| directory.path().join(name));
        std::fs::create_dir(&one).unwrap();
        std::fs::create_dir(&two).unwrap();
        let found = space([&one, &two].into_iter());
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].directories, [one, two]);
        assert!(matches!(found[0].bytes, Ok((free, all)) if free <= all && all > 0));
        let gone = space([&directory.path().join("gone")].into_iter());
        assert!(gone[0].bytes.is_err(), "{gone:?}");
    }
}
