//! How often a client may call. Memory is bounded, whoever calls from however many addresses.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroU32;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use governor::clock::{Clock, DefaultClock, Reference};
use governor::middleware::StateInformationMiddleware;
use governor::state::keyed::DashMapStateStore;
use governor::{Quota, RateLimiter};

/// How often clients are forgotten that have not called for a while.
const SWEEP_EVERY: Duration = Duration::from_secs(60);
/// From so many clients on, new ones share what they may do with others.
const MAX_CLIENTS: usize = 20_000;
const SHARED: u64 = 1_000;

/// What kind of call it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Class {
    /// Changes nothing: 300 a second and 1,000 at once, by client; as many as it likes from this machine.
    Read,
    /// Changes or starts something: 10 a second and 100 at once, by client.
    Write,
    /// A token that is none: one every 6 seconds and 10 at once, by address.
    FailedLogin,
}

/// Who is counted together.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Client {
    Named(String),
    /// An IPv6 address stands for its /64, which one client can have as a whole.
    Address(IpAddr),
    Shared(u64),
}

type Limiter<C> = RateLimiter<Client, DashMapStateStore<Client>, C, StateInformationMiddleware>;

/// What each client has done lately.
pub(crate) struct Limits<C: Clock = DefaultClock> {
    reads: Limiter<C>,
    writes: Limiter<C>,
    failed_logins: Limiter<C>,
    /// Until when nobody can log in from an address.
    locked: Mutex<HashMap<Client, C::Instant>>,
    swept: Mutex<C::Instant>,
    clock: C,
    max_clients: usize,
    hasher: RandomState,
}

impl Limits {
    /// Nobody has called yet.
    pub(crate) fn new() -> Self {
        Self::with(DefaultClock::default(), MAX_CLIENTS)
    }
}

impl<C: Clock + Clone> Limits<C> {
    fn with(clock: C, max_clients: usize) -> Self {
        let limiter = |quota| -> Limiter<C> { RateLimiter::new(quota, DashMapStateStore::default(), clock.clone()) };
        Self {
            reads: limiter(per(Duration::from_secs(1) / 300, 1_000)),
            writes: limiter(per(Duration::from_millis(100), 100)),
            failed_logins: limiter(per(Duration::from_secs(6), 10)),
            locked: Mutex::default(),
            swept: Mutex::new(clock.now()),
            clock,
            max_clients,
            hasher: RandomState::new(),
        }
    }

    /// Counts a call; `Err` says how long to wait before the next, and that this one should be refused. `who` is the name of the
    /// token; a failed login is counted for the address, whatever it says.
    pub(crate) fn check(&self, peer: IpAddr, who: Option<&str>, class: Class) -> Result<(), Duration> {
        self.sweep();
        let peer = peer.to_canonical();
        let limiter = match class {
            Class::Read if peer.is_loopback() => return Ok(()),
            Class::Read => &self.reads,
            Class::Write => &self.writes,
            Class::FailedLogin => return self.failed_login(peer),
        };
        let client = match who {
            Some(name) => Client::Named(name.to_owned()),
            None => self.client(peer, limiter.len()),
        };
        limiter.check_key(&client).map(drop).map_err(|until| until.wait_time_from(self.clock.now()))
    }

    /// Whether a token from this address may be looked at; `Err` says how long not. Counts nothing.
    pub(crate) fn may_log_in(&self, peer: IpAddr) -> Result<(), Duration> {
        let locked = self.locked();
        let client = self.client(peer.to_canonical(), self.failed_logins.len());
        // Somebody counted before there were so many may come after; look at both.
        let own = locked.get(&Client::Address(network(peer.to_canonical())));
        let Some(until) = locked.get(&client).or(own) else { return Ok(()) };
        match Duration::from(until.duration_since(self.clock.now())) {
            Duration::ZERO => Ok(()),
            wait => Err(wait),
        }
    }

    fn failed_login(&self, peer: IpAddr) -> Result<(), Duration> {
        let client = self.client(peer, self.failed_logins.len());
        let now = self.clock.now();
        let (wait, result) = match self.failed_logins.check_key(&client) {
            Ok(left) if left.remaining_burst_capacity() > 0 => return Ok(()),
            // This one was the last.
            Ok(left) => (left.quota().replenish_interval(), Ok(())),
            Err(until) => {
                let wait = until.wait_time_from(now);
                (wait, Err(wait))
            }
        };
        self.locked().insert(client, now + wait.into());
        result
    }

    fn client(&self, peer: IpAddr, known: usize) -> Client {
        let address = network(peer);
        if known < self.max_clients {
            return Client::Address(address);
        }
        Client::Shared(self.hasher.hash_one(address) % SHARED)
    }

    /// Forgets who has all of their allowance again.
    fn sweep(&self) {
        let now = self.clock.now();
        {
            let mut swept = self.swept.lock().unwrap_or_else(PoisonError::into_inner);
            if Duration::from(now.duration_since(*swept)) < SWEEP_EVERY {
                return;
            }
            *swept = now;
        }
        for limiter in [&self.reads, &self.writes, &self.failed_logins] {
            limiter.retain_recent();
            limiter.shrink_to_fit();
        }
        let mut locked = self.locked();
        locked.retain(|_, until| *until > now);
        locked.shrink_to_fit();
    }

