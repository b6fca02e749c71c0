-- The torture schema: what PostgreSQL 17 and later have more.

\set ON_ERROR_STOP on
SET client_min_messages = error;
CREATE COLLATION a.builtin_c (provider = builtin, locale = 'C.UTF-8');
CREATE TABLE a.collated_17 (v text COLLATE a.builtin_c PRIMARY KEY);
INSERT INTO a.collated_17 VALUES ('b'), ('A');
-- Partitioned tables have identity columns and an access method.
CREATE TABLE a.identity_17 (id int GENERATED ALWAYS AS IDENTITY (INCREMENT 3), k int) PARTITION BY LIST (k);
CREATE TABLE a.identity_17_1 PARTITION OF a.identity_17 FOR VALUES IN (1);
INSERT INTO a.identity_17 (k) VALUES (1), (1);
CREATE TABLE a.method_17 (k int) PARTITION BY LIST (k) USING my_heap;
CREATE TABLE a.method_17_1 PARTITION OF a.method_17 DEFAULT;
CREATE TABLE a.excluded_17 (k int4range, v int, EXCLUDE USING gist (k WITH =, (k) WITH &&));
ALTER TABLE a.wide ALTER bytes SET STORAGE DEFAULT;
GRANT MAINTAIN ON a.wide TO reader;
CREATE VIEW a.json_17 AS SELECT j.* FROM a.types t, JSON_TABLE(t.jb, '$.b[*]' COLUMNS (n FOR ORDINALITY, v text PATH '$')) AS j;
CREATE EVENT TRIGGER login_17 ON login EXECUTE FUNCTION a.on_ddl();
ALTER EVENT TRIGGER login_17 DISABLE;
CREATE TABLE a.infinite_17 (v interval);
INSERT INTO a.infinite_17 VALUES ('infinity'), ('-infinity');
