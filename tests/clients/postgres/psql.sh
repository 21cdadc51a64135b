#!/bin/sh
# What people do with psql: descriptions, copies both ways, scripts, errors that do not end the session.
set -eu
psql() { command psql -X -v ON_ERROR_STOP=1 "$@"; }

psql -c '\d customers' | grep -q '"customers_pkey" PRIMARY KEY'
psql -c '\dt' | grep -q orders
psql -c '\l' > /dev/null
psql -At -c 'SELECT name FROM customers ORDER BY id' > names
test "$(head -n 1 names)" = 'Ada Lovelace'

psql -c '\copy orders TO orders.csv CSV HEADER' > /dev/null
test "$(wc -l < orders.csv)" -eq 101
psql <<'SQL' > /dev/null
CREATE TABLE psql_orders (LIKE orders);
\copy psql_orders FROM orders.csv CSV HEADER
SQL
test "$(psql -At -c 'SELECT count(*), sum(quantity) FROM psql_orders')" = \
    "$(psql -At -c 'SELECT count(*), sum(quantity) FROM orders')"

# Several statements in one message, and one transaction around them: all or nothing.
if psql -c "DELETE FROM psql_orders; SELECT 1 / 0" 2> error; then exit 1; fi
grep -q 'division by zero' error
test "$(psql -At -c 'SELECT count(*) FROM psql_orders')" = 100

# An error leaves the connection usable.
command psql -XAt <<'SQL' > after 2>&1
SELECT nothing FROM nowhere;
BEGIN;
INSERT INTO psql_orders SELECT * FROM orders WHERE id = 1;
SAVEPOINT here;
SELECT 1 / 0;
ROLLBACK TO here;
COMMIT;
SELECT count(*) FROM psql_orders;
\bind 7
SELECT $1::int + 1 AS eight;
SELECT generate_series(1, 3) AS n \gset last_
DROP TABLE psql_orders;
\echo done
SQL
grep -q 'relation "nowhere" does not exist' after
grep -qx 101 after
grep -qx done after
echo 'psql: well'
