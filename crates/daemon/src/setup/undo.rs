//! What a set-up has made so far, taken back if it does not come to its end.

use std::fmt;
use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use copal::{Copal, InitOutcome, Secret};

use super::beginning;
use crate::tokens::TokenFile;

/// Takes everything back when it is dropped, the last first, unless it is kept.
#[derive(Debug, Default)]
pub(super) struct Undo {
    steps: Vec<Step>,
}

#[derive(Debug)]
enum Step {
    /// A folder that was made; it stays if others have put something into it.
    Folder(PathBuf),
    /// A repository, or what there is of it, in a folder which was empty or not there.
    Repository(PathBuf, Option<Made>),
    /// What belongs to somebody else after all.
    Nothing,
    File(PathBuf),
    Token(TokenFile, String),
}

/// A repository that was made, and what made it.
struct Made(Copal, InitOutcome);

impl fmt::Debug for Made {
    /// For a log: without the settings.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Made").field(&self.1).finish()
    }
}

/// A repository that somebody is about to make.
#[derive(Debug)]
pub(super) struct Begun(usize);

impl Undo {
    /// Makes a folder and those above it that are missing, for its owner only.
    pub(super) fn make_folder(&mut self, folder: &Path) -> io::Result<()> {
        for missing in self.missing(folder) {
            match DirBuilder::new().mode(0o700).create(&missing) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
                Err(_) => {}
                Ok(()) => self.steps.push(Step::Folder(missing)),
            }
        }
        Ok(())
    }

    /// Somebody is about to make a repository in this folder, which must be empty or not there.
    pub(super) fn repository_is_made(&mut self, folder: &Path) -> Begun {
        let missing = self.missing(folder);
        self.steps.extend(missing.into_iter().map(Step::Folder));
        self.steps.push(Step::Repository(folder.to_owned(), None));
        Begun(self.steps.len() - 1)
    }

    /// It was made, and nobody else made it.
    pub(super) fn repository_was_made(&mut self, begun: Begun, copal: Copal, outcome: InitOutcome) {
        if let Some(Step::Repository(_, made)) = self.steps.get_mut(begun.0) {
            *made = Some(Made(copal, outcome));
        }
    }

    /// Somebody else has made it.
    pub(super) fn leave(&mut self, begun: Option<Begun>) {
        if let Some(step) = begun.and_then(|begun| self.steps.get_mut(begun.0)) {
            *step = Step::Nothing;
        }
    }

    /// The folders that are not there, the uppermost first.
    fn missing(&self, folder: &Path) -> Vec<PathBuf> {
        let mut missing: Vec<_> =
            folder.ancestors().take_while(|folder| folder.symlink_metadata().is_err()).map(Path::to_owned).collect();
        missing.reverse();
        missing
    }

    /// Writes a file that was not there, for its owner only. Errors: `AlreadyExists`, which leaves it alone.
    pub(super) fn write_secret(&mut self, file: &Path, text: &Secret) -> io::Result<()> {
        let mut created = OpenOptions::new().write(true).create_new(true).mode(0o600).open(file)?;
        self.steps.push(Step::File(file.to_owned()));
        created.write_all(text.reveal().as_bytes())?;
        created.write_all(b"\n")?;
        created.sync_all()
    }

    /// Somebody is about to add the first token to this file, or another one.
    pub(super) fn file_is_made(&mut self, file: &Path) {
        if file.symlink_metadata().is_err() {
            self.steps.push(Step::File(file.to_owned()));
        }
    }

    /// This token was added.
    pub(super) fn token_was_made(&mut self, file: TokenFile, name: String) {
        self.steps.push(Step::Token(file, name));
    }

    /// It has come to its end: everything stays.
    pub(super) fn keep(mut self) {
        self.steps.clear();
    }
}

impl Drop for Undo {
    fn drop(&mut self) {
        for step in self.steps.drain(..).rev() {
            if let Err(error) = step.undo() {
                tracing::warn!(%error, ?step, "something of a set-up that failed is left");
            }
        }
    }
}

