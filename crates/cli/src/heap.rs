//! One heap for all threads of the daemon.
//!
//! The C library gives threads heaps of their own, up to eight for each core, and what is free in one is of no use to the others: that
//! cost a daemon with 2,000 databases 16 MB once its page was looked at. Backups are as fast with one (docs/benchmarks.md).

#![allow(unsafe_code, reason = "glibc takes this setting from its own function or from the environment only")]

/// Lets all threads share one heap, unless `MALLOC_ARENA_MAX` says otherwise. Where the C library is not glibc, this does nothing.
pub(crate) fn share() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    if std::env::var_os("MALLOC_ARENA_MAX").is_none() {
        // SAFETY: it takes two numbers, may be called at any time, and a refusal leaves everything as it was.
        unsafe {
            libc::mallopt(libc::M_ARENA_MAX, 1);
        }
    }
}
