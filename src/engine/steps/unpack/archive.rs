//! Walks over the entries of a tar: what the next one is, and where its bytes are. It takes nothing on trust: names and
//! lists have their limits, each header its checksum, and a tar has to come to its end.

use std::ffi::OsString;
use std::io::{self, Read};
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use tar::{EntryType, GnuExtSparseHeader, GnuSparseHeader, Header, PaxExtensions};

use super::names::Kind;
use crate::source::holes;

const BLOCK: u64 = 512;
/// The longest name, and the most that there may be about one entry besides its header. Linux knows names of 4 KB.
const LONGEST_NAME: u64 = 64 << 10;
const LONGEST_EXTENSION: u64 = 1 << 20;
/// A file with more holes than this is refused.
const MOST_RUNS: usize = 1 << 20;

/// What a tar is read from.
pub(super) trait Forward: Read {
    /// Leaves so many bytes out.
    ///
    /// # Errors
    /// When there are not as many, or they cannot be read.
    fn skip(&mut self, bytes: u64) -> io::Result<()>;
}

/// One entry. Its contents follow where the walk stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    /// Its name as the tar has it.
    pub(super) name: PathBuf,
    /// What it is.
    pub(super) kind: Kind,
    /// Its mode, of which the lower bits count.
    pub(super) mode: u32,
    /// How long the file is.
    pub(super) bytes: u64,
    /// How many bytes of it are in the tar.
    pub(super) stored: u64,
    /// Where in the tar they begin.
    pub(super) at: u64,
    /// Where in the file they belong, in order: offset and length of each run. The rest of the file is zero.
    pub(super) runs: Vec<(u64, u64)>,
}

/// A tar that is being walked over.
pub(super) struct Walk<R> {
    reader: R,
    at: u64,
    /// Where the next header is.
    next: u64,
}

/// What stands before a header and is about it.
#[derive(Default)]
struct About {
    name: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    bytes: Option<u64>,
}

fn broken(why: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why.into())
}

impl<R: Forward> Walk<R> {
    pub(super) fn new(reader: R) -> Walk<R> {
        Walk { reader, at: 0, next: 0 }
    }

    /// Where the contents are read from: as many bytes as are stored, to be told with [`Walk::was_read`].
    pub(super) fn contents(&mut self) -> &mut R {
        &mut self.reader
    }

    /// So many bytes of contents were read.
    pub(super) fn was_read(&mut self, bytes: u64) {
        self.at += bytes;
    }

    /// The next entry; `None` at the end. What was not read of the one before is left out.
    ///
    /// # Errors
    /// When the tar is cut off, damaged, or has what no base backup has.
    pub(super) fn next(&mut self) -> io::Result<Option<Entry>> {
        let mut about = About::default();
        loop {
            let Some(header) = self.header()? else { return Ok(None) };
            let stored = header.entry_size()?;
            match header.entry_type() {
                EntryType::GNULongName => about.name = Some(self.name(stored)?),
                EntryType::GNULongLink => about.link = Some(self.name(stored)?),
                EntryType::XHeader => {
                    let bytes = self.extension(stored, LONGEST_EXTENSION)?;
                    about.take(&bytes)?;
                }
                EntryType::XGlobalHeader => drop(self.extension(stored, LONGEST_EXTENSION)?),
                _ => return self.entry(&header, about).map(Some),
            }
        }
    }

    /// The next header; `None` at the block of zeros that ends the tar.
    fn header(&mut self) -> io::Result<Option<Header>> {
        self.reader.skip(self.next - self.at)?;
        self.at = self.next;
        let mut header = Header::new_old();
        self.reader.read_exact(header.as_mut_bytes())?;
        self.advance(BLOCK)?;
        if header.as_bytes().iter().all(|byte| *byte == 0) {
            return Ok(None);
        }
        let sum: u32 = header.as_bytes().iter().map(|byte| u32::from(*byte)).sum();
        let checksum: u32 = header.as_old().cksum.iter().map(|byte| u32::from(*byte)).sum();
        // The checksum counts itself as spaces.
        if header.cksum()? != sum - checksum + 8 * u32::from(b' ') {
            return Err(broken(format!("the header at byte {} has a wrong checksum", self.at - BLOCK)));
        }
        Ok(Some(header))
    }

