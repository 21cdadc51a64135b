-- Whether planning a write may run what users made: the planner works out defaults of columns and domains that are declared immutable. $1 is
-- [[schema, relation], ...]; the answer is the first column that has such a default, or nothing. 16384 is FirstNormalObjectId.
SELECT pg_catalog.min(pg_catalog.concat(n.nspname, '.', c.relname, '.', a.attname))
  FROM pg_catalog.json_array_elements($1::pg_catalog.json) AS o (pair)
  JOIN pg_catalog.pg_namespace n
    ON n.nspname OPERATOR(pg_catalog.=) pg_catalog.json_extract_path_text(o.pair, '0')::pg_catalog.name
  JOIN pg_catalog.pg_class c
    ON c.relnamespace OPERATOR(pg_catalog.=) n.oid
   AND c.relname OPERATOR(pg_catalog.=) pg_catalog.json_extract_path_text(o.pair, '1')::pg_catalog.name
  JOIN pg_catalog.pg_attribute a ON a.attrelid OPERATOR(pg_catalog.=) c.oid
  LEFT JOIN pg_catalog.pg_type t ON t.oid OPERATOR(pg_catalog.=) a.atttypid
 WHERE a.attnum OPERATOR(pg_catalog.>) 0 AND NOT a.attisdropped
   AND ((t.typtype OPERATOR(pg_catalog.=) 'd'::pg_catalog."char" AND t.typdefaultbin IS NOT NULL)
        OR EXISTS (
          SELECT FROM pg_catalog.pg_attrdef f
            JOIN pg_catalog.pg_depend d ON d.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_attrdef'::pg_catalog.regclass
                                       AND d.objid OPERATOR(pg_catalog.=) f.oid
           WHERE f.adrelid OPERATOR(pg_catalog.=) c.oid AND f.adnum OPERATOR(pg_catalog.=) a.attnum
             AND d.refobjid OPERATOR(pg_catalog.>=) 16384::pg_catalog.oid
             -- The column itself, and a sequence: nextval is volatile.
             AND d.refclassid OPERATOR(pg_catalog.<>) 'pg_catalog.pg_class'::pg_catalog.regclass))
