//! tokio-postgres, as a client of a database in or outside of a session: `postgres-client TASK [SIZE]`, with libpq's
//! `PGHOST`, `PGPORT`, `PGUSER`, `PGPASSWORD`, `PGDATABASE`; without TLS.

use std::{env, pin::pin};

use anyhow::{Context as _, bail, ensure};
use bytes::Bytes;
use futures_util::{SinkExt as _, TryStreamExt as _};
use tokio_postgres::{Client, NoTls, SimpleQueryMessage};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut arguments = env::args().skip(1);
    let task = arguments.next().context("which task?")?;
    let size = arguments.next().map(|it| it.parse()).transpose()?;
    let size: usize = size.unwrap_or(1);
    match task.as_str() {
        "usual" => usual(&connect().await?).await?,
        "pipeline" => pipeline(connect().await?, size).await?,
        "row" => row(&connect().await?, size).await?,
        "crowd" => crowd(size).await?,
        "copy-in" => copy_in(&connect().await?, size).await?,
        "copy-out" => copy_out(&connect().await?, size).await?,
        "copy-masked" => copy_masked(&connect().await?, size).await?,
        "half-copy" => half_copy(&connect().await?, size).await?,
        "parameter" => parameter(&connect().await?, size).await?,
        "slow-pipeline" => slow_pipeline(connect().await?, size).await?,
        "hoard" => hoard(&connect().await?, size).await?,
        "stalled" => stalled(&connect().await?).await?,
        _ => bail!("no such task: {task}"),
    }
    println!("{task}: well");
    Ok(())
}

