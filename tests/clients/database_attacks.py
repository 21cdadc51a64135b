"""A client of PostgreSQL that writes bytes: each scenario is one attack, named by the first argument. What the server or Holdpoint answers is
printed, a message a line; what has to be judged is judged by the test."""

import os
import socket
import ssl
import struct
import sys
import time

HOST, PORT, DATABASE = os.environ["PGHOST"], int(os.environ["PGPORT"]), os.environ["PGDATABASE"]
SSL_REQUEST = struct.pack("!ii", 8, 80877103)


def message(tag, *parts):
    body = b"".join(parts)
    return tag.encode() + struct.pack("!i", len(body) + 4) + body


def text(value):
    return value.encode() + b"\0"


def query(sql):
    return message("Q", text(sql))


def parse(name, sql):
    return message("P", text(name), text(sql), struct.pack("!h", 0))


def bind(portal, name, *values):
    told = b"".join(struct.pack("!i", len(it)) + it for it in (value.encode() for value in values))
    return message("B", text(portal), text(name), struct.pack("!hh", 0, len(values)), told, struct.pack("!h", 0))


def describe(kind, name):
    return message("D", kind.encode(), text(name))


def execute(portal="", rows=0):
    return message("E", text(portal), struct.pack("!i", rows))


def close(kind, name):
    return message("C", kind.encode(), text(name))


def data(value):
    return message("d", value)


SYNC, FLUSH, COPY_DONE = message("S"), message("H"), message("c")


def startup(**settings):
    pairs = {"user": "whoever", "database": DATABASE, **settings}
    body = b"".join(text(name) + text(value) for name, value in pairs.items()) + b"\0"
    return struct.pack("!ii", len(body) + 8, 196608) + body


class Wire:
    def __init__(self, encrypted=True, greet=True, **settings):
        self.socket = socket.create_connection((HOST, PORT), timeout=20)
        self.buffer = b""
        if encrypted:
            self.socket.sendall(SSL_REQUEST)
            assert self.socket.recv(1) == b"S"
            context = ssl.create_default_context()
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            self.socket = context.wrap_socket(self.socket, server_hostname=HOST)
        if greet:
            self.socket.sendall(startup(**settings))
            self.until("Z")

    def send(self, *messages):
        self.socket.sendall(b"".join(messages))

    def next(self, limit=20):
        """One message: its type, and what is in it."""
        self.socket.settimeout(limit)
        while len(self.buffer) < 5 or len(self.buffer) < 1 + struct.unpack("!i", self.buffer[1:5])[0]:
            piece = self.socket.recv(65536)
            if not piece:
                raise EOFError("closed")
            self.buffer += piece
        length = 1 + struct.unpack("!i", self.buffer[1:5])[0]
        whole, self.buffer = self.buffer[:length], self.buffer[length:]
        return chr(whole[0]), whole[5:]

    def until(self, tag, times=1, limit=20):
        seen = []
        while times:
            told = self.next(limit)
            seen.append(told)
            times -= told[0] == tag
        return seen

    def ask(self, *messages, times=1, until="Z"):
        """Sends, and shows all that comes up to this, or to the connection's end."""
        try:
            self.send(*messages)
            while times:
                told = self.next()
                show([told])
                times -= told[0] == until
        except (OSError, EOFError) as error:
            show([("!", str(error).encode())])


def show(told):
    for tag, body in told:
        print(tag, body.replace(b"\0", b" ").decode(errors="replace").replace("\n", " "), flush=True)


def copy_eats_a_parse():
    """A COPY takes one message for a mistake: the Parse that would have given `s` another meaning."""
    wire = Wire()
    wire.ask(parse("s", "DELETE FROM scratch"), SYNC)
    wire.ask(
        query("SELECT pg_sleep(1); COPY scratch FROM STDIN"),
        parse("s", "SELECT 'harmless'"), bind("", "s"), execute(), SYNC,
        times=2,
    )


