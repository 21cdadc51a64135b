-- The columns that a COPY of a relation moves when it names none, in their order, each with its table's oid and its number; $1 is its schema or
-- NULL, $2 its name. Nothing where none, or more than one relation is called so.
SELECT CASE WHEN pg_catalog.count(*) OPERATOR(pg_catalog.=) 1 THEN pg_catalog.min(x.columns) END
  FROM (SELECT (SELECT pg_catalog.json_agg(pg_catalog.json_build_array(a.attname, c.oid::pg_catalog.int8, a.attnum)
                                        ORDER BY a.attnum)::pg_catalog.text
                  FROM pg_catalog.pg_attribute a
                 WHERE a.attrelid OPERATOR(pg_catalog.=) c.oid AND a.attnum OPERATOR(pg_catalog.>) 0
                   AND NOT a.attisdropped AND a.attgenerated OPERATOR(pg_catalog.=) ''::pg_catalog."char") AS columns
          FROM pg_catalog.pg_class c
          JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace
         WHERE c.relname OPERATOR(pg_catalog.=) $2::pg_catalog.text::pg_catalog.name
           AND c.relkind OPERATOR(pg_catalog.=) ANY ('{r,p,f,m}'::pg_catalog."char"[])
           AND ($1::pg_catalog.text IS NULL OR n.nspname OPERATOR(pg_catalog.=) $1::pg_catalog.text::pg_catalog.name
                OR ($1::pg_catalog.text OPERATOR(pg_catalog.=) 'pg_temp' AND n.nspname OPERATOR(pg_catalog.~) '^pg_temp_'))) x
