import { randomStream, type RandomStream } from "#core/random";
import type { OnExisting } from "#index/gallery-types";

/** Length of every feature under torture. */
export const tortureDimension = 24;

/** Writers at work at once; each has entries, identities and cameras of its own, so that their order is all one. */
export const lanes = [0, 1, 2] as const;

/** Lane of work on whole galleries. */
export const keeper = 3;

/** The galleries that are always there; `side` comes and goes. */
export const homeGalleries = ["flat", "graph"] as const;

/** Version of an entry: its feature and its crop follow from it. */
export interface TortureItem {
  readonly entryId: string;
  readonly version: string;
  readonly identity: string;
  readonly cameraId: string;
  /** Milliseconds since 1970. */
  readonly expiresAtMs?: number;
}

/** Which entries an update is of: by id, by identity, or by a filter of identity and camera. */
export type Chosen =
  | { readonly entryIds: readonly string[] }
  | { readonly identity: string }
  | { readonly identityIn: string; readonly cameraIn: string };

/** New values of entries; each update leaves its mark beside them (`markOf`). */
export interface TortureChanges {
  readonly identity?: string;
  readonly cameraId?: string;
  /** Milliseconds since 1970; null: never. */
  readonly expiresAtMs?: number | null;
  readonly attributes?: {
    /** All of them. */
    readonly replace?: Readonly<Record<string, string>>;
    /** Some of them; null: taken away. */
    readonly set?: Readonly<Record<string, string | null>>;
  };
}

/** What is asked of the galleries; what it does to them is in `TortureModel`. */
export type Operation =
  | {
      readonly kind: "enroll";
      readonly gallery: string;
      readonly onExisting: OnExisting;
      readonly items: readonly TortureItem[];
    }
  | {
      readonly kind: "delete";
      readonly gallery: string;
      readonly entryIds: readonly string[];
    }
  | {
      readonly kind: "delete-identity";
      readonly gallery: string;
      readonly identity: string;
    }
  | {
      readonly kind: "delete-filter";
      readonly gallery: string;
      readonly identity: string;
      readonly cameraId: string;
    }
  | {
      readonly kind: "update";
      readonly gallery: string;
      readonly chosen: Chosen;
      readonly changes: TortureChanges;
    }
  | {
      readonly kind: "forget";
      readonly gallery: string;
      readonly identity: string;
    }
  | {
      readonly kind: "snapshot" | "rebuild" | "reindex" | "create" | "drop";
      readonly gallery: string;
    }
  | { readonly kind: "compact" | "sweep" }
  | { readonly kind: "backup"; readonly backupId: string }
  /** Of every gallery in it, under its name; lane → step of its last write in the backup. */
  | {
      readonly kind: "restore";
      readonly backupId: string;
      readonly receipts: Readonly<Record<string, number>>;
    };

/** Name of an operation. */
export type OperationKind = Operation["kind"];

/** Kinds that are made without looking at what is there. */
export type PlannedKind = Exclude<OperationKind, "create" | "drop" | "restore">;

/** An operation and who does it. */
export interface Placed {
  readonly lane: number;
  readonly operation: Operation;
}

/** One step: operations that run at once; `side` and `restore` are alone and depend on what is there. */
export type Step =
  | { readonly alone: "restore" | "side" }
  | { readonly operations: readonly Placed[] };

/** Steps of each lane's last write, in the transaction of the write. */
export const receiptsTable = "torture-receipts";

/** Bytes kept as an entry's crop: some pages of LMDB. */
export function cropNamed(version: string): Buffer {
  return Buffer.from(`crop of ${version} `.repeat(200));
}

/** Where the clock stands during a step: what is enrolled for two steps expires while others write. */
export function timeOf(step: number): number {
  return 1_700_000_000_000 + step * 1000;
}

interface Place {
  readonly random: RandomStream;
  readonly lane: number;
  readonly step: number;
}

const idsOfLane = 40;

function entryOf({ random, lane }: Place): string {
  return `e${lane}-${random.below(idsOfLane)}`;
}

function identityOf({ random, lane }: Place): string {
  return `p${lane}-${random.below(6)}`;
}

function galleryOf({ random }: Place): string {
  return homeGalleries[random.below(homeGalleries.length)];
}

function itemsOf(place: Place, count: number): readonly TortureItem[] {
  const { random, step } = place;
  return Array.from({ length: count }, (_, i) => {
    const entryId = entryOf(place);
    const item = {
      entryId,
      version: `${entryId}/${step}/${i}`,
      identity: random.uniform() < 0.2 ? "" : identityOf(place),
      cameraId: `c${place.lane}-${random.below(3)}`,
    };
    return random.uniform() < 0.2
      ? { ...item, expiresAtMs: timeOf(step + 2 + random.below(4)) }
      : item;
  });
}

function chosenOf(place: Place): Chosen {
  const draw = place.random.below(3);
  if (draw === 0)
    return { entryIds: [entryOf(place), entryOf(place), entryOf(place)] };
  const identity = identityOf(place);
  if (draw === 1) return { identity };
  return { identityIn: identity, cameraIn: `c${place.lane}-1` };
}