impl Step {
    fn undo(&self) -> io::Result<()> {
        let done = match self {
            Self::Folder(folder) => fs::remove_dir(folder),
            Self::Repository(folder, None) => beginning::take_back(folder, None).map(drop),
            Self::Repository(folder, Some(Made(copal, made))) => {
                beginning::take_back(folder, Some(made)).map(|is_gone| {
                    if is_gone {
                        copal.forget(made);
                    }
                })
            }
            Self::Nothing => Ok(()),
            Self::File(file) => fs::remove_file(file),
            Self::Token(file, name) => file.remove(name).map(drop).map_err(io::Error::other),
        };
        // What was never made, and what others use by now.
        use io::ErrorKind::{DirectoryNotEmpty, NotADirectory, NotFound};
        match done {
            Err(error) if matches!(error.kind(), NotFound | NotADirectory | DirectoryNotEmpty) => Ok(()),
            done => done,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use copal::{InitOptions, Settings};

    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<_> = walk(folder, folder);
        names.sort();
        names
    }

    fn walk(root: &Path, folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        entries
            .flat_map(|path| {
                let name = path.strip_prefix(root).unwrap().display().to_string();
                let below = if path.is_dir() { walk(root, &path) } else { Vec::new() };
                [vec![name], below].concat()
            })
            .collect()
    }

    fn at(root: &Path) -> Copal {
        let mut settings = Settings::new(root.join("data/repository").display().to_string());
        settings.state = Some(root.join("state"));
        Copal::new(settings)
    }

    async fn init(copal: &Copal) -> InitOutcome {
        copal.init(InitOptions::default()).await.unwrap()
    }

    async fn make(root: &Path) -> Undo {
        let mut undo = Undo::default();
        undo.make_folder(&root.join("config/copal")).unwrap();
        undo.write_secret(&root.join("config/copal/passphrase"), &Secret::new("abc")).unwrap();
        let begun = undo.repository_is_made(&root.join("data/repository"));
        let copal = at(root);
        let outcome = init(&copal).await;
        undo.repository_was_made(begun, copal, outcome);
        undo.file_is_made(&root.join("state/tokens.toml"));
        fs::write(root.join("state/tokens.toml"), "x").unwrap();
        undo.file_is_made(&root.join("state/other"));
        undo
    }

    #[tokio::test]
    async fn what_is_not_kept_is_taken_back_and_nothing_else() {
        let home = tempfile::tempdir().unwrap();
        let root = home.path();
        fs::create_dir_all(root.join("state")).unwrap();
        fs::write(root.join("state/other"), "of somebody").unwrap();
        let before = names(root);
        drop(make(root).await);
        assert_eq!(names(root), before);

        let undo = make(root).await;
        let secret = root.join("config/copal/passphrase");
        assert_eq!(fs::read_to_string(&secret).unwrap(), "abc\n");
        assert_eq!(secret.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        fs::write(root.join("config/mine"), "of somebody").unwrap();
        drop(undo);
        assert_eq!(names(root), [&["config".to_owned(), "config/mine".to_owned()], before.as_slice()].concat());

        make(root).await.keep();
        assert!(root.join("data/repository/copal.json").exists() && secret.exists());
        let mut undo = Undo::default();
        let taken = undo.write_secret(&secret, &Secret::new("other")).unwrap_err();
        assert_eq!(taken.kind(), io::ErrorKind::AlreadyExists);
        drop(undo);
        assert_eq!(fs::read_to_string(&secret).unwrap(), "abc\n");
    }

    #[tokio::test]
    async fn a_repository_that_others_use_or_made_stays() {
        // Somebody's backup, lease or key is in it already.
        for (folder, name) in [("databases/shop", "database"), ("leases", "shop"), ("keys", "other.age")] {
            let home = tempfile::tempdir().unwrap();
            let root = home.path();
            let undo = make(root).await;
            fs::create_dir_all(root.join("data/repository").join(folder)).unwrap();
            fs::write(root.join("data/repository").join(folder).join(name), "of somebody").unwrap();
            let before = names(&root.join("data"));
            drop(undo);
            assert_eq!(names(&root.join("data")), before);
            assert!(root.join("state/known").exists() && !root.join("config").exists());
        }

        // Another one is there now, while ours was made and before it was.
        let home = tempfile::tempdir().unwrap();
        let root = home.path();
        let undo = make(root).await;
        fs::remove_dir_all(root.join("data/repository")).unwrap();
        init(&at(root)).await;
        let mut early = Undo::default();
        early.repository_is_made(&root.join("data/repository"));
        let mut told = Undo::default();
        let begun = told.repository_is_made(&root.join("data/repository"));
        told.leave(Some(begun));
        let before = names(&root.join("data"));
        for undo in [undo, early, told] {
            drop(undo);
            assert_eq!(names(&root.join("data")), before);
        }
        at(root).check_repository().await.unwrap();
    }
}
