import { readSync } from "node:fs";
import { open as openFile, type FileHandle } from "node:fs/promises";
import { setImmediate } from "node:timers/promises";

import { StoreCorruptError } from "./store-errors.js";
import {
  childIn,
  freePagesIn,
  headerBytes,
  headerOf,
  keyIn,
  nodesIn,
  noPage,
  rootIn,
  tableOf,
  valueIn,
  type Root,
  type Tree,
  type Value,
} from "./store-layout.js";

/** Pages looked at before other work gets its turn: half a millisecond where the system has them in memory. */
const pagesAtOnce = 32;

/**
 * Walks over the pages of a store's file and holds them to what LMDB relies on and does not look at.
 *
 * LMDB has no checksums: it follows a damaged page to wherever that points, and there the process ends. Held to are
 * the roots, the number, kind and transaction of every page of a tree, where its nodes lie and how long they are, the
 * order of keys, the counts of each tree, and that no page is reached twice, or used and free at once. The bytes of
 * values are not looked at, nor the pages of large ones. Gives other work its turn.
 *
 * @param path    of the file; nobody writes to it meanwhile
 * @param folder  of the store, for what the failure says
 * @throws {StoreCorruptError}
 */
export async function checkPages(path: string, folder: string): Promise<void> {
  const handle = await openFile(path, "r");
  try {
    const file = new PageFile(handle, (await handle.stat()).size, folder);
    await new PageWalk(file, newestRoot(file)).run();
  } finally {
    await handle.close();
  }
}

/** The file, and how it is told that it is damaged. */
class PageFile {
  readonly #handle: FileHandle;
  readonly #sizeBytes: number;
  readonly #folder: string;

  constructor(handle: FileHandle, sizeBytes: number, folder: string) {
    this.#handle = handle;
    this.#sizeBytes = sizeBytes;
    this.#folder = folder;
  }

