import { randomBytes } from "node:crypto";

import { systemClock, type Clock } from "#core/clock";
import { Postgres } from "#core/postgres";
import type { Galleries } from "#index/galleries";
import {
  ScaledGalleries,
  type ScaledGalleriesOptions,
} from "#index/scaled-galleries";

import { inFolder, openGalleries, SteppedClock } from "./galleries.js";

/** Where `build/scale-out.sh` has started the services; undefined: they are not up. */
export const services = servicesFrom(process.env);

/** Why a test that needs them is skipped; false: it is not. */
export const skipScaled =
  services === undefined
    ? "PostgreSQL and Milvus are not up: make test-scale-out"
    : false;

interface Services {
  readonly postgres: string;
  readonly milvus: string;
}

function servicesFrom(environment: NodeJS.ProcessEnv): Services | undefined {
  const postgres = environment["REID_TEST_POSTGRES"];
  const milvus = environment["REID_TEST_MILVUS"];
  return postgres === undefined || milvus === undefined
    ? undefined
    : { postgres, milvus };
}

/** Which engines the wire tests run on: `make test-scale-out` runs them on the scaled ones too. */
export const wireEngine = process.env["REID_TEST_ENGINE"] ?? "embedded";

/** Services with a database of their own. */
export interface OwnServices extends Services {
  /** Drops the database. */
  drop(): Promise<void>;
}

/** Makes a database of its own; gives its URL and Milvus' address. */
export async function makeDatabase(): Promise<OwnServices> {
  if (services === undefined) throw new RangeError(String(skipScaled));
  const name = `reid_${randomBytes(6).toString("hex")}`;
  const url = new URL(services.postgres);
  const onServer = async (statement: string) => {
    const server = await Postgres.open({
      url: services.postgres,
      connections: 1,
    });
    try {
      await server.query(statement);
    } finally {
      await server.close();
    }
  };
  await onServer(`CREATE DATABASE ${name}`);
  url.pathname = `/${name}`;
  return {
    ...services,
    postgres: url.href,
    drop: () => onServer(`DROP DATABASE ${name} WITH (FORCE)`),
  };
}

/** Removes the galleries of a database, whose server has ended, from Milvus; then the database. */
export async function removeScaled(own: OwnServices): Promise<void> {
  const galleries = await ScaledGalleries.open(optionsOf(own, systemClock));
  for (const { name } of await galleries.list()) await galleries.delete(name);
  await galleries.close();
  await own.drop();
}

/** A database of its own, dropped when the action ends. */
export async function inDatabase<Result>(
  action: (of: Services) => Promise<Result>,
): Promise<Result> {
  const own = await makeDatabase();
  try {
    return await action(own);
  } finally {
    await own.drop();
  }
}

/** Sections of a server's configuration that put its galleries into services. */
export function scaledSettings({ postgres, milvus }: Services) {
  return {
    index: { engine: "milvus", milvus: { address: milvus } },
    store: {
      engine: "postgres",
      min_free_bytes: 0,
      postgres: { url: postgres, connections: 8 },
    },
  };
}

/** Galleries of one engine with a clock that stands still, as the cases of both engines use them. */
export interface EngineCase {
  readonly galleries: Galleries;
  readonly clock: SteppedClock;
  /** Another server on the same data; undefined: the engine has one server only. */
  readonly open: (() => Promise<Galleries>) | undefined;
}

/** What a case may ask of the galleries' settings. */
export interface EngineSettings {
  readonly flatBelow?: number;
  readonly onOutgrown?: (gallery: string) => void;
  readonly onExpire?: (gallery: string, entries: number) => void;
}

/** One engine: opens galleries for a case, and closes and removes them behind it. */
export interface Engine {
  readonly name: "embedded" | "scaled";
  readonly skip: string | false;
  run(
    action: (of: EngineCase) => Promise<void>,
    settings?: EngineSettings,
  ): Promise<void>;
}

/** Both engines. */
export const engines: readonly Engine[] = [
  {
    name: "embedded",
    skip: false,
    run: (action, settings) =>
      inFolder(async (folder) => {
        const opened = await openGalleries(folder, settings);
        const { galleries, clock, close } = opened;
        await action({ galleries, clock, open: undefined });
        await close();
      }),
  },
  {
    name: "scaled",
    skip: skipScaled,
    run: (action, settings) =>
      inDatabase(async (of) => {
        const clock = new SteppedClock();
        const opened: ScaledGalleries[] = [];
        const open = async (): Promise<ScaledGalleries> => {
          const galleries = await ScaledGalleries.open({
            ...optionsOf(of, clock),
            ...settings,
          });
          opened.push(galleries);
          return galleries;
        };
        const galleries = await open();
        try {
          await action({ galleries, clock, open });
          for (const { name } of await galleries.list())
            await galleries.delete(name);
        } finally {
          for (const one of opened) await one.close();
        }
      }),
  },
];

/** Options of galleries on services that are up. */
export function optionsOf(
  { postgres, milvus }: Services,
  clock: Clock,
): ScaledGalleriesOptions {
  const ignore = (): void => undefined;
  return {
    postgres: { url: postgres },
    milvus: { address: milvus },
    clock,
    log: { info: ignore, warn: ignore },
  };
}
