//! What a real PostgreSQL writes is masked, and the same PostgreSQL reads it back: as many rows, the same NULLs, each value one of its type.

use std::{
    fs,
    io::Write as _,
    os::unix::{fs::PermissionsExt as _, process::CommandExt as _},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use holdpoint_core::mask::{
    Masks,
    rows::{Column, CopyFormat, CopyMasker},
};

const BIN: &str = "/usr/lib/postgresql/15/bin";
/// Whom the server runs as: it refuses root.
const NOBODY: u32 = 65_534;

struct Server {
    dir: PathBuf,
}

impl Server {
    fn start() -> Self {
        let dir = std::env::temp_dir().join(format!("holdpoint-rows-{}", std::process::id()));
        fs::create_dir(&dir).expect("a directory");
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o777)).expect("anybody's");
        let server = Self { dir };
        let data = server.dir.join("data");
        let data = data.to_str().expect("UTF-8");
        server.run(
            "initdb",
            &["-D", data, "-U", "postgres", "--no-sync", "-E", "UTF8"],
        );
        let options = format!(
            "-k {} -c listen_addresses= -c fsync=off",
            server.dir.display()
        );
        let log = server.dir.join("log");
        let log = log.to_str().expect("UTF-8");
        server.run(
            "pg_ctl",
            &["-D", data, "-o", &options, "-l", log, "-w", "start"],
        );
        server
    }

    fn command(&self, program: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(Path::new(BIN).join(program));
        command.args(arguments).current_dir(&self.dir);
        if is_root() {
            command.uid(NOBODY).gid(NOBODY);
        }
        command
    }

    fn run(&self, program: &str, arguments: &[&str]) {
        let done = self
            .command(program, arguments)
            .stdout(Stdio::null())
            .status()
            .expect("it starts");
        assert!(done.success(), "{program}: {done}");
    }

    fn psql(&self, sql: &str, input: &[u8]) -> Vec<u8> {
        let host = self.dir.to_str().expect("UTF-8");
        let mut child = self
            .command(
                "psql",
                &[
                    "-h",
                    host,
                    "-U",
                    "postgres",
                    "-XqAt",
                    "-v",
                    "ON_ERROR_STOP=1",
                    "-c",
                    sql,
                ],
            )
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("psql starts");
        child
            .stdin
            .take()
            .expect("piped")
            .write_all(input)
            .expect("psql reads");
        let done = child.wait_with_output().expect("psql ends");
        assert!(done.status.success(), "{sql}");
        done.stdout
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let data = self.dir.join("data");
        let data = data.to_str().expect("UTF-8");
        self.run("pg_ctl", &["-D", data, "-m", "immediate", "stop"]);
        let _ = fs::remove_dir_all(&self.dir);
    }
}

fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|it| std::os::unix::fs::MetadataExt::uid(&it) == 0)
}

/// Of every type that is masked in a way of its own: name, type, value.
const COLUMNS: [(&str, &str, &str); 38] = [
    ("a_text", "text", "'jane.doe@example.com'"),
    (
        "a_varchar",
        "varchar(100)",
        "'see jane.doe@example.com, \"x\"'",
    ),
    ("a_bpchar", "char(60)", "'jane.doe@example.com'"),
    ("a_name", "name", "'jane.doe@example.com'"),
    ("a_json", "json", "'{\"mail\":\"jane.doe@example.com\"}'"),
    (
        "a_jsonb",
        "jsonb",
        "'[1,{\"mail\":\"jane.doe@example.com\"}]'",
    ),
    ("an_xml", "xml", "'<a>jane.doe@example.com</a>'"),
    ("a_bytea", "bytea", "'jane.doe@example.com'::bytea"),
    ("a_card", "bigint", "4111111111111111"),
    ("a_card_numeric", "numeric", "4111111111111111"),
    (
        "an_array",
        "text[]",
        "ARRAY['jane.doe@example.com',NULL,'a,b','\"']",
    ),
    (
        "an_array_2",
        "text[][]",
        "ARRAY[['jane.doe@example.com'],['b']]",
    ),
    (
        "a_json_array",
        "jsonb[]",
        "ARRAY['{\"m\":\"jane.doe@example.com\"}'::jsonb]",
    ),
    ("hidden_text", "text", "'what nobody sees'"),
    ("hidden_int2", "smallint", "12345"),
    ("hidden_int4", "integer", "123456789"),
    ("hidden_int8", "bigint", "123456789012"),
    ("hidden_numeric", "numeric(12,2)", "123456.78"),
    ("hidden_float4", "real", "123456"),
    ("hidden_float8", "double precision", "123456.789"),
    ("hidden_bool", "boolean", "true"),
    ("hidden_date", "date", "'1981-02-03'"),
    ("hidden_time", "time", "'12:34:56'"),
    ("hidden_timetz", "timetz", "'12:34:56+02'"),
    ("hidden_timestamp", "timestamp", "'1981-02-03 12:34:56'"),
    (
        "hidden_timestamptz",
        "timestamptz",
        "'1981-02-03 12:34:56+01'",
    ),
    ("hidden_interval", "interval", "'123 days'"),
    (
        "hidden_uuid",
        "uuid",
        "'0b6f3f0e-64a5-4a42-b5ba-0c0e4c3c2e11'",
    ),
    ("hidden_inet", "inet", "'10.123.45.67/24'"),
    ("hidden_cidr", "cidr", "'10.123.45.0/24'"),
    ("hidden_macaddr", "macaddr", "'12:34:56:78:9a:bc'"),
    ("hidden_bits", "varbit", "B'10110'"),
    ("hidden_point", "point", "'(12345,678)'"),
    ("hidden_path", "path", "'((12345,678),(2,3))'"),
    ("hidden_polygon", "polygon", "'((12345,678),(2,3),(4,5))'"),
    ("hidden_range", "int4range", "'[12345,67890)'"),
    ("hidden_multirange", "int4multirange", "'{[12345,67890)}'"),
    ("hidden_ints", "integer[]", "ARRAY[123456789,NULL,7]"),
];

