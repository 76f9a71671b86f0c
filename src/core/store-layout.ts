// The layout of LMDB's file as lmdb 3.5.6 writes it on 64 bits, little-endian: MDB_page_header, MDB_meta, MDB_db and
// MDB_node of its mdb.c.

/** Bytes in front of a page's own: number, transaction, key size, kind, and where its free space begins and ends. */
export const headerBytes = 24;

// MDB_meta, behind the header of pages 0 and 1.
const magic = 0xbeefc0de;
const version = 2;
/** P_META, and MDB_INTEGERKEY, which the tree of free pages has. */
const rootFlags = 8;
const freeTreeAt = headerBytes + 24;
const mainTreeAt = headerBytes + 72;
const lastPageAt = headerBytes + 120;
const transactionAt = headerBytes + 128;

/** Bytes of MDB_db, which stands for a tree: as the value of a table's name, and twice in a root. */
const treeBytes = 48;

/** Bytes in front of a node's key and value. */
const nodeBytes = 8;

/** Bytes of MDB_ovpage, which stands for a value that has pages of its own. */
const ownPagesBytes = 24;

/** Root of a tree that is empty: P_INVALID. */
export const noPage = 2 ** 64;

/** A tree of pages: of tables, of free pages, or a table. */
export interface Tree {
  readonly flags: number;
  readonly depth: number;
  readonly branchPages: number;
  readonly leafPages: number;
  /** Of values that have pages of their own. */
  readonly ownPages: number;
  readonly entries: number;
  readonly root: number;
}

/** The state of the file after a transaction. */
export interface Root {
  readonly pageSize: number;
  readonly free: Tree;
  readonly main: Tree;
  /** The file may end before it, by pages that are free. */
  readonly lastPage: number;
  readonly transaction: number;
}

/** What a node of a leaf holds. */
export interface Value {
  /** How long it is. */
  readonly size: number;
  /** Its bytes, or those that stand for it; a view. */
  readonly bytes: Buffer;
  /** Where it has pages of its own. */
  readonly own?: {
    readonly page: number;
    readonly transaction: number;
    readonly pages: number;
  };
  /** Whether it stands for a tree. */
  readonly isTree: boolean;
}

/** An unsigned number of 64 bits; beyond 2⁵³ only so much that it is. */
export function wordAt(bytes: Buffer, at: number): number {
  return bytes.readUInt32LE(at) + bytes.readUInt32LE(at + 4) * 2 ** 32;
}

/** The root in page 0 or 1. @returns undefined: it is damaged */
export function rootIn(page: Buffer): Root | undefined {
  const pageSize = page.readUInt32LE(freeTreeAt);
  const lastPage = wordAt(page, lastPageAt);
  const isRoot =
    page.readUInt16LE(18) === rootFlags &&
    page.readUInt32LE(headerBytes) === magic &&
    // Another one is read by another library, which finds something else in it.
    page.readUInt32LE(headerBytes + 4) === version &&
    pageSize >= 512 &&
    pageSize <= 65536 &&
    (pageSize & (pageSize - 1)) === 0 &&
    lastPage >= 1 &&
    // 4 PiB: a bit of the sum is damaged.
    lastPage < 2 ** 40;
  const free = treeIn(page.subarray(freeTreeAt));
  const main = treeIn(page.subarray(mainTreeAt));
  if (!isRoot || free.flags !== rootFlags || main.flags !== 0) return undefined;
  return {
    ...{ pageSize, lastPage, free, main },
    transaction: wordAt(page, transactionAt),
  };
}

function treeIn(bytes: Buffer): Tree {
  return {
    flags: bytes.readUInt16LE(4),
    depth: bytes.readUInt16LE(6),
    branchPages: wordAt(bytes, 8),
    leafPages: wordAt(bytes, 16),
    ownPages: wordAt(bytes, 24),
    entries: wordAt(bytes, 32),
    root: wordAt(bytes, 40),
  };
}

