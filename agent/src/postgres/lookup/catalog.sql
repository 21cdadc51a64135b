-- What names mean on the server, PostgreSQL 12 to 18. $1 is {"relations": [{"schema": ..., "name": ...}], "functions": ..,
-- "operators": .., "types": .., "attributes": .., "methods": ..}; the answer is holdpoint_core::sql::facts::Answers. Every name is written with its
-- schema, operators too, so that nothing depends on a search path or on what others define. 16384 is
-- FirstNormalObjectId (access/transam.h): PostgreSQL came with what is below. $2 is how many objects of a name are told.
WITH RECURSIVE
-- pg_depend.deptype 'e': a member of an extension.
member AS MATERIALIZED (
  SELECT d.classid, d.objid, e.extname
    FROM pg_catalog.pg_depend d
    JOIN pg_catalog.pg_extension e ON e.oid OPERATOR(pg_catalog.=) d.refobjid
   WHERE d.deptype OPERATOR(pg_catalog.=) 'e'::pg_catalog."char"
     AND d.refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_extension'::pg_catalog.regclass
),
asked AS MATERIALIZED (
  SELECT k.kind, k.place, a.schema, a.name::pg_catalog.name AS name
    FROM (VALUES ('relations', 1), ('functions', 2), ('operators', 3), ('types', 4), ('attributes', 5), ('methods', 6)) AS k (kind, place)
   CROSS JOIN LATERAL pg_catalog.json_to_recordset(pg_catalog.json_extract_path($1::pg_catalog.json, k.kind))
           AS a (schema pg_catalog.text, name pg_catalog.text)
),
-- The relations asked for; a temporary schema is everybody's own, so pg_temp is any of them.
relation AS MATERIALIZED (
  SELECT a.schema AS asked_schema, a.name AS asked_name, c.*
    FROM asked a
   CROSS JOIN LATERAL (
     SELECT c.oid, c.relname, n.nspname, c.relkind, c.relrowsecurity, c.reltype
       FROM pg_catalog.pg_class c
       JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace
      WHERE c.relname OPERATOR(pg_catalog.=) a.name
        AND (a.schema IS NULL OR n.nspname OPERATOR(pg_catalog.=) a.schema::pg_catalog.name
             OR (a.schema OPERATOR(pg_catalog.=) 'pg_temp' AND n.nspname OPERATOR(pg_catalog.~) '^pg_temp_'))
      LIMIT $2::pg_catalog.int4) c
   WHERE a.place OPERATOR(pg_catalog.=) 1
),
-- With all partitions and children: the planner reads them along.
kin (root, oid) AS (
  SELECT DISTINCT r.oid, r.oid FROM relation r WHERE r.oid OPERATOR(pg_catalog.>=) 16384::pg_catalog.oid
  UNION
  SELECT k.root, i.inhrelid FROM kin k JOIN pg_catalog.pg_inherits i ON i.inhparent OPERATOR(pg_catalog.=) k.oid
),
-- What indexes, constraints, statistics and partition keys refer to; PostgreSQL's own objects are not noted there, and what
-- it lets an index use of them is immutable.
uses AS MATERIALIZED (
  SELECT DISTINCT o.root, d.refclassid, d.refobjid
    FROM (SELECT k.root, 'pg_catalog.pg_class'::pg_catalog.regclass::pg_catalog.oid AS classid, k.oid AS objid FROM kin k
          UNION ALL
          SELECT k.root, 'pg_catalog.pg_class'::pg_catalog.regclass::pg_catalog.oid, i.indexrelid
            FROM kin k JOIN pg_catalog.pg_index i ON i.indrelid OPERATOR(pg_catalog.=) k.oid
          UNION ALL
          SELECT k.root, 'pg_catalog.pg_constraint'::pg_catalog.regclass::pg_catalog.oid, t.oid
            FROM kin k JOIN pg_catalog.pg_constraint t ON t.conrelid OPERATOR(pg_catalog.=) k.oid
          UNION ALL
          SELECT k.root, 'pg_catalog.pg_statistic_ext'::pg_catalog.regclass::pg_catalog.oid, s.oid
            FROM kin k JOIN pg_catalog.pg_statistic_ext s ON s.stxrelid OPERATOR(pg_catalog.=) k.oid
          UNION ALL
          SELECT k.root, 'pg_catalog.pg_attrdef'::pg_catalog.regclass::pg_catalog.oid, f.oid
            FROM kin k JOIN pg_catalog.pg_attrdef f ON f.adrelid OPERATOR(pg_catalog.=) k.oid
            JOIN pg_catalog.pg_attribute g ON g.attrelid OPERATOR(pg_catalog.=) f.adrelid
                                          AND g.attnum OPERATOR(pg_catalog.=) f.adnum
                                          AND g.attgenerated OPERATOR(pg_catalog.<>) ''::pg_catalog."char") o
    JOIN pg_catalog.pg_depend d ON d.classid OPERATOR(pg_catalog.=) o.classid AND d.objid OPERATOR(pg_catalog.=) o.objid
   WHERE d.refobjid OPERATOR(pg_catalog.>=) 16384::pg_catalog.oid
),
-- Types asked for, those of columns, and what all of them are made of.
made_of (root, asked_schema, asked_name, type) AS (
  SELECT NULL::pg_catalog.oid, a.schema, a.name, t.oid
    FROM asked a
   CROSS JOIN LATERAL (
     SELECT t.oid
       FROM pg_catalog.pg_type t
       JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) t.typnamespace
      WHERE t.typname OPERATOR(pg_catalog.=) a.name
        AND t.oid OPERATOR(pg_catalog.>=) 16384::pg_catalog.oid
        AND (a.schema IS NULL OR n.nspname OPERATOR(pg_catalog.=) a.schema::pg_catalog.name
             OR (a.schema OPERATOR(pg_catalog.=) 'pg_temp' AND n.nspname OPERATOR(pg_catalog.~) '^pg_temp_'))
      LIMIT $2::pg_catalog.int4) t
   WHERE a.place OPERATOR(pg_catalog.=) 4
  UNION
  SELECT DISTINCT k.root, NULL::pg_catalog.text, NULL::pg_catalog.name, c.atttypid
    FROM kin k JOIN pg_catalog.pg_attribute c ON c.attrelid OPERATOR(pg_catalog.=) k.oid
   WHERE c.attnum OPERATOR(pg_catalog.>) 0 AND NOT c.attisdropped
     AND c.atttypid OPERATOR(pg_catalog.>=) 16384::pg_catalog.oid
  UNION
  SELECT DISTINCT r.oid, NULL::pg_catalog.text, NULL::pg_catalog.name, r.reltype
    FROM relation r WHERE r.reltype OPERATOR(pg_catalog.>=) 16384::pg_catalog.oid
  UNION
  SELECT m.root, m.asked_schema, m.asked_name, x.part
    FROM made_of m
    JOIN pg_catalog.pg_type t ON t.oid OPERATOR(pg_catalog.=) m.type
   CROSS JOIN LATERAL (
     SELECT t.typelem AS part WHERE t.typtype OPERATOR(pg_catalog.=) 'b'::pg_catalog."char"
     UNION ALL
     SELECT t.typbasetype WHERE t.typtype OPERATOR(pg_catalog.=) 'd'::pg_catalog."char"
     UNION ALL
     SELECT c.atttypid FROM pg_catalog.pg_attribute c
      WHERE t.typtype OPERATOR(pg_catalog.=) 'c'::pg_catalog."char" AND c.attrelid OPERATOR(pg_catalog.=) t.typrelid
        AND c.attnum OPERATOR(pg_catalog.>) 0 AND NOT c.attisdropped
     UNION ALL
     SELECT g.rngsubtype FROM pg_catalog.pg_range g WHERE g.rngtypid OPERATOR(pg_catalog.=) t.oid) x
   WHERE x.part OPERATOR(pg_catalog.>=) 16384::pg_catalog.oid
),
-- What defaults refer to, of columns and of their domains: the planner works them out for whoever writes.
default_uses AS MATERIALIZED (
  SELECT DISTINCT o.root, d.refclassid, d.refobjid
    FROM (SELECT k.root, 'pg_catalog.pg_attrdef'::pg_catalog.regclass::pg_catalog.oid AS classid, f.oid AS objid
            FROM kin k JOIN pg_catalog.pg_attrdef f ON f.adrelid OPERATOR(pg_catalog.=) k.oid
          UNION ALL
          SELECT m.root, 'pg_catalog.pg_type'::pg_catalog.regclass::pg_catalog.oid, m.type
            FROM made_of m WHERE m.root IS NOT NULL) o
    JOIN pg_catalog.pg_depend d ON d.classid OPERATOR(pg_catalog.=) o.classid AND d.objid OPERATOR(pg_catalog.=) o.objid
   WHERE d.refobjid OPERATOR(pg_catalog.>=) 16384::pg_catalog.oid
),
type_found AS MATERIALIZED (
  SELECT m.root, m.asked_schema, m.asked_name, pg_catalog.json_build_object(
           'oid', t.oid::pg_catalog.int8, 'schema', n.nspname, 'name', t.typname, 'kind', t.typtype,
           'array', t.typtype OPERATOR(pg_catalog.=) 'b'::pg_catalog."char" AND EXISTS (
              SELECT FROM pg_catalog.pg_type e WHERE e.typarray OPERATOR(pg_catalog.=) t.oid),
           'extension', (SELECT b.extname FROM member b WHERE b.objid OPERATOR(pg_catalog.=) t.oid
                           AND b.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_type'::pg_catalog.regclass),
           'checks', COALESCE((SELECT pg_catalog.json_agg(pg_catalog.pg_get_expr(s.conbin, 0::pg_catalog.oid))
                                 FROM pg_catalog.pg_constraint s WHERE s.contypid OPERATOR(pg_catalog.=) t.oid
                                  AND s.conbin IS NOT NULL), '[]'::pg_catalog.json),
           'own_order', COALESCE((SELECT g.rngcanonical::pg_catalog.oid OPERATOR(pg_catalog.<>) 0::pg_catalog.oid
                                      OR g.rngsubdiff::pg_catalog.oid OPERATOR(pg_catalog.>=) 16384::pg_catalog.oid
                                      OR g.rngsubopc OPERATOR(pg_catalog.>=) 16384::pg_catalog.oid
                                   FROM pg_catalog.pg_range g WHERE g.rngtypid OPERATOR(pg_catalog.=) t.oid), false)) AS told
    FROM made_of m
    JOIN pg_catalog.pg_type t ON t.oid OPERATOR(pg_catalog.=) m.type
    JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) t.typnamespace
),
-- Everything that has to be told of functions: by whom it is asked, and which one.
wanted (by, asked_schema, asked_name, root, func) AS (
  SELECT 'functions', a.schema, a.name, NULL::pg_catalog.oid, p.oid
    FROM asked a
   CROSS JOIN LATERAL (
     SELECT p.oid
       FROM pg_catalog.pg_proc p
       JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) p.pronamespace
      WHERE p.proname OPERATOR(pg_catalog.=) a.name
        AND (a.schema IS NULL OR n.nspname OPERATOR(pg_catalog.=) a.schema::pg_catalog.name
             OR (a.schema OPERATOR(pg_catalog.=) 'pg_temp' AND n.nspname OPERATOR(pg_catalog.~) '^pg_temp_'))) p
   WHERE a.place OPERATOR(pg_catalog.=) 2
  UNION ALL
  -- The planner puts a negator in the place of NOT, and a commutator where that helps; what estimates is called, too.
  SELECT 'operators', a.schema, a.name, NULL::pg_catalog.oid, x.func
    FROM asked a
   CROSS JOIN LATERAL (
     SELECT o.oprcode, o.oprrest, o.oprjoin, o.oprnegate, o.oprcom
       FROM pg_catalog.pg_operator o
       JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) o.oprnamespace
      WHERE o.oprname OPERATOR(pg_catalog.=) a.name
        AND (o.oid OPERATOR(pg_catalog.>=) 16384::pg_catalog.oid
             OR o.oprcode::pg_catalog.oid OPERATOR(pg_catalog.>=) 16384::pg_catalog.oid)
        AND (a.schema IS NULL OR n.nspname OPERATOR(pg_catalog.=) a.schema::pg_catalog.name)) o
   CROSS JOIN LATERAL (
     SELECT o.oprcode::pg_catalog.oid AS func
     UNION SELECT o.oprrest::pg_catalog.oid
     UNION SELECT o.oprjoin::pg_catalog.oid
     UNION SELECT e.oprcode::pg_catalog.oid FROM pg_catalog.pg_operator e
            WHERE e.oid OPERATOR(pg_catalog.=) o.oprnegate OR e.oid OPERATOR(pg_catalog.=) o.oprcom) x
   WHERE a.place OPERATOR(pg_catalog.=) 3
  UNION ALL
  -- `t.f` calls f(t): of one argument, which is a row, or what a row can be made into.
  SELECT 'attributes', a.schema, a.name, NULL::pg_catalog.oid, p.oid
    FROM asked a
    JOIN pg_catalog.pg_proc p ON p.proname OPERATOR(pg_catalog.=) a.name
    JOIN pg_catalog.pg_type t ON t.oid OPERATOR(pg_catalog.=) p.proargtypes[0]
   WHERE a.place OPERATOR(pg_catalog.=) 5
     AND p.oid OPERATOR(pg_catalog.>=) 16384::pg_catalog.oid
     AND (p.pronargs::pg_catalog.int4 OPERATOR(pg_catalog.-) p.pronargdefaults::pg_catalog.int4) OPERATOR(pg_catalog.<=) 1
     AND (t.typtype OPERATOR(pg_catalog.=) ANY ('{c,d,p}'::pg_catalog."char"[])
          OR EXISTS (SELECT FROM pg_catalog.pg_cast c
                       JOIN pg_catalog.pg_type s ON s.oid OPERATOR(pg_catalog.=) c.castsource
                      WHERE c.casttarget OPERATOR(pg_catalog.=) t.oid
                        AND s.typtype OPERATOR(pg_catalog.=) 'c'::pg_catalog."char"))
  UNION ALL
  -- The same of values that are no rows.
  SELECT 'methods', a.schema, a.name, NULL::pg_catalog.oid, p.oid
    FROM asked a
    JOIN pg_catalog.pg_proc p ON p.proname OPERATOR(pg_catalog.=) a.name
   WHERE a.place OPERATOR(pg_catalog.=) 6
     AND p.oid OPERATOR(pg_catalog.>=) 16384::pg_catalog.oid
     AND p.pronargs::pg_catalog.int4 OPERATOR(pg_catalog.>=) 1
     AND (p.pronargs::pg_catalog.int4 OPERATOR(pg_catalog.-) p.pronargdefaults::pg_catalog.int4) OPERATOR(pg_catalog.<=) 1
  UNION ALL
  SELECT 'planned', NULL, NULL, u.root, u.refobjid
    FROM uses u WHERE u.refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_proc'::pg_catalog.regclass
  UNION ALL
  SELECT 'planned', NULL, NULL, u.root, o.oprcode::pg_catalog.oid
    FROM uses u JOIN pg_catalog.pg_operator o ON o.oid OPERATOR(pg_catalog.=) u.refobjid
   WHERE u.refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_operator'::pg_catalog.regclass
  UNION ALL
  SELECT 'defaults', NULL, NULL, u.root, u.refobjid
    FROM default_uses u WHERE u.refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_proc'::pg_catalog.regclass
  UNION ALL
  SELECT 'defaults', NULL, NULL, u.root, o.oprcode::pg_catalog.oid
    FROM default_uses u JOIN pg_catalog.pg_operator o ON o.oid OPERATOR(pg_catalog.=) u.refobjid
   WHERE u.refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_operator'::pg_catalog.regclass
  UNION ALL
  -- What the constraints of domains run, PostgreSQL's own functions too (pg_node_tree says `:funcid 1574`).
  SELECT 'inputs', NULL, NULL, NULL::pg_catalog.oid, x.func
    FROM pg_catalog.pg_constraint s
   CROSS JOIN LATERAL (
     SELECT m.found[1]::pg_catalog.oid AS func
       FROM pg_catalog.regexp_matches(s.conbin::pg_catalog.text, ':(?:op)?funcid ([0-9]+)', 'g') AS m (found)
     UNION
     SELECT o.oprcode::pg_catalog.oid
       FROM pg_catalog.pg_depend d
       JOIN pg_catalog.pg_operator o ON o.oid OPERATOR(pg_catalog.=) d.refobjid
      WHERE d.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_constraint'::pg_catalog.regclass
        AND d.objid OPERATOR(pg_catalog.=) s.oid
        AND d.refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_operator'::pg_catalog.regclass) x
   WHERE s.contypid OPERATOR(pg_catalog.>=) 16384::pg_catalog.oid AND s.conbin IS NOT NULL
  UNION ALL
  SELECT 'casts', NULL, NULL, c.oid, c.castfunc
    FROM pg_catalog.pg_cast c
   WHERE c.oid OPERATOR(pg_catalog.>=) 16384::pg_catalog.oid AND c.castfunc OPERATOR(pg_catalog.<>) 0::pg_catalog.oid
),
-- Overloads that are alike in all that counts are told once.
routine AS MATERIALIZED (
  SELECT w.by, w.asked_schema, w.asked_name, w.root,
         pg_catalog.bool_or(p.oid OPERATOR(pg_catalog.<) 16384::pg_catalog.oid) AS builtin,
         pg_catalog.json_build_object(
           'schema', n.nspname, 'name', p.proname, 'builtin', p.oid OPERATOR(pg_catalog.<) 16384::pg_catalog.oid,
           'language', l.lanname, 'volatile', p.provolatile OPERATOR(pg_catalog.=) 'v'::pg_catalog."char",
           'extension', b.extname, 'superuser', COALESCE(r.rolsuper, false),
           'body', CASE WHEN b.extname IS NOT NULL AND l.lanname OPERATOR(pg_catalog.=) 'sql' THEN p.prosrc END)::pg_catalog.jsonb AS told
    FROM wanted w
    JOIN pg_catalog.pg_proc p ON p.oid OPERATOR(pg_catalog.=) w.func
    JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) p.pronamespace
    JOIN pg_catalog.pg_language l ON l.oid OPERATOR(pg_catalog.=) p.prolang
    LEFT JOIN pg_catalog.pg_roles r ON r.oid OPERATOR(pg_catalog.=) p.proowner
    LEFT JOIN member b ON b.objid OPERATOR(pg_catalog.=) p.oid
                      AND b.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_proc'::pg_catalog.regclass
   GROUP BY 1, 2, 3, 4, 6
)
SELECT pg_catalog.json_build_object(
  'relations', COALESCE((SELECT pg_catalog.json_agg(pg_catalog.json_build_object(
      'schema', a.schema, 'name', a.name, 'found', COALESCE((
        SELECT pg_catalog.json_agg(pg_catalog.json_build_object(
          'schema', CASE WHEN r.nspname OPERATOR(pg_catalog.~) '^pg_temp_' THEN 'pg_temp'::pg_catalog.name ELSE r.nspname END,
          'name', r.relname, 'kind', r.relkind,
          'builtin', r.oid OPERATOR(pg_catalog.<) 16384::pg_catalog.oid,
          'definition', CASE WHEN r.relkind OPERATOR(pg_catalog.=) 'v'::pg_catalog."char"
                              AND r.oid OPERATOR(pg_catalog.>=) 16384::pg_catalog.oid
                             THEN pg_catalog.pg_get_viewdef(r.oid) END,
          'expressions', COALESCE((
             SELECT pg_catalog.json_agg(x.told)
               FROM pg_catalog.pg_policy p
              CROSS JOIN LATERAL (VALUES (pg_catalog.pg_get_expr(p.polqual, p.polrelid)),
                                         (pg_catalog.pg_get_expr(p.polwithcheck, p.polrelid))) x (told)
              WHERE p.polrelid OPERATOR(pg_catalog.=) r.oid AND x.told IS NOT NULL AND r.relrowsecurity), '[]'::pg_catalog.json),
          'planned', COALESCE((SELECT pg_catalog.json_agg(f.told) FROM routine f
             WHERE f.by OPERATOR(pg_catalog.=) 'planned' AND f.root OPERATOR(pg_catalog.=) r.oid), '[]'::pg_catalog.json),
          'defaults', COALESCE((SELECT pg_catalog.json_agg(f.told) FROM routine f
             WHERE f.by OPERATOR(pg_catalog.=) 'defaults' AND f.root OPERATOR(pg_catalog.=) r.oid), '[]'::pg_catalog.json),
          'operator_classes', COALESCE((
             SELECT pg_catalog.json_agg(pg_catalog.json_build_object('name', o.opcname, 'extension', b.extname))
               FROM uses u
               JOIN pg_catalog.pg_opclass o ON o.oid OPERATOR(pg_catalog.=) u.refobjid
               LEFT JOIN member b ON b.objid OPERATOR(pg_catalog.=) o.oid
                                 AND b.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_opclass'::pg_catalog.regclass
              WHERE u.root OPERATOR(pg_catalog.=) r.oid
                AND u.refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_opclass'::pg_catalog.regclass), '[]'::pg_catalog.json),
          'types', COALESCE((SELECT pg_catalog.json_agg(t.told) FROM type_found t
             WHERE t.root OPERATOR(pg_catalog.=) r.oid), '[]'::pg_catalog.json),
          'foreign', (SELECT pg_catalog.min(f.relname::pg_catalog.text) FROM kin k
             JOIN pg_catalog.pg_class f ON f.oid OPERATOR(pg_catalog.=) k.oid
            WHERE k.root OPERATOR(pg_catalog.=) r.oid AND f.relkind OPERATOR(pg_catalog.=) 'f'::pg_catalog."char"),
          'rewrites', COALESCE((
             SELECT pg_catalog.json_agg(x.told) FROM (
               SELECT pg_catalog.concat('rule ', w.rulename, ' of ', r.relname) AS told
                 FROM pg_catalog.pg_rewrite w
                WHERE w.ev_class OPERATOR(pg_catalog.=) r.oid AND w.ev_type OPERATOR(pg_catalog.<>) '1'::pg_catalog."char"
               UNION ALL
               -- TRIGGER_TYPE_INSTEAD is 1 << 6 (catalog/pg_trigger.h).
               SELECT pg_catalog.concat('trigger ', g.tgname, ' of ', r.relname)
                 FROM pg_catalog.pg_trigger g
                WHERE g.tgrelid OPERATOR(pg_catalog.=) r.oid
                  AND (g.tgtype::pg_catalog.int4 OPERATOR(pg_catalog.&) 64) OPERATOR(pg_catalog.<>) 0) x), '[]'::pg_catalog.json)))
          FROM relation r
         WHERE r.asked_name OPERATOR(pg_catalog.=) a.name AND r.asked_schema IS NOT DISTINCT FROM a.schema), '[]'::pg_catalog.json)))
    FROM asked a WHERE a.place OPERATOR(pg_catalog.=) 1), '[]'::pg_catalog.json),
  'functions', COALESCE((SELECT pg_catalog.json_agg(pg_catalog.json_build_object(
      'schema', a.schema, 'name', a.name,
      'builtin', EXISTS (SELECT FROM routine f WHERE f.by OPERATOR(pg_catalog.=) 'functions' AND f.builtin
                            AND f.asked_name OPERATOR(pg_catalog.=) a.name AND f.asked_schema IS NOT DISTINCT FROM a.schema),
      'found', COALESCE((SELECT pg_catalog.json_agg(f.told) FROM routine f
         WHERE f.by OPERATOR(pg_catalog.=) 'functions'
           AND f.asked_name OPERATOR(pg_catalog.=) a.name AND f.asked_schema IS NOT DISTINCT FROM a.schema), '[]'::pg_catalog.json)))
    FROM asked a WHERE a.place OPERATOR(pg_catalog.=) 2), '[]'::pg_catalog.json),
  'operators', COALESCE((SELECT pg_catalog.json_agg(pg_catalog.json_build_object(
      'schema', a.schema, 'name', a.name,
      'found', COALESCE((SELECT pg_catalog.json_agg(f.told) FROM routine f
         WHERE f.by OPERATOR(pg_catalog.=) 'operators'
           AND f.asked_name OPERATOR(pg_catalog.=) a.name AND f.asked_schema IS NOT DISTINCT FROM a.schema), '[]'::pg_catalog.json)))
    FROM asked a WHERE a.place OPERATOR(pg_catalog.=) 3), '[]'::pg_catalog.json),
  'types', COALESCE((SELECT pg_catalog.json_agg(pg_catalog.json_build_object(
      'schema', a.schema, 'name', a.name,
      'found', COALESCE((SELECT pg_catalog.json_agg(t.told) FROM type_found t
         WHERE t.root IS NULL
           AND t.asked_name OPERATOR(pg_catalog.=) a.name AND t.asked_schema IS NOT DISTINCT FROM a.schema), '[]'::pg_catalog.json)))
    FROM asked a WHERE a.place OPERATOR(pg_catalog.=) 4), '[]'::pg_catalog.json),
  'attributes', COALESCE((SELECT pg_catalog.json_agg(pg_catalog.json_build_object(
      'schema', a.schema, 'name', a.name,
      'found', COALESCE((SELECT pg_catalog.json_agg(f.told) FROM routine f
         WHERE f.by OPERATOR(pg_catalog.=) 'attributes' AND f.asked_name OPERATOR(pg_catalog.=) a.name), '[]'::pg_catalog.json)))
    FROM asked a WHERE a.place OPERATOR(pg_catalog.=) 5), '[]'::pg_catalog.json),
  'methods', COALESCE((SELECT pg_catalog.json_agg(pg_catalog.json_build_object(
      'schema', a.schema, 'name', a.name,
      'found', COALESCE((SELECT pg_catalog.json_agg(f.told) FROM routine f
         WHERE f.by OPERATOR(pg_catalog.=) 'methods' AND f.asked_name OPERATOR(pg_catalog.=) a.name), '[]'::pg_catalog.json)))
    FROM asked a WHERE a.place OPERATOR(pg_catalog.=) 6), '[]'::pg_catalog.json),
  'inputs', COALESCE((SELECT pg_catalog.json_agg(f.told) FROM routine f
     WHERE f.by OPERATOR(pg_catalog.=) 'inputs'), '[]'::pg_catalog.json),
  'casts', COALESCE((SELECT pg_catalog.json_agg(pg_catalog.json_build_object(
      'source', c.castsource::pg_catalog.int8, 'target', c.casttarget::pg_catalog.int8,
      'named', pg_catalog.concat(pg_catalog.format_type(c.castsource, NULL), ' AS ', pg_catalog.format_type(c.casttarget, NULL)),
      'routine', f.told))
    FROM routine f JOIN pg_catalog.pg_cast c ON c.oid OPERATOR(pg_catalog.=) f.root
   WHERE f.by OPERATOR(pg_catalog.=) 'casts'), '[]'::pg_catalog.json))::pg_catalog.text
