-- Roles with odd names, for torture.sql. They belong to the whole server: run it once, before any database of the kind.
CREATE ROLE "Plain Owner" LOGIN PASSWORD 'owner''s \secret';
CREATE ROLE "quo""te'd" NOLOGIN;
CREATE ROLE "-leading dash" LOGIN CONNECTION LIMIT 3 VALID UNTIL '2099-12-31 23:59:59+00';
CREATE ROLE "100 %s \ back" NOLOGIN NOINHERIT;
CREATE ROLE U&"\0416\00fc\4e16 \+01f4be" NOLOGIN;
CREATE ROLE "new
line" NOLOGIN;
CREATE ROLE "UPPER" LOGIN CREATEDB;
CREATE ROLE reader LOGIN PASSWORD 'reader';
CREATE ROLE "a=b;c,d" NOLOGIN;
GRANT "quo""te'd" TO "Plain Owner" WITH ADMIN OPTION;
GRANT reader TO "UPPER" GRANTED BY CURRENT_USER;
GRANT "UPPER" TO "-leading dash";
ALTER ROLE reader SET statement_timeout = '1h';
ALTER ROLE "quo""te'd" SET search_path = "$user", "Odd Schema ""x""";
COMMENT ON ROLE "Plain Owner" IS 'owns, doesn''t rule: "\" and
a second line';
GRANT SET ON PARAMETER log_min_duration_statement TO reader;
GRANT ALTER SYSTEM ON PARAMETER work_mem TO "quo""te'd" WITH GRANT OPTION;
