//! Memory that goes bad.

use std::fs::File;
use std::os::unix::fs::FileExt as _;

/// Flips a bit of the byte at `offset` of every place where a process that we have started holds these
/// bytes; says how many there were.
pub(crate) fn flip(pid: u32, pattern: &[u8], offset: usize) -> usize {
    let maps = super::read(format!("/proc/{pid}/maps").into());
    let memory = File::options()
        .read(true)
        .write(true)
        .open(format!("/proc/{pid}/mem"))
        .expect("it is our child");
    let mut places = 0;
    for line in maps.lines() {
        let Some((begin, end)) = writable(line) else {
            continue;
        };
        let mut bytes = vec![0; (end - begin) as usize];
        if memory.read_exact_at(&mut bytes, begin).is_err() {
            continue; // Of a device, or gone.
        }
        let found = bytes.windows(pattern.len()).enumerate();
        for (at, _) in found.filter(|(_, window)| *window == pattern) {
            let damaged = [pattern[offset] ^ 0x40];
            let place = begin + (at + offset) as u64;
            memory.write_all_at(&damaged, place).expect("it is mapped");
            places += 1;
        }
    }
    places
}

/// The range of a mapping that can be read and written.
fn writable(line: &str) -> Option<(u64, u64)> {
    let (range, rest) = line.split_once(' ')?;
    let (begin, end) = range.split_once('-')?;
    let number = |text| u64::from_str_radix(text, 16).ok();
    rest.starts_with("rw")
        .then_some((number(begin)?, number(end)?))
}
