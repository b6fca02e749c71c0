//! Sessions of browsers. Each stands for a token that was presented once, and ends with it.
//!
//! They live in memory only. An id is kept as its hash, like a token, and is found by it, so that how long that takes tells nothing
//! that helps to find one. Beside its id a session has a second secret, which a page sends in a header with whatever changes
//! something: a browser adds the id to requests that other pages make it send, but never this header.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use aws_lc_rs::constant_time::verify_slices_are_equal;
use copal::Secret;

use super::{Hash, KnownToken, TokenError, Tokens, hash, random};

/// Without a request for so long, a session ends.
const IDLE: Duration = Duration::from_secs(12 * 3600);
/// However much it is used.
const LONGEST: Duration = Duration::from_secs(7 * 24 * 3600);
const MOST: usize = 1_000;

/// The sessions that are open.
#[derive(Default)]
pub(crate) struct Sessions {
    open: Mutex<HashMap<Hash, Session>>,
}

struct Session {
    token: KnownToken,
    csrf: Secret,
    begun: Instant,
    /// When it was used last.
    used: Instant,
}

impl Session {
    fn is_over(&self, now: Instant) -> bool {
        now.duration_since(self.used) >= IDLE || now.duration_since(self.begun) >= LONGEST
    }
}

/// A session, as whoever came with its id knows it.
#[derive(Clone)]
pub(crate) struct OpenSession {
    key: Hash,
    pub(crate) token: KnownToken,
    /// What has to come with requests that change something.
    pub(crate) csrf: Secret,
}

impl OpenSession {
    /// Whether this is the secret of this session.
    pub(crate) fn has_csrf(&self, presented: &[u8]) -> bool {
        verify_slices_are_equal(self.csrf.reveal().as_bytes(), presented).is_ok()
    }
}

impl fmt::Debug for OpenSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("OpenSession").field(&self.token).finish()
    }
}

impl Sessions {
    /// Opens a session; answers its id, which can never be shown again. Of too many, one that has not been used for long ends: one
    /// of the token that has most of them, so that nobody ends those of others by opening more.
    ///
    /// Errors: there are no random numbers.
    pub(crate) fn open(&self, token: KnownToken, now: Instant) -> Result<(Secret, OpenSession), TokenError> {
        let (id, csrf) = (random()?, random()?);
        let key = hash(id.reveal());
        let mut open = self.lock();
        open.retain(|_, session| !session.is_over(now));
        if open.len() >= MOST
            && let Some(oldest) = one_too_many(&open)
        {
            open.remove(&oldest);
        }
        open.insert(key, Session { token: token.clone(), csrf: csrf.clone(), begun: now, used: now });
        Ok((id, OpenSession { key, token, csrf }))
    }

    /// Finds an open session by its id, and counts that as a use.
    pub(crate) fn find(&self, id: &str, tokens: &Tokens, now: Instant) -> Option<OpenSession> {
        let key = hash(id);
        let mut open = self.lock();
        let session = open.get_mut(&key)?;
        if session.is_over(now) || !tokens.holds(&session.token) {
            open.remove(&key);
            return None;
        }
        session.used = now;
        Some(OpenSession { key, token: session.token.clone(), csrf: session.csrf.clone() })
    }

    /// Whether a session that was found is still open; no use of it.
    pub(crate) fn is_open(&self, session: &OpenSession, now: Instant) -> bool {
        self.lock().get(&session.key).is_some_and(|session| !session.is_over(now))
    }

