//! Queues over simulated hours.

use super::*;
use crate::NotifyErrorKind;

fn at(seconds: i64) -> Timestamp {
    "2026-11-20T00:00:00Z".parse::<Timestamp>().unwrap() + SignedDuration::from_secs(seconds)
}

fn notice(event: Event, database: &str) -> Notice {
    Notice::new(event, database, "db1", at(0), "something")
}

fn transient() -> NotifyError {
    NotifyError::new(NotifyErrorKind::TimedOut, "webhook", "no answer")
}

fn refused() -> NotifyError {
    NotifyError::new(NotifyErrorKind::Refused, "webhook", "no")
}

/// The one notice that is due.
fn one(outbox: &mut Outbox, seconds: i64) -> Parcel {
    let mut due = outbox.due(at(seconds));
    assert_eq!(due.len(), 1, "{due:?}");
    due.remove(0)
}

#[test]
fn a_notice_goes_out_once() {
    let mut outbox = Outbox::default();
    assert_eq!(outbox.next_due(at(0)), None);
    outbox.push("ops", notice(Event::Failure, "shop"), at(0));
    assert_eq!(outbox.next_due(at(0)), Some(at(0)));
    let parcel = one(&mut outbox, 0);
    assert_eq!((parcel.notifier.as_str(), parcel.notice.event), ("ops", Event::Failure));
    assert_eq!((outbox.due(at(0)), outbox.next_due(at(0))), (vec![], None), "under way");
    assert_eq!((outbox.status()["ops"].waiting, outbox.unsent("ops").count()), (1, 1));
    assert_eq!((parcel.ticket.notifier(), outbox.unsent("other").count()), ("ops", 0));
    outbox.sent(&parcel.ticket, at(1));
    assert_eq!(outbox.unsent("ops").count(), 0);
    let expected = NotifierStatus { last_sent: Some(at(1)), ..NotifierStatus::default() };
    assert_eq!(outbox.status()["ops"], expected);
    // Reported twice.
    outbox.failed(&parcel.ticket, &transient(), at(2));
    assert_eq!(outbox.status()["ops"], expected);
}

#[test]
fn pauses_grow_and_end_after_a_day() {
    let mut outbox = Outbox::default();
    outbox.push("ops", notice(Event::Failure, "shop"), at(0));
    let (mut attempts, mut pauses, mut last) = (0, Vec::new(), 0);
    for second in 0..90_000 {
        for parcel in outbox.due(at(second)) {
            attempts += 1;
            pauses.push(second - last);
            last = second;
            outbox.failed(&parcel.ticket, &transient(), at(second));
            let status = &outbox.status()["ops"];
            assert_eq!(status.last_error.as_deref(), Some("webhook: no answer"));
        }
    }
    assert_eq!(pauses[..10], [0, 15, 30, 60, 120, 240, 480, 960, 1920, 3600]);
    assert!((30..=33).contains(&attempts), "{attempts}");
    let status = &outbox.status()["ops"];
    assert_eq!((status.waiting, status.lost), (0, 1));
    assert!(last <= 86_400);
}

#[test]
fn the_newest_state_of_a_database_wins() {
    let mut outbox = Outbox::default();
    for event in [Event::Failure, Event::Damage, Event::Stale, Event::Recovered] {
        outbox.push("ops", notice(event, "shop"), at(0));
    }
    outbox.push("ops", notice(Event::Failure, "crm"), at(0));
    let mut sent = Vec::new();
    while let Some(parcel) = outbox.due(at(1)).pop() {
        sent.push((parcel.notice.database, parcel.notice.event));
        outbox.sent(&parcel.ticket, at(1));
    }
    let expected = [("shop", Event::Damage), ("shop", Event::Recovered), ("crm", Event::Failure)];
    assert_eq!(sent, expected.map(|(database, event)| (database.to_owned(), event)));
}

#[test]
fn what_failed_under_way_gives_way_to_newer_news() {
    let mut outbox = Outbox::default();
    outbox.push("ops", notice(Event::Failure, "shop"), at(0));
    let parcel = one(&mut outbox, 0);
    outbox.push("ops", notice(Event::Recovered, "shop"), at(1));
    assert_eq!(outbox.due(at(1)), vec![], "not before it is known what became of the older one");
    outbox.failed(&parcel.ticket, &transient(), at(2));
    assert_eq!(outbox.next_due(at(2)), Some(at(17)));
    let parcel = one(&mut outbox, 17);
    assert_eq!(parcel.notice.event, Event::Recovered);
    outbox.sent(&parcel.ticket, at(17));
    assert_eq!(outbox.status()["ops"].waiting, 0);
}

