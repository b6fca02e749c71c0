//! Where migration tools write down which state of the schema a database has.

/// Tables that tell which tool is used, each with what to ask it: one row with one column, which may be a text, a number or
/// null, in words that every dialect of SQL knows. The first table that is there counts. They are those of the tools' own
/// documentation: Alembic, Django, SQLx, Diesel, SeaORM, Flyway, Prisma, Knex, goose; the last is that of several.
pub const SCHEMA_VERSION_QUERIES: [(&str, &str); 10] = [
    ("alembic_version", "SELECT max(version_num) FROM alembic_version"),
    ("django_migrations", "SELECT name FROM django_migrations ORDER BY id DESC LIMIT 1"),
    ("_sqlx_migrations", "SELECT max(version) FROM _sqlx_migrations"),
    ("__diesel_schema_migrations", "SELECT max(version) FROM __diesel_schema_migrations"),
    ("seaql_migrations", "SELECT max(version) FROM seaql_migrations"),
    ("flyway_schema_history", "SELECT version FROM flyway_schema_history ORDER BY installed_rank DESC LIMIT 1"),
    ("_prisma_migrations", "SELECT max(migration_name) FROM _prisma_migrations"),
    ("knex_migrations", "SELECT name FROM knex_migrations ORDER BY id DESC LIMIT 1"),
    ("goose_db_version", "SELECT max(version_id) FROM goose_db_version"),
    ("schema_migrations", "SELECT max(version) FROM schema_migrations"),
];