fn masked(format: &CopyFormat, columns: &[Column], data: &[u8], piece: usize) -> Vec<u8> {
    let toml = "name = \"own\"\nfields = [\"hidden_text\"]\ncolumns = [HIDDEN]";
    let hidden: Vec<String> = COLUMNS
        .iter()
        .filter(|(name, ..)| name.starts_with("hidden"))
        .map(|(name, ..)| format!("{name:?}"))
        .collect();
    let source = toml::from_str(&toml.replace("HIDDEN", &hidden.join(","))).expect("TOML");
    let masks = Masks::new(&[source], [7; 32]).expect("a set");
    let set = masks.union(["own", "secrets", "pii"]).expect("sets");
    let mut masker = CopyMasker::new(set, columns, Some("COPY t TO STDOUT"), format.clone());
    let mut out = Vec::new();
    for piece in data.chunks(piece) {
        masker.push(piece, &mut out).expect("it is masked");
    }
    masker.finish(&mut out).expect("it is masked");
    out
}

#[test]
fn what_a_server_writes_is_masked_and_read_back() {
    if !Path::new(BIN).exists() {
        assert!(
            std::env::var_os("CI").is_none(),
            "PostgreSQL 15 has to be there"
        );
        eprintln!("not run: there is no PostgreSQL in {BIN}");
        return;
    }
    let server = Server::start();
    let list = |of: fn(&(&str, &str, &str)) -> String| {
        COLUMNS.iter().map(of).collect::<Vec<_>>().join(",")
    };
    let table = list(|(name, kind, _)| format!("{name} {kind}"));
    let values = list(|(.., value)| (*value).to_owned());
    let nulls = list(|_| "NULL".to_owned());
    server.psql(
        &format!("CREATE TABLE t ({table}); CREATE TABLE back (LIKE t); INSERT INTO t VALUES ({values}), ({nulls}), ({values})"),
        b"",
    );
    let oids = server.psql(
        "SELECT string_agg(atttypid::oid::text, ' ' ORDER BY attnum) FROM pg_attribute WHERE attrelid = 't'::regclass AND attnum > 0",
        b"",
    );
    let oids = String::from_utf8(oids).expect("numbers");
    let columns: Vec<Column> = COLUMNS
        .iter()
        .zip(oids.split_whitespace())
        .map(|((name, ..), oid)| Column {
            name: (*name).to_owned(),
            origin: None,
            type_oid: oid.parse().expect("an OID"),
            format: 0,
        })
        .collect();
    for (options, format) in [
        ("FORMAT text", CopyFormat::text()),
        ("FORMAT csv", CopyFormat::csv()),
        ("FORMAT binary", CopyFormat::Binary),
    ] {
        let data = server.psql(&format!("COPY t TO STDOUT ({options})"), b"");
        let out = masked(&format, &columns, &data, 1000);
        assert_eq!(out, masked(&format, &columns, &data, 1), "{options}");
        server.psql(
            &format!("TRUNCATE back; COPY back FROM STDIN ({options})"),
            &out,
        );
        let back = server.psql("SELECT * FROM back", b"");
        let back = String::from_utf8(back).expect("UTF-8");
        for secret in [
            "jane.doe",
            "4111111111111111",
            "nobody",
            "12345",
            "1981",
            "0b6f",
            "10.123",
            "12:34",
        ] {
            assert!(!back.contains(secret), "{secret}, {options}: {back}");
        }
        let same_nulls: Vec<String> = COLUMNS
            .iter()
            .map(|(name, ..)| format!("count({name})"))
            .collect();
        let counts = |table| {
            server.psql(
                &format!("SELECT count(*),{} FROM {table}", same_nulls.join(",")),
                b"",
            )
        };
        assert_eq!(counts("back"), counts("t"), "{options}");
    }
}
