//! Tells people and programs what became of their backups.
//!
//! Owns the notice and its JSON, the channels that carry it ([`Channel`]), who is told how often ([`Spacing`]) and what
//! is tried again ([`Outbox`]). The last two are pure logic: time is passed in, and sending is the caller's part.
//! Its invariant: nothing of a channel that lets others write to it (URL, token, password) is ever shown, and nothing
//! in a notice (names are anybody's choice) becomes markup, a mention, a header or an argument.

mod channel;
mod error;
mod notice;
mod outbox;
mod spacing;
mod text;

pub use copal_core::NotifyEvent as Event;

pub use channel::{Channel, DEFAULT_TIMEOUT};
pub use error::{NotifyError, NotifyErrorKind, Result};
pub use notice::{BackupFacts, NOTICE_FORMAT, Notice};
pub use outbox::{NotifierStatus, Outbox, OutboxOptions, Parcel, Ticket};
pub use spacing::{Spacing, SpacingOptions, Told};
