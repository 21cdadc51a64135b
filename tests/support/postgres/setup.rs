//! How a server is set up: settings, who may log in how, roles and databases.

use std::path::Path;

use super::{DATABASE, Options, Role, log::LINE_PREFIX};

/// The superuser of the tests, over the server's own socket only; what it asks is not logged.
pub const ADMIN: &str = "test_admin";

/// `postgresql.conf`.
pub(super) fn configuration(dir: &Path, port: u16, options: &Options) -> String {
    let dir = dir.display();
    let mut text = format!(
        "listen_addresses = '127.0.0.1'\nport = {port}\nunix_socket_directories = '{dir}/run'\n\
         max_connections = 300\nshared_buffers = 64MB\nfsync = off\nfull_page_writes = off\nsynchronous_commit = off\n\
         max_wal_size = 4GB\npassword_encryption = 'scram-sha-256'\ntimezone = 'UTC'\nlog_timezone = 'UTC'\n\
         lc_messages = 'C'\nssl = on\nssl_cert_file = '{dir}/server.pem'\nssl_key_file = '{dir}/server.key'\n\
         ssl_ca_file = '{dir}/ca.pem'\nlog_line_prefix = '{LINE_PREFIX}'\n"
    );
    if options.logs_statements {
        // The second logs what is only parsed, or bound, too: planning runs functions.
        text += "log_statement = 'all'\nlog_min_duration_statement = 0\nlog_connections = on\n";
    }
    for (name, value) in &options.settings {
        text += &format!("{name} = '{value}'\n");
    }
    text
}

/// `pg_hba.conf`: the first line that matches counts.
pub(super) fn host_based_authentication() -> String {
    let (md5, certificate) = (Role::Md5.name(), Role::Certificate.name());
    let (iam, plain) = (Role::Iam.name(), Role::Plain.name());
    format!(
        "local all {ADMIN} trust\n\
         local all \"{iam}\" trust\n\
         host all {ADMIN} all reject\n\
         hostssl all {certificate} all cert\n\
         hostssl all {md5} all md5\n\
         hostssl all \"{iam}\" all password\n\
         hostssl all {plain} all reject\n\
         hostssl all all all scram-sha-256\n\
         hostnossl all {plain} all scram-sha-256\n"
    )
}

/// All roles. The md5 one gets an md5 verifier: with a SCRAM one, the server would ask for SCRAM whatever `pg_hba.conf` says.
pub(super) fn roles(password: &str) -> String {
    let mut sql = format!("ALTER ROLE {ADMIN} SET log_statement = 'none';\n");
    sql += &format!("ALTER ROLE {ADMIN} SET log_min_duration_statement = -1;\n");
    for role in Role::ALL {
        let encryption = match role {
            Role::Md5 => "md5",
            _ => "scram-sha-256",
        };
        sql += &format!("SET password_encryption = '{encryption}';\n");
        let rights = match role {
            Role::Superuser => " SUPERUSER",
            _ => "",
        };
        let name = role.name();
        sql += &match role {
            Role::Certificate => format!("CREATE ROLE \"{name}\" LOGIN;\n"),
            _ => format!("CREATE ROLE \"{name}\" LOGIN{rights} PASSWORD '{password}';\n"),
        };
        if !matches!(role, Role::App | Role::Superuser) {
            sql += &format!("GRANT app TO \"{name}\";\n");
        }
    }
    sql
}

/// A statement of its own: it cannot run in a transaction.
pub(super) fn database() -> String {
    format!("CREATE DATABASE {DATABASE} OWNER app")
}

/// What effects hide behind on a server that has the usual extensions.
pub(super) fn extensions() -> String {
    let extensions = ["dblink", "postgres_fdw", "file_fdw", "pgcrypto", "hstore"];
    let create = extensions.map(|it| format!("CREATE EXTENSION {it};\n"));
    format!("ALTER SCHEMA public OWNER TO app;\n{}", create.concat())
}
