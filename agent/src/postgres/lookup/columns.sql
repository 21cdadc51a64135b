-- The relation and name of columns: $1 is [[table oid, attribute number], ...], the answer a list as long, of
-- [schema, relation, column] or null.
SELECT COALESCE(pg_catalog.json_agg(
         CASE WHEN a.attname IS NOT NULL THEN pg_catalog.json_build_array(
           CASE WHEN n.nspname OPERATOR(pg_catalog.~) '^pg_temp_' THEN 'pg_temp'::pg_catalog.name ELSE n.nspname END,
           c.relname, a.attname) END
         ORDER BY o.place), '[]'::pg_catalog.json)::pg_catalog.text
  FROM pg_catalog.json_array_elements($1::pg_catalog.json) WITH ORDINALITY AS o (pair, place)
  LEFT JOIN pg_catalog.pg_class c
    ON c.oid OPERATOR(pg_catalog.=) pg_catalog.json_extract_path_text(o.pair, '0')::pg_catalog.int8::pg_catalog.oid
  LEFT JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace
  LEFT JOIN pg_catalog.pg_attribute a
    ON a.attrelid OPERATOR(pg_catalog.=) c.oid
   AND a.attnum OPERATOR(pg_catalog.=) pg_catalog.json_extract_path_text(o.pair, '1')::pg_catalog.int2