/** The table that a value stands for. @returns undefined: it stands for none */
export function tableOf({ isTree, size, bytes }: Value): Tree | undefined {
  const tree = isTree && size === treeBytes ? treeIn(bytes) : undefined;
  // Flags are of tables with other keys, or with several values under one: the store has none of them.
  return tree?.flags === 0 ? tree : undefined;
}

/** What a page says of itself. */
export function headerOf(page: Buffer): {
  readonly number: number;
  readonly transaction: number;
  readonly kind: "branch" | "leaf" | "another";
} {
  const flags = page.readUInt16LE(18);
  return {
    number: wordAt(page, 0),
    transaction: wordAt(page, 8),
    kind: flags === 1 ? "branch" : flags === 2 ? "leaf" : "another",
  };
}

/** Where the nodes of a page begin, in their order. @returns undefined: they do not fill the page as LMDB does */
export function nodesIn(
  page: Buffer,
  kind: "branch" | "leaf",
): readonly number[] | undefined {
  const lower = page.readUInt16LE(20);
  const upper = page.readUInt16LE(22);
  if (lower < 2 || lower % 2 !== 0 || lower > upper) return undefined;
  const nodes: number[] = [];
  let filled = headerBytes + upper;
  for (let at = headerBytes; at < headerBytes + lower; at += 2) {
    const node = headerBytes + page.readUInt16LE(at);
    if (node < headerBytes + upper || node + nodeBytes > page.length)
      return undefined;
    const bytes =
      nodeBytes + keySizeOf(page, node) + valueBytesOf(page, node, kind);
    if (node + bytes > page.length) return undefined;
    filled += bytes + (bytes % 2);
    nodes.push(node);
  }
  return filled === page.length ? nodes : undefined;
}

function keySizeOf(page: Buffer, node: number): number {
  return page.readUInt16LE(node + 6);
}

function valueBytesOf(
  page: Buffer,
  node: number,
  kind: "branch" | "leaf",
): number {
  if (kind === "branch") return 0;
  const hasOwnPages = (page.readUInt16LE(node + 4) & 1) === 1;
  return hasOwnPages ? ownPagesBytes : page.readUInt32LE(node);
}

/** The key of a node; a view. */
export function keyIn(page: Buffer, node: number): Buffer {
  const start = node + nodeBytes;
  return page.subarray(start, start + keySizeOf(page, node));
}

/** The page below a node of a branch. */
export function childIn(page: Buffer, node: number): number {
  return page.readUInt32LE(node) + page.readUInt16LE(node + 4) * 2 ** 32;
}

/** The value of a node of a leaf. @returns undefined: it is of a kind that the store has none of */
export function valueIn(page: Buffer, node: number): Value | undefined {
  const flags = page.readUInt16LE(node + 4);
  const start = node + nodeBytes + keySizeOf(page, node);
  const bytes = page.subarray(start, start + valueBytesOf(page, node, "leaf"));
  const value = { size: page.readUInt32LE(node), bytes, isTree: flags === 2 };
  if (flags === 0 || flags === 2) return value;
  if (flags !== 1) return undefined;
  return {
    ...value,
    own: {
      page: wordAt(bytes, 0),
      transaction: wordAt(bytes, 8),
      pages: wordAt(bytes, 16),
    },
  };
}

/** Pages that a list of free pages names, as first page and count. @returns undefined: it is no such list */
export function freePagesIn(
  list: Buffer,
): readonly (readonly [page: number, pages: number])[] | undefined {
  const count = list.length >= 8 ? wordAt(list, 0) : Infinity;
  if ((count + 1) * 8 > list.length) return undefined;
  const blocks: [number, number][] = [];
  for (let i = 1; i <= count; i++) {
    // Zeros are room to grow; a negative number is how many pages the next block has.
    const word = Number(list.readBigInt64LE(8 * i));
    if (word > 0) blocks.push([word, 1]);
    if (word >= 0) continue;
    if (++i > count) return undefined;
    blocks.push([wordAt(list, 8 * i), -word]);
  }
  return blocks;
}
