//! Ways to hide an effect in what looks like a read.

/// `evil` writes down that it ran. It may be called by anybody, and passes for immutable as `pure`.
pub const WITNESS: &str = "
CREATE SCHEMA IF NOT EXISTS trap;
CREATE TABLE trap.witness (at timestamptz DEFAULT now());
CREATE FUNCTION trap.evil(x integer) RETURNS integer LANGUAGE plpgsql VOLATILE SECURITY DEFINER AS
  $$ BEGIN INSERT INTO trap.witness DEFAULT VALUES; RETURN x; END $$;
CREATE FUNCTION trap.pure(x integer) RETURNS integer LANGUAGE plpgsql IMMUTABLE AS
  $$ DECLARE y integer; BEGIN SELECT trap.evil(x) INTO y; RETURN y; END $$;
CREATE FUNCTION trap.same(a text, b integer) RETURNS boolean LANGUAGE sql VOLATILE AS
  $$ SELECT trap.evil(b) = 1 $$;
GRANT USAGE ON SCHEMA trap TO app;
";

/// One way to hide an effect.
pub struct Trap {
    pub name: &'static str,
    pub setup: &'static str,
    /// What only runs it: a search path, a role.
    pub before: &'static str,
    pub sql: &'static str,
    /// Whether the statement would pass without the set-up.
    pub harmless_without: bool,
}

const fn trap(name: &'static str, setup: &'static str, sql: &'static str) -> Trap {
    Trap {
        name,
        setup,
        before: "",
        sql,
        harmless_without: true,
    }
}

/// The statement itself names what does it.
const fn plain(name: &'static str, setup: &'static str, sql: &'static str) -> Trap {
    Trap {
        name,
        setup,
        before: "",
        sql,
        harmless_without: false,
    }
}

