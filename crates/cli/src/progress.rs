//! Progress of one operation: a bar on the terminal, phases and notes in verbose output, warnings kept for the result.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use copal::{Event, Progress};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::output::Output;

/// Shows the events of one operation.
pub(crate) struct Reporter {
    what: String,
    output: Arc<Output>,
    phase: Mutex<Option<Phase>>,
}

struct Phase {
    name: String,
    began: Instant,
    bar: Option<ProgressBar>,
}

impl Reporter {
    /// Begins to show the operation on `what`, usually a database.
    pub(crate) fn new(what: &str, output: Arc<Output>) -> Self {
        Self { what: what.to_owned(), output, phase: Mutex::new(None) }
    }

    /// Ends the last phase.
    pub(crate) fn finish(&self) {
        self.close(&mut self.lock());
    }

    fn lock(&self) -> MutexGuard<'_, Option<Phase>> {
        self.phase.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn close(&self, phase: &mut Option<Phase>) {
        let Some(phase) = phase.take() else { return };
        self.output.set_bar(None);
        if let Some(bar) = phase.bar {
            bar.finish_and_clear();
        }
        // `make bench` reads these lines.
        self.output.detail(&format!("phase {} {:.3}", phase.name, phase.began.elapsed().as_secs_f64()));
    }

    fn open(&self, name: String, bytes: Option<u64>) -> Phase {
        let bar = self.output.has_bars().then(|| self.bar(&name, bytes));
        self.output.set_bar(bar.clone());
        Phase { name, began: Instant::now(), bar }
    }

    fn bar(&self, name: &str, bytes: Option<u64>) -> ProgressBar {
        let bar = ProgressBar::with_draw_target(bytes, ProgressDrawTarget::hidden());
        let template = match bytes {
            Some(_) => "{prefix}  {msg} {wide_bar} {binary_bytes} of {binary_total_bytes}, {eta}",
            None => "{prefix}  {msg} {spinner}",
        };
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style.progress_chars("━╸ "));
        }
        bar.set_prefix(crate::output::clean(&self.what));
        bar.set_message(name.to_owned());
        bar.set_draw_target(ProgressDrawTarget::stderr_with_hz(10));
        bar.enable_steady_tick(Duration::from_millis(200));
        bar
    }
}

impl Progress for Reporter {
    fn event(&self, event: Event) {
        match event {
            Event::Phase { name, bytes } => {
                let mut phase = self.lock();
                // Announced by two layers, it is still one phase.
                if phase.as_ref().is_none_or(|phase| phase.name != name) {
                    self.close(&mut phase);
                    *phase = Some(self.open(name, bytes));
                }
            }
            Event::Advance(bytes) => {
                if let Some(bar) = self.lock().as_ref().and_then(|phase| phase.bar.as_ref()) {
                    bar.inc(bytes);
                }
            }
            Event::Note(text) => self.output.detail(&text),
            Event::Warning(text) => self.output.warning(&text),
        }
    }
}