def a_long_name_is_two():
    """PostgreSQL reads 63 bytes of a name."""
    wire, prefix = Wire(), "n" * 63
    wire.ask(parse(prefix + "1", "SELECT 'harmless'"), SYNC)
    wire.ask(close("S", prefix + "2"), SYNC)
    wire.ask(parse(prefix + "3", "DELETE FROM scratch"), SYNC)
    wire.ask(bind("", prefix + "1"), execute(), SYNC)


def execute_is_bound_before_its_name_changes():
    wire = Wire()
    wire.ask(query("PREPARE x AS SELECT 'harmless'"))
    wire.ask(query("BEGIN"))
    wire.ask(parse("", "EXECUTE x"), bind("p", ""), FLUSH, until="2")
    wire.ask(close("S", "x"), parse("x", "DELETE FROM scratch"), SYNC)
    wire.ask(execute("p"), SYNC)
    wire.ask(query("COMMIT"))


def a_portal_takes_a_cursors_name():
    wire = Wire()
    wire.ask(query("BEGIN; DECLARE c CURSOR FOR SELECT note FROM scratch"))
    wire.ask(close("P", "c"), parse("", "SELECT card FROM customers"), bind("c", ""), SYNC)
    wire.ask(query("FETCH ALL FROM c"))


def a_cursor_takes_a_portals_name():
    wire = Wire()
    wire.ask(query("BEGIN"))
    wire.ask(parse("", "SELECT note FROM scratch"), bind("c", ""), SYNC)
    wire.ask(query("CLOSE c; DECLARE c CURSOR FOR SELECT card FROM customers"))
    wire.ask(execute("c"), SYNC)


def a_cursor_is_only_explained():
    wire = Wire()
    wire.ask(query("BEGIN; DECLARE c CURSOR FOR SELECT card FROM customers"))
    wire.ask(query("EXPLAIN DECLARE c CURSOR FOR SELECT note FROM scratch"))
    wire.ask(query("FETCH ALL FROM c"))


def a_paused_portal_comes_back_as_another():
    wire = Wire()
    wire.ask(
        parse("", "SELECT note FROM scratch"), bind("", ""), execute("", 1),
        parse("t", "SELECT card FROM customers"), bind("", "t"), FLUSH, until="s",
    )
    wire.ask(execute(), SYNC)


def an_error_shows_a_value():
    wire = Wire()
    wire.ask(query("SELECT card::date FROM customers"))
    wire.ask(parse("", "SELECT card::date FROM customers"), bind("", ""), execute(), SYNC)
    wire.ask(query("SELECT email::regclass FROM customers WHERE card IS NOT NULL"))
    wire.ask(query("CREATE TEMP TABLE t AS SELECT card::date FROM customers"))
    wire.ask(query("SELECT nme, card FROM customers"))
    wire.ask(query("COPY (SELECT card::date FROM customers) TO STDOUT"))


def an_older_answer_ends_no_younger_transaction():
    """What a transaction has made is forgotten when a ReadyForQuery comes; this one is of before."""
    wire = Wire()
    wire.ask(
        parse("", "SELECT pg_sleep(2)"), bind("", ""), execute(), SYNC,
        parse("", "BEGIN"), bind("", ""), execute(),
        parse("", "CREATE TEMP VIEW fresh AS SELECT card AS c FROM customers"), bind("", ""), execute(), FLUSH,
        until="C", times=3,
    )
    wire.ask(parse("", "SELECT 'seen', c FROM fresh"), bind("", ""), execute(), SYNC)


