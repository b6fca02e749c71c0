//! A service on SQLite that migrates itself when it starts, with refinery, and keeps a copy of the database from before.

use std::path::Path;

const DATABASE: &str = "app.db";

mod migrations {
    refinery::embed_migrations!("migrations");
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    // The two lines: the newest three copies stay. None is made of a database that is not there yet.
    let copy = copal::snapshot_before_migration(DATABASE, Path::new("./before-migrations"), "refinery", 3);

    let mut database = rusqlite::Connection::open(DATABASE)?;
    if let Err(error) = migrations::migrations::runner().run(&mut database) {
        // Migrations that went well before the one that failed stay, unless the copy takes the place of the closed file.
        database.close().map_err(|(_, error)| error)?;
        if let Some(copy) = copy {
            std::fs::rename(&copy, DATABASE)?;
            println!("put back: {}", copy.display());
        }
        return Err(error.into());
    }

    database.execute("INSERT INTO visits DEFAULT VALUES", [])?;
    let visits: i64 = database.query_row("SELECT count(*) FROM visits", [], |row| row.get(0))?;
    println!("visits: {visits}");
    Ok(())
}
