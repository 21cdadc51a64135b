"""pg8000: a driver in Python alone, which always prepares. Its variables are its own; libpq's are read here."""

import os
import ssl

import pg8000.native

context = None
if os.environ.get("PGSSLMODE") != "disable":
    context = ssl.create_default_context(cafile=os.environ.get("PGSSLROOTCERT"))
db = pg8000.native.Connection(
    os.environ["PGUSER"],
    host=os.environ.get("PGHOSTADDR") or os.environ["PGHOST"],
    port=int(os.environ["PGPORT"]),
    database=os.environ["PGDATABASE"],
    password=os.environ.get("PGPASSWORD"),
    ssl_context=context,
)
assert db.run("SELECT name FROM customers WHERE id = :id", id=1) == [["Ada Lovelace"]]
db.run("START TRANSACTION")
db.run("CREATE TABLE pg8000_made (id int, tags text[])")
db.run("INSERT INTO pg8000_made VALUES (:id, :tags)", id=1, tags=["a", 'b"c', None])
db.run("COMMIT")
assert db.run("SELECT tags FROM pg8000_made") == [[["a", 'b"c', None]]]
statement = db.prepare("SELECT :n + 1 AS more")
assert [statement.run(n=n) for n in range(3)] == [[[1]], [[2]], [[3]]]
statement.close()
try:
    db.run("SELECT nothing FROM nowhere")
    raise SystemExit("an unknown table was found")
except pg8000.native.DatabaseError as error:
    assert error.args[0]["C"] == "42P01", error
assert db.run("SELECT 1") == [[1]]
db.run("DROP TABLE pg8000_made")
db.close()
print("pg8000: well")
