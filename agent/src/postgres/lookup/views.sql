-- The queries behind views, as the server keeps them: $1 is [oid, ...], the answer {oid: tree}. Nothing of those that are too long.
SELECT COALESCE(pg_catalog.json_object_agg(r.ev_class::pg_catalog.int8, r.ev_action::pg_catalog.text), '{}'::pg_catalog.json)::pg_catalog.text
  FROM pg_catalog.pg_rewrite r
 WHERE r.ev_class OPERATOR(pg_catalog.=) ANY (
         ARRAY(SELECT o::pg_catalog.int8::pg_catalog.oid FROM pg_catalog.json_array_elements_text($1::pg_catalog.json) AS o))
   AND r.rulename OPERATOR(pg_catalog.=) '_RETURN'::pg_catalog.name
   AND pg_catalog.length(r.ev_action::pg_catalog.text) OPERATOR(pg_catalog.<) 262144
