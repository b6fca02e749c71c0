//! Files made by hand: what is right is understood, what is wrong is refused and never believed.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt;

use super::checksum::checksum;
use super::free_list::{FreeList, FreeListProblem};
use super::header::{HEADERS_LENGTH, HeaderProblem, Headers, NOWHERE};
use super::log::{LogProblem, LogState};

const BLOCK: usize = 16 * 1024;

fn sealed(mut bytes: Vec<u8>) -> Vec<u8> {
    let sum = checksum(&bytes[8..]);
    bytes[..8].copy_from_slice(&sum.to_le_bytes());
    bytes
}

fn main_header(version: u64, flags: u64) -> Vec<u8> {
    let mut bytes = vec![0; 4096];
    bytes[8..12].copy_from_slice(b"DUCK");
    bytes[12..20].copy_from_slice(&version.to_le_bytes());
    bytes[20..28].copy_from_slice(&flags.to_le_bytes());
    bytes[52..58].copy_from_slice(b"v1.4.5");
    sealed(bytes)
}

fn database_header(numbers: [u64; 7]) -> Vec<u8> {
    let mut bytes = vec![0; 4096];
    for (i, number) in numbers.iter().enumerate() {
        bytes[8 + i * 8..16 + i * 8].copy_from_slice(&number.to_le_bytes());
    }
    sealed(bytes)
}

/// iteration, meta block, free list, block count, block size, vector size, compatibility
fn headers(first: [u64; 7], second: [u64; 7]) -> Vec<u8> {
    [main_header(64, 0), database_header(first), database_header(second)].concat()
}

fn state(iteration: u64, free_list: u64, blocks: u64) -> [u64; 7] {
    [iteration, 0, free_list, blocks, BLOCK as u64, 2048, 1]
}

#[test]
fn the_higher_iteration_is_active_and_a_tie_means_the_second() {
    for (first, second, blocks) in [(5, 4, 10), (4, 5, 20), (7, 7, 20)] {
        let headers = Headers::parse(&headers(state(first, NOWHERE, 10), state(second, NOWHERE, 20))).unwrap();
        assert_eq!(headers.active.block_count, blocks);
        assert_eq!(
            (headers.main.library.as_str(), headers.storage_version().as_str()),
            ("v1.4.5", "64, compatibility 1")
        );
        assert_eq!(headers.offset_of(1), Some((HEADERS_LENGTH + BLOCK) as u64));
        assert_eq!(headers.offset_of(u64::MAX), None);
    }
}

#[test]
fn a_block_size_of_zero_means_the_default() {
    let old = [1, 0, NOWHERE, 1, 0, 2048, 0];
    let headers = Headers::parse(&headers(old, old)).unwrap();
    assert_eq!((headers.active.block_bytes, headers.storage_version().as_str()), (262_144, "64"));
}

#[test]
fn headers_that_cannot_be_are_refused() {
    let good = headers(state(1, NOWHERE, 1), state(2, NOWHERE, 1));
    for at in [0, 9, 100, 4096, 4200, 8192, 12287] {
        let mut bad = good.clone();
        bad[at] ^= 1;
        assert!(Headers::parse(&bad).is_err(), "byte {at}");
    }
    for length in [0, 11, 12, 4096, 12287] {
        assert!(Headers::parse(&good[..length]).is_err(), "{length} bytes");
    }
    let with = |index: usize, value: u64| {
        let mut numbers = state(2, NOWHERE, 1);
        numbers[index] = value;
        Headers::parse(&headers(state(1, NOWHERE, 1), numbers)).unwrap_err()
    };
    for block_bytes in [1, 512, 262_143, 524_288, u64::MAX] {
        assert!(matches!(with(4, block_bytes), HeaderProblem::Unsound(_)));
    }
    assert!(matches!(with(3, u64::MAX), HeaderProblem::Unsound(_)));
    assert_eq!(with(6, 70), HeaderProblem::Unknown(70));
    let whole = |main| [main, database_header(state(1, NOWHERE, 1)), database_header(state(1, NOWHERE, 1))].concat();
    assert_eq!(Headers::parse(&whole(main_header(70, 0))).unwrap_err(), HeaderProblem::Unknown(70));
    assert!(matches!(Headers::parse(&whole(main_header(64, 1))), Err(HeaderProblem::Encrypted(_))));
    assert!(Headers::parse(&whole(main_header(999, 0))).is_ok());
}