    /// Ends a session, and answers whose it was.
    pub(crate) fn end(&self, id: &str) -> Option<KnownToken> {
        self.lock().remove(&hash(id)).map(|session| session.token)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Hash, Session>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn one_too_many(open: &HashMap<Hash, Session>) -> Option<Hash> {
    let mut counts: HashMap<&Hash, usize> = HashMap::new();
    for session in open.values() {
        *counts.entry(&session.token.hash).or_default() += 1;
    }
    let most = counts.values().copied().max()?;
    let candidates = open.iter().filter(|(_, session)| counts.get(&session.token.hash) == Some(&most));
    candidates.min_by_key(|(_, session)| session.used).map(|(key, _)| *key)
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::tokens::{Role, TokenFile};

    struct Home {
        _folder: tempfile::TempDir,
        file: TokenFile,
        tokens: Tokens,
        sessions: Sessions,
    }

    impl Home {
        /// With tokens `a` and `b`.
        fn new() -> (Self, KnownToken, KnownToken) {
            let folder = tempfile::tempdir().unwrap();
            let file = TokenFile::new(folder.path().join("tokens.toml"));
            let added = ["a", "b"].map(|name| file.add(name, Role::Operator, Timestamp::now()).unwrap());
            let tokens = Tokens::load(file.path()).unwrap();
            let [a, b] = added.map(|token| tokens.recognise(token.reveal()).unwrap());
            (Self { _folder: folder, file, tokens, sessions: Sessions::default() }, a, b)
        }

        fn open(&self, token: &KnownToken, now: Instant) -> Secret {
            self.sessions.open(token.clone(), now).unwrap().0
        }

        fn name(&self, id: &Secret, now: Instant) -> Option<String> {
            self.sessions.find(id.reveal(), &self.tokens, now).map(|session| session.token.info.name)
        }
    }

    #[test]
    fn a_session_stands_for_its_token_until_it_is_ended() {
        let (home, a, b) = Home::new();
        let now = Instant::now();
        let ids = [home.open(&a, now), home.open(&a, now), home.open(&b, now)];
        assert_eq!(ids.each_ref().map(|id| home.name(id, now).unwrap()), ["a", "a", "b"]);
        assert!(ids.iter().all(|id| id.reveal().len() == 64));
        assert_ne!(ids[0].reveal(), ids[1].reveal());
        assert_eq!(home.sessions.end(ids[0].reveal()).unwrap().info.name, "a");
        assert!(home.sessions.end(ids[0].reveal()).is_none());
        assert_eq!(home.name(&ids[0], now), None);
        assert_eq!(home.name(&ids[1], now).unwrap(), "a");
        assert_eq!(home.name(&Secret::new("0".repeat(64)), now), None);
    }

    #[test]
    fn each_has_a_secret_of_its_own_that_is_not_its_id() {
        let (home, a, _) = Home::new();
        let now = Instant::now();
        let (id, first) = home.sessions.open(a.clone(), now).unwrap();
        let (_, second) = home.sessions.open(a, now).unwrap();
        let own = first.csrf.reveal().as_bytes();
        assert!(first.has_csrf(own) && !second.has_csrf(own));
        assert!(!first.has_csrf(b"") && !first.has_csrf(&own[1..]) && !first.has_csrf(id.reveal().as_bytes()));
        let found = home.sessions.find(id.reveal(), &home.tokens, now).unwrap();
        assert!(found.has_csrf(own));
        let shown = format!("{found:?}");
        assert!(shown.contains("\"a\"") && !shown.contains(first.csrf.reveal()), "{shown}");
    }

    #[test]
    fn it_ends_when_it_is_not_used_and_after_a_week_in_any_case() {
        let (home, a, _) = Home::new();
        let start = Instant::now();
        let (unused, used) = (home.open(&a, start), home.open(&a, start));
        let mut now = start;
        while now + 2 * IDLE < start + LONGEST {
            now += IDLE - Duration::from_secs(1);
            let session = home.sessions.find(used.reveal(), &home.tokens, now).unwrap();
            // A stream that goes on is no use.
            assert!(home.sessions.is_open(&session, now + IDLE - Duration::from_secs(1)));
            assert!(!home.sessions.is_open(&session, now + IDLE));
        }
        assert_eq!(home.name(&unused, start + IDLE), None);
        for before in [IDLE, Duration::from_secs(1)] {
            assert_eq!(home.name(&used, start + LONGEST - before).unwrap(), "a");
        }
        assert_eq!(home.name(&used, start + LONGEST), None);
        home.open(&a, start + LONGEST);
        assert_eq!(home.sessions.lock().len(), 1);
    }

    #[test]
    fn it_ends_with_its_token() {
        let (home, a, b) = Home::new();
        let now = Instant::now();
        let (of_a, of_b) = (home.open(&a, now), home.open(&b, now));
        home.file.remove("a").unwrap();
        // Another one of the same name is another one.
        home.file.add("a", Role::Operator, a.info.created).unwrap();
        home.tokens.reload().unwrap();
        assert_eq!(home.name(&of_a, now), None);
        assert_eq!(home.name(&of_b, now).unwrap(), "b");
    }

    #[test]
    fn of_too_many_those_of_whoever_has_most_end_first() {
        let (home, a, b) = Home::new();
        let now = Instant::now();
        let of_b = home.open(&b, now);
        let after = |n: usize| now + Duration::from_secs(n.try_into().unwrap());
        let of_a: Vec<_> = (1..MOST + 10).map(|n| home.open(&a, after(n))).collect();
        assert_eq!(home.sessions.lock().len(), MOST);
        assert_eq!(home.name(&of_b, after(MOST)).unwrap(), "b");
        let gone = of_a.iter().take_while(|id| home.name(id, after(MOST)).is_none()).count();
        assert_eq!(gone, 10);
        assert!(of_a[gone..].iter().all(|id| home.name(id, after(MOST)).is_some()));
    }
}