    fn locked(&self) -> MutexGuard<'_, HashMap<Client, C::Instant>> {
        self.locked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One in each `interval`, `burst` at once.
fn per(interval: Duration, burst: u32) -> Quota {
    // Both are constants above zero.
    let burst = NonZeroU32::new(burst).unwrap_or(NonZeroU32::MIN);
    Quota::with_period(interval).unwrap_or_else(|| Quota::per_second(NonZeroU32::MIN)).allow_burst(burst)
}

fn network(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << 64)).into(),
    }
}

#[cfg(test)]
mod tests {
    use governor::clock::FakeRelativeClock;

    use super::*;

    fn limits(max_clients: usize) -> (FakeRelativeClock, Limits<FakeRelativeClock>) {
        let clock = FakeRelativeClock::default();
        (clock.clone(), Limits::with(clock, max_clients))
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    /// How many of many calls are let through.
    fn passed(mut check: impl FnMut() -> Result<(), Duration>) -> usize {
        (0..2_000).filter(|_| check().is_ok()).count()
    }

    #[test]
    fn reads_and_writes_have_a_rate_and_a_burst_each() {
        let (clock, limits) = limits(100);
        let far = ip("192.0.2.1");
        assert_eq!(passed(|| limits.check(far, None, Class::Read)), 1_000);
        assert_eq!(passed(|| limits.check(far, None, Class::Write)), 100);
        clock.advance(Duration::from_millis(1_001));
        assert_eq!(passed(|| limits.check(far, None, Class::Read)), 300);
        assert_eq!(passed(|| limits.check(far, None, Class::Write)), 10);
        let wait = limits.check(far, None, Class::Write).unwrap_err();
        assert!(wait > Duration::ZERO && wait <= Duration::from_millis(100), "{wait:?}");
        clock.advance(wait);
        limits.check(far, None, Class::Write).unwrap();
    }

    #[test]
    fn a_client_is_a_token_or_an_address() {
        let (_, limits) = limits(100);
        let far = ip("192.0.2.1");
        assert_eq!(passed(|| limits.check(far, Some("a"), Class::Write)), 100);
        assert!(limits.check(ip("192.0.2.2"), Some("a"), Class::Write).is_err());
        limits.check(far, Some("b"), Class::Write).unwrap();
        limits.check(far, None, Class::Write).unwrap();
        // One client can have a /64.
        assert_eq!(passed(|| limits.check(ip("2001:db8::1"), None, Class::Write)), 100);
        assert!(limits.check(ip("2001:db8::ffff:1:2"), None, Class::Write).is_err());
        limits.check(ip("2001:db8:0:1::1"), None, Class::Write).unwrap();
        // The same address in both clothes.
        assert_eq!(passed(|| limits.check(ip("::ffff:192.0.2.9"), None, Class::Write)), 100);
        assert!(limits.check(ip("192.0.2.9"), None, Class::Write).is_err());
        limits.check(ip("::ffff:192.0.2.10"), None, Class::Write).unwrap();
    }

    #[test]
    fn this_machine_may_read_as_often_as_it_likes() {
        let (_, limits) = limits(100);
        for here in ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"] {
            assert_eq!(passed(|| limits.check(ip(here), None, Class::Read)), 2_000);
        }
        assert_eq!(passed(|| limits.check(ip("::1"), None, Class::Write)), 100);
        assert_eq!(passed(|| limits.check(ip("::1"), None, Class::FailedLogin)), 10);
    }

    #[test]
    fn after_failed_logins_no_token_is_looked_at_for_a_while() {
        let (clock, limits) = limits(100);
        let (far, other) = (ip("192.0.2.1"), ip("192.0.2.2"));
        for _ in 0..10 {
            limits.may_log_in(far).unwrap();
            limits.check(far, Some("whatever"), Class::FailedLogin).unwrap();
        }
        assert_eq!(limits.may_log_in(far), Err(Duration::from_secs(6)));
        assert!(limits.check(far, Some("other"), Class::FailedLogin).is_err());
        limits.may_log_in(other).unwrap();
        clock.advance(Duration::from_secs(5));
        assert_eq!(limits.may_log_in(far), Err(Duration::from_secs(1)));
        clock.advance(Duration::from_secs(1));
        limits.may_log_in(far).unwrap();
        limits.check(far, None, Class::FailedLogin).unwrap();
        assert_eq!(limits.may_log_in(far), Err(Duration::from_secs(6)));
        clock.advance(Duration::from_secs(61));
        assert_eq!(passed(|| limits.check(far, None, Class::FailedLogin)), 10);
    }

    #[test]
    fn who_stays_away_is_forgotten_and_a_crowd_takes_no_more_memory() {
        let (clock, limits) = limits(100);
        let far = |n: u32| IpAddr::from(Ipv6Addr::from_bits(u128::from(n) << 64));
        // Some are locked out before there is a crowd, and stay so in it.
        assert_eq!(passed(|| limits.check(far(7), None, Class::FailedLogin)), 10);
        for n in 100..20_000 {
            let _ = limits.check(far(n), None, Class::Write);
            let _ = limits.check(far(n), None, Class::FailedLogin);
        }
        let most = 100 + usize::try_from(SHARED).unwrap();
        assert!(limits.writes.len() <= most && limits.failed_logins.len() <= most);
        assert!(limits.locked().len() <= most);
        assert!(limits.may_log_in(far(7)).is_err());
        clock.advance(Duration::from_secs(3_600));
        limits.check(far(1), None, Class::Write).unwrap();
        assert_eq!((limits.writes.len(), limits.failed_logins.len(), limits.locked().len()), (1, 0, 0));
    }
}