function changesOf(place: Place): TortureChanges {
  const { random, step } = place;
  const text = `s${step}`;
  return [
    { identity: identityOf(place) },
    { cameraId: `c${place.lane}-${random.below(3)}` },
    { expiresAtMs: timeOf(step + 2 + random.below(4)) },
    { expiresAtMs: null, identity: "" },
    { attributes: { replace: { coat: text } } },
    { attributes: { set: { hat: text, coat: null } } },
  ][random.below(6)];
}

/** How each kind is made. */
const makers: Readonly<Record<PlannedKind, (place: Place) => Operation>> = {
  enroll: (place) => ({
    kind: "enroll",
    gallery: galleryOf(place),
    onExisting: (["replace", "replace", "keep", "fail"] as const)[
      place.random.below(4)
    ],
    items: itemsOf(place, 1 + place.random.below(16)),
  }),
  delete: (place) => ({
    kind: "delete",
    gallery: galleryOf(place),
    entryIds: [entryOf(place), entryOf(place), entryOf(place)],
  }),
  "delete-identity": (place) => ({
    kind: "delete-identity",
    gallery: galleryOf(place),
    identity: identityOf(place),
  }),
  "delete-filter": (place) => ({
    kind: "delete-filter",
    gallery: galleryOf(place),
    identity: identityOf(place),
    cameraId: `c${place.lane}-0`,
  }),
  update: (place) => ({
    kind: "update",
    gallery: galleryOf(place),
    chosen: chosenOf(place),
    changes: changesOf(place),
  }),
  forget: (place) => ({
    kind: "forget",
    gallery: galleryOf(place),
    identity: `p${place.random.below(lanes.length)}-${place.random.below(6)}`,
  }),
  snapshot: (place) => ({ kind: "snapshot", gallery: galleryOf(place) }),
  rebuild: (place) => ({ kind: "rebuild", gallery: galleryOf(place) }),
  reindex: () => ({ kind: "reindex", gallery: "graph" }),
  compact: () => ({ kind: "compact" }),
  sweep: () => ({ kind: "sweep" }),
  backup: ({ step }) => ({
    kind: "backup",
    backupId: `b${String(step).padStart(6, "0")}`,
  }),
};

const writing = [
  ...["enroll", "enroll", "enroll", "enroll"],
  ...["delete", "delete-identity", "delete-filter"],
  ...["update", "update"],
] as readonly PlannedKind[];

const keeping = [
  ...["snapshot", "rebuild", "reindex", "compact", "sweep", "backup"],
] as readonly PlannedKind[];

function stepOf(
  random: RandomStream,
  step: number,
  kinds: readonly PlannedKind[],
): Step {
  return {
    operations: kinds.map((kind, i) => {
      const isKeeping = kind === "forget" || keeping.includes(kind);
      const lane = isKeeping ? keeper : i;
      return { lane, operation: makers[kind]({ random, lane, step }) };
    }),
  };
}

/** A step drawn at random: three writers, often beside work on a whole gallery; or something that is alone. */
export function randomStep(seed: number, step: number): Step {
  const random = randomStream(seed, "torture", step);
  const draw = random.uniform();
  if (draw < 0.04) return { alone: "side" };
  if (draw < 0.08) return { alone: "restore" };
  if (draw < 0.12) return stepOf(random, step, ["forget"]);
  const kinds = lanes.map(() => writing[random.below(writing.length)]);
  return stepOf(
    random,
    step,
    draw < 0.55
      ? [...kinds, keeping[random.below(keeping.length)]]
      : [...kinds],
  );
}

/** Every kind of operation once at least: the run whose every call is killed, torn and failed in turn. */
const script: readonly (readonly PlannedKind[] | "restore" | "side")[] = [
  ["enroll", "enroll", "enroll"],
  ["enroll", "delete", "delete-identity", "snapshot"],
  ["enroll", "update", "delete-filter", "backup"],
  ["update", "delete", "enroll", "reindex"],
  ["forget"],
  ["enroll", "update", "update", "compact"],
  "side",
  "restore",
  ["enroll", "enroll", "enroll", "rebuild"],
  "side",
  ["enroll", "enroll", "enroll", "snapshot"],
  ["sweep"],
];

/** Steps of the scripted run. */
export const scriptLength = script.length;

/** A step of the scripted run. */
export function scriptedStep(seed: number, step: number): Step {
  const kinds = script[step % scriptLength];
  if (typeof kinds === "string") return { alone: kinds };
  const random = randomStream(seed, "torture script", step);
  const drawn = stepOf(random, step, kinds);
  if (!("operations" in drawn)) return drawn;
  // Not left to chance: two lanes write the gallery whose index is approximate, and the keeper works on it.
  return {
    operations: drawn.operations.map(({ lane, operation }) => ({
      lane,
      operation:
        "gallery" in operation
          ? { ...operation, gallery: lane === 0 ? "flat" : "graph" }
          : operation,
    })),
  };
}