async fn connect() -> anyhow::Result<Client> {
    let variable = |name| env::var(name).with_context(|| format!("needs {name}"));
    let mut config = tokio_postgres::Config::new();
    config
        .host(variable("PGHOST")?)
        .port(variable("PGPORT")?.parse()?)
        .user(variable("PGUSER")?)
        .dbname(variable("PGDATABASE")?)
        .password(env::var("PGPASSWORD").unwrap_or_default())
        .ssl_mode(tokio_postgres::config::SslMode::Disable);
    if let Ok(address) = variable("PGHOSTADDR") {
        config.hostaddr(address.parse()?);
    }
    let (client, connection) = config.connect(NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

async fn usual(client: &Client) -> anyhow::Result<()> {
    let statement = client
        .prepare("SELECT id, name FROM customers WHERE id = $1")
        .await?;
    for (id, name) in [(1, "Ada Lovelace"), (3, "Mary Somerville")] {
        let row = client.query_one(&statement, &[&id]).await?;
        ensure!(row.get::<_, &str>(1) == name, "{row:?}");
    }
    let failed = client.query("SELECT nothing FROM nowhere", &[]).await;
    let code = failed.err().and_then(|it| it.code().cloned());
    ensure!(code.is_some_and(|it| it.code() == "42P01"));
    let messages = client.simple_query("SELECT 1; SELECT 2").await?;
    let rows = messages
        .iter()
        .filter(|it| matches!(it, SimpleQueryMessage::Row(_)));
    ensure!(rows.count() == 2);
    Ok(())
}

/// All at once on one connection; every answer has to be the one to its own question.
async fn pipeline(client: Client, size: usize) -> anyhow::Result<()> {
    let client = std::sync::Arc::new(client);
    let statement = client.prepare("SELECT $1::int8 * 3").await?;
    let mut asked = Vec::with_capacity(size);
    for n in 0..i64::try_from(size)? {
        let (client, statement) = (client.clone(), statement.clone());
        asked.push(tokio::spawn(async move {
            let answer = match n % 3 {
                0 => client.query_one(&statement, &[&n]).await,
                1 => client.query_one("SELECT $1::int8 * 3", &[&n]).await,
                _ => {
                    let failed = client.query_one("SELECT 1 / ($1::int8 * 0)", &[&n]).await;
                    ensure!(failed.is_err_and(|it| it.code().is_some()));
                    return Ok(());
                }
            };
            ensure!(
                answer?.get::<_, i64>(0) == 3 * n,
                "the answer to another question"
            );
            Ok(())
        }));
    }
    for answer in asked {
        answer.await??;
    }
    Ok(())
}

/// More than the server has done while they are sent.
async fn slow_pipeline(client: Client, size: usize) -> anyhow::Result<()> {
    let statement = client.prepare("SELECT pg_sleep(0.001)").await?;
    let asked = (0..size).map(|_| client.query(&statement, &[]));
    let answered = futures_util::future::try_join_all(asked).await?;
    ensure!(answered.len() == size);
    Ok(())
}

/// Has more and more remembered until no more is; then no connection is to be had either; and everything is once it is given back.
async fn hoard(client: &Client, most: usize) -> anyhow::Result<()> {
    let text = |n: usize| format!("SELECT {n}, '{}'", "x".repeat(900_000));
    let mut kept = Vec::new();
    let refused = loop {
        match client.prepare(&text(kept.len())).await {
            Ok(statement) => kept.push(statement),
            Err(refused) => break refused,
        }
        ensure!(kept.len() < most, "all of them are remembered");
    };
    println!("after {}: {refused:?}", kept.len());
    ensure!(refused.code().is_some_and(|it| it.code() == "53200"));
    let mut others = Vec::new();
    let refused = loop {
        match connect().await {
            Ok(other) => others.push(other),
            Err(refused) => break refused,
        }
        ensure!(others.len() < 100, "all of them are let in");
    };
    println!("after {} more connections: {refused:?}", others.len());
    let code = refused.downcast_ref::<tokio_postgres::Error>();
    let code = code.and_then(tokio_postgres::Error::code);
    ensure!(code.is_some_and(|it| it.code() == "53300"));
    drop((kept, others));
    client.query_one("SELECT 1", &[]).await?;
    let again = client.prepare(&text(0)).await?;
    client.query_one(&again, &[]).await?;
    connect().await?.query_one("SELECT 1", &[]).await?;
    Ok(())
}

async fn row(client: &Client, megabytes: usize) -> anyhow::Result<()> {
    let sql = format!("SELECT repeat('0123456789abcdef', {megabytes} * 65536)");
    let row = client.query_one(&sql, &[]).await?;
    ensure!(row.get::<_, &str>(0).len() == megabytes << 20);
    Ok(())
}

/// So many connections at once, all of them open before the first is used.
async fn crowd(size: usize) -> anyhow::Result<()> {
    let opened: Vec<_> = (0..size).map(|_| tokio::spawn(connect())).collect();
    let mut clients = Vec::new();
    for client in opened {
        clients.push(client.await??);
    }
    for (n, client) in (0_i64..).zip(&clients) {
        let row = client.query_one("SELECT $1::int8", &[&n]).await?;
        ensure!(row.get::<_, i64>(0) == n);
    }
    Ok(())
}

/// The lines of the table `copied`: 1024 bytes each, as COPY writes them.
const LINES_OF_A_MEGABYTE: usize = 1 << 10;

async fn copy_in(client: &Client, megabytes: usize) -> anyhow::Result<()> {
    client
        .batch_execute("CREATE TABLE copied (id int, line text)")
        .await?;
    let rows = send_lines(client, megabytes, true).await?;
    let expected = megabytes * LINES_OF_A_MEGABYTE;
    ensure!(rows == u64::try_from(expected)?, "{rows} rows");
    Ok(())
}

/// Sends as much, and then is gone without a word.
async fn half_copy(client: &Client, megabytes: usize) -> anyhow::Result<()> {
    send_lines(client, megabytes, false).await?;
    println!("half: gone");
    std::process::exit(0)
}

async fn send_lines(client: &Client, megabytes: usize, to_the_end: bool) -> anyhow::Result<u64> {
    let sink = client.copy_in("COPY copied (id, line) FROM STDIN").await?;
    let mut sink = pin!(sink);
    let line = format!("7\t{}\n", "x".repeat(1021));
    let piece = Bytes::from(line.repeat(64));
    for _ in 0..megabytes * LINES_OF_A_MEGABYTE / 64 {
        sink.send(piece.clone()).await?;
    }
    match to_the_end {
        true => Ok(sink.finish().await?),
        false => Ok(0),
    }
}

async fn copy_out(client: &Client, megabytes: usize) -> anyhow::Result<()> {
    let (bytes, lines, unmasked) = received(client).await?;
    ensure!(bytes == megabytes << 20, "{bytes} bytes");
    ensure!(lines == megabytes * LINES_OF_A_MEGABYTE && unmasked > 0);
    Ok(())
}

/// As many rows, with something else in them.
async fn copy_masked(client: &Client, megabytes: usize) -> anyhow::Result<()> {
    let (_, lines, unmasked) = received(client).await?;
    ensure!(lines == megabytes * LINES_OF_A_MEGABYTE, "{lines} lines");
    ensure!(unmasked == 0, "{unmasked} pieces show what is masked");
    Ok(())
}

/// Bytes, lines, and pieces with unmasked values in them.
async fn received(client: &Client) -> anyhow::Result<(usize, usize, usize)> {
    let stream = client.copy_out("COPY copied (id, line) TO STDOUT").await?;
    let mut stream = pin!(stream);
    let (mut bytes, mut lines, mut unmasked) = (0, 0, 0);
    while let Some(piece) = stream.try_next().await? {
        bytes += piece.len();
        lines += piece.iter().filter(|it| **it == b'\n').count();
        unmasked += usize::from(piece.windows(9).any(|it| it == b"xxxxxxxxx"));
    }
    Ok((bytes, lines, unmasked))
}

/// One value of so many megabytes, to the server and back; and whether the connection works after that.
async fn parameter(client: &Client, megabytes: usize) -> anyhow::Result<()> {
    let value = "x".repeat(megabytes << 20);
    match client.query_one("SELECT length($1::text)", &[&value]).await {
        Ok(row) => ensure!(usize::try_from(row.get::<_, i32>(0))? == value.len()),
        Err(error) => {
            let error = error.as_db_error().context("no answer but an end")?;
            println!("refused: {} {}", error.code().code(), error.message());
        }
    }
    let row = client.query_one("SELECT 7", &[]).await?;
    ensure!(row.get::<_, i32>(0) == 7);
    Ok(())
}

/// Asks for much, and reads none of it for good.
async fn stalled(client: &Client) -> anyhow::Result<()> {
    let stream = client
        .copy_out("COPY (SELECT repeat('x', 1000) FROM generate_series(1, 1000000)) TO STDOUT")
        .await?;
    println!("stalled");
    let _unread = stream;
    std::future::pending().await
}
