//! A service on SQLite that migrates itself when it starts, with sqlx, and keeps a copy of the database from before.

use std::path::Path;

use sqlx::sqlite::{SqliteConnectOptions, SqlitePool};

const DATABASE: &str = "app.db";

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    // The two lines: the newest three copies stay. None is made of a database that is not there yet.
    let copy = copal::snapshot_before_migration(DATABASE, Path::new("./before-migrations"), "sqlx", 3);

    let options = SqliteConnectOptions::new().filename(DATABASE).create_if_missing(true);
    let pool = SqlitePool::connect_with(options).await?;
    if let Err(error) = sqlx::migrate!().run(&pool).await {
        // Migrations that went well before the one that failed stay, unless the copy takes the place of the closed file.
        pool.close().await;
        if let Some(copy) = copy {
            std::fs::rename(&copy, DATABASE)?;
            println!("put back: {}", copy.display());
        }
        return Err(error.into());
    }

    sqlx::query("INSERT INTO visits DEFAULT VALUES").execute(&pool).await?;
    let visits: i64 = sqlx::query_scalar("SELECT count(*) FROM visits").fetch_one(&pool).await?;
    println!("visits: {visits}");
    pool.close().await;
    Ok(())
}
