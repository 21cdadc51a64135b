#!/bin/sh
# A CI runner in short: runs every jobs/N.job that appears, one after the other, each in a worker of its own, as long as
# there is no file `stop`.
while [ ! -e stop ]; do
    for job in jobs/*.job; do
        [ -e "$job" ] || continue
        sh "$job" >"$job.log" 2>&1 </dev/null
        echo "exit $?" >>"$job.log"
        mv "$job" "$job.ran"
        mv "$job.log" "$job.done"
    done
    sleep 0.02
done
