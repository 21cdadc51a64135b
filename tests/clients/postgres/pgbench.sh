#!/bin/sh
# The benchmark everybody has: read and write, in all three protocols. The tables are there: pgbench -i made them.
set -eu
for protocol in simple extended prepared; do
    for script in select-only simple-update tpcb-like; do
        pgbench -n -b "$script" -M "$protocol" -c 4 -t 25 > report 2>&1 || { cat report; exit 1; }
        grep -q 'number of transactions actually processed: 100/100' report || { cat report; exit 1; }
        if grep 'number of failed transactions' report | grep -qv ': 0 '; then cat report; exit 1; fi
    done
done
echo 'pgbench: well'
