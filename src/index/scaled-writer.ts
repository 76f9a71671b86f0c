import { assert } from "#core/errors";
import type { Session, SqlValue } from "#core/postgres";
import type { Writer } from "#core/store";

/**
 * What belongs to a write and is no entry, such as its response: statements of the write's own transaction.
 *
 * It stands where services hand a {@link Writer} on; tables of LMDB cannot be written through it.
 */
export class SqlWriter implements Writer {
  readonly #statements: { text: string; values: readonly SqlValue[] }[] = [];

  /** The same writer, where it is one of PostgreSQL's. */
  static of(writer: Writer): SqlWriter {
    assert(writer instanceof SqlWriter, "a transaction of another store");
    return writer;
  }

  sql(text: string, values: readonly SqlValue[]): void {
    this.#statements.push({ text, values });
  }

  /** Runs what was collected. */
  async run(session: Session): Promise<void> {
    for (const { text, values } of this.#statements)
      await session.query(text, values);
  }

  put(table: { readonly name: string }): void {
    assert(false, `table ${table.name} is not in PostgreSQL`);
  }

  remove(table: { readonly name: string }): void {
    this.put(table);
  }

  removeRange(table: { readonly name: string }): void {
    this.put(table);
  }
}
