//! A sink that makes a folder of ordinary files, which DuckDB can open, and holds the engine to its contract.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use copal_core::{AnyError, FileHandle, PageFileSpec, Sink};

/// How fast a sink takes what it is given: slow ones give the writer time to get in the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pace {
    /// At once.
    Fast,
    /// As if somebody compressed and uploaded: two milliseconds for 256 KiB.
    Slow,
    /// Fast, but stuck for a while at the run with this number.
    Stuck(u32),
}

impl Pace {
    /// The `n`th of several.
    pub(crate) fn nth(n: usize) -> Self {
        match n % 3 {
            0 => Self::Fast,
            1 => Self::Slow,
            _ => Self::Stuck(u32::try_from(n / 3 % 9).unwrap()),
        }
    }

    fn wait(self, run: u32, bytes: usize) {
        match self {
            Self::Slow => std::thread::sleep(Duration::from_micros(2000 * bytes as u64 / 262_144)),
            Self::Stuck(at) if at == run => std::thread::sleep(Duration::from_millis(70)),
            _ => {}
        }
    }
}

/// Writes page files into a folder.
pub(crate) struct FolderSink {
    folder: PathBuf,
    files: Vec<Option<Begun>>,
    pace: Pace,
    /// Runs of pages that were taken.
    runs: u32,
    /// Names of the files that are finished.
    pub(crate) finished: Vec<String>,
}

struct Begun {
    spec: PageFileSpec,
    file: File,
    /// Which pages were given.
    given: Vec<bool>,
    /// The number of a page that was short: only the last may be.
    short: Option<u64>,
}

impl FolderSink {
    pub(crate) fn new(folder: &Path, pace: Pace) -> Self {
        std::fs::create_dir_all(folder).unwrap();
        Self { folder: folder.to_owned(), files: Vec::new(), pace, runs: 0, finished: Vec::new() }
    }

    /// Whether everything that was begun was finished or withdrawn.
    pub(crate) fn is_settled(&self) -> bool {
        self.files.iter().all(Option::is_none)
    }

    fn begun(&mut self, file: FileHandle) -> Result<&mut Option<Begun>, AnyError> {
        let begun = self.files.get_mut(file.0 as usize).ok_or("no such file")?;
        if begun.is_none() { Err("the file has ended".into()) } else { Ok(begun) }
    }
}

impl Sink for FolderSink {
    fn begin(&mut self, spec: &PageFileSpec) -> Result<FileHandle, AnyError> {
        assert!((512..=1 << 20).contains(&spec.page_size) && spec.head_length <= 65_536, "{spec:?}");
        let known = ["main.duckdb", "main.duckdb.wal", "main.duckdb.wal.checkpoint"];
        assert!(known.contains(&spec.name.as_str()), "{spec:?}");
        let path = self.folder.join(&spec.name);
        assert!(!path.exists(), "{} is begun twice", spec.name);
        let file = File::create(path)?;
        self.files.push(Some(Begun { spec: spec.clone(), file, given: Vec::new(), short: None }));
        Ok(FileHandle(u32::try_from(self.files.len() - 1)?))
    }

    fn pages(&mut self, file: FileHandle, first: u64, bytes: &[u8]) -> Result<(), AnyError> {
        self.pace.wait(self.runs, bytes.len());
        self.runs += 1;
        let Some(begun) = self.begun(file)? else { return Ok(()) };
        let page_size = begun.spec.page_size as usize;
        let end = usize::try_from(first)? + bytes.len().div_ceil(page_size);
        if begun.given.len() < end {
            begun.given.resize(end, false);
        }
        begun.given[usize::try_from(first)?..end].fill(true);
        if !bytes.len().is_multiple_of(page_size) {
            begun.short = Some(end as u64 - 1);
        }
        begun.file.write_all_at(bytes, u64::from(begun.spec.head_length) + first * page_size as u64)?;
        Ok(())
    }

    fn finish(&mut self, file: FileHandle, length: u64, head: &[u8]) -> Result<(), AnyError> {
        let Some(begun) = self.begun(file)?.take() else { return Ok(()) };
        let name = begun.spec.name;
        assert_eq!(head.len(), begun.spec.head_length as usize, "the head of {name}");
        let pages = (length - head.len() as u64).div_ceil(u64::from(begun.spec.page_size));
        let is_given = |page: &u64| begun.given.get(usize::try_from(*page).unwrap()) == Some(&true);
        assert_eq!((0..pages).find(|page| !is_given(page)), None, "{name}: a page of {pages} was not given");
        assert!(
            begun.short.is_none_or(|short| short + 1 >= pages),
            "{name}: page {:?} of {pages} is short",
            begun.short
        );
        begun.file.write_all_at(head, 0)?;
        begun.file.set_len(length)?;
        self.finished.push(name);
        Ok(())
    }

    fn withdraw(&mut self, file: FileHandle) -> Result<(), AnyError> {
        if let Some(begun) = self.begun(file)?.take() {
            std::fs::remove_file(self.folder.join(begun.spec.name))?;
        }
        Ok(())
    }
}
