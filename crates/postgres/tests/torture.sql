-- The torture schema: whatever pg_dump has to reproduce and a careless tool loses. For PostgreSQL 15 and later; what needs
-- a later version or the extensions of contrib is in torture-*.sql. Needs roles.sql, and the psql variable `tablespace`,
-- the name of a tablespace. One file, because its objects depend on each
-- other.

\set ON_ERROR_STOP on
SET client_min_messages = error;
SET timezone = 'Europe/Berlin';

-- Schemas and names ---------------------------------------------------------------------------------------------------

CREATE SCHEMA "Odd Schema ""x""" AUTHORIZATION "Plain Owner";
CREATE SCHEMA "-dash";
CREATE SCHEMA "100%s \n" AUTHORIZATION "quo""te'd";
CREATE SCHEMA "new
line";
CREATE SCHEMA U&"\0448\043a\0430\0444";
CREATE SCHEMA empty_schema;
CREATE SCHEMA a;
CREATE SCHEMA b;

CREATE TABLE "Odd Schema ""x"""."Table 'with' ""quotes""" (
    "Id" int PRIMARY KEY, "select" text DEFAULT 'it''s', "col umn" int, "-c" int, "%d" int, "back\slash" text, "new
column" text, U&"\00e4\4e16" text, "UPPER" int, "t" text, """" int);
INSERT INTO "Odd Schema ""x"""."Table 'with' ""quotes""" VALUES
    (1, 'a', 2, 3, 4, E'\\N', E'line\nline\r\n\ttab', U&'\4e16\754c \+01f4be', 5, 't', 6), (2, DEFAULT, NULL, NULL,
    NULL, '\.', '', NULL, 0, NULL, 0);
ALTER TABLE "Odd Schema ""x"""."Table 'with' ""quotes""" OWNER TO "Plain Owner";
CREATE TABLE "-dash"."--table" (a int);
INSERT INTO "-dash"."--table" VALUES (1);
CREATE TABLE "100%s \n"."%I %L $1 \ {}" (a int);
INSERT INTO "100%s \n"."%I %L $1 \ {}" VALUES (2);
ALTER TABLE "100%s \n"."%I %L $1 \ {}" OWNER TO "100 %s \ back";
CREATE TABLE "new
line"."ta
ble" ("co
lumn" int CONSTRAINT "che
ck" CHECK ("co
lumn" > 0));
INSERT INTO "new
line"."ta
ble" VALUES (3);
CREATE TABLE U&"\0448\043a\0430\0444".U&"\30c6\30fc\30d6\30eb" (U&"\0441" int);
INSERT INTO U&"\0448\043a\0430\0444".U&"\30c6\30fc\30d6\30eb" VALUES (4);
CREATE TABLE a.same (v int);
INSERT INTO a.same VALUES (1);
CREATE TABLE b.same (v text);
INSERT INTO b.same VALUES ('b');
CREATE TABLE a."sixty-three bytes long, as many as there may be in an identifier." (a int);
CREATE TABLE a."*" (a int);
INSERT INTO a."*" VALUES (1);
CREATE TABLE a."a.b" (a int);
INSERT INTO a."a.b" VALUES (2);
CREATE TABLE a."same|b?(.*)" (a int);
INSERT INTO a."same|b?(.*)" VALUES (3);

-- Types ---------------------------------------------------------------------------------------------------------------

CREATE TYPE a.mood AS ENUM ('sad', 'it''s ok', 'HAPPY', '');
ALTER TYPE a.mood ADD VALUE 'between' BEFORE 'HAPPY';
CREATE TYPE a.pair AS (x int, y text COLLATE "C");
CREATE DOMAIN a.positive AS int DEFAULT 1 CONSTRAINT above_zero CHECK (VALUE > 0);
CREATE DOMAIN a.few AS a.positive NOT NULL CHECK (VALUE < 1000);
CREATE DOMAIN a.late_check AS text;
CREATE TYPE a.float_range AS RANGE (subtype = float8, subtype_diff = float8mi, multirange_type_name = a.float_ranges);
CREATE TYPE a.shell;
CREATE DOMAIN a.pairs AS a.pair[] CHECK (array_length(VALUE, 1) < 5);

CREATE TABLE a.types (
    id int PRIMARY KEY, m a.mood, p a.pair, d a.positive, f a.few DEFAULT 7, l a.late_check, r a.float_range,
    rs a.float_ranges,
    i4r int4range, tsr tstzrange, dm datemultirange, ia int[][], ta text[], j json, jb jsonb, x bytea, u uuid,
    n numeric, n2 numeric(10, 2),
    r4 real, r8 double precision, ts timestamp, tz timestamptz(3), dt date, tm time, tmz timetz, iv interval,
    mo money, bo boolean,
    c char(5), vc varchar(3), nm name, inet inet, cidr cidr, mac macaddr8, b bit(3), vb bit varying, pt point,
    poly polygon, circ circle,
    tv tsvector, tq tsquery, o oid, rc regclass, xid xid8, lsn pg_lsn, ps a.pairs, jp jsonpath, s "char");
INSERT INTO a.types (id) VALUES (0);
INSERT INTO a.types VALUES (1, 'it''s ok', ROW(1, 'a "b", (c)'), 5, 8, 'x', '[1,2.5)', '{[1,2),[3,4)}', '[1,5)',
    '["2020-01-01 00:00+00",)', '{[2020-01-01,2020-02-01)}',
    '[2:3][0:1]={{1,2},{3,NULL}}', ARRAY['', NULL, 'NULL', 'a,b', 'c"d', '\', ' sp '], '{"a" :  1, "a": 2}',
    '{"a": 1.00, "b": [null, "\u00e4", {}]}',
    '\x00ff005c', 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', 'NaN', 12345678.90, '1.1', 0.1,
    '2020-02-29 23:59:59.999999', '2020-06-01 12:00:00.123+02', '2020-02-29',
    '24:00:00', '12:00+05:30', '1 year -2 mons 3 days -04:05:06.000007', '12.34', true, 'ab', 'abc', 'name',
    '10.1.2.3/24', '10.1.2.0/24', '08:00:2b:01:02:03:04:05',
    B'101', B'1', '(1,2)', '((0,0),(1,1),(1,0))', '<(0,0),1>', 'a:1A fat:2B,4C cat:5D ''it''''s''',
    '(fat | rat) & !cat:A <-> b', 4294967295, 'a.types', '9223372036854775807',
    'FFFFFFFF/FFFFFFFF', ARRAY[ROW(1, NULL), NULL]::a.pair[], '$.a[*] ? (@.b > 1)', E'\\377');
INSERT INTO a.types (id, n, r4, r8, ts, tz, dt, iv, i4r, r, bo) VALUES
    (2, 'Infinity', 'NaN', '-Infinity', '4713-01-01 00:00:00 BC', '0044-03-15 12:00:00+00 BC', '5874897-12-31',
    '-178000000 years', 'empty', '(,)', false),
    (3, '-Infinity', '-0', '5e-324', 'infinity', '-infinity', '-infinity', '0', '(,)', '[-Infinity,Infinity]', NULL),
    (4, 0.000000000000000000000000000000000001, 3.4028235e38, 1.7976931348623157e308,
    '294276-12-31 23:59:59.999999', '1883-11-18 12:00:00+00', '4713-01-01 BC', '00:00:00.000001', NULL, NULL, NULL);
INSERT INTO a.types (id, n, jb) VALUES (5, 1e131071::numeric + 1e-16383::numeric, to_jsonb(array_fill(1.5,
    ARRAY[10000])));
ALTER DOMAIN a.late_check ADD CONSTRAINT "not yet" CHECK (VALUE <> 'x') NOT VALID;

CREATE TABLE a.texts (id int GENERATED ALWAYS AS IDENTITY, v text);
INSERT INTO a.texts (v) VALUES (''), (NULL), ('\N'), ('\.'), (E'\\.\n'), (E'a\tb\nc\rd\be\ff\vg'),
    (E'\x01\x1f\x7f'), (U&'\00e4'), (U&'a\0308'),
    (U&'\FEFF bom'), (U&'\202E rtl'), (U&'\+01f468\200d\+01f469\200d\+01f467'), (U&'\FFFD \+10FFFF'), (repeat(' ',
    100)), ('-- not a comment'), ('$$'), ('\restrict'), (':variable'), ('\\');
-- Compressed, out of line, both and neither.
CREATE TABLE a.wide (id int, compressed text, plain text, bytes bytea) WITH (fillfactor = 50, toast_tuple_target =
    256, autovacuum_enabled = false);
ALTER TABLE a.wide ALTER plain SET STORAGE EXTERNAL, ALTER compressed SET STORAGE MAIN, ALTER bytes SET COMPRESSION
    pglz;
INSERT INTO a.wide SELECT i, repeat('compress me ', i * 5000), (SELECT string_agg(md5((i * 7919 + k)::text), '')
    FROM generate_series(1, i * 1000) k),
    decode(repeat('00ff0a5c', i * 1000), 'hex') FROM generate_series(1, 5) i;
-- As many columns as there may be in a row.
SELECT 'CREATE TABLE a.columns (' || string_agg(format('c%s int', i), ', ') || ')' FROM generate_series(1, 1600) i \gexec
INSERT INTO a.columns (c1, c800, c1600) VALUES (1, 2, 3);

-- Tables --------------------------------------------------------------------------------------------------------------

CREATE TABLE a.no_columns ();
INSERT INTO a.no_columns DEFAULT VALUES;
INSERT INTO a.no_columns DEFAULT VALUES;
CREATE TABLE a.no_columns_left (x int);
INSERT INTO a.no_columns_left VALUES (1), (2), (3);
ALTER TABLE a.no_columns_left DROP x;
CREATE TABLE a.dropped_columns (a int, gone text, b int, gone2 int);
INSERT INTO a.dropped_columns VALUES (1, 'x', 2, 3);
ALTER TABLE a.dropped_columns DROP gone, DROP gone2;
ALTER TABLE a.dropped_columns ADD late text NOT NULL DEFAULT 'fast default';
CREATE UNLOGGED TABLE a.unlogged (id serial PRIMARY KEY, v text);
INSERT INTO a.unlogged (v) VALUES ('not in the log');
CREATE TABLE a.of_type OF a.pair (x WITH OPTIONS PRIMARY KEY, y DEFAULT 'd');
INSERT INTO a.of_type (x) VALUES (1);
CREATE TABLE a.elsewhere (id int PRIMARY KEY USING INDEX TABLESPACE :"tablespace", v text) TABLESPACE :"tablespace";
INSERT INTO a.elsewhere VALUES (1, 'far');
CREATE INDEX "elsewhere, too" ON a.elsewhere (v) TABLESPACE :"tablespace";

CREATE TABLE a.generated (w int, h int, area bigint GENERATED ALWAYS AS (w::bigint * h) STORED, note text GENERATED
    ALWAYS AS (upper('w' || w::text)) STORED);
INSERT INTO a.generated (w, h) VALUES (2, 3), (NULL, 1), (1000000000, 1000000000);

CREATE TABLE a.identities (id bigint GENERATED ALWAYS AS IDENTITY (START WITH 100 INCREMENT BY -7 MINVALUE -1000
    MAXVALUE 100 CYCLE), other int GENERATED BY DEFAULT AS IDENTITY, s smallserial);
INSERT INTO a.identities (s) SELECT 1 FROM generate_series(1, 5);
INSERT INTO a.identities (id, s) OVERRIDING SYSTEM VALUE VALUES (5000, 2);

CREATE SEQUENCE a.never_used START 42;
CREATE SEQUENCE a.used;
SELECT nextval('a.used') FROM generate_series(1, 12345) \g /dev/null
CREATE SEQUENCE a.odd INCREMENT 7 MINVALUE -5 START 3 CACHE 10;
SELECT nextval('a.odd'), nextval('a.odd') \g /dev/null
CREATE SEQUENCE a.downwards AS smallint INCREMENT -3 MAXVALUE 100 MINVALUE -100 START 50 CYCLE;
SELECT nextval('a.downwards') FROM generate_series(1, 60) \g /dev/null
CREATE SEQUENCE a.set_back;
SELECT setval('a.set_back', 77, false) \g /dev/null
CREATE SEQUENCE a.exhausted MAXVALUE 2;
SELECT nextval('a.exhausted'), nextval('a.exhausted') \g /dev/null
CREATE SEQUENCE a."Odd ""seq""; --" OWNED BY a.texts.v;
SELECT setval('a."Odd ""seq""; --"', 9223372036854775806) \g /dev/null
CREATE UNLOGGED SEQUENCE a.unlogged_sequence;
SELECT nextval('a.unlogged_sequence') \g /dev/null

-- Partitions and inheritance ------------------------------------------------------------------------------------------

CREATE TABLE a.measures (at date NOT NULL, place text, v int, CONSTRAINT v_small CHECK (v < 1000000)) PARTITION BY
    RANGE (at);
CREATE TABLE a.measures_old PARTITION OF a.measures FOR VALUES FROM (MINVALUE) TO ('2020-01-01');
CREATE TABLE a."measures 2020" PARTITION OF a.measures FOR VALUES FROM ('2020-01-01') TO ('2021-01-01') PARTITION BY
    LIST (place);
CREATE TABLE a.measures_2020_x PARTITION OF a."measures 2020" FOR VALUES IN ('x', 'it''s', NULL);
CREATE TABLE a.measures_2020_rest PARTITION OF a."measures 2020" DEFAULT PARTITION BY HASH (v);
CREATE TABLE b.measures_h0 PARTITION OF a.measures_2020_rest FOR VALUES WITH (MODULUS 2, REMAINDER 0);
CREATE TABLE b.measures_h1 PARTITION OF a.measures_2020_rest FOR VALUES WITH (MODULUS 2, REMAINDER 1) TABLESPACE
    :"tablespace";
CREATE TABLE a.measures_default PARTITION OF a.measures DEFAULT;
CREATE TABLE a.attached (v int DEFAULT 5, extra_dropped int, place text, at date NOT NULL, CONSTRAINT v_small CHECK
    (v < 1000000));
ALTER TABLE a.attached DROP extra_dropped;
ALTER TABLE a.measures ATTACH PARTITION a.attached FOR VALUES FROM ('2022-01-01') TO ('2023-01-01');
CREATE INDEX measures_at ON a.measures (at, v) INCLUDE (place);
CREATE INDEX only_parent ON ONLY a.measures (v); -- invalid: not every partition has it
INSERT INTO a.measures SELECT '2019-06-01'::date + i, (ARRAY['x', 'y', 'it''s', NULL])[1 + i % 4], i FROM
    generate_series(1, 2000) i;
CREATE TABLE a.enum_partitions (m a.mood, id int) PARTITION BY LIST (m);
    -- rows that another sort order of the enum would misplace
CREATE TABLE a.enum_sad PARTITION OF a.enum_partitions FOR VALUES IN ('sad', '');
CREATE TABLE a.enum_rest PARTITION OF a.enum_partitions DEFAULT;
INSERT INTO a.enum_partitions VALUES ('sad', 1), ('', 2), ('HAPPY', 3), (NULL, 4);
CREATE TABLE a.text_hash (k text) PARTITION BY HASH (k);
SELECT format('CREATE TABLE a.text_hash_%s PARTITION OF a.text_hash FOR VALUES WITH (MODULUS 3, REMAINDER %s)', i, i)
FROM generate_series(0, 2) i \gexec
INSERT INTO a.text_hash SELECT md5(i::text) FROM generate_series(1, 300) i;
CREATE TABLE a.partitioned_without_any (a int) PARTITION BY RANGE (a);

CREATE TABLE a.animals (id int, name text NOT NULL DEFAULT 'nobody', CHECK (id > 0) NO INHERIT);
INSERT INTO a.animals VALUES (1, 'animal');
CREATE TABLE a.pets (owner text);
INSERT INTO a.pets VALUES ('me');
CREATE TABLE a.cats (lives int DEFAULT 9, name text DEFAULT 'cat') INHERITS (a.animals, a.pets);
INSERT INTO a.cats (id, owner) VALUES (2, 'you');
CREATE TABLE a.kittens () INHERITS (a.cats);
INSERT INTO a.kittens VALUES (3);
ALTER TABLE a.kittens ALTER lives SET DEFAULT 10;

-- Constraints and indexes ---------------------------------------------------------------------------------------------

CREATE TABLE a.hen (id int PRIMARY KEY, egg int NOT NULL);
CREATE TABLE a.egg (id int PRIMARY KEY, hen int REFERENCES a.hen DEFERRABLE INITIALLY DEFERRED);
ALTER TABLE a.hen ADD CONSTRAINT hen_egg FOREIGN KEY (egg) REFERENCES a.egg ON DELETE CASCADE ON UPDATE SET NULL
    DEFERRABLE INITIALLY IMMEDIATE;
BEGIN;
SET CONSTRAINTS ALL DEFERRED;
INSERT INTO a.hen VALUES (1, 1);
INSERT INTO a.egg VALUES (1, 1);
COMMIT;
CREATE TABLE a.tree (id int PRIMARY KEY, parent int REFERENCES a.tree, UNIQUE NULLS NOT DISTINCT (parent));
INSERT INTO a.tree VALUES (1, 2), (2, 1);
CREATE TABLE a.bookings (room int4range, during tsrange, EXCLUDE USING gist (room WITH &&, during WITH &&) WHERE
    (NOT isempty(room)) DEFERRABLE);
INSERT INTO a.bookings VALUES ('[1,2]', '[2020-01-01,2020-01-02)'), ('[1,2]', '[2020-01-02,2020-01-03)');
CREATE TABLE a.not_valid (v int, p int);
INSERT INTO a.not_valid VALUES (-1, 99);
ALTER TABLE a.not_valid ADD CONSTRAINT later CHECK (v > 0) NOT VALID, ADD CONSTRAINT no_parent FOREIGN KEY (p)
    REFERENCES a.tree NOT VALID;
CREATE UNIQUE INDEX "expression index" ON a.texts ((lower(v) || '%'), id DESC NULLS LAST) WHERE v IS NOT NULL AND v
    <> 'it''s';
CREATE INDEX types_gin ON a.types USING gin (jb jsonb_path_ops) WITH (fastupdate = off);
CREATE INDEX types_brin ON a.types USING brin (id) WITH (pages_per_range = 4);
CREATE INDEX types_hash ON a.types USING hash (u);
CREATE INDEX types_spgist ON a.types USING spgist (inet);
CREATE INDEX types_tv ON a.types USING gist (tv);
ALTER TABLE a.types CLUSTER ON types_pkey;
ALTER INDEX a."expression index" ALTER COLUMN 1 SET STATISTICS 500;
CREATE UNIQUE INDEX identity_index ON a.texts (id);
ALTER TABLE a.texts REPLICA IDENTITY FULL;
ALTER TABLE a.hen REPLICA IDENTITY USING INDEX hen_pkey;
ALTER TABLE a.egg REPLICA IDENTITY NOTHING;
ALTER TABLE a.texts ALTER v SET STATISTICS 1000, ALTER v SET (n_distinct = -0.5);
CREATE STATISTICS a."some stats" (ndistinct, dependencies, mcv) ON w, h FROM a.generated;
CREATE STATISTICS a.expression_stats ON (w + h), (w * 2) FROM a.generated;
ALTER STATISTICS a."some stats" SET STATISTICS 321;
ALTER STATISTICS a."some stats" OWNER TO "Plain Owner";
ANALYZE a.generated;

-- Collations, text search ---------------------------------------------------------------------------------------------

CREATE COLLATION a.plain_c (provider = libc, locale = 'C');
CREATE COLLATION a."copied ""c""" FROM "C.utf8";
CREATE TABLE a.collated (v text COLLATE a.plain_c);
CREATE INDEX ON a.collated (v COLLATE "POSIX" text_pattern_ops);
INSERT INTO a.collated VALUES ('b'), ('A'), (U&'\00e4');
-- ICU is not in every build.
SELECT EXISTS (SELECT FROM pg_collation WHERE collname = 'en-x-icu') AS icu \gset
\if :icu
CREATE COLLATION a.ignoring_case (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
CREATE TABLE a.icu (v text COLLATE a.ignoring_case PRIMARY KEY);
INSERT INTO a.icu VALUES ('Anna'), ('bob');
\endif
CREATE TEXT SEARCH DICTIONARY a.simple_german (TEMPLATE = simple, StopWords = german, Accept = false);
CREATE TEXT SEARCH DICTIONARY a."Snow ball" (TEMPLATE = snowball, Language = german);
CREATE TEXT SEARCH PARSER a.my_parser (START = prsd_start, GETTOKEN = prsd_nexttoken, END = prsd_end, LEXTYPES =
    prsd_lextype, HEADLINE = prsd_headline);
CREATE TEXT SEARCH TEMPLATE a.my_template (INIT = dsimple_init, LEXIZE = dsimple_lexize);
CREATE TEXT SEARCH CONFIGURATION a.german_plus (PARSER = a.my_parser);
ALTER TEXT SEARCH CONFIGURATION a.german_plus ADD MAPPING FOR asciiword, word WITH a.simple_german, a."Snow ball";
CREATE TABLE a.documents (body text, found tsvector GENERATED ALWAYS AS (to_tsvector('a.german_plus', coalesce(body,
    ''))) STORED);
INSERT INTO a.documents (body) VALUES (U&'Die Z\00fcge fahren, weil das Fahren der Z\00fcge fuhr'), (NULL);
CREATE INDEX ON a.documents USING gin (found);

-- Functions, operators, aggregates, casts -----------------------------------------------------------------------------

CREATE FUNCTION a.plus_one(int) RETURNS int LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE COST 5 AS 'SELECT $1 + 1';
CREATE FUNCTION a.atomic(x int, OUT y int, OUT z text) LANGUAGE sql BEGIN ATOMIC SELECT x + v AS sum, 'z'::text AS
    text FROM a.same; END;
CREATE FUNCTION a."Odd func ""%s"""("Arg ""1""" int DEFAULT 3, VARIADIC rest text[] DEFAULT '{}') RETURNS TABLE (id
    int, v text) LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = a, "Odd Schema ""x""" SET timezone TO 'UTC' ROWS 77 AS
    $body$ BEGIN RETURN QUERY SELECT "Arg ""1""", $$nested $ '$$ || '\'; END $body$;
CREATE PROCEDURE a.do_it(INOUT n int) LANGUAGE plpgsql AS 'BEGIN n := n + 1; COMMIT; END';
CREATE FUNCTION a.plus_one(text) RETURNS text LANGUAGE sql AS 'SELECT $1 || ''1''';
CREATE FUNCTION a.not_there_yet() RETURNS bigint LANGUAGE plpgsql AS
    'BEGIN RETURN (SELECT count(*) FROM not_there); END';
ALTER FUNCTION a.not_there_yet() OWNER TO "Plain Owner";
CREATE AGGREGATE a.total(int) (SFUNC = int4pl, STYPE = int, INITCOND = '0', COMBINEFUNC = int4pl, PARALLEL = SAFE);
CREATE AGGREGATE a.percent(float8 ORDER BY anyelement) (SFUNC = ordered_set_transition, STYPE = internal, FINALFUNC
    = percentile_disc_final, FINALFUNC_EXTRA);
CREATE FUNCTION a.pair_eq(a.pair, a.pair) RETURNS boolean LANGUAGE sql IMMUTABLE AS 'SELECT $1.x = $2.x';
CREATE FUNCTION a.backwards(int, int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT btint4cmp($2, $1)';
CREATE OPERATOR a.=== (LEFTARG = a.pair, RIGHTARG = a.pair, FUNCTION = a.pair_eq, COMMUTATOR = OPERATOR(a.===),
    RESTRICT = eqsel, JOIN = eqjoinsel);
CREATE OPERATOR a.@#@ (RIGHTARG = int, FUNCTION = a.plus_one);
CREATE OPERATOR FAMILY a.back_family USING btree;
CREATE OPERATOR CLASS a.back_ops FOR TYPE int USING btree FAMILY a.back_family AS
    OPERATOR 1 >, OPERATOR 2 >=, OPERATOR 3 =, OPERATOR 4 <=, OPERATOR 5 <, FUNCTION 1 a.backwards(int, int);
CREATE INDEX backwards ON a.generated (w a.back_ops);
CREATE FUNCTION a.to_pair(int) RETURNS a.pair LANGUAGE sql IMMUTABLE AS 'SELECT ROW($1, NULL)::a.pair';
CREATE CAST (int AS a.pair) WITH FUNCTION a.to_pair(int) AS ASSIGNMENT;
CREATE CAST (a.mood AS text) WITH INOUT;
CREATE CONVERSION a.my_conversion FOR 'LATIN1' TO 'UTF8' FROM iso8859_1_to_utf8;
CREATE ACCESS METHOD my_heap TYPE TABLE HANDLER heap_tableam_handler;
CREATE TABLE a.other_method (v int) USING my_heap;
INSERT INTO a.other_method VALUES (1);
CREATE TRANSFORM FOR int LANGUAGE sql (FROM SQL WITH FUNCTION prsd_lextype(internal), TO SQL WITH FUNCTION
    int4recv(internal));
CREATE FUNCTION a.my_handler() RETURNS language_handler LANGUAGE c AS '$libdir/plpgsql', 'plpgsql_call_handler';
CREATE FUNCTION a.my_validator(oid) RETURNS void STRICT LANGUAGE c AS '$libdir/plpgsql', 'plpgsql_validator';
CREATE TRUSTED PROCEDURAL LANGUAGE my_language HANDLER a.my_handler VALIDATOR a.my_validator;
CREATE FUNCTION a.in_my_language() RETURNS int LANGUAGE my_language AS 'BEGIN RETURN 1; END';
CREATE FUNCTION a.base_in(cstring) RETURNS a.shell LANGUAGE internal IMMUTABLE STRICT AS 'int4in';
CREATE FUNCTION a.base_out(a.shell) RETURNS cstring LANGUAGE internal IMMUTABLE STRICT AS 'int4out';
CREATE TYPE a.shell (INPUT = a.base_in, OUTPUT = a.base_out, LIKE = int4);
CREATE TYPE b.still_a_shell;
CREATE TABLE a.based (v a.shell);
INSERT INTO a.based VALUES ('5');
-- A default, a check and a generated column that need functions; the function needs the table.
CREATE TABLE a.uses_functions (v int DEFAULT a.plus_one(1) CHECK (a.plus_one(v) > 0), g int GENERATED ALWAYS AS
    (a.plus_one(v)) STORED);
INSERT INTO a.uses_functions DEFAULT VALUES;
CREATE FUNCTION a.row_of(a.uses_functions) RETURNS int LANGUAGE sql AS 'SELECT $1.v';

-- Views, rules, triggers ----------------------------------------------------------------------------------------------

CREATE VIEW a.simple AS SELECT id, v AS "V ""%""" FROM a.texts WHERE v <> 'it''s' WITH LOCAL CHECK OPTION;
CREATE VIEW a.barrier WITH (security_barrier, security_invoker) AS SELECT * FROM a.texts WHERE id < 5;
CREATE RECURSIVE VIEW a.numbers (n) AS VALUES (1) UNION ALL SELECT n + 1 FROM numbers WHERE n < 10;
CREATE VIEW a.no_columns_view AS SELECT;
CREATE VIEW a.grouped AS SELECT id, v, count(*) FROM a.types t JOIN a.texts x USING (id) GROUP BY t.id, x.v;
    -- needs the primary key
CREATE VIEW a.circle_one AS SELECT 1 AS n;
CREATE VIEW a.circle_two AS SELECT n FROM a.circle_one;
CREATE OR REPLACE VIEW a.circle_one AS SELECT 2 AS n WHERE NOT EXISTS (SELECT FROM a.tree WHERE id = 99);
ALTER VIEW a.simple ALTER "V ""%""" SET DEFAULT 'from view';
ALTER VIEW a.barrier OWNER TO "Plain Owner";
CREATE MATERIALIZED VIEW a.materialised AS SELECT place, sum(v) AS total FROM a.measures GROUP BY place ORDER BY place;
CREATE UNIQUE INDEX ON a.materialised (place);
CREATE MATERIALIZED VIEW a.on_top WITH (fillfactor = 70) TABLESPACE :"tablespace" AS SELECT count(*) FROM
    a.materialised;
CREATE MATERIALIZED VIEW a.not_filled AS SELECT * FROM a.types WITH NO DATA;
CREATE TABLE a.log (id serial, what text, at timestamptz DEFAULT '2020-01-01 00:00:00+00');
CREATE VIEW a.writable AS SELECT id, what FROM a.log;
CREATE RULE writable_insert AS ON INSERT TO a.writable DO INSTEAD INSERT INTO a.log (what) VALUES (NEW.what || '%')
    RETURNING id, what;
CREATE RULE "no; deletes" AS ON DELETE TO a.log WHERE OLD.id < 3 DO INSTEAD NOTHING;
CREATE RULE off AS ON UPDATE TO a.log DO ALSO NOTHING;
ALTER TABLE a.log DISABLE RULE off;
INSERT INTO a.writable (what) VALUES ('through a rule');
CREATE FUNCTION a.logged() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN INSERT INTO a.log (what) VALUES (TG_NAME || TG_ARGV[0]); RETURN NEW; END $$;
CREATE FUNCTION a.touched() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$;
CREATE TABLE a.triggered (id int PRIMARY KEY, v text); -- none of these may fire in a restore
CREATE TRIGGER on_by_default BEFORE INSERT OR UPDATE OF v ON a.triggered FOR EACH ROW WHEN (NEW.v <> 'it''s')
    EXECUTE FUNCTION a.logged(' arg ''1'' \ "');
CREATE TRIGGER "Dis""abled" AFTER INSERT ON a.triggered FOR EACH ROW EXECUTE FUNCTION a.logged('d');
ALTER TABLE a.triggered DISABLE TRIGGER "Dis""abled";
CREATE TRIGGER always AFTER INSERT ON a.triggered FOR EACH ROW EXECUTE FUNCTION a.logged('a');
ALTER TABLE a.triggered ENABLE ALWAYS TRIGGER always;
CREATE TRIGGER replica AFTER INSERT ON a.triggered FOR EACH ROW EXECUTE FUNCTION a.logged('r');
ALTER TABLE a.triggered ENABLE REPLICA TRIGGER replica;
CREATE TRIGGER statement AFTER UPDATE ON a.triggered REFERENCING OLD TABLE AS before NEW TABLE AS "after ""x""" FOR
    EACH STATEMENT EXECUTE FUNCTION a.touched();
CREATE TRIGGER truncated BEFORE TRUNCATE ON a.triggered EXECUTE FUNCTION a.touched();
CREATE CONSTRAINT TRIGGER later AFTER INSERT ON a.triggered FROM a.tree DEFERRABLE INITIALLY DEFERRED FOR EACH ROW
    EXECUTE FUNCTION a.logged('c');
CREATE TRIGGER instead INSTEAD OF INSERT ON a.simple FOR EACH ROW EXECUTE FUNCTION a.touched();
INSERT INTO a.triggered VALUES (1, 'one'), (2, 'it''s');
CREATE TRIGGER of_partitions AFTER INSERT ON a.measures FOR EACH ROW EXECUTE FUNCTION a.touched();
ALTER TABLE a.measures_old DISABLE TRIGGER of_partitions;
CREATE FUNCTION a.on_ddl() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM 1; END $$;
CREATE EVENT TRIGGER "DDL ""watch""" ON ddl_command_end WHEN TAG IN ('CREATE TABLE', 'ALTER TABLE') EXECUTE FUNCTION
    a.on_ddl();
CREATE EVENT TRIGGER off_trigger ON sql_drop EXECUTE FUNCTION a.on_ddl();
ALTER EVENT TRIGGER off_trigger DISABLE;

-- Rights --------------------------------------------------------------------------------------------------------------

CREATE TABLE a.secured (id int, who text, secret text);
INSERT INTO a.secured VALUES (1, 'reader', 'r'), (2, 'Plain Owner', 'o');
ALTER TABLE a.secured ENABLE ROW LEVEL SECURITY;
CREATE POLICY "own; rows" ON a.secured USING (who = current_user) WITH CHECK (who <> 'it''s');
CREATE POLICY restrictive ON a.secured AS RESTRICTIVE FOR SELECT TO reader, "quo""te'd" USING (id > 0);
CREATE TABLE a.forced (id int);
INSERT INTO a.forced VALUES (1), (2);
ALTER TABLE a.forced OWNER TO "Plain Owner";
ALTER TABLE a.forced ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY; -- no policy: the owner sees nothing
CREATE TABLE a.policy_off (id int);
CREATE POLICY unused ON a.policy_off FOR INSERT WITH CHECK (id > 0);
INSERT INTO a.policy_off VALUES (-1);
GRANT USAGE ON SCHEMA a TO reader, "quo""te'd";
GRANT ALL ON SCHEMA b TO "a=b;c,d" WITH GRANT OPTION;
GRANT SELECT ON a.texts, a.types, a.secured, a.forced TO reader;
GRANT SELECT (id), UPDATE (v) ON a.triggered TO "-leading dash";
GRANT SELECT, INSERT ON a.log TO "UPPER" WITH GRANT OPTION;
SET ROLE "UPPER";
GRANT SELECT ON a.log TO "new
line";
RESET ROLE;
GRANT TRUNCATE, REFERENCES ON ALL TABLES IN SCHEMA b TO U&"\0416\00fc\4e16 \+01f4be";
GRANT USAGE ON SEQUENCE a.used TO PUBLIC;
REVOKE ALL ON FUNCTION a.plus_one(int) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION a.plus_one(int) TO "100 %s \ back";
REVOKE USAGE ON TYPE a.mood FROM PUBLIC;
REVOKE USAGE ON LANGUAGE my_language FROM PUBLIC;
GRANT USAGE ON LANGUAGE my_language TO reader;
REVOKE ALL ON a.unlogged FROM postgres;
GRANT ALL ON DOMAIN a.few TO reader;
REVOKE CREATE ON SCHEMA public FROM PUBLIC;
GRANT CREATE ON SCHEMA public TO "quo""te'd";
REVOKE SELECT ON pg_catalog.pg_largeobject_metadata FROM PUBLIC;
GRANT EXECUTE ON FUNCTION pg_catalog.pg_read_file(text) TO reader;
ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO reader;
ALTER DEFAULT PRIVILEGES FOR ROLE "Plain Owner" IN SCHEMA a GRANT ALL ON SEQUENCES TO "quo""te'd" WITH GRANT OPTION;
ALTER DEFAULT PRIVILEGES FOR ROLE "new
line" REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC;
ALTER DEFAULT PRIVILEGES REVOKE ALL ON TABLES FROM postgres;
ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO postgres;

-- Large objects -------------------------------------------------------------------------------------------------------

SELECT lo_from_bytea(424242, decode(repeat('00ff', 300000), 'hex')), lo_create(424243), lo_from_bytea(4294967295,
    'last') \g /dev/null
SELECT lo_put(lo_create(424244), 100000, 'after a hole') \g /dev/null
ALTER LARGE OBJECT 424242 OWNER TO "Plain Owner";
COMMENT ON LARGE OBJECT 424242 IS 'a "large" object, it''s \big';
GRANT SELECT ON LARGE OBJECT 424243 TO reader;
GRANT ALL ON LARGE OBJECT 424242 TO "a=b;c,d" WITH GRANT OPTION;
CREATE TABLE a.has_large (doc oid);
INSERT INTO a.has_large VALUES (424242), (424243), (99);

-- Publications and a subscription -------------------------------------------------------------------------------------

CREATE PUBLICATION everything FOR ALL TABLES WITH (publish = 'insert, truncate');
CREATE PUBLICATION "Some; tables" FOR TABLE a.texts (id, v) WHERE (v <> 'it''s' AND id > 3), a.types, a.measures
    WITH (publish_via_partition_root);
CREATE PUBLICATION whole_schema FOR TABLES IN SCHEMA b, TABLE a.log;
CREATE PUBLICATION nothing;
ALTER PUBLICATION whole_schema OWNER TO postgres;
SELECT format('sub %s', current_database()) AS subscription \gset
CREATE SUBSCRIPTION :"subscription" CONNECTION 'host=nowhere.invalid dbname=x password=''it\''s''' PUBLICATION
    "Some; tables", other WITH (connect = false, slot_name = NONE, binary, streaming = on);

-- Extensions: plpgsql is there anyway ---------------------------------------------------------------------------------

SELECT EXISTS (SELECT FROM pg_available_extensions WHERE name = 'vector') AS vector \gset
\if :vector
CREATE EXTENSION vector SCHEMA b;
CREATE TABLE a.vectors (v b.vector(3));
INSERT INTO a.vectors VALUES ('[1,2,3]'), ('[0.1,-2,1e10]');
CREATE INDEX ON a.vectors USING hnsw (v b.vector_l2_ops);
\endif

-- Foreign data without a wrapper's library; the password must not leak ------------------------------------------------

CREATE FOREIGN DATA WRAPPER "no handler" OPTIONS (x 'it''s');
CREATE SERVER "Far away" TYPE 't' VERSION '1.0' FOREIGN DATA WRAPPER "no handler" OPTIONS (host 'h', "odd opt" 'v"');
CREATE USER MAPPING FOR "Plain Owner" SERVER "Far away" OPTIONS (password 'p''w');
CREATE USER MAPPING FOR PUBLIC SERVER "Far away";
CREATE FOREIGN TABLE a.far (id int OPTIONS (n 'x') NOT NULL, v text COLLATE "C") SERVER "Far away" OPTIONS (t 'f');
GRANT USAGE ON FOREIGN SERVER "Far away" TO reader;

-- Comments on everything, and labels of the database itself -----------------------------------------------------------

SELECT format('COMMENT ON %s IS %L', object, E'it''s a "comment" \\ %s on\n' || object || U&' \4e16 \+01f4be')
FROM (VALUES ('SCHEMA a'), ('SCHEMA "Odd Schema ""x"""'), ('TABLE a.texts'), ('COLUMN a.texts.v'),
    ('COLUMN "Odd Schema ""x"""."Table ''with'' ""quotes"""."col umn"'), ('TYPE a.mood'), ('TYPE a.pair'),
    ('COLUMN a.pair.x'), ('DOMAIN a.few'), ('CONSTRAINT above_zero ON DOMAIN a.positive'),
    ('CONSTRAINT v_small ON a.measures'), ('INDEX a."expression index"'), ('SEQUENCE a.odd'), ('VIEW a.simple'),
    ('COLUMN a.simple."V ""%"""'), ('MATERIALIZED VIEW a.materialised'), ('RULE writable_insert ON a.writable'),
    ('TRIGGER "Dis""abled" ON a.triggered'),
    ('EVENT TRIGGER "DDL ""watch"""'), ('POLICY "own; rows" ON a.secured'), ('FUNCTION a.plus_one(int)'),
    ('PROCEDURE a.do_it(int)'), ('AGGREGATE a.total(int)'), ('OPERATOR a.=== (a.pair, a.pair)'),
    ('OPERATOR a.@#@ (NONE, int)'), ('OPERATOR CLASS a.back_ops USING btree'),
    ('OPERATOR FAMILY a.back_family USING btree'), ('CAST (int AS a.pair)'), ('COLLATION a.plain_c'),
    ('CONVERSION a.my_conversion'), ('STATISTICS a."some stats"'), ('TEXT SEARCH CONFIGURATION a.german_plus'),
    ('TEXT SEARCH DICTIONARY a."Snow ball"'), ('TEXT SEARCH PARSER a.my_parser'),
    ('TEXT SEARCH TEMPLATE a.my_template'),
    ('PUBLICATION "Some; tables"'), ('EXTENSION plpgsql'), ('LANGUAGE my_language'), ('ACCESS METHOD my_heap'),
    ('FOREIGN DATA WRAPPER "no handler"'), ('SERVER "Far away"'), ('FOREIGN TABLE a.far'), ('COLUMN a.far.v'),
    ('LARGE OBJECT 424244')) AS objects (object)
\gexec
SELECT format('COMMENT ON SUBSCRIPTION %I IS %L', :'subscription', 'it''s off') \gexec
SELECT format($$
    COMMENT ON DATABASE %1$I IS %2$L;
    ALTER DATABASE %1$I SET work_mem = '5MB';
    ALTER DATABASE %1$I SET search_path = "Odd Schema ""x""", public;
    ALTER ROLE reader IN DATABASE %1$I SET lock_timeout = '7s';
    GRANT CREATE ON DATABASE %1$I TO "quo""te'd" WITH GRANT OPTION;
    REVOKE CONNECT ON DATABASE %1$I FROM PUBLIC;
    GRANT CONNECT ON DATABASE %1$I TO reader;
    ALTER DATABASE %1$I CONNECTION LIMIT 50;
    ALTER DATABASE %1$I OWNER TO "Plain Owner";
$$, current_database(), E'it''s \\ the "database"\nitself') AS of_database \gset
:of_database
