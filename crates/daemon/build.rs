//! Lists the files of the page, so that they become part of the program.
//!
//! Only what a browser reads is taken, and nothing of the folders that are for those who work on the page. A crate that embeds whole
//! folders would need another one for these rules, and this script besides, since it is what builds the program again when a file is
//! added.

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};

const PAGE: &str = "../../web";
const NOT_SERVED: [&str; 3] = ["tests", "dev", "node_modules"];
const SERVED: [&str; 8] = ["css", "html", "ico", "js", "png", "svg", "txt", "woff2"];
/// The licences of what others wrote; a name without an extension.
const LICENCES: &str = "LICENSES";

fn main() -> Result<(), Box<dyn Error>> {
    let page = PathBuf::from(std::env::var("CARGO_MANIFEST_DIR")?).join(PAGE);
    let page = fs::canonicalize(&page).map_err(|error| format!("{}: {error}", page.display()))?;
    println!("cargo::rerun-if-changed=build.rs");
    let mut files = Vec::new();
    for path in entries(&page)? {
        if path.file_name().is_some_and(|name| NOT_SERVED.iter().any(|not_served| name == *not_served)) {
            continue;
        }
        if path.is_dir() || is_served(&path) {
            // A folder stands for all in it. What is added beside it matters only if one of these begins to name it.
            println!("cargo::rerun-if-changed={}", path.display());
        }
        collect(&path, &mut files)?;
    }
    let mut lines = String::from("[\n");
    for file in &files {
        let name = file.strip_prefix(&page)?.to_str().ok_or("a name is no text")?.replace('\\', "/");
        let path = file.to_str().ok_or("a path is no text")?;
        lines.push_str(&format!("    ({name:?}, include_bytes!({path:?})),\n"));
    }
    lines.push_str("]\n");
    fs::write(PathBuf::from(std::env::var("OUT_DIR")?).join("page_files.rs"), lines)?;
    Ok(())
}

fn collect(path: &Path, files: &mut Vec<PathBuf>) -> Result<(), Box<dyn Error>> {
    if path.is_dir() {
        for path in entries(path)? {
            collect(&path, files)?;
        }
    } else if is_served(path) {
        files.push(path.to_owned());
    }
    Ok(())
}

fn is_served(path: &Path) -> bool {
    let extension = path.extension().and_then(|extension| extension.to_str());
    extension.is_some_and(|extension| SERVED.contains(&extension))
        || path.file_name().is_some_and(|name| name == LICENCES)
}

/// What is in a folder, always in the same order; nothing that is hidden.
fn entries(folder: &Path) -> Result<Vec<PathBuf>, Box<dyn Error>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if !entry.file_name().to_string_lossy().starts_with('.') {
            found.push(entry.path());
        }
    }
    found.sort();
    Ok(found)
}
