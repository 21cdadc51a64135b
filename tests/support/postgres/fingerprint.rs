//! All that is in a server, to see whether something changed it.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    process::Command,
};

use super::{DATABASE, Postgres, setup::ADMIN};

/// What a statement could leave behind, by what it is found in.
#[derive(Clone, Debug)]
pub struct Fingerprint(BTreeMap<&'static str, String>);

impl Fingerprint {
    /// Fails where `later` differs, and says in what.
    ///
    /// # Panics
    /// Then; `after` says what came between.
    pub fn assert_same(&self, later: &Self, after: &str) {
        for (what, now) in &later.0 {
            let old: BTreeSet<_> = self.0[what].lines().collect();
            let new: BTreeSet<_> = now.lines().collect();
            let gone: Vec<_> = old.difference(&new).take(5).collect();
            let come: Vec<_> = new.difference(&old).take(5).collect();
            assert!(
                self.0[what] == *now,
                "{after}: {what} changed: {gone:?} became {come:?}"
            );
        }
    }
}

impl Postgres {
    /// All that is in [`DATABASE`], and what the server has besides.
    ///
    /// # Panics
    /// When the server does not say.
    #[must_use]
    pub fn fingerprint(&self) -> Fingerprint {
        let query = |sql: &str| self.query(DATABASE, sql);
        let catalogs = [
            "pg_class",
            "pg_proc",
            "pg_operator",
            "pg_type",
            "pg_cast",
            "pg_trigger",
            "pg_rewrite",
            "pg_policy",
        ];
        let catalogs = catalogs.map(|it| {
            format!("SELECT md5(string_agg(x::text || xmin::text, '|' ORDER BY oid)) FROM {it} x")
        });
        let settings = "SELECT string_agg(name || '=' || coalesce(setting, ''), chr(10) ORDER BY name) FROM pg_settings";
        let changed = "SELECT sum(n_tup_ins + n_tup_upd + n_tup_del) FROM pg_stat_user_tables";
        let configuration = self.dir().join("data/postgresql.auto.conf");
        let all = [
            (
                "schema, rows, sequences and large objects",
                self.dump("pg_dump", &["-b", DATABASE]),
            ),
            (
                "roles and databases",
                self.dump("pg_dumpall", &["--globals-only"]),
            ),
            ("catalogs", query(&catalogs.join(" UNION ALL "))),
            ("settings", query(settings)),
            ("slots", query("SELECT count(*) FROM pg_replication_slots")),
            (
                "locks",
                query("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'"),
            ),
            (
                "prepared transactions",
                query("SELECT count(*) FROM pg_prepared_xacts"),
            ),
            ("rows changed", query(changed)),
            ("files", files(&self.dir().join("data"))),
            (
                "configuration",
                fs::read_to_string(configuration).unwrap_or_default(),
            ),
            ("/tmp/x", fs::read_to_string("/tmp/x").unwrap_or_default()),
        ];
        Fingerprint(all.into())
    }

    /// The number that the next transaction that writes will have.
    ///
    /// # Panics
    /// When the server does not say.
    #[must_use]
    pub fn next_transaction(&self) -> String {
        self.query(DATABASE, "SELECT pg_snapshot_xmax(pg_current_snapshot())")
    }

    fn dump(&self, program: &str, arguments: &[&str]) -> String {
        let output = Command::new(self.program(program))
            .arg("-h")
            .arg(self.dir().join("run"))
            .args(["-p", &self.address.port().to_string(), "-U", ADMIN])
            .args(arguments)
            .output()
            .expect("it runs");
        assert!(output.status.success(), "{output:?}");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        // Each dump has a random word of its own there.
        let lines = text.lines().filter(|line| !line.contains("restrict "));
        lines.collect::<Vec<_>>().join("\n")
    }
}

/// Files of the server but those that every server writes all the time.
fn files(data: &Path) -> String {
    let mut names = BTreeSet::new();
    for place in [
        "",
        "pg_replslot",
        "pg_tblspc",
        "pg_twophase",
        "pg_snapshots",
    ] {
        let entries = fs::read_dir(data.join(place)).into_iter().flatten();
        names.extend(entries.flatten().map(|it| it.path().display().to_string()));
    }
    names.into_iter().collect::<Vec<_>>().join("\n")
}
