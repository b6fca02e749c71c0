-- The torture schema: what PostgreSQL 16 and later have more.

\set ON_ERROR_STOP on
SET client_min_messages = error;
CREATE TABLE a.storage_16 (v text STORAGE EXTERNAL COMPRESSION pglz, n int DEFAULT 0x1F);
INSERT INTO a.storage_16 VALUES (repeat('x', 10000), 1_000_000);
CREATE VIEW a.json_16 AS SELECT json_object('a': 1, 'b': v ABSENT ON NULL) AS o, v IS JSON ARRAY AS is_array FROM a.texts;
-- Subscriptions run as their owner or not.
SELECT format('sub16 %s', current_database()) AS subscription \gset
CREATE SUBSCRIPTION :"subscription" CONNECTION 'host=nowhere.invalid' PUBLICATION p
    WITH (connect = false, slot_name = NONE, run_as_owner = true, origin = none, password_required = false, streaming = parallel);
CREATE STATISTICS ON id, v FROM a.texts;