#[test]
fn what_is_refused_is_not_sent_again_and_holds_up_nothing() {
    let mut outbox = Outbox::default();
    outbox.push("ops", notice(Event::Failure, "shop"), at(0));
    outbox.push("ops", notice(Event::Failure, "crm"), at(0));
    let parcel = one(&mut outbox, 0);
    outbox.failed(&parcel.ticket, &refused(), at(0));
    assert_eq!(one(&mut outbox, 0).notice.database, "crm");
    let status = &outbox.status()["ops"];
    assert_eq!((status.lost, status.last_error.as_deref()), (1, Some("webhook: no")));
}

#[test]
fn one_that_fails_holds_up_no_other() {
    let mut outbox = Outbox::default();
    outbox.push("ops", notice(Event::Failure, "shop"), at(0));
    outbox.push("chat", notice(Event::Failure, "shop"), at(0));
    assert_eq!(outbox.due(at(0)).len(), 2);
    outbox.push("ops", notice(Event::Failure, "crm"), at(0));
    outbox.push("chat", notice(Event::Failure, "crm"), at(0));
    let ticket = Ticket { notifier: "chat".to_owned(), number: 1 };
    outbox.sent(&ticket, at(0));
    assert_eq!(one(&mut outbox, 0).notifier, "chat");
    outbox.retain(|notifier| notifier == "chat");
    assert_eq!(outbox.status().into_keys().collect::<Vec<_>>(), ["chat"]);
}

#[test]
fn one_notice_that_chokes_the_other_side_lets_the_next_pass() {
    let mut outbox = Outbox::default();
    outbox.push("ops", notice(Event::Failure, "shop"), at(0));
    outbox.push("ops", notice(Event::Failure, "crm"), at(0));
    let parcel = one(&mut outbox, 0);
    outbox.failed(&parcel.ticket, &transient(), at(0));
    assert_eq!(outbox.due(at(14)), vec![]);
    let parcel = one(&mut outbox, 15);
    assert_eq!(parcel.notice.database, "crm");
    outbox.sent(&parcel.ticket, at(15));
    assert_eq!(one(&mut outbox, 15).notice.database, "shop");
}

#[test]
fn asked_to_wait_it_waits() {
    let mut outbox = Outbox::default();
    outbox.push("ops", notice(Event::Failure, "shop"), at(0));
    for (wait, now, next) in [(100, 0, 100), (1_000_000, 100, 3700)] {
        let parcel = one(&mut outbox, now);
        let error = NotifyError { retry_after: Some(Duration::from_secs(wait)), ..transient() };
        outbox.failed(&parcel.ticket, &error, at(now));
        assert_eq!(outbox.next_due(at(now)), Some(at(next)));
    }
}

#[test]
fn the_queue_is_bounded_and_loses_good_news_first() {
    let mut outbox = Outbox::new(OutboxOptions { max_waiting: 3, ..OutboxOptions::default() });
    for (event, database) in [
        (Event::Failure, "a"),
        (Event::Success, "b"),
        (Event::Damage, "c"),
        (Event::Failure, "d"),
        (Event::Failure, "e"),
        (Event::Success, "f"),
    ] {
        outbox.push("ops", notice(event, database), at(0));
    }
    let status = &outbox.status()["ops"];
    assert_eq!((status.waiting, status.lost), (3, 3));
    let kept: Vec<_> = outbox.queues["ops"].waiting.iter().map(|waiting| waiting.notice.database.as_str()).collect();
    assert_eq!(kept, ["c", "d", "e"]);
}

#[test]
fn a_beginning_is_not_told_later() {
    let mut outbox = Outbox::default();
    outbox.push("hc", notice(Event::Start, "shop"), at(0));
    let parcel = one(&mut outbox, 0);
    outbox.failed(&parcel.ticket, &transient(), at(1));
    assert_eq!(outbox.status()["hc"].waiting, 0);
}

#[test]
fn a_clock_put_back_does_not_silence() {
    let mut outbox = Outbox::default();
    outbox.push("ops", notice(Event::Failure, "shop"), at(0));
    let parcel = one(&mut outbox, 0);
    outbox.failed(&parcel.ticket, &transient(), at(0));
    assert_eq!(outbox.next_due(at(-1_000_000)), Some(at(-1_000_000)));
    assert_eq!(outbox.due(at(-1_000_000)).len(), 1);
}