    /// The walk stands behind so many bytes of headers, and that is where the next one is, unless there is more.
    fn advance(&mut self, bytes: u64) -> io::Result<()> {
        self.at = self.at.checked_add(bytes).ok_or_else(|| broken("it is longer than a file can be"))?;
        self.next = self.at;
        Ok(())
    }

    fn extension(&mut self, bytes: u64, most: u64) -> io::Result<Vec<u8>> {
        if bytes > most {
            return Err(broken(format!("an entry is described in {bytes} bytes, and {most} is the limit")));
        }
        let mut contents = vec![0; usize::try_from(bytes).map_err(io::Error::other)?];
        self.reader.read_exact(&mut contents)?;
        self.at += bytes;
        self.next = self.at.next_multiple_of(BLOCK);
        Ok(contents)
    }

    fn name(&mut self, bytes: u64) -> io::Result<Vec<u8>> {
        let mut name = self.extension(bytes, LONGEST_NAME)?;
        let end = name.iter().position(|byte| *byte == 0).unwrap_or(name.len());
        name.truncate(end);
        Ok(name)
    }

    fn entry(&mut self, header: &Header, about: About) -> io::Result<Entry> {
        let name = about.name.unwrap_or_else(|| header.path_bytes().into_owned());
        let link =
            about.link.or_else(|| header.link_name_bytes().map(std::borrow::Cow::into_owned)).unwrap_or_default();
        let kind = match header.entry_type() {
            // Before there were directories in tars, they were files whose names end with a slash.
            EntryType::Regular if name.last() == Some(&b'/') => Kind::Directory,
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => Kind::File,
            EntryType::Directory => Kind::Directory,
            EntryType::Link => Kind::HardLink(PathBuf::from(OsString::from_vec(link))),
            EntryType::Symlink => Kind::SymbolicLink,
            other => Kind::Other(format!("{other:?}")),
        };
        let stored = about.bytes.map_or_else(|| header.entry_size(), Ok)?;
        let name = PathBuf::from(OsString::from_vec(name));
        let mut entry = Entry {
            mode: header.mode().unwrap_or(0o600),
            bytes: stored,
            stored,
            at: self.at,
            runs: vec![(0, stored)],
            kind,
            name,
        };
        if header.entry_type() == EntryType::GNUSparse {
            self.take_runs(header, &mut entry)?;
        }
        if entry.kind != Kind::File && stored != 0 {
            return Err(broken(format!("{:?} is no file and has contents", entry.name)));
        }
        entry.at = self.at;
        let end = self.at.checked_add(stored).and_then(|end| end.checked_next_multiple_of(BLOCK));
        self.next = end.ok_or_else(|| broken(format!("{:?} is longer than a file can be", entry.name)))?;
        Ok(entry)
    }

    /// Which parts of a file with holes are in the tar (GNU tar's old format for them).
    fn take_runs(&mut self, header: &Header, entry: &mut Entry) -> io::Result<()> {
        let gnu = header.as_gnu().ok_or_else(|| broken("a file with holes, in a format that has none"))?;
        entry.bytes = gnu.real_size()?;
        entry.runs.clear();
        let mut total = 0;
        add_runs(entry, &mut total, &gnu.sparse)?;
        let mut extended = gnu.is_extended();
        while extended {
            let mut more = GnuExtSparseHeader::new();
            self.reader.read_exact(more.as_mut_bytes())?;
            self.advance(BLOCK)?;
            add_runs(entry, &mut total, more.sparse())?;
            extended = more.is_extended();
        }
        let end = entry.runs.last().map_or(0, |(offset, length)| offset + length);
        if total != entry.stored || end > entry.bytes {
            return Err(broken(format!("the holes of {:?} do not fit its size", entry.name)));
        }
        Ok(())
    }
}

