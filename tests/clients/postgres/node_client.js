// node-postgres: a pool, parameters, named statements, errors, a transaction.
const assert = require('assert');
const fs = require('fs');
const { Pool } = require('pg');

const ssl = process.env.PGSSLMODE === 'disable' ? false : { ca: process.env.PGSSLROOTCERT && fs.readFileSync(process.env.PGSSLROOTCERT) };
for (const name of ['PGSSLMODE', 'PGSSLROOTCERT']) delete process.env[name];
const pool = new Pool({ host: process.env.PGHOSTADDR || process.env.PGHOST, ssl, max: 5 });

async function main() {
  const found = await pool.query('SELECT name FROM customers WHERE id = $1', [3]);
  assert.deepStrictEqual(found.rows, [{ name: 'Mary Somerville' }]);
  const named = { name: 'double', text: 'SELECT $1::int * 2 AS n' };
  const all = await Promise.all([...Array(50).keys()].map((n) => pool.query({ ...named, values: [n] })));
  assert.deepStrictEqual(all.map((it) => it.rows[0].n), [...Array(50).keys()].map((n) => 2 * n));
  await assert.rejects(pool.query('SELECT nothing FROM nowhere'), { code: '42P01' });
  const client = await pool.connect();
  await client.query('BEGIN');
  await client.query('CREATE TABLE node_made (id int, what jsonb)');
  await client.query('INSERT INTO node_made VALUES ($1, $2)', [1, { deep: ['x', null] }]);
  const inside = await client.query('SELECT what FROM node_made');
  assert.deepStrictEqual(inside.rows, [{ what: { deep: ['x', null] } }]);
  const several = await client.query('SELECT 1 AS a; SELECT 2 AS b');
  assert.strictEqual(several.length, 2);
  await client.query('ROLLBACK');
  client.release();
  await assert.rejects(pool.query('SELECT * FROM node_made'), { code: '42P01' });
  await pool.end();
  console.log('node-postgres: well');
}
main().catch((error) => { console.error(error); process.exit(1); });
