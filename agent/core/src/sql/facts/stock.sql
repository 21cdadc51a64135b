-- What a stock PostgreSQL has: makes stock.txt, from a server fresh from initdb.
--
--   psql -XAtq -v ON_ERROR_STOP=1 -f stock.sql > stock.txt
--
-- f NAME VOLATILITIES   a function (each overload's provolatile: i, s, v)
-- o NAME                an operator
-- t NAME                a type
-- r SCHEMA.NAME         a table or view of the system
\pset fieldsep ' '
SELECT 'f', proname, pg_catalog.string_agg(DISTINCT provolatile::pg_catalog.text, '' ORDER BY provolatile::pg_catalog.text)
  FROM pg_catalog.pg_proc WHERE oid < 16384 GROUP BY proname ORDER BY proname COLLATE "C";
SELECT DISTINCT 'o', oprname COLLATE "C" FROM pg_catalog.pg_operator WHERE oid < 16384 ORDER BY 2;
SELECT DISTINCT 't', typname COLLATE "C" FROM pg_catalog.pg_type
 WHERE oid < 16384 AND (typrelid = 0 OR typelem <> 0) ORDER BY 2;
SELECT 'r', relnamespace::pg_catalog.regnamespace || '.' || relname FROM pg_catalog.pg_class
 WHERE oid < 16384 AND relkind IN ('r', 'v') ORDER BY (relnamespace::pg_catalog.regnamespace || '.' || relname) COLLATE "C";