/// `total`: bytes that the runs have together.
fn add_runs(entry: &mut Entry, total: &mut u64, listed: &[GnuSparseHeader]) -> io::Result<()> {
    for run in listed.iter().filter(|run| !run.is_empty()) {
        let (offset, length) = (run.offset()?, run.length()?);
        let before = entry.runs.last().map_or(0, |(offset, length)| offset + length);
        let fits = offset >= before
            && offset.checked_add(length).is_some()
            && total.checked_add(length).is_some_and(|total| total <= entry.stored);
        if !fits || entry.runs.len() >= MOST_RUNS {
            return Err(broken(format!("the holes of {:?} are not in order", entry.name)));
        }
        *total += length;
        entry.runs.push((offset, length));
    }
    Ok(())
}

impl About {
    /// What a header in the format of POSIX says.
    fn take(&mut self, extension: &[u8]) -> io::Result<()> {
        for one in PaxExtensions::new(extension) {
            let one = one?;
            match one.key_bytes() {
                b"path" => self.name = Some(one.value_bytes().to_vec()),
                b"linkpath" => self.link = Some(one.value_bytes().to_vec()),
                b"size" => {
                    let bytes = one.value().ok().and_then(|value| value.parse().ok());
                    self.bytes = Some(bytes.ok_or_else(|| broken("a size is not a number"))?);
                }
                key if holes::is_of_holes(key) => return Err(broken(holes::NOT_READ)),
                _ => {}
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    impl Forward for &[u8] {
        fn skip(&mut self, bytes: u64) -> io::Result<()> {
            let bytes = usize::try_from(bytes).map_err(io::Error::other)?;
            *self = self.get(bytes..).ok_or_else(|| io::Error::from(io::ErrorKind::UnexpectedEof))?;
            Ok(())
        }
    }

    fn header(name: &str, size: u64, kind: EntryType) -> Header {
        let mut header = Header::new_gnu();
        header.set_path(name).unwrap();
        header.set_size(size);
        header.set_mode(0o4755);
        header.set_entry_type(kind);
        header.set_cksum();
        header
    }

    fn all(tar: &[u8]) -> io::Result<Vec<Entry>> {
        let mut walk = Walk::new(tar);
        let mut entries = Vec::new();
        while let Some(entry) = walk.next()? {
            entries.push(entry);
        }
        Ok(entries)
    }

    #[test]
    fn long_names_and_contents_are_found() {
        let long = format!("base/{}/file", "d".repeat(300));
        let mut builder = tar::Builder::new(Vec::new());
        builder.append_data(&mut header("x", 0, EntryType::Regular), &long, &b""[..]).unwrap();
        builder.append(&header("PG_VERSION", 3, EntryType::Regular), &b"15\n"[..]).unwrap();
        builder.append(&header("base/", 0, EntryType::Directory), &b""[..]).unwrap();
        let tar = builder.into_inner().unwrap();
        let entries = all(&tar).unwrap();
        assert_eq!(entries[0].name, PathBuf::from(&long));
        let (version, at) = (&entries[1], usize::try_from(entries[1].at).unwrap());
        assert_eq!((version.bytes, version.stored, version.mode, &tar[at..at + 3]), (3, 3, 0o4755, &b"15\n"[..]));
        assert_eq!(entries[2].kind, Kind::Directory);
    }

    #[test]
    fn a_tar_that_does_not_come_to_its_end_is_refused() {
        let mut builder = tar::Builder::new(Vec::new());
        builder.append(&header("PG_VERSION", 3, EntryType::Regular), &b"15\n"[..]).unwrap();
        let tar = builder.into_inner().unwrap();
        assert_eq!(all(&tar).unwrap().len(), 1);
        for cut in [0, 1, 511, 512, 514, 1024, 1025] {
            assert!(all(&tar[..cut]).is_err(), "{cut} of {}", tar.len());
        }
    }

    #[test]
    fn holes_have_to_be_in_order_and_to_fit() {
        let with = |runs: &[(u64, u64)], stored: u64, real: u64| {
            let mut header = header("sparse", stored, EntryType::GNUSparse);
            let gnu = header.as_gnu_mut().unwrap();
            gnu.set_real_size(real);
            for (at, (offset, length)) in runs.iter().enumerate() {
                gnu.sparse[at].set_offset(*offset);
                gnu.sparse[at].set_length(*length);
            }
            header.set_cksum();
            let contents = vec![7; usize::try_from(stored).unwrap().next_multiple_of(512) + 1024];
            all(&[header.as_bytes().as_slice(), &contents]
                .concat()
                .into_iter()
                .enumerate()
                .map(|(at, byte)| if at >= 512 + usize::try_from(stored).unwrap() { 0 } else { byte })
                .collect::<Vec<u8>>())
        };
        let entry = &with(&[(512, 512), (4096, 100)], 612, 10_000).unwrap()[0];
        assert_eq!((entry.bytes, entry.stored, entry.runs.as_slice()), (10_000, 612, &[(512, 512), (4096, 100)][..]));
        for (runs, stored, real) in [
            (&[(512, 512), (256, 100)][..], 612, 10_000),
            (&[(512, 512)][..], 612, 10_000),
            (&[(512, 612)][..], 612, 1000),
            (&[(u64::MAX >> 8, 612)][..], 612, 1000),
        ] {
            assert!(with(runs, stored, real).is_err(), "{runs:?} {stored} {real}");
        }
    }

    #[test]
    fn what_is_said_about_an_entry_has_a_limit() {
        let mut bomb = header("././@LongLink", 1 << 40, EntryType::GNULongName);
        bomb.set_cksum();
        assert!(all(bomb.as_bytes()).unwrap_err().to_string().contains("limit"));
        let mut bomb = header("pax", 2 << 20, EntryType::XHeader);
        bomb.set_cksum();
        assert!(all(bomb.as_bytes()).unwrap_err().to_string().contains("limit"));
        let directory = header("base/", 5, EntryType::Directory);
        assert!(all(directory.as_bytes()).unwrap_err().to_string().contains("has contents"));
    }

    proptest! {
        #[test]
        fn it_finds_what_the_tar_crate_finds(files in prop::collection::vec(("[a-c/]{1,150}", 0usize..2000), 0..6)) {
            let mut builder = tar::Builder::new(Vec::new());
            for (name, size) in &files {
                let mut header = Header::new_gnu();
                header.set_size(*size as u64);
                header.set_mode(0o600);
                let name = format!("f{name}x");
                builder.append_data(&mut header, &name, &vec![1; *size][..]).unwrap();
            }
            let tar = builder.into_inner().unwrap();
            let mut archive = tar::Archive::new(tar.as_slice());
            let theirs: Vec<_> = archive.entries().unwrap().map(|entry| {
                let entry = entry.unwrap();
                (entry.path().unwrap().into_owned(), entry.size(), entry.raw_file_position())
            }).collect();
            let ours: Vec<_> = all(&tar).unwrap().into_iter().map(|entry| (entry.name, entry.bytes, entry.at)).collect();
            prop_assert_eq!(ours, theirs);
        }

        #[test]
        fn no_bytes_make_it_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..3000), right: bool, kind: u8) {
            if right && bytes.len() >= 512 {
                let mut header = Header::new_old();
                header.as_mut_bytes().copy_from_slice(&bytes[..512]);
                header.as_mut_bytes()[156] = b"0LKxgS5"[usize::from(kind) % 7];
                header.as_mut_bytes()[257..265].copy_from_slice(b"ustar  \0");
                header.set_cksum();
                bytes[..512].copy_from_slice(header.as_bytes());
            }
            let _ = all(&bytes);
        }
    }
}
