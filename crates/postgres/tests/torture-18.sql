-- The torture schema: what PostgreSQL 18 and later have more.

\set ON_ERROR_STOP on
SET client_min_messages = error;
CREATE TABLE a.virtual_18 (w int, twice int GENERATED ALWAYS AS (w * 2) VIRTUAL, implicit int GENERATED ALWAYS AS (w + 1));
INSERT INTO a.virtual_18 VALUES (1), (NULL);
CREATE TABLE a.constraints_18 (
    id int4range, p int, during daterange, CONSTRAINT "named not null" NOT NULL p NO INHERIT,
    CONSTRAINT temporal PRIMARY KEY (id, during WITHOUT OVERLAPS),
    CONSTRAINT off_check CHECK (p > 0) NOT ENFORCED, CONSTRAINT off_key FOREIGN KEY (p) REFERENCES a.tree NOT ENFORCED);
INSERT INTO a.constraints_18 VALUES ('[1,2)', -1, '[2020-01-01,2020-02-01)'), ('[1,2)', 99, '[2020-02-01,2020-03-01)');
COMMENT ON CONSTRAINT "named not null" ON a.constraints_18 IS 'it''s named';
CREATE TABLE a.references_18 (id int4range, during daterange, FOREIGN KEY (id, PERIOD during) REFERENCES a.constraints_18 (id, PERIOD during));
CREATE TABLE a.not_null_18 (v int);
INSERT INTO a.not_null_18 VALUES (NULL);
ALTER TABLE a.not_null_18 ADD CONSTRAINT later NOT NULL v NOT VALID;
CREATE TABLE a.uuid_18 (id uuid DEFAULT uuidv7());
CREATE PUBLICATION generated_18 FOR TABLE a.generated WITH (publish_generated_columns = stored);
-- An extension with a table for its users to fill (made by the test server): a dump has their rows, not its own.
CREATE EXTENSION copal_torture;
INSERT INTO copal_settings VALUES ('of the user''s', 'kept'), ('another', NULL);
