//! The branch of a working folder, read from git's own files: `.git/HEAD`, or where a `.git` file points to.

use std::path::{Path, PathBuf};

/// The branch that is checked out where `folder` lies; `None` outside of git, and without a branch.
pub(super) fn branch(folder: &Path) -> Option<String> {
    let folder = std::path::absolute(folder).ok()?;
    let git = folder.ancestors().map(|folder| folder.join(".git")).find(|git| git.exists())?;
    let head = std::fs::read_to_string(folder_of(&git)?.join("HEAD")).ok()?;
    head.trim().strip_prefix("ref: refs/heads/").filter(|name| !name.is_empty()).map(str::to_owned)
}

fn folder_of(git: &Path) -> Option<PathBuf> {
    if git.is_dir() {
        return Some(git.to_owned());
    }
    let text = std::fs::read_to_string(git).ok()?;
    // A relative path begins where the file is; an absolute one replaces that.
    Some(git.parent()?.join(text.trim().strip_prefix("gitdir:")?.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_branch_of_folders_and_work_trees_is_found() {
        let root = tempfile::tempdir().unwrap();
        let make = |path: &str, text: &str| {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        make("main/.git/HEAD", "ref: refs/heads/feature/größe\n");
        make("main/.git/worktrees/w/HEAD", "ref: refs/heads/other\n");
        make("w/.git", "gitdir: ../main/.git/worktrees/w\n");
        make("detached/.git/HEAD", "0123456789012345678901234567890123456789\n");
        std::fs::create_dir_all(root.path().join("main/deep/down")).unwrap();
        let of = |path: &str| branch(&root.path().join(path));
        assert_eq!(of("main/deep/down").as_deref(), Some("feature/größe"));
        assert_eq!(of("w").as_deref(), Some("other"));
        assert_eq!(of("detached"), None);
    }
}