MASKED = """
SELECT c FROM customers c
SELECT c::text FROM customers c
SELECT row_to_json(c) FROM customers c
SELECT to_jsonb(c) FROM customers c
SELECT json_agg(c) FROM customers c
SELECT array_agg(c) FROM customers c
SELECT string_agg(c::text, ',') FROM customers c
TABLE customers
SELECT d FROM customers AS q(a, b, m, d, e)
SELECT d || '' FROM customers AS q(a, b, m, d, e)
SELECT d || '' FROM customers /* c */ "q" /* d */ (a, b, m, d, e)
SELECT d || '' FROM (customers CROSS JOIN (VALUES (1)) v) over(a, b, m, d, e, f)
SELECT d FROM (SELECT * FROM customers) AS q(a, b, m, d, e)
SELECT d || '' FROM (SELECT * FROM customers) AS q(a, b, m, d, e)
SELECT d FROM (SELECT * FROM customers UNION ALL SELECT * FROM customers) AS q(a, b, m, d, e)
WITH q(a, b, m, d, e) AS (SELECT * FROM customers) SELECT d FROM q
WITH q(a, b, m, d, e) AS (SELECT * FROM customers) SELECT max(d) FROM q
SELECT (SELECT d FROM customers AS q(a, b, m, d, e) LIMIT 1)
VALUES ((SELECT d FROM customers AS q(a, b, m, d, e) LIMIT 1))
SELECT hstore(c)->'card' FROM customers c
SELECT (each(hstore(c))).value FROM customers c
SELECT value FROM customers c, json_each_text(row_to_json(c))
SELECT jsonb_path_query(to_jsonb(c), '$.*') FROM customers c
SELECT x FROM (SELECT c.* FROM customers c) x
SELECT format('%s', c) FROM customers c
SELECT encode(convert_to(c::text, 'UTF8'), 'hex') FROM customers c
SELECT convert_to(c::text, 'UTF8') FROM customers c
SELECT regexp_split_to_table(c::text, ',') FROM customers c
SELECT card::bigint FROM customers
SELECT xmlforest(card) FROM customers
SELECT xmlelement(name x, c.*) FROM customers c
UPDATE customers SET id = id WHERE id = 1 RETURNING card
UPDATE customers SET id = id WHERE id = 1 RETURNING customers
UPDATE customers q SET id = id WHERE id = 1 RETURNING q.*
EXPLAIN ANALYZE SELECT card FROM customers
SELECT "card" FROM customers
SELECT U&"c\\0061rd" FROM customers
SELECT U&"c\\0061rd" || '' FROM customers
SELECT upper(U&"c\\0061rd") FROM customers
COPY customers TO STDOUT
COPY (SELECT * FROM customers) TO STDOUT
COPY customers (card) TO STDOUT
COPY customers (card) TO STDOUT (FORMAT binary)
SELECT x FROM xmltable('/r' PASSING (SELECT xmlelement(name r, card) FROM customers LIMIT 1) COLUMNS x text PATH '.')
BEGIN; DECLARE k CURSOR FOR SELECT d || '' FROM customers AS q(a, b, m, d, e); FETCH ALL k; COMMIT
PREPARE pp AS SELECT d || '' FROM customers AS q(a, b, m, d, e); EXECUTE pp
"""


def masked_values():
    for sql in MASKED.strip().splitlines():
        print("#", sql, flush=True)
        wire = Wire()
        wire.ask(query(sql))
        wire.send(message("X"))


def memory_parses():
    """Statements that are named and never used."""
    wire = Wire()
    sql = "SELECT 1 /*" + "x" * 900_000 + "*/"
    try:
        for at in range(int(sys.argv[2])):
            wire.send(parse(f"s{at}", sql), *([SYNC] if sys.argv[3] == "sync" else []))
            if sys.argv[3] == "sync":
                told = wire.until("Z")
                if told[0][0] == "E":
                    return show(told)
    except (OSError, EOFError) as error:
        print("!", error)
    print("sent", flush=True)
    time.sleep(float(sys.argv[4]))


def memory_function_calls():
    """Five bytes that are answered by hundreds, which nobody reads."""
    wire = Wire()
    wire.socket.settimeout(5)
    try:
        for _ in range(int(sys.argv[2])):
            wire.send(message("F") * 10_000)
    except OSError as error:
        print("!", error)
    print("sent", flush=True)
    time.sleep(5)


