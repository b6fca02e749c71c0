//! DuckDB's file format, as far as copying needs it: headers, checksums, the free list and the framing of logs.
//!
//! Reads only, trusts nothing. Sources: duckdb's `src/storage/single_file_block_manager.cpp`, `metadata/`,
//! `write_ahead_log.cpp`, `wal_replay.cpp` and `common/checksum.cpp`; the same from DuckDB 1.0 to 2.0.

pub(crate) mod checksum;
pub(crate) mod free_list;
pub(crate) mod header;
pub(crate) mod log;
#[cfg(test)]
mod tests;
