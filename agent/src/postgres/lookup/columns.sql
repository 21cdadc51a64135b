-- What columns are: $1 is [[table oid, attribute number], ...], the answer a list as long, of null or {schema, relation, column, kind of
-- relation, whether PostgreSQL came with it, and the columns of the tables that it inherits from or is a partition of}.
SELECT COALESCE(pg_catalog.json_agg(
         CASE WHEN a.attname IS NOT NULL THEN pg_catalog.json_build_object(
           'schema', CASE WHEN n.nspname OPERATOR(pg_catalog.~) '^pg_temp_' THEN 'pg_temp'::pg_catalog.name ELSE n.nspname END,
           'relation', c.relname, 'column', a.attname, 'kind', c.relkind,
           'builtin', c.oid::pg_catalog.int8 OPERATOR(pg_catalog.<) 16384,
           'parents', (SELECT COALESCE(pg_catalog.json_agg(
                                pg_catalog.json_build_array(p.attrelid::pg_catalog.int8, p.attnum)), '[]'::pg_catalog.json)
                         FROM pg_catalog.pg_inherits i
                         JOIN pg_catalog.pg_attribute p
                           ON p.attrelid OPERATOR(pg_catalog.=) i.inhparent AND p.attname OPERATOR(pg_catalog.=) a.attname
                        WHERE i.inhrelid OPERATOR(pg_catalog.=) c.oid)) END
         ORDER BY o.place), '[]'::pg_catalog.json)::pg_catalog.text
  FROM pg_catalog.json_array_elements($1::pg_catalog.json) WITH ORDINALITY AS o (pair, place)
  LEFT JOIN pg_catalog.pg_class c
    ON c.oid OPERATOR(pg_catalog.=) pg_catalog.json_extract_path_text(o.pair, '0')::pg_catalog.int8::pg_catalog.oid
  LEFT JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace
  LEFT JOIN pg_catalog.pg_attribute a
    ON a.attrelid OPERATOR(pg_catalog.=) c.oid
   AND a.attnum OPERATOR(pg_catalog.=) pg_catalog.json_extract_path_text(o.pair, '1')::pg_catalog.int2