def a_backslash_ends_no_text():
    """Where backslashes mean something, the text goes on behind this one."""
    wire = Wire()
    wire.ask(query("SELECT 'two \\'"))
    wire.ask(query("RESET ALL"))
    wire.ask(query("SELECT 'two \\'"))


def odd_beginnings():
    """What comes before a login, and is none."""
    slipped = query("SELECT 'slipped in'")
    begin = {
        "in TLS's place": SSL_REQUEST + startup() + slipped,
        "GSSAPI, then TLS, then bytes": struct.pack("!ii", 8, 80877104) + SSL_REQUEST + startup() + slipped,
        "many requests": SSL_REQUEST * 20,
        "length 0": struct.pack("!ii", 0, 196608),
        "length 4": struct.pack("!i", 4),
        "a negative length": struct.pack("!ii", -5, 196608) + slipped,
        "a huge one": struct.pack("!ii", 0x7FFFFFFF, 196608),
        "version 2": struct.pack("!ii", 296, 2 << 16) + b"x" * 288,
        "a name and no value": struct.pack("!ii", 13, 196608) + b"user\0",
        "no end": struct.pack("!ii", 16, 196608) + b"user\0who",
        "replication": startup(replication="database"),
        "replication, again": startup(options="-c replication=database"),
        "a role": startup(options="-c role=dba"),
        "a role by a long option": startup(options="--session-authorization=dba"),
        "another database": startup(database="postgres"),
        "a connection string": startup(database="host=localhost dbname=shop"),
        "an encoding": startup(client_encoding="SJIS"),
        "HTTP": b"GET / HTTP/1.1\r\nHost: db.internal\r\n\r\n",
        "a query": slipped,
        "a password": message("p", text("x")),
        "keys that are guessed": struct.pack("!iiii", 16, 80877102, 1, 1),
    }
    for what, sent in begin.items():
        stream = socket.create_connection((HOST, PORT), timeout=10)
        told = b""
        try:
            stream.sendall(sent)
            stream.shutdown(socket.SHUT_WR)
            while piece := stream.recv(4096):
                told += piece
        except OSError as error:
            told += str(error).encode()
        print(what, ":", told[:160], flush=True)
        if b"Z\0\0\0\5" in told:
            print("let in by", what, flush=True)


def only_parsed():
    """Whoever never binds a statement has it read all the same, and its literals with it."""
    for sql in ("SELECT '{1}'::loud[]", "INSERT INTO louder VALUES ('{2}')", "SELECT * FROM louder WHERE them = '{3}'"):
        Wire().ask(parse("", sql), SYNC)
        Wire().ask(parse("", sql), describe("S", ""), FLUSH, until="E")
        Wire().ask(parse("", sql), parse("", "SELECT 1"), bind("", ""), execute(), SYNC)
        Wire().ask(parse("", sql), query("SELECT 1"))
        Wire().ask(parse("s", sql), close("S", "s"), SYNC)


def waits_for_other_policies():
    """What was bound before is executed after."""
    wire = Wire()
    wire.ask(query("BEGIN"))
    wire.ask(parse("d", "UPDATE scratch SET note = 'changed' WHERE id = 1"), bind("p", "d"), FLUSH, until="2")
    wire.ask(parse("s", "SELECT note FROM scratch"), bind("q", "s"), execute("q", 1), FLUSH, until="s")
    wire.ask(query("SELECT 'bound'"))
    goes_on = False
    while not goes_on:
        time.sleep(0.2)
        try:
            wire.send(query("SELECT count(*) FROM audit WHERE what = 'go on'"))
            told = ("", b"")
            while told[0] != "Z":
                told = wire.next()
                goes_on |= told[0] == "D" and told[1].endswith(b"1")
                if told[0] == "E":
                    show([told])
        except (OSError, EOFError):
            break
    wire.ask(execute("p"), SYNC)
    wire.ask(query("COMMIT"))


