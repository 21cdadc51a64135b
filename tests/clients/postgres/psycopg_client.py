"""psycopg 3: parameters, binary results, pipelines, server-side cursors, COPY, cancel, notifications."""

import threading
import time

import psycopg
from psycopg import errors

with psycopg.connect(autocommit=True) as db:
    name = db.execute("SELECT name FROM customers WHERE id = %s", [2]).fetchone()[0]
    assert name == "Charles Babbage", name

    row = db.execute(
        "SELECT id, balance, card, placed FROM customers JOIN orders o USING (id) WHERE id = %b", [3], binary=True
    ).fetchone()
    assert (row[0], str(row[1]), row[2]) == (3, "0.00", None), row

    # Prepared on the server at the fifth use.
    for n in range(12):
        assert db.execute("SELECT %s::int * 2", [n]).fetchone() == (2 * n,)

    try:
        db.execute("SELECT nothing FROM nowhere")
        raise SystemExit("an unknown table was found")
    except errors.UndefinedTable as error:
        assert error.sqlstate == "42P01"
    assert db.execute("SELECT 1").fetchone() == (1,)

    db.execute("CREATE TABLE psycopg_made (id int, note text)")
    with db.pipeline() as pipeline:
        cursor = db.cursor()
        cursor.executemany("INSERT INTO psycopg_made VALUES (%s, %s)", [(n, f"note {n}") for n in range(500)])
        counted = db.execute("SELECT count(*) FROM psycopg_made")
        pipeline.sync()
        assert counted.fetchone() == (500,)
    try:
        with db.pipeline():
            db.execute("INSERT INTO psycopg_made VALUES (1000, 'undone')")
            db.execute("SELECT 1 / 0")
            db.execute("INSERT INTO psycopg_made VALUES (1001, 'never run')")
        raise SystemExit("the error in a pipeline was lost")
    except (errors.DivisionByZero, errors.PipelineAborted):
        pass
    assert db.execute("SELECT count(*) FROM psycopg_made WHERE id >= 1000").fetchone() == (0,)

    for fmt in ("TEXT", "BINARY"):
        with db.cursor().copy(f"COPY psycopg_made FROM STDIN (FORMAT {fmt})") as copy:
            if fmt == "BINARY":
                copy.set_types(["int4", "text"])
            for n in range(2000, 3000):
                copy.write_row((n, "copied\t\\ " + "x" * (n % 100)))
        with db.cursor().copy(f"COPY psycopg_made TO STDOUT (FORMAT {fmt})") as copy:
            copy.set_types(["int4", "text"])
            rows = list(copy.rows())
        assert len(rows) in (1500, 2500), len(rows)
        assert (2099, "copied\t\\ " + "x" * 99) in rows

    with db.transaction():
        with db.cursor(name="many") as cursor:
            cursor.itersize = 7
            assert sum(1 for _ in cursor.execute("SELECT * FROM generate_series(1, 100)")) == 100

    slow = threading.Timer(0.5, db.cancel)
    slow.start()
    started = time.monotonic()
    try:
        db.execute("SELECT pg_sleep(30)")
        raise SystemExit("the cancel was lost")
    except errors.QueryCanceled:
        assert time.monotonic() - started < 10
    assert db.execute("SELECT 2").fetchone() == (2,)

    db.execute("LISTEN news")
    db.execute("NOTIFY news, 'extra'")
    heard = [it.payload for it in db.notifies(timeout=5, stop_after=1)]
    assert heard == ["extra"], heard
    db.execute("DROP TABLE psycopg_made")
print("psycopg: well")
