// The Cloud SQL connector for Node: runs SQL over one connection, and prints what comes of each as a line of JSON.
//
// connect.js INSTANCE USER AUTH_TYPE SQL...
const { Connector } = require('@google-cloud/cloud-sql-connector');
const { Client } = require('pg');

const [instance, user, authType, ...statements] = process.argv.slice(2);
const tell = (what) => console.log(JSON.stringify(what));

async function main() {
  const connector = new Connector();
  const options = await connector.getOptions({ instanceConnectionName: instance, ipType: 'PUBLIC', authType });
  const login = { user, database: 'shop' };
  if (authType === 'PASSWORD') login.password = 'whatever the agent believes in';
  const db = new Client({ ...options, ...login });
  await db.connect();
  for (const sql of statements) {
    try {
      const answer = await db.query({ text: sql, rowMode: 'array' });
      tell({ rows: answer.rows });
    } catch (error) {
      tell({ error: `${error.name}: ${error.message} ${error.code}` });
    }
  }
  await db.end();
  connector.close();
}
main().catch((error) => { tell({ failed: `${error.name}: ${error.message} ${error.code}` }); process.exit(0); });
