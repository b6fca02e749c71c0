use super::*;
use crate::MemoryStorage;

fn path(text: &str) -> ObjectPath {
    ObjectPath::parse(text).unwrap()
}

/// Two actors that each read a counter and write it back: every interleaving, by always taking the chosen actor's call.
async fn run(choices: &[usize]) -> (Vec<bool>, MemoryStorage) {
    let memory = MemoryStorage::new();
    memory.put(&path("counter"), "0");
    let scheduler = Scheduler::new();
    let actors: Vec<_> = (0..2)
        .map(|n| {
            let storage = scheduler.storage(format!("actor {n}"), Arc::new(memory.clone()));
            tokio::spawn(async move {
                let (bytes, version) = storage.get_versioned(&path("counter")).await.unwrap();
                let count: u32 = std::str::from_utf8(&bytes).unwrap().parse().unwrap();
                storage.replace(&path("counter"), (count + 1).to_string().into(), &version).await.is_ok()
            })
        })
        .collect();
    for choice in choices {
        scheduler.wait_quiet().await;
        let wanted = format!("actor {choice}");
        let pending = scheduler.pending();
        let call = pending.iter().find(|call| call.actor == wanted).unwrap();
        assert!(scheduler.grant(call.id));
        assert!(!scheduler.grant(call.id));
    }
    let done = futures::future::join_all(actors).await.into_iter().map(|done| done.unwrap()).collect();
    assert_eq!(scheduler.granted().len(), choices.len());
    (done, memory)
}

#[tokio::test(start_paused = true)]
async fn the_scheduler_decides_who_wins() {
    for (choices, done, counter) in [
        ([0, 0, 1, 1], [true, true], "2"),
        ([0, 1, 0, 1], [true, false], "1"),
        ([0, 1, 1, 0], [false, true], "1"),
        ([1, 0, 0, 1], [true, false], "1"),
        ([1, 1, 0, 0], [true, true], "2"),
    ] {
        let (got, memory) = run(&choices).await;
        assert_eq!(got, done, "{choices:?}");
        assert_eq!(memory.get(&path("counter")).await.unwrap(), counter, "{choices:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn grants_can_fail_and_lose_answers_and_a_dropped_actor_waits_no_more() {
    let memory = MemoryStorage::new();
    let scheduler = Scheduler::new();
    for (grant, is_there) in [(Grant::Fail(StorageErrorKind::Transient), false), (Grant::LoseAnswer, true)] {
        let storage = scheduler.storage("one", Arc::new(memory.clone()));
        let actor = tokio::spawn(async move { storage.create(&path("x"), "1".into()).await });
        scheduler.wait_quiet().await;
        assert!(scheduler.grant_as(scheduler.pending()[0].id, grant));
        assert!(actor.await.unwrap().unwrap_err().is_retryable());
        assert_eq!(memory.get(&path("x")).await.is_ok(), is_there);
    }
    let storage = scheduler.storage("two", Arc::new(memory.clone()));
    let actor = tokio::spawn(async move { storage.get(&path("x")).await });
    scheduler.wait_quiet().await;
    assert_eq!(scheduler.pending().len(), 1);
    actor.abort();
    scheduler.wait_quiet().await;
    assert!(scheduler.pending().is_empty());
    let storage = scheduler.storage("three", Arc::new(memory.clone()));
    let actor = tokio::spawn(async move { [storage.get(&path("x")).await, storage.get(&path("x")).await] });
    scheduler.wait_quiet().await;
    scheduler.end();
    assert!(actor.await.unwrap().iter().all(Result::is_err));
}

#[tokio::test(start_paused = true)]
async fn a_late_write_acts_when_it_lands_and_then_meets_what_is_there() {
    let memory = MemoryStorage::new();
    let scheduler = Scheduler::new();
    for (name, before, landed) in [("free", false, true), ("taken", true, false)] {
        let storage = scheduler.storage("one", Arc::new(memory.clone()));
        let path = path(name);
        let of_actor = path.clone();
        let actor = tokio::spawn(async move { storage.create(&of_actor, "late".into()).await });
        scheduler.wait_change().await;
        let call = scheduler.pending()[0].clone();
        assert_eq!(call.task, Some(actor.id()));
        assert!(scheduler.grant_as(call.id, Grant::ActLate));
        assert!(actor.await.unwrap().unwrap_err().is_retryable());
        assert!(memory.get(&path).await.is_err());
        if before {
            memory.put(&path, "first");
        }
        assert_eq!(scheduler.late(), [call.id]);
        assert_eq!(scheduler.land(call.id).await.unwrap().is_ok(), landed);
        assert_eq!(memory.get(&path).await.unwrap(), if before { "first" } else { "late" });
        assert!(scheduler.land(call.id).await.is_none());
    }
}
