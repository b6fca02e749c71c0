-- The torture schema: extensions of contrib, and foreign tables that can be read. Needs the psql variables `file`, a CSV file
-- of two rows, and `folder`, that of the server's socket.

\set ON_ERROR_STOP on
SET client_min_messages = error;
CREATE SCHEMA ext;
CREATE SCHEMA "Ext ""2""";
GRANT USAGE ON SCHEMA ext TO PUBLIC;
CREATE EXTENSION pgcrypto SCHEMA ext;
CREATE EXTENSION hstore SCHEMA "Ext ""2""";
CREATE EXTENSION citext SCHEMA ext;
CREATE EXTENSION pg_trgm SCHEMA ext;
CREATE EXTENSION btree_gist SCHEMA ext;
CREATE EXTENSION cube SCHEMA ext;
CREATE EXTENSION earthdistance SCHEMA ext;
CREATE EXTENSION unaccent SCHEMA ext;
CREATE EXTENSION "uuid-ossp" SCHEMA ext;
CREATE EXTENSION lo;
CREATE EXTENSION ltree VERSION '1.2' SCHEMA ext;

-- What belongs to an extension and was changed: a dump tells it from what the extension itself granted.
REVOKE EXECUTE ON FUNCTION ext.crypt(text, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ext.crypt(text, text) TO reader;
COMMENT ON EXTENSION pgcrypto IS 'it''s ours';

CREATE TABLE a.with_extensions (
    id uuid DEFAULT ext.uuid_generate_v4(), h "Ext ""2""".hstore, c ext.citext PRIMARY KEY, t ext.ltree, p ext.cube, raster lo,
    room int, during tsrange, EXCLUDE USING gist (room WITH =, during WITH &&));
INSERT INTO a.with_extensions VALUES
    ('a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', '"a=>b"=>"it''s, \"", "n"=>NULL', 'MiXed', 'Top.Science', '(1,2),(3,4)', 424242, 1, '[2020-01-01,2020-01-02)');
CREATE INDEX ON a.with_extensions USING gin ((c::text) ext.gin_trgm_ops);
CREATE TRIGGER manage BEFORE UPDATE OR DELETE ON a.with_extensions FOR EACH ROW EXECUTE FUNCTION lo_manage(raster);

CREATE EXTENSION file_fdw SCHEMA ext;
CREATE SERVER files FOREIGN DATA WRAPPER file_fdw;
CREATE FOREIGN TABLE a.of_file (id int, v text) SERVER files OPTIONS (filename :'file', format 'csv');
CREATE MATERIALIZED VIEW a.materialised_file AS SELECT * FROM a.of_file;

CREATE EXTENSION postgres_fdw SCHEMA ext;
SELECT current_setting('port') AS port, current_database() AS database \gset
CREATE SERVER "this one" FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host :'folder', port :'port', dbname :'database');
CREATE USER MAPPING FOR CURRENT_USER SERVER "this one" OPTIONS (user 'postgres', password 'it''s \secret');
CREATE FOREIGN TABLE a.of_postgres (id int OPTIONS (column_name 'id'), v text) SERVER "this one" OPTIONS (schema_name 'a', table_name 'texts');
IMPORT FOREIGN SCHEMA b LIMIT TO (same) FROM SERVER "this one" INTO ext OPTIONS (import_default 'true');
CREATE TABLE a.local_and_far (id int, v text) PARTITION BY LIST (id);
CREATE TABLE a.local_part PARTITION OF a.local_and_far FOR VALUES IN (1);
CREATE FOREIGN TABLE a.far_part PARTITION OF a.local_and_far FOR VALUES IN (2) SERVER "this one" OPTIONS (schema_name 'a', table_name 'local_part');
INSERT INTO a.local_part VALUES (1, 'here');
