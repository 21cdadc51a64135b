//! sqlx, as a client of a database in or outside of a session, with libpq's `PGHOST`, `PGPORT`, `PGUSER`, `PGPASSWORD`, `PGDATABASE`;
//! without TLS. It prepares everything, describes it, and asks the catalog for types it does not know.

use std::{env, time::Duration};

use anyhow::{Context as _, ensure};
use futures_util::TryStreamExt as _;
use sqlx::{
    Acquire as _, Executor as _, PgPool, Row as _, Statement as _, TypeInfo as _,
    postgres::{PgConnectOptions, PgListener, PgPoolOptions, PgSslMode, types::Oid},
};

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let variable = |name| env::var(name).with_context(|| format!("needs {name}"));
    let host = variable("PGHOSTADDR").or_else(|_| variable("PGHOST"))?;
    let options = PgConnectOptions::new_without_pgpass()
        .host(&host)
        .port(variable("PGPORT")?.parse()?)
        .username(&variable("PGUSER")?)
        .password(&env::var("PGPASSWORD").unwrap_or_default())
        .database(&variable("PGDATABASE")?)
        .ssl_mode(PgSslMode::Disable);
    let pool = PgPoolOptions::new()
        .max_connections(4)
        .connect_with(options)
        .await?;
    pool.execute("CREATE TYPE sqlx_mood AS ENUM ('glad', 'sad')")
        .await?;
    pool.execute("CREATE TABLE sqlx_made (id bigserial PRIMARY KEY, mood sqlx_mood, moods sqlx_mood[], note text)")
        .await?;
    rows(&pool).await?;
    types(&pool).await?;
    transactions(&pool).await?;
    streams(&pool).await?;
    pool.close().await;
    println!("sqlx: well");
    Ok(())
}

/// Bound values, and statements that are described without being run.
async fn rows(pool: &PgPool) -> anyhow::Result<()> {
    for id in [1, 3, 1] {
        let row = sqlx::query("SELECT name, placed FROM customers JOIN orders o ON customer = customers.id WHERE o.id = $1")
            .bind(i64::from(id))
            .fetch_one(pool)
            .await?;
        ensure!(!row.get::<&str, _>("name").is_empty());
    }
    let described = pool
        .prepare("SELECT id, name FROM customers WHERE id = $1")
        .await?;
    let types: Vec<_> = described.columns().iter().map(column_type).collect();
    ensure!(types == ["INT4", "TEXT"], "{types:?}");
    let missing = pool.execute("SELECT nothing FROM nowhere").await;
    let code = missing.err().and_then(|it| it.into_database_error());
    ensure!(code.is_some_and(|it| it.code().as_deref() == Some("42P01")));
    let asked = (0..30).map(|n| sqlx::query_scalar::<_, i32>("SELECT $1 * 2").bind(n));
    let all = futures_util::future::try_join_all(asked.map(|it| it.fetch_one(pool))).await?;
    ensure!(all == (0..30).map(|n| n * 2).collect::<Vec<_>>());
    Ok(())
}

fn column_type(column: &sqlx::postgres::PgColumn) -> String {
    sqlx::Column::type_info(column).name().to_owned()
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, sqlx::Type)]
#[sqlx(type_name = "sqlx_mood", rename_all = "lowercase")]
enum Mood {
    Glad,
    Sad,
}

/// Of the database's own types: their OIDs are looked up by name, and their names by OID.
async fn types(pool: &PgPool) -> anyhow::Result<()> {
    let inserted: i64 =
        sqlx::query_scalar("INSERT INTO sqlx_made (mood, note) VALUES ($1, $2) RETURNING id")
            .bind(Mood::Sad)
            .bind("a note")
            .fetch_one(pool)
            .await?;
    let row = sqlx::query("SELECT mood, ARRAY[mood] AS moods, 'sqlx_made'::regclass::oid AS place FROM sqlx_made WHERE id = $1")
        .bind(inserted)
        .fetch_one(pool)
        .await?;
    ensure!(row.get::<Mood, _>(0) == Mood::Sad);
    ensure!(
        row.columns()[1..]
            .iter()
            .map(column_type)
            .eq(["sqlx_mood[]", "OID"])
    );
    ensure!(row.get::<Oid, _>(2).0 > 0);
    Ok(())
}

async fn transactions(pool: &PgPool) -> anyhow::Result<()> {
    let mut outer = pool.begin().await?;
    sqlx::query("UPDATE sqlx_made SET note = $1 WHERE note = $2")
        .bind("another")
        .bind("a note")
        .execute(&mut *outer)
        .await?;
    let mut inner = outer.begin().await?;
    let failed = sqlx::query("SELECT 1 / $1")
        .bind(0)
        .execute(&mut *inner)
        .await;
    ensure!(failed.is_err());
    inner.rollback().await?;
    outer.commit().await?;
    // Dropped while it is open: rolled back before the connection is used again.
    let mut dropped = pool.begin().await?;
    sqlx::query("INSERT INTO sqlx_made (note) VALUES ('lost')")
        .execute(&mut *dropped)
        .await?;
    drop(dropped);
    let notes: Vec<String> = sqlx::query_scalar("SELECT note FROM sqlx_made")
        .fetch_all(pool)
        .await?;
    ensure!(notes == ["another"], "{notes:?}");
    Ok(())
}

/// Rows one by one, COPY both ways, notifications.
async fn streams(pool: &PgPool) -> anyhow::Result<()> {
    let mut numbers = sqlx::query_scalar::<_, i32>("SELECT generate_series(1, 1000)").fetch(pool);
    let mut sum = 0;
    while let Some(number) = numbers.try_next().await? {
        sum += number;
    }
    drop(numbers);
    ensure!(sum == 500_500);
    let mut connection = pool.acquire().await?;
    let mut copy = connection
        .copy_in_raw("COPY sqlx_made (note) FROM STDIN")
        .await?;
    copy.send(&b"one\ntwo\n"[..]).await?;
    ensure!(copy.finish().await? == 2);
    let copied: Vec<_> = connection
        .copy_out_raw("COPY sqlx_made (note) TO STDOUT")
        .await?
        .try_collect()
        .await?;
    ensure!(copied.concat() == b"another\none\ntwo\n");
    drop(connection);
    let mut listener = PgListener::connect_with(pool).await?;
    listener.listen("sqlx_news").await?;
    pool.execute("SELECT pg_notify('sqlx_news', 'extra')")
        .await?;
    let heard = tokio::time::timeout(Duration::from_secs(10), listener.recv()).await??;
    ensure!(heard.payload() == "extra");
    Ok(())
}
