-- Roles, more: since PostgreSQL 16, grants of roles have options of their own.
GRANT "a=b;c,d" TO reader WITH INHERIT FALSE, SET FALSE;
