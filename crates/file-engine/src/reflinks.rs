//! For tests: a place where files can be cloned.

use std::ffi::OsStr;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A folder on a file system that can share content between files.
#[derive(Debug)]
pub struct Reflinks {
    folder: tempfile::TempDir,
    mounted: Option<PathBuf>,
}

impl Reflinks {
    /// The folder for temporary files if it can, else a small XFS of its own, which only root can mount. Says so if there is none.
    ///
    /// # Panics
    ///
    /// If no temporary files can be made.
    #[expect(clippy::unwrap_used, reason = "for tests")]
    pub fn find() -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let (from, to) = (folder.path().join("from"), folder.path().join("to"));
        std::fs::write(&from, b"x").unwrap();
        if copal_storage::local_file::reflink(&from, &to).is_ok() {
            return Some(Self { folder, mounted: None });
        }
        let (image, mounted) = (folder.path().join("image"), folder.path().join("mounted"));
        File::create(&image).unwrap().set_len(512 << 20).unwrap();
        std::fs::create_dir(&mounted).unwrap();
        let run = |program: &str, arguments: &[&OsStr]| {
            let done = Command::new(program).args(arguments).stdout(Stdio::null()).stderr(Stdio::null()).status();
            done.is_ok_and(|status| status.success())
        };
        let made = run("mkfs.xfs", &["-q".as_ref(), "-m".as_ref(), "reflink=1".as_ref(), image.as_ref()])
            && run("mount", &["-o".as_ref(), "loop".as_ref(), image.as_ref(), mounted.as_ref()]);
        if !made {
            let _ = writeln!(
                std::io::stderr(),
                "SKIPPED: no file system here can clone files (XFS needs root and xfsprogs)"
            );
            return None;
        }
        Some(Self { folder, mounted: Some(mounted) })
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        self.mounted.as_deref().unwrap_or(self.folder.path())
    }
}

impl Drop for Reflinks {
    fn drop(&mut self) {
        if let Some(mounted) = &self.mounted {
            // Descriptors of files that were copied stay open, so it goes when they do.
            let _ = Command::new("umount").arg("--lazy").arg(mounted).status();
        }
    }
}