/// Metadata blocks that hold these numbers as a list, one block each with all its sub-blocks in disorder.
fn list_of(numbers: &[u8], sub_blocks: &[u8]) -> Vec<u8> {
    let size = (BLOCK - 8) / 64 / 8 * 8;
    let mut block = vec![0; BLOCK];
    let mut rest = numbers;
    for (i, sub_block) in sub_blocks.iter().enumerate() {
        let start = 8 + usize::from(*sub_block) * size;
        let next = sub_blocks.get(i + 1).map_or(NOWHERE, |next| u64::from(*next) << 56);
        block[start..start + 8].copy_from_slice(&next.to_le_bytes());
        let (now, later) = rest.split_at(rest.len().min(size - 8));
        block[start + 8..start + 8 + now.len()].copy_from_slice(now);
        rest = later;
    }
    assert!(rest.is_empty());
    sealed(block)
}

fn read(list: &[u8], first: u8) -> Result<FreeList, FreeListProblem> {
    let state = state(1, u64::from(first) << 56, 100);
    let headers = Headers::parse(&headers(state, state)).unwrap();
    FreeList::read(&headers, |block, into| {
        if block != 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        into.copy_from_slice(list);
        Ok(())
    })
}

#[test]
fn a_free_list_may_run_through_many_sub_blocks() {
    let mut bytes = Vec::new();
    let number = |n: u64, bytes: &mut Vec<u8>| bytes.extend(n.to_le_bytes());
    number(60, &mut bytes);
    (0..60).for_each(|n| number(n + 30, &mut bytes));
    // Two blocks that are used by several, 12 bytes each: the values behind them lie across borders.
    number(2, &mut bytes);
    for n in [3u64, 4] {
        number(n, &mut bytes);
        bytes.extend(7u32.to_le_bytes());
    }
    number(2, &mut bytes);
    for n in [5u64, 9] {
        number(n, &mut bytes);
        number(0xff, &mut bytes);
    }
    let found = read(&list_of(&bytes, &[2, 63, 0, 7]), 2).unwrap();
    assert_eq!(found.free, (30..90).collect());
    // Those of the list itself and of the catalog count, too.
    assert_eq!(found.metadata, [0, 5, 9].into());
}

#[test]
fn a_free_list_that_cannot_be_is_refused() {
    let endless = list_of(&[0xff; 100], &[1]);
    assert!(matches!(read(&endless, 1), Err(FreeListProblem::Unsound(_))));
    let long: Vec<u8> = [50u64.to_le_bytes().to_vec(), vec![0; 100]].concat();
    assert!(matches!(read(&list_of(&long, &[1]), 1), Err(FreeListProblem::Unsound(_))));
    // The second sub-block leads back to the first.
    let circle = list_of(&[vec![90, 0, 0, 0, 0, 0, 0, 0], vec![0; 400]].concat(), &[1, 2, 1]);
    assert!(matches!(read(&circle, 1), Err(FreeListProblem::Unsound(_))));
    let mut torn = list_of(&long, &[1]);
    torn[5000] ^= 1;
    assert!(matches!(read(&torn, 1), Err(FreeListProblem::Unsound(_))));
    assert!(matches!(read(&long_block(), 64), Err(FreeListProblem::Unsound(_))));
}

fn long_block() -> Vec<u8> {
    sealed(vec![0; BLOCK])
}

const VERSION: [u8; 8] = [100, 0, 98, 101, 0, 2, 0xff, 0xff];

fn entry(kind: u8, size: usize) -> Vec<u8> {
    let mut payload = vec![100, 0, kind];
    payload.resize(size.max(5), 0x5a);
    let end = payload.len() - 2;
    payload[end..].copy_from_slice(&[0xff, 0xff]);
    let mut bytes = (payload.len() as u64).to_le_bytes().to_vec();
    bytes.extend(checksum(&payload).to_le_bytes());
    bytes.extend(payload);
    bytes
}

fn file_of(parts: &[&[u8]]) -> File {
    let mut file = tempfile::tempfile().unwrap();
    parts.iter().for_each(|part| file.write_all(part).unwrap());
    file
}

const INSERT: u8 = 26;
const ROW_GROUPS: u8 = 29;
const CHECKPOINT: u8 = 99;
const FLUSH: u8 = 100;

