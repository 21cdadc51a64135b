-- What every test finds in the database `shop`, owned by `app`. Small, and with something to hide.
CREATE TABLE customers (
    id integer PRIMARY KEY,
    name text NOT NULL,
    email text NOT NULL,
    card text,
    balance numeric(12, 2) NOT NULL DEFAULT 0
);
INSERT INTO customers VALUES
    (1, 'Ada Lovelace', 'ada@example.com', '4111111111111111', 10.50),
    (2, 'Charles Babbage', 'charles@example.com', '5500005555555559', -3.00),
    (3, 'Mary Somerville', 'mary@example.com', NULL, 0.00);

CREATE TABLE orders (
    id bigserial PRIMARY KEY,
    customer integer NOT NULL REFERENCES customers (id),
    item text NOT NULL,
    quantity integer NOT NULL CHECK (quantity > 0),
    placed timestamptz NOT NULL DEFAULT '2026-01-02 03:04:05+00'
);
INSERT INTO orders (customer, item, quantity)
SELECT 1 + n % 3, 'item ' || n, 1 + n % 7 FROM generate_series(1, 100) AS n;

CREATE TABLE scratch (id integer PRIMARY KEY, note text);
INSERT INTO scratch SELECT n, 'note ' || n FROM generate_series(1, 10) AS n;

CREATE VIEW customer_names AS SELECT id, name FROM customers;

CREATE TABLE audit (at timestamptz NOT NULL DEFAULT now(), what text NOT NULL);
-- A write that a SELECT hides.
CREATE FUNCTION note_and_count() RETURNS bigint LANGUAGE sql VOLATILE AS $$
    INSERT INTO audit (what) VALUES ('counted');
    SELECT count(*) FROM customers;
$$;
CREATE VIEW innocent AS SELECT note_and_count() AS customers;
-- A function of a built-in's name, earlier in many a search_path.
CREATE SCHEMA shadow;
CREATE FUNCTION shadow.lower(text) RETURNS text LANGUAGE sql VOLATILE AS $$
    INSERT INTO public.audit (what) VALUES ('lowered ' || $1);
    SELECT pg_catalog.lower($1);
$$;
-- Another write that a SELECT hides: behind an operator.
CREATE OPERATOR shadow.### (LEFTARG = text, RIGHTARG = text, FUNCTION = pg_catalog.textcat);
CREATE FUNCTION shadow.note_twice(text, text) RETURNS text LANGUAGE sql VOLATILE AS $$
    INSERT INTO public.audit (what) VALUES ($1), ($2);
    SELECT $1 || $2;
$$;
CREATE OPERATOR public.@#@ (LEFTARG = text, RIGHTARG = text, FUNCTION = shadow.note_twice);
CREATE SEQUENCE tickets;
