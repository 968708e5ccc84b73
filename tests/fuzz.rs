//! Real WAL and real files, changed at random: a fixed number of cases of what the targets in `fuzz/` try without end.

// A test that cannot go on stops.
#![allow(clippy::unwrap_used)]

#[path = "../fuzz/properties.rs"]
#[allow(unreachable_pub)]
mod properties;

use std::fs;
use std::io::Read;
use std::path::Path;

/// Always the same numbers, as good as random (xorshift64*).
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) as usize % end.max(1)
    }

    fn one_of<'a, T>(&mut self, things: &'a [T]) -> &'a T {
        &things[self.below(things.len())]
    }
}

/// Says which case it was, where one fails.
struct Case(u64);

impl Drop for Case {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("case {}", self.0);
        }
    }
}

fn seeds() -> Vec<Vec<u8>> {
    let mut files: Vec<_> = fs::read_dir("tests/wal/seeds").unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|ending| ending == "gz"));
    files.sort();
    assert!(files.len() >= 12, "there are seeds of every major");
    let unpacked = |file: &std::path::PathBuf| {
        let mut bytes = Vec::new();
        flate2::read::GzDecoder::new(fs::File::open(file).unwrap()).read_to_end(&mut bytes).unwrap();
        bytes
    };
    files.iter().map(unpacked).collect()
}

/// Lengths, counts and positions that are lies.
const LIES: [u32; 10] = [0, 1, 23, 24, 25, 8192, 0x7FFF_FFFF, 0xFFFF_FFFF, 1020 << 20, (1020 << 20) + 1];

/// One of the ways in which files go wrong.
fn change(wal: &mut Vec<u8>, seeds: &[Vec<u8>], dice: &mut Dice) {
    let at = dice.below(wal.len());
    match dice.below(8) {
        0..3 => wal[at] ^= 1 << dice.below(8),
        3 => wal[at] = *dice.one_of(&[0, 1, 0x7F, 0x80, 0xFF, 252, 253, 254, 255]),
        4 => {
            let lie = *dice.one_of(&LIES);
            let at = at / 4 * 4;
            if let Some(four) = wal.get_mut(at..at + 4) {
                four.copy_from_slice(&lie.to_le_bytes());
            }
        }
        5 => {
            // A piece of another file, or of another place in this one.
            let other = dice.one_of(seeds).clone();
            let from = dice.below(other.len());
            let length = dice.below(10_000).min(other.len() - from).min(wal.len() - at);
            wal[at..at + length].copy_from_slice(&other[from..from + length]);
        }
        6 => {
            let length = dice.below(10_000).min(wal.len() - at);
            wal[at..at + length].fill(0);
        }
        _ => wal.truncate(at.max(1)),
    }
}

#[test]
fn changed_wal_is_read_or_refused() {
    let seeds = seeds();
    for number in 1..=3000 {
        let case = Case(number);
        let mut dice = Dice(number);
        let mut wal = dice.one_of(&seeds).clone();
        for _ in 0..=dice.below(4) {
            change(&mut wal, &seeds, &mut dice);
        }
        if dice.below(2) == 0 {
            properties::mend_checksums(&mut wal);
        }
        let start = if dice.below(4) == 0 { dice.below(wal.len()) } else { 0 };
        let piece = *dice.one_of(&[100, 8192, 4000, 1 << 20]);
        properties::decoder(&wal, start, piece, 1 + dice.below(100));
        properties::page_headers(&wal);
        drop(case);
    }
}

#[test]
fn mended_seeds_are_as_they_were() {
    for seed in seeds() {
        let mut mended = seed.clone();
        properties::mend_checksums(&mut mended);
        let changed = mended.iter().zip(&seed).filter(|(a, b)| a != b).count();
        assert!(changed == 0, "{changed} bytes of checksums that were right");
    }
}

/// Bodies that begin as real ones do.
#[test]
fn changed_bodies_are_read_or_refused() {
    let seeds = seeds();
    for number in 1..=3000 {
        let case = Case(number);
        let mut dice = Dice(number);
        let mut data = vec![dice.below(256) as u8, dice.below(256) as u8];
        for _ in 0..=dice.below(6) {
            let seed = dice.one_of(&seeds);
            let at = dice.below(seed.len() - 600) / 8 * 8;
            let length = dice.below(600);
            data.extend([*dice.one_of(&[0, 1, 2, 4, 8, 9, 10]), dice.below(256) as u8]);
            data.extend((length as u16).to_le_bytes());
            data.extend(&seed[at..at + length]);
        }
        change(&mut data, &seeds, &mut dice);
        properties::bodies(&data);
        drop(case);
    }
}

#[test]
fn changed_files_are_read_or_refused() {
    let directory = Path::new("fuzz/seeds/pgdata");
    let mut files: Vec<_> = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let seeds: Vec<Vec<u8>> = files.iter().map(|file| fs::read(file).unwrap()).collect();
    assert!(seeds.len() >= usize::from(properties::FORMATS), "there is a seed of every format");
    for number in 1..=6000 {
        let case = Case(number);
        let mut dice = Dice(number);
        let seed = dice.one_of(&seeds);
        let (format, mut bytes) = (seed[0], seed[1..].to_vec());
        for _ in 0..dice.below(4) {
            change(&mut bytes, &seeds, &mut dice);
        }
        properties::pgdata(if dice.below(8) == 0 { dice.below(256) as u8 } else { format }, &bytes);
        drop(case);
    }
}