#[test]
fn a_log_is_followed_as_it_grows() {
    let file = file_of(&[&VERSION[..3]]);
    let mut state = LogState::default();
    state.advance(&file).unwrap();
    assert_eq!(state, LogState::default());
    let first = [&VERSION[..], &entry(INSERT, 100_003), &entry(FLUSH, 5)].concat();
    file.write_all_at(&first, 0).unwrap();
    state.advance(&file).unwrap();
    assert_eq!((state.committed, state.transactions, state.has_row_groups), (first.len() as u64, 1, false));
    // Not committed yet, and its last entry not complete.
    let second = [entry(ROW_GROUPS, 70_000), entry(INSERT, 9), entry(FLUSH, 5)].concat();
    file.write_all_at(&second[..second.len() - 1], first.len() as u64).unwrap();
    state.advance(&file).unwrap();
    assert_eq!((state.committed, state.has_row_groups), (first.len() as u64, false));
    file.write_all_at(&second, first.len() as u64).unwrap();
    state.advance(&file).unwrap();
    let committed = (first.len() + second.len()) as u64;
    assert_eq!((state.committed, state.transactions, state.has_row_groups), (committed, 2, true));
    assert!(!state.ends_in_marker);
    let marker = [entry(CHECKPOINT, 20), entry(FLUSH, 5)].concat();
    file.write_all_at(&marker, committed).unwrap();
    state.advance(&file).unwrap();
    assert!(state.ends_in_marker);
    assert_eq!((state.committed, state.transactions), (committed, 2));
    // DuckDB before 1.5 goes on behind the marker of a checkpoint that was interrupted.
    file.write_all_at(&[entry(INSERT, 9), entry(FLUSH, 5)].concat(), committed + marker.len() as u64).unwrap();
    state.advance(&file).unwrap();
    assert!(!state.ends_in_marker);
    assert_eq!(state.transactions, 3);
    assert_eq!(LogState::of_prefix(&file, committed).unwrap().transactions, 2);
}

#[test]
fn a_failed_commit_that_was_cut_off_is_forgotten() {
    let first = [&VERSION[..], &entry(FLUSH, 5)].concat();
    let file = file_of(&[&first, &entry(ROW_GROUPS, 5000)]);
    let mut state = LogState::default();
    state.advance(&file).unwrap();
    file.set_len(first.len() as u64).unwrap();
    state.advance(&file).unwrap();
    assert_eq!(state.end, first.len() as u64);
    // Cut off and written again between two looks: the end lies within another entry now.
    let file = file_of(&[&first, &entry(ROW_GROUPS, 5000)]);
    let mut state = LogState::default();
    state.advance(&file).unwrap();
    let other = [entry(INSERT, 9000), entry(FLUSH, 5)].concat();
    file.write_all_at(&other, first.len() as u64).unwrap();
    state.advance(&file).unwrap();
    assert_eq!((state.transactions, state.has_row_groups), (2, false));
}

#[test]
fn damaged_and_strange_logs_are_named() {
    let first = [&VERSION[..], &entry(FLUSH, 5)].concat();
    let mut bad = entry(INSERT, 300);
    bad[200] ^= 1;
    let file = file_of(&[&first, &bad, &entry(FLUSH, 5)]);
    let problem = LogState::default().advance(&file).unwrap_err();
    assert!(matches!(problem, LogProblem::Damaged(at) if at == first.len() as u64), "{problem}");
    let encrypted = [100, 0, 98, 101, 0, 3, 0xff, 0xff];
    assert!(matches!(LogState::default().advance(&file_of(&[&encrypted])), Err(LogProblem::Unknown(3))));
    assert!(matches!(LogState::default().advance(&file_of(&[&[7; 300]])), Err(LogProblem::Damaged(0))));
    // Sizes that run over the end of everything.
    let huge = [&first[..], &u64::MAX.to_le_bytes(), &[0; 8]].concat();
    let mut state = LogState::default();
    state.advance(&file_of(&[&huge])).unwrap();
    assert_eq!(state.end, first.len() as u64);
}

#[test]
fn the_version_entry_of_newer_files_names_them() {
    // DuckDB 2.0: an identifier of 16 numbers, some of them two bytes long, and the checkpoint's number.
    let mut version = vec![100, 0, 98, 101, 0, 2, 102, 0, 16];
    (0..16).for_each(|n| version.extend([0x80 | n, 1]));
    version.extend([103, 0, 0x81, 2, 0xff, 0xff]);
    let mut state = LogState::default();
    state.advance(&file_of(&[&version, &entry(FLUSH, 5)])).unwrap();
    assert_eq!(state.transactions, 1);
}
