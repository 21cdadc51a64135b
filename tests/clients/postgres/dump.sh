#!/bin/sh
# A copy of the database, as files and back.
set -eu
pg_dump -Fc -f shop.dump -t customers -t orders
pg_restore -l shop.dump | grep -q 'TABLE DATA public orders'
pg_restore --no-owner -f - shop.dump | sed 's/public\./copied./g' > shop.sql
psql -X -q -v ON_ERROR_STOP=1 -c 'CREATE SCHEMA copied'
psql -X -q -v ON_ERROR_STOP=1 -f shop.sql > /dev/null
test "$(psql -XAt -c 'SELECT md5(string_agg(o::text, chr(10) ORDER BY id)) FROM copied.orders o')" = \
    "$(psql -XAt -c 'SELECT md5(string_agg(o::text, chr(10) ORDER BY id)) FROM public.orders o')"
psql -X -q -c 'DROP SCHEMA copied CASCADE' 2> /dev/null
echo 'dump: well'
