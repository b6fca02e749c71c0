//! Threads that hash pages, compare them with the base and compress what changed.

use std::sync::mpsc::{Receiver, Sender};
use std::sync::{Arc, Mutex, PoisonError};

use super::Message;
use super::stream_frames::{HashedRun, NewFrame};
use crate::abort::Abort;
use crate::buffers::Buffers;
use crate::error::{RepositoryError, Result};
use crate::frame::{Encoder, Kind};
use crate::page_map::{PageDigest, Record, page_digest};

/// Consecutive pages from the engine.
pub(super) struct Run {
    pub(super) seq: u64,
    pub(super) file: u32,
    pub(super) first: u64,
    pub(super) page_size: u32,
    pub(super) bytes: Vec<u8>,
    /// For each page the record it may share, if it is the same; empty if there is no base.
    pub(super) base: Vec<Option<Record>>,
}

/// Changed pages from anywhere in a file, whole slots.
pub(super) struct Gather {
    pub(super) id: u64,
    pub(super) pages: Vec<(u64, PageDigest)>,
    pub(super) bytes: Vec<u8>,
}

/// Consecutive chunks of a stream.
pub(super) struct StreamRun {
    pub(super) seq: u64,
    pub(super) file: u32,
    pub(super) bytes: Vec<u8>,
    /// Bytes of each chunk.
    pub(super) lengths: Vec<u32>,
}

/// Something for a worker to do.
pub(super) enum Job {
    Run(Run),
    Gather(Gather),
    Hash(StreamRun),
    Pack(u64, NewFrame),
}

/// A compressed frame of pages, in the order of its slots, or of chunks.
pub(super) struct PageFrame {
    pub(super) pages: Vec<(u64, PageDigest)>,
    pub(super) bytes: Vec<u8>,
    pub(super) raw_bytes: u64,
    /// The buffer of the run, for the next one as soon as this frame lies in a pack. Not earlier: the number of these buffers
    /// is what keeps frames from piling up in front of a storage that is slower than the compression.
    pub(super) run: Option<Vec<u8>>,
}

/// What became of a run.
pub(super) enum RunOutcome {
    /// All of it is new.
    Changed(PageFrame),
    /// Some pages can be shared: those with a record.
    Mixed { first: u64, page_size: u32, bytes: Vec<u8>, digests: Vec<PageDigest>, shared: Vec<Option<Record>> },
}

/// The threads; they end when the last sender of jobs is gone.
pub(super) struct Workers {
    jobs: Sender<Job>,
}

impl Workers {
    pub(super) fn start(
        count: usize,
        level: Option<i32>,
        results: Sender<Message>,
        frames: &Buffers,
        abort: &Arc<Abort>,
    ) -> Result<Self> {
        let (jobs, queue) = std::sync::mpsc::channel();
        let queue = Arc::new(Mutex::new(queue));
        for i in 0..count {
            let (queue, results, abort) = (Arc::clone(&queue), results.clone(), Arc::clone(abort));
            let frames = frames.clone();
            let guard = PanicGuard(Arc::clone(&abort));
            std::thread::Builder::new()
                .name(format!("copal-pack-{i}"))
                .spawn(move || {
                    let _guard = guard;
                    yield_to_others();
                    work(&queue, &results, &frames, &abort, Encoder::new(level));
                })
                .map_err(|e| RepositoryError::local("no thread could be started", e))?;
        }
        Ok(Self { jobs })
    }

    pub(super) fn jobs(&self) -> Sender<Job> {
        self.jobs.clone()
    }

    pub(super) fn send(&self, job: Job) {
        // Workers only go away after the abort is set, which every caller checks.
        let _ = self.jobs.send(job);
    }
}

/// Lets everybody else go first, above all the program whose database this is; costs nothing on an idle machine.
pub(super) fn yield_to_others() {
    const NICE: i32 = 10;
    // On Linux a thread has a priority of its own; elsewhere this would concern the whole process.
    #[cfg(target_os = "linux")]
    if rustix::process::getpriority_process(None).is_ok_and(|nice| nice < NICE) {
        let _ = rustix::process::setpriority_process(None, NICE);
    }
    #[cfg(not(target_os = "linux"))]
    let _ = NICE;
}

/// Stops everybody when a thread dies unexpectedly, rather than let them wait for it.
pub(super) struct PanicGuard(pub(super) Arc<Abort>);

impl Drop for PanicGuard {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.set(super::stopped());
        }
    }
}

fn work(
    queue: &Mutex<Receiver<Job>>,
    results: &Sender<Message>,
    frames: &Buffers,
    abort: &Abort,
    mut encoder: Encoder,
) {
    loop {
        let job = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(job) = job else { return };
        if abort.is_set() {
            return;
        }
        let message = match job {
            Job::Run(run) => {
                Message::Run { seq: run.seq, file: run.file, outcome: work_on_run(run, &mut encoder, frames) }
            }
            Job::Gather(gather) => {
                Message::Gathered { id: gather.id, frame: compress(gather.pages, &gather.bytes, &mut encoder, frames) }
            }
            Job::Hash(run) => Message::Chunks { seq: run.seq, file: run.file, run: hash(run) },
            Job::Pack(id, frame) => {
                let mut bytes = frames.take();
                encoder.encode(Kind::Stream, &frame.content, &mut bytes);
                let raw_bytes = frame.content.len() as u64;
                let run = if frame.is_gathered { frame.run } else { Some(frame.content) };
                Message::Gathered { id, frame: PageFrame { pages: Vec::new(), bytes, raw_bytes, run } }
            }
        };
        if results.send(message).is_err() {
            return;
        }
    }
}

fn hash(run: StreamRun) -> HashedRun {
    let mut rest = run.bytes.as_slice();
    let digest_of = |length: u32| {
        let (chunk, later) = rest.split_at_checked(length as usize).unwrap_or((rest, &[]));
        rest = later;
        (length, page_digest(chunk))
    };
    let chunks = run.lengths.into_iter().map(digest_of).collect();
    HashedRun { bytes: run.bytes, chunks }
}

fn work_on_run(run: Run, encoder: &mut Encoder, frames: &Buffers) -> RunOutcome {
    let Run { first, page_size, mut bytes, base, .. } = run;
    let digests: Vec<_> = bytes.chunks(page_size as usize).map(page_digest).collect();
    // The last page may be short; its slot is not.
    bytes.resize(digests.len() * page_size as usize, 0);
    let mut shared = base;
    shared.resize(digests.len(), None);
    for (record, digest) in shared.iter_mut().zip(&digests) {
        if record.is_some_and(|r| r.digest != *digest) {
            *record = None;
        }
    }
    if shared.iter().any(Option::is_some) {
        return RunOutcome::Mixed { first, page_size, bytes, digests, shared };
    }
    let pages = (first..).zip(digests).collect();
    let frame = compress(pages, &bytes, encoder, frames);
    RunOutcome::Changed(PageFrame { run: Some(bytes), ..frame })
}

fn compress(pages: Vec<(u64, PageDigest)>, content: &[u8], encoder: &mut Encoder, frames: &Buffers) -> PageFrame {
    let mut bytes = frames.take();
    encoder.encode(Kind::Pages, content, &mut bytes);
    PageFrame { pages, bytes, raw_bytes: content.len() as u64, run: None }
}
