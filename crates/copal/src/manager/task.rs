//! The loop of a manager: waits until something is due, and saves.

use std::sync::Arc;

use tokio::sync::watch;

use super::saver::Want;
use super::shared::Shared;

/// Works until `ended` is set, or nobody is there any more who could do so.
pub(super) async fn run(shared: Arc<Shared>, mut ended: watch::Receiver<bool>) {
    loop {
        tokio::select! {
            biased;
            () = set(&mut ended) => return,
            () = shared.wake.notified() => {}
            () = tokio::time::sleep_until(shared.due()) => {
                // Failures are told where they happen, and what is due next follows from them.
                let _ = shared.save(Want::Regular).await;
            }
        }
    }
}

async fn set(ended: &mut watch::Receiver<bool>) {
    // That nobody can set it any more is the same.
    let _ = ended.wait_for(|ended| *ended).await;
}