/// All that are known.
pub const TRAPS: &[Trap] = &[
    trap("a view", "CREATE VIEW trap.v AS SELECT trap.evil(1)", "SELECT * FROM trap.v"),
    trap(
        "a view of a view of a view",
        "CREATE VIEW trap.a AS SELECT trap.evil(1) AS x; CREATE VIEW trap.b AS SELECT * FROM trap.a;
         CREATE VIEW trap.c AS SELECT x FROM (SELECT * FROM trap.b) AS s",
        "SELECT x FROM trap.c",
    ),
    trap(
        "a view that runs a CTE in an EXISTS",
        "CREATE VIEW trap.v AS SELECT 1 AS x WHERE EXISTS (WITH y AS MATERIALIZED (SELECT trap.evil(2) AS z) SELECT FROM y)",
        "SELECT count(*) FROM trap.v",
    ),
    trap(
        "a view that moves a sequence",
        "CREATE SEQUENCE trap.s; CREATE VIEW trap.v AS SELECT nextval('trap.s'), trap.evil(1)",
        "TABLE trap.v",
    ),
    Trap {
        before: "SET search_path = trap, pg_catalog",
        ..trap(
            "a function called like PostgreSQL's",
            "CREATE FUNCTION trap.upper(text) RETURNS text LANGUAGE sql AS $$ SELECT trap.evil(1)::text $$",
            "SELECT upper('x')",
        )
    },
    trap(
        "a better match for arguments, without any search path",
        "CREATE FUNCTION public.round(integer) RETURNS integer LANGUAGE sql AS $$ SELECT trap.evil($1) $$",
        "SELECT round(5)",
    ),
    trap(
        "an aggregate called like PostgreSQL's",
        "CREATE FUNCTION trap.step(a integer, b integer, c integer) RETURNS integer LANGUAGE sql AS $$ SELECT trap.evil(b) $$;
         CREATE AGGREGATE public.max(integer, integer) (sfunc = trap.step, stype = integer, initcond = '0')",
        "SELECT max(1, 2)",
    ),
    trap(
        "an operator =",
        "CREATE OPERATOR public.= (leftarg = text, rightarg = integer, function = trap.same)",
        "SELECT 'a'::text = 1",
    ),
    trap(
        "an operator ||",
        "CREATE FUNCTION trap.join(text, integer) RETURNS text LANGUAGE sql AS $$ SELECT trap.evil($2)::text $$;
         CREATE OPERATOR public.|| (leftarg = text, rightarg = integer, function = trap.join)",
        "SELECT 'a'::text || 1",
    ),
    trap(
        "an operator behind IN",
        "CREATE OPERATOR public.= (leftarg = text, rightarg = integer, function = trap.same)",
        "SELECT 'a'::text IN (1, 2)",
    ),
    trap(
        "an operator behind CASE",
        "CREATE OPERATOR public.= (leftarg = text, rightarg = integer, function = trap.same)",
        "SELECT CASE 'a'::text WHEN 1 THEN 2 END",
    ),
    trap(
        "an operator behind BETWEEN",
        "CREATE OPERATOR public.>= (leftarg = text, rightarg = integer, function = trap.same)",
        "SELECT 'a'::text >= 1 AND true",
    ),
    trap(
        "a cast between PostgreSQL's types",
        "CREATE FUNCTION trap.day(integer) RETURNS date LANGUAGE sql AS $$ SELECT date '2000-01-01' + trap.evil($1) $$;
         CREATE CAST (integer AS date) WITH FUNCTION trap.day(integer) AS IMPLICIT",
        "SELECT extract(year FROM 1::date)",
    ),
    trap(
        "an implicit cast of a column's type",
        "CREATE TYPE trap.pair AS (a integer, b integer);
         CREATE FUNCTION trap.number(trap.pair) RETURNS integer LANGUAGE sql AS $$ SELECT trap.evil($1.a) $$;
         CREATE CAST (trap.pair AS integer) WITH FUNCTION trap.number(trap.pair) AS IMPLICIT;
         CREATE TABLE trap.pairs AS SELECT ROW(1, 2)::trap.pair AS p",
        "SELECT p + 1 FROM trap.pairs",
    ),
    trap(
        "an implicit cast of a row",
        "CREATE TABLE trap.t AS SELECT 1 AS a;
         CREATE FUNCTION trap.number(trap.t) RETURNS integer LANGUAGE sql AS $$ SELECT trap.evil($1.a) $$;
         CREATE CAST (trap.t AS integer) WITH FUNCTION trap.number(trap.t) AS IMPLICIT",
        "SELECT x + 1 FROM trap.t AS x",
    ),
    Trap {
        before: "SET ROLE app",
        ..trap(
            "a row-level-security policy",
            "CREATE TABLE trap.t AS SELECT 1 AS a; GRANT SELECT ON trap.t TO app;
             ALTER TABLE trap.t ENABLE ROW LEVEL SECURITY;
             CREATE POLICY p ON trap.t USING (trap.evil(a) > 0)",
            "SELECT * FROM trap.t",
        )
    },
    trap(
        "a rule in an INSERT's place",
        "CREATE TABLE trap.t (a integer);
         CREATE RULE r AS ON INSERT TO trap.t DO INSTEAD INSERT INTO trap.witness DEFAULT VALUES",
        "INSERT INTO trap.t VALUES (1)",
    ),
    trap(
        "a foreign table",
        "CREATE VIEW trap.v AS SELECT trap.evil(1) AS a; CREATE FOREIGN TABLE trap.f (a integer) SERVER back OPTIONS (schema_name 'trap', table_name 'v')",
        "SELECT * FROM trap.f",
    ),
    trap(
        "a partition elsewhere",
        "CREATE VIEW trap.v AS SELECT trap.evil(1) AS a; CREATE TABLE trap.p (a integer) PARTITION BY RANGE (a);
         CREATE FOREIGN TABLE trap.f PARTITION OF trap.p FOR VALUES FROM (0) TO (10) SERVER back OPTIONS (schema_name 'trap', table_name 'v')",
        "SELECT * FROM trap.p",
    ),
    trap(
        "a grandchild elsewhere",
        "CREATE VIEW trap.v AS SELECT trap.evil(1) AS a; CREATE TABLE trap.p (a integer); CREATE TABLE trap.c () INHERITS (trap.p);
         CREATE FOREIGN TABLE trap.f () INHERITS (trap.c) SERVER back OPTIONS (schema_name 'trap', table_name 'v')",
        "SELECT * FROM trap.p",
    ),
    trap(
        "a temporary view over a table",
        "CREATE TABLE public.orders_lab (a integer); CREATE TEMP VIEW orders_lab AS SELECT trap.evil(1)",
        "SELECT * FROM orders_lab",
    ),
    Trap {
        before: "SET search_path = trap",
        ..trap(
            "a function written like a column",
            "CREATE TABLE trap.t AS SELECT 1 AS a;
             CREATE FUNCTION trap.oops(trap.t) RETURNS integer LANGUAGE sql AS $$ SELECT trap.evil($1.a) $$",
            "SELECT t.oops FROM trap.t",
        )
    },
    trap(
        "a domain's constraint",
        "CREATE DOMAIN trap.d AS integer CHECK (trap.evil(VALUE) > 0)",
        "SELECT 5::trap.d",
    ),
    trap(
        "a domain in a record in an array",
        "CREATE DOMAIN trap.d AS integer CHECK (trap.evil(VALUE) > 0); CREATE TYPE trap.r AS (x trap.d)",
        "SELECT '{\"(5)\"}'::trap.r[]",
    ),
    trap(
        "a domain in a list of columns",
        "CREATE DOMAIN trap.d AS integer CHECK (trap.evil(VALUE) > 0)",
        "SELECT * FROM jsonb_to_record('{\"a\": 5}') AS x (a trap.d)",
    ),
    trap(
        "a table's row type with a domain in it",
        "CREATE DOMAIN trap.d AS integer CHECK (trap.evil(VALUE) > 0); CREATE TABLE trap.t (a trap.d)",
        "SELECT * FROM json_populate_record(NULL::trap.t, '{\"a\": 5}')",
    ),
    trap(
        "an index whose expression the planner evaluates",
        "CREATE TABLE trap.t (a integer); INSERT INTO trap.t VALUES (1);
         CREATE INDEX ON trap.t ((a + trap.pure(1)))",
        "SELECT * FROM trap.t",
    ),
    trap(
        "a generated column",
        "CREATE TABLE trap.t (a integer, b integer GENERATED ALWAYS AS (trap.pure(a)) STORED)",
        "INSERT INTO trap.t (a) VALUES (1)",
    ),
    trap(
        "a function whose name is syntax in later versions",
        "CREATE FUNCTION public.json_scalar(integer) RETURNS integer LANGUAGE sql AS $$ SELECT trap.evil($1) $$",
        "SELECT json_scalar(1)",
    ),
    trap(
        "an operator made of a function of PostgreSQL's own that acts",
        "CREATE SEQUENCE trap.s; CREATE OPERATOR public.### (leftarg = regclass, rightarg = bigint, function = pg_catalog.setval);
         CREATE VIEW trap.v AS SELECT trap.evil(1), 'trap.s'::regclass ### 5::bigint",
        "SELECT * FROM trap.v",
    ),
    Trap {
        before: "SET search_path = trap",
        ..trap(
            "a function behind a value",
            "CREATE FUNCTION trap.oops(integer) RETURNS integer LANGUAGE sql AS $$ SELECT trap.evil($1) $$",
            "SELECT (1).oops",
        )
    },
    Trap {
        before: "SET search_path = trap",
        ..trap(
            "a function behind what FROM calls",
            "CREATE FUNCTION trap.oops(integer) RETURNS integer LANGUAGE sql AS $$ SELECT trap.evil($1) $$",
            "SELECT x.oops FROM generate_series(1, 1) AS x",
        )
    },
    Trap {
        before: "SET search_path = trap",
        ..trap(
            "a domain behind a value",
            "CREATE DOMAIN trap.d AS integer CHECK (trap.evil(VALUE) > 0)",
            "SELECT (5).d",
        )
    },
    Trap {
        before: "SET search_path = trap",
        ..trap(
            "a domain of rows behind a row",
            "CREATE TABLE trap.t AS SELECT 1 AS a; CREATE DOMAIN trap.whole AS trap.t CHECK (trap.evil((VALUE).a) > 0)",
            "SELECT t.whole FROM trap.t",
        )
    },
    trap(
        "an operator that the planner puts in the place of NOT",
        "CREATE FUNCTION trap.differs(integer, integer) RETURNS boolean LANGUAGE sql AS $$ SELECT trap.evil($1) <> $2 $$;
         CREATE OPERATOR public.=== (leftarg = integer, rightarg = integer, function = pg_catalog.int4eq, negator = OPERATOR(public.!==));
         CREATE OPERATOR public.!== (leftarg = integer, rightarg = integer, function = trap.differs, negator = OPERATOR(public.===))",
        "SELECT NOT (a === 2) FROM generate_series(1, 1) AS v (a)",
    ),
    trap(
        "a default that is worked out by EXPLAIN",
        "CREATE TABLE trap.t (a integer, b integer DEFAULT trap.pure(1))",
        "EXPLAIN INSERT INTO trap.t (a) VALUES (1)",
    ),
    trap(
        "a default that an UPDATE names",
        "CREATE TABLE trap.t (a integer, b integer DEFAULT trap.pure(1))",
        "EXPLAIN UPDATE trap.t SET b = DEFAULT WHERE a = 1",
    ),
    trap(
        "a default in a conflict",
        "CREATE TABLE trap.t (a integer PRIMARY KEY, b integer DEFAULT trap.pure(1))",
        "EXPLAIN INSERT INTO trap.t (a, b) VALUES (1, 2) ON CONFLICT (a) DO UPDATE SET b = DEFAULT",
    ),
    trap(
        "a default in a CTE",
        "CREATE TABLE trap.t (a integer, b integer DEFAULT trap.pure(1))",
        "EXPLAIN WITH w AS (INSERT INTO trap.t (a) VALUES (1) RETURNING a) SELECT * FROM w",
    ),
    trap(
        "a default in a MERGE",
        "CREATE TABLE trap.t (a integer, b integer DEFAULT trap.pure(1))",
        "EXPLAIN MERGE INTO trap.t USING (VALUES (1)) AS v (x) ON a = x WHEN NOT MATCHED THEN INSERT (a) VALUES (x)",
    ),
    trap(
        "a domain's default",
        "CREATE DOMAIN trap.d AS integer DEFAULT trap.pure(1); CREATE TABLE trap.t (a integer, b trap.d)",
        "EXPLAIN INSERT INTO trap.t (a) VALUES (1)",
    ),
    trap(
        "a default behind two views",
        "CREATE TABLE trap.t (a integer, b integer DEFAULT trap.pure(1)); CREATE VIEW trap.v AS SELECT a FROM trap.t;
         CREATE VIEW trap.w AS SELECT a FROM trap.v",
        "EXPLAIN INSERT INTO trap.w (a) VALUES (1)",
    ),
    trap(
        "a default of a view",
        "CREATE TABLE trap.t (a integer); CREATE VIEW trap.v AS SELECT a FROM trap.t; ALTER VIEW trap.v ALTER a SET DEFAULT trap.pure(1)",
        "EXPLAIN INSERT INTO trap.v DEFAULT VALUES",
    ),
    trap(
        "a rule that is planned along",
        "CREATE TABLE trap.t (a integer);
         CREATE RULE r AS ON INSERT TO trap.t DO ALSO INSERT INTO trap.witness SELECT now() WHERE trap.pure(1) = 1",
        "EXPLAIN INSERT INTO trap.t VALUES (1)",
    ),
    Trap {
        before: "SET constraint_exclusion = on",
        ..trap(
            "a constraint that the planner proves",
            "CREATE TABLE trap.t (a integer, CHECK (a <> trap.pure(1)))",
            "SELECT * FROM trap.t WHERE a = 5",
        )
    },
    trap(
        "statistics of an expression",
        "CREATE TABLE trap.t (a integer, b integer); CREATE STATISTICS trap.s ON (a + trap.pure(1)), b FROM trap.t",
        "SELECT * FROM trap.t",
    ),
    Trap {
        before: "SET search_path = trap, pg_catalog",
        ..trap(
            "an extension's function that is SQL",
            "CREATE EXTENSION citext SCHEMA public;
             CREATE FUNCTION trap.alike(integer, integer) RETURNS boolean LANGUAGE sql AS $$ SELECT trap.evil(1) OPERATOR(pg_catalog.=) 1 $$;
             CREATE OPERATOR trap.= (leftarg = integer, rightarg = integer, function = trap.alike)",
            "SELECT public.regexp_matches('a'::public.citext, 'a'::public.citext, 'g')",
        )
    },
    Trap {
        before: "SELECT dblink_connect('back')",
        ..plain(
            "an extension's function behind a value",
            "",
            "SELECT ('INSERT INTO trap.witness DEFAULT VALUES'::text).dblink_exec",
        )
    },
    plain(
        "a function of PostgreSQL's own behind a value",
        "",
        "SELECT ('SELECT to_tsvector(trap.evil(1)::text)'::text).ts_stat",
    ),
    plain(
        "a function of PostgreSQL's own behind what FROM calls",
        "",
        "SELECT x.ts_stat FROM unnest(ARRAY['SELECT to_tsvector(trap.evil(1)::text)']) AS x",
    ),
    plain("a function of a user's", "", "SELECT trap.evil(1)"),
    plain("EXPLAIN of what passes for immutable", "", "EXPLAIN SELECT trap.pure(1)"),
    plain("SQL as text", "", "SELECT query_to_xml('SELECT trap.evil(1)', true, true, '')"),
    plain(
        "a table named by text",
        "CREATE VIEW trap.v AS SELECT trap.evil(1)",
        "SELECT table_to_xml('trap.v', true, true, '')",
    ),
    plain(
        "text search statistics of SQL as text",
        "",
        "SELECT * FROM ts_stat('SELECT to_tsvector(trap.evil(1)::text)')",
    ),
    plain(
        "an input function called with a type's number",
        "CREATE DOMAIN trap.d AS integer CHECK (trap.evil(VALUE) > 0)",
        "SELECT array_in('{5}', 'trap.d'::regtype, -1)",
    ),
    plain(
        "a query to another server",
        "",
        "SELECT * FROM dblink('back', 'SELECT trap.evil(1)') AS x (a integer)",
    ),
];

/// Takes away what any of them has made.
pub const UNDO: &str = "RESET ROLE; RESET constraint_exclusion; SET client_min_messages = warning; RESET search_path; DROP CAST IF EXISTS (integer AS date); DROP FUNCTION IF EXISTS public.round(integer);
DROP OPERATOR IF EXISTS public.= (text, integer); DROP OPERATOR IF EXISTS public.|| (text, integer);
DROP OPERATOR IF EXISTS public.>= (text, integer); DROP AGGREGATE IF EXISTS public.max(integer, integer);
DROP FUNCTION IF EXISTS public.json_scalar(integer); DROP EXTENSION IF EXISTS citext;
DROP OPERATOR IF EXISTS public.=== (integer, integer); DROP OPERATOR IF EXISTS public.!== (integer, integer); DROP OPERATOR IF EXISTS public.### (regclass, bigint) CASCADE; DROP TABLE IF EXISTS public.orders_lab; DROP VIEW IF EXISTS pg_temp.orders_lab; DROP SCHEMA trap CASCADE";