  /** Bytes that are the caller's own. */
  read(at: number, bytes: number): Buffer {
    this.has(at, bytes);
    const read = Buffer.allocUnsafeSlow(bytes);
    const done = readSync(this.#handle.fd, read, 0, bytes, at);
    if (done !== bytes) this.fail(`it ends before byte ${at + bytes}`);
    return read;
  }

  /** Fails where the file ends before. */
  has(at: number, bytes: number): void {
    if (at + bytes > this.#sizeBytes)
      this.fail(
        `it has ${this.#sizeBytes} bytes, and pages up to ${at + bytes}`,
      );
  }

  fail(cause: string): never {
    throw new StoreCorruptError(this.#folder, `data.mdb: ${cause}`);
  }
}

/** The root that LMDB goes by, which is the last transaction's; the other one is that of the transaction before. */
function newestRoot(file: PageFile): Root {
  const even = rootIn(file.read(0, 256)) ?? file.fail("root 0 is damaged");
  const { pageSize } = even;
  const odd =
    rootIn(file.read(pageSize, 256)) ?? file.fail("root 1 is damaged");
  // Of a copy, page 0 has never held a transaction; of a new file, neither has.
  const isFirst = even.transaction === 0 && even.main.root === noPage;
  const isNext = Math.abs(even.transaction - odd.transaction) === 1;
  const isInTurn =
    even.transaction % 2 === 0 &&
    (odd.transaction % 2 === 1 || odd.transaction === 0);
  if (odd.pageSize !== pageSize || !isInTurn || !(isNext || isFirst))
    file.fail(
      `its roots are of transactions ${even.transaction} and ${odd.transaction}`,
    );
  // Of two that have held none LMDB takes the first: the other may be what a commit that failed has left.
  return even.transaction >= odd.transaction ? even : odd;
}

/** Where a walk over one tree is. */
interface Place {
  readonly name: string;
  readonly tree: Tree;
  readonly compare: (a: Buffer, b: Buffer) => number;
  readonly onValue: (value: Value, key: Buffer) => void;
  branchPages: number;
  leafPages: number;
  ownPages: number;
  entries: number;
  /** The key before; undefined: there was none. */
  last: Buffer | undefined;
  /** Of the branches above: the next key is not below it. */
  least: Buffer | undefined;
}

class PageWalk {
  readonly #file: PageFile;
  readonly #root: Root;
  /** A bit for each page: it is used, or it is free. */
  readonly #taken: Uint8Array;
  #looked = 0;

  constructor(file: PageFile, root: Root) {
    this.#file = file;
    this.#root = root;
    this.#taken = new Uint8Array(Math.ceil((root.lastPage + 1) / 8));
  }

  async run(): Promise<void> {
    const { main, free } = this.#root;
    const tables: { readonly name: string; readonly tree: Tree }[] = [];
    await this.#walk("the list of tables", main, compareBytes, (value, key) => {
      if (!value.isTree) return;
      const tree = tableOf(value);
      // Names end with a zero.
      const name = `table ${key.toString("latin1", 0, key.length - 1)}`;
      if (tree === undefined)
        this.#file.fail(`the record of ${name} is damaged`);
      tables.push({ name, tree });
    });
    for (const { name, tree } of tables)
      await this.#walk(name, tree, compareBytes, ({ isTree }) => {
        if (isTree) this.#file.fail(`a value of ${name} is damaged`);
      });
    // After what is used: none of it is free.
    await this.#walk(
      "the list of free pages",
      free,
      compareNumbers,
      (value) => {
        const blocks = freePagesIn(this.#bytesOf(value));
        if (blocks === undefined)
          this.#file.fail("its list of free pages is damaged");
        for (const [page, pages] of blocks)
          this.#take(page, pages, "the list of free pages");
      },
    );
  }

  async #walk(
    name: string,
    tree: Tree,
    compare: Place["compare"],
    onValue: Place["onValue"],
  ): Promise<void> {
    const place: Place = {
      ...{ name, tree, compare, onValue },
      ...{ branchPages: 0, leafPages: 0, ownPages: 0, entries: 0 },
      ...{ last: undefined, least: undefined },
    };
    if (tree.root !== noPage) await this.#page(place, tree.root, 1);
    const isCounted =
      place.branchPages === tree.branchPages &&
      place.leafPages === tree.leafPages &&
      place.ownPages === tree.ownPages &&
      place.entries === tree.entries &&
      (tree.depth === 0) === (tree.root === noPage);
    if (!isCounted)
      this.#file.fail(
        `${name}: ${place.entries} entries in ${place.leafPages} pages, ` +
          `the record says ${tree.entries} in ${tree.leafPages}`,
      );
  }

  async #page(place: Place, number: number, depth: number): Promise<void> {
    const { pageSize } = this.#root;
    this.#take(number, 1, place.name);
    if (++this.#looked % pagesAtOnce === 0) await setImmediate();
    const page = this.#file.read(number * pageSize, pageSize);
    const header = headerOf(page);
    const kind = depth === place.tree.depth ? "leaf" : "branch";
    const nodes = nodesIn(page, kind);
    if (
      header.number !== number ||
      header.kind !== kind ||
      header.transaction > this.#root.transaction ||
      nodes === undefined
    )
      this.#file.fail(`page ${number}, of ${place.name}, is damaged`);
    if (kind === "leaf") {
      place.leafPages++;
      for (const node of nodes) this.#entry(place, page, node);
      return;
    }
    place.branchPages++;
    for (const [i, node] of nodes.entries()) {
      // The first key of a branch is none.
      if (i > 0) {
        const key = keyIn(page, node);
        if (place.last !== undefined && place.compare(place.last, key) >= 0)
          this.#failOrder(place);
        place.least = key;
      }
      await this.#page(place, childIn(page, node), depth + 1);
    }
  }

  #entry(place: Place, page: Buffer, node: number): void {
    const key = keyIn(page, node);
    const { last, least, compare } = place;
    if (last !== undefined && compare(last, key) >= 0) this.#failOrder(place);
    if (least !== undefined && compare(least, key) > 0) this.#failOrder(place);
    place.last = key;
    place.least = undefined;
    place.entries++;
    const value = valueIn(page, node);
    if (value === undefined)
      this.#file.fail(`a value of ${place.name} is damaged`);
    const { own } = value;
    if (own !== undefined) {
      const needed = pagesOf(value.size, this.#root.pageSize);
      if (own.pages < needed || own.transaction > this.#root.transaction)
        this.#file.fail(`a large value of ${place.name} is damaged`);
      this.#take(own.page, own.pages, place.name);
      this.#file.has(...this.#spanOf(own.page, own.pages));
      place.ownPages += own.pages;
    }
    place.onValue(value, key);
  }

  #failOrder({ name }: Place): never {
    this.#file.fail(`the keys of ${name} are out of order`);
  }

  #spanOf(page: number, pages: number): [at: number, bytes: number] {
    const { pageSize } = this.#root;
    return [page * pageSize, pages * pageSize];
  }

  /** The bytes of a value, wherever they are. */
  #bytesOf({ size, bytes, own }: Value): Buffer {
    if (own === undefined) return bytes;
    const [at] = this.#spanOf(own.page, own.pages);
    return this.#file.read(at + headerBytes, size);
  }

  /** Notes that pages are used, or free; once each. */
  #take(first: number, pages: number, name: string): void {
    // Pages 0 and 1 are the roots.
    if (first < 2 || first + pages - 1 > this.#root.lastPage)
      this.#file.fail(`${name} points to page ${first}, which is none`);
    for (let page = first; page < first + pages; page++) {
      const bit = 1 << (page & 7);
      if ((this.#taken[page >> 3] & bit) !== 0)
        this.#file.fail(`page ${page} is used twice, by ${name}`);
      this.#taken[page >> 3] |= bit;
    }
  }
}

/** Pages that a large value takes: OVPAGES of mdb.c. */
function pagesOf(size: number, pageSize: number): number {
  return Math.floor((headerBytes - 1 + size) / pageSize) + 1;
}

function compareBytes(a: Buffer, b: Buffer): number {
  return a.compare(b);
}

/** Keys of the free pages: transactions, as numbers of 64 bits. */
function compareNumbers(a: Buffer, b: Buffer): number {
  if (a.length !== 8 || b.length !== 8) return 1;
  return Number(a.readBigInt64LE() - b.readBigInt64LE());
}