def a_pipeline_changes_how_it_is_read():
    """What was approved changes what a backslash means, and what follows at once was read before."""
    change = "DO $$ BEGIN SET standard_conforming_strings = off; END $$"
    # One text to Holdpoint; to the server, once that is off, a text and an UPDATE behind it.
    hidden = "WITH a AS (SELECT '\\' AS p, '), b AS (UPDATE scratch SET note = $$changed$$ RETURNING 1) SELECT 1 --' AS q) SELECT 1"
    for between in (b"", SYNC):
        Wire().ask(
            parse("", change), bind("", ""), execute(), between, parse("", hidden), bind("", ""), execute(), SYNC,
            times=2 if between else 1,
        )


def plants_secrets():
    """A secret, and another one in each place; the test looks where they have come to."""
    def secret(place):
        return "ghp_" + place.ljust(36, "x")

    def tried(*messages, **settings):
        try:
            Wire(**settings).ask(*messages)
        except (OSError, EOFError) as error:
            print("!", error)

    tried(query(f"SELECT 1 /* {secret('comment')} */"))
    tried(query(f"SELECT '{secret('literal')}'"))
    tried(query(f"BEGIN; SAVEPOINT \"{secret('savepoint')}\"; COMMIT"))
    tried(query(f"NOTIFY news, '{secret('payload')}'"))
    tried(query(f"SELECT 1 AS \"{secret('alias')}\""))
    tried(query(f"SELECT * FROM \"{secret('relation')}\""))
    tried(query(f"SELECT '{secret('error')}'::integer"))
    tried(query(f"SELECT 1 '{secret('syntax')}' +"))
    tried(query(f"SET application_name = '{secret('setting')}'"))
    tried(query(f"UPDATE scratch SET note = '{secret('update')}' WHERE id = 1"))
    tried(query("COPY scratch FROM STDIN"), data(f"77\t{secret('copied')}\n".encode()), COPY_DONE)
    tried(parse(secret("name"), "SELECT $1::text"), bind("", secret("name"), secret("parameter")), execute(), SYNC)
    tried(parse("", "SELECT $1::text"), bind(secret("portal"), "", "x"), execute(secret("portal")), SYNC)
    tried(query("SELECT 1"), application_name=secret("application"))
    tried(query("SELECT 1"), database=secret("database"))
    tried(query("SELECT 1"), user=secret("user"))
    tried(query("SELECT 1"), options=f"-c work_mem={secret('option')}")
    tried(query("SELECT 1"), **{secret("key"): "1"})


def hoards():
    """One session takes all that it gets."""
    kept = []
    for _ in range(int(sys.argv[2])):
        wire = Wire(greet=False)
        wire.send(startup(application_name="hoard"))
        told = wire.next()
        while told[0] not in "ZE":
            told = wire.next()
        show([told])
        if told[0] == "Z":
            kept.append(wire)
    print(len(kept), "let in", flush=True)
    time.sleep(6)
    kept.pop().socket.close()
    time.sleep(1)
    Wire()
    print("and another", flush=True)


def errors_and_settings():
    wire = Wire()
    for sql in (
        "SHOW ALL", "SELECT * FROM pg_settings", "SELECT * FROM pg_stat_activity", "SELECT 1/0", "SELECT * FROM pg_roles",
        "SELECT current_setting('is_superuser')", "TABLE pg_stat_ssl", "SELECT * FROM pg_db_role_setting",
    ):
        wire.ask(query(sql))


def gone_while_copying():
    """Waits for what never comes, and goes away."""
    for _ in range(20):
        wire = Wire()
        wire.send(query("COPY scratch FROM STDIN"), query("SELECT 1"))
        time.sleep(0.2)
        wire.socket.close()
    print("gone", flush=True)
    time.sleep(8)


globals()[sys.argv[1]]()
