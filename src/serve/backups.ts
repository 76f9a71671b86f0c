import { rm } from "node:fs/promises";
import { join } from "node:path";
import { ulid } from "ulid";
import type { Clock } from "#core/clock";
import type { Config } from "#core/config";
import { ReidError } from "#core/errors";
import type { Log } from "#core/log";
import { Store } from "#core/store";
import {
  deleteBackup,
  listBackups,
  readBackup,
  stageBackup,
  sweepBackups,
  writeBackup,
  type BackedUpBundle,
  type BackupManifest,
} from "#index/backup";
import { installBundle } from "#index/backup-bundles";
import {
  BackupOffError,
  GalleryBusyError,
  GalleryNotFoundError,
} from "#index/errors";
import type { Galleries } from "#index/galleries";
import type { ModelVersion } from "#index/gallery-types";
import { EngineUnsupportedError } from "#index/scaled-errors";
import { EXTERNAL_MODEL } from "./gallery-requests.js";
import type {
  BackupDetail,
  Operation,
  OperationProgress,
  WithOperation,
} from "./operation-types.js";
import type { OperationLog } from "./operations.js";
import { showModel, type ModelRegistry } from "./registry.js";

/** What backups are made of and restored into. */
export interface BackupsOptions {
  readonly config: Pick<Config, "backup" | "index" | "serve">;
  readonly store: Store;
  readonly galleries: Galleries;
  readonly registry: ModelRegistry;
  readonly operations: OperationLog;
  readonly clock: Clock;
  readonly log: Log;
  readonly version: string;
}

/**
 * Backups in `backup.dir`, made and restored as operations.
 *
 * Every method but `close` throws BackupOffError where there is no such folder, and EngineUnsupportedError where
 * galleries lie in PostgreSQL.
 */
export class Backups {
  readonly #options: BackupsOptions;
  /** Names that a restore under way will take, with its operation. */
  readonly #restoring = new Map<string, string>();

  private constructor(options: BackupsOptions) {
    this.#options = options;
  }

  /** Removes what backups and restores that were cut off have left. */
  static async open(options: BackupsOptions): Promise<Backups> {
    const backups = new Backups(options);
    await rm(backups.#stagingRoot, { recursive: true, force: true });
    if (options.config.backup.dir !== undefined)
      await sweepBackups(options.config.backup.dir);
    return backups;
  }

  /** Whether there is a folder for them. */
  get isOn(): boolean {
    return this.#options.config.backup.dir !== undefined;
  }

  /** Newest first. */
  list(): Promise<readonly BackupManifest[]> {
    return listBackups(this.#folder);
  }

  /** @throws {BackupNotFoundError} */
  delete(backupId: string): Promise<void> {
    return deleteBackup(this.#folder, backupId);
  }

  /** The restore that is about to take a gallery's name; undefined: none. */
  restoringTo(gallery: string): string | undefined {
    return this.#restoring.get(gallery);
  }

  /**
   * Starts a backup.
   *
   * @param names  empty: everything, memories too
   * @throws {GalleryNotFoundError}
   */
  async create(
    names: readonly string[],
    withOperation: WithOperation,
  ): Promise<Operation> {
    const folder = this.#folder;
    const { galleries, operations, store, clock, version } = this.#options;
    for (const name of names) await galleries.get(name);
    const backupId = ulid(clock.now()).toLowerCase();
    return operations.start(
      "backup",
      `backup/${backupId}`,
      async ({ signal, report }) => {
        const { files } = await writeBackup(
          folder,
          {
            store,
            galleries: names,
            bundlesOf: (models) =>
              Promise.resolve(this.#bundlesOf(models, names.length === 0)),
          },
          {
            ...{ backupId, signal, report },
            createdAtMs: clock.now(),
            serverVersion: version,
          },
        );
        return detailOf(backupId, files);
      },
      withOperation,
    );
  }

  /**
   * Starts a restore: beside the living galleries, verified, then swapped in at one commit.
   *
   * @param plan  name in the backup → name here; empty: all, by their names
   * @throws {BackupNotFoundError} @throws {BackupCorruptError}
   * @throws {GalleryNotFoundError} not in the backup
   * @throws {GalleryBusyError} other work on a gallery of that name is under way
   */
  async restore(
    backupId: string,
    plan: ReadonlyMap<string, string>,
    withOperation: WithOperation,
  ): Promise<Operation> {
    const { operations } = this.#options;
    const { galleries } = await readBackup(this.#folder, backupId);
    const present = galleries.map(({ name }) => name);
    for (const name of plan.keys())
      if (!present.includes(name)) throw new GalleryNotFoundError(name);
    const wanted =
      plan.size > 0 ? plan : new Map(present.map((name) => [name, name]));
    const targets = [...wanted.values()];
    for (const name of targets) {
      const busy =
        this.#restoring.get(name) ??
        operations.runningOn(`gallery/${name}`)?.operationId;
      if (busy !== undefined)
        throw new GalleryBusyError(name, "worked on", busy);
    }
    for (const name of targets) this.#restoring.set(name, "");
    const free = () => {
      for (const name of targets) this.#restoring.delete(name);
    };
    try {
      return await operations.start(
        "restore",
        `backup/${backupId}`,
        (progress) => this.#restore(backupId, wanted, progress).finally(free),
        (writer, operation) => {
          for (const name of targets)
            this.#restoring.set(name, operation.operationId);
          withOperation(writer, operation);
        },
      );
    } catch (error) {
      free();
      throw error;
    }
  }

  async #restore(
    backupId: string,
    plan: ReadonlyMap<string, string>,
    { operationId, signal, report }: OperationProgress,
  ): Promise<BackupDetail> {
    const { config, galleries, log } = this.#options;
    const staged = join(this.#stagingRoot, operationId);
    try {
      const { files } = await stageBackup(this.#folder, backupId, staged, {
        signal,
        // Bytes are checked before the first entry counts.
        report: () => undefined,
      });
      const copy = await Store.open(staged, { minFreeBytes: 0 });
      try {
        const restored = await galleries.restore(copy, plan, {
          signal,
          report,
          beforeSwap: async (models) => {
            for (const model of models) {
              if (model.name === EXTERNAL_MODEL) continue;
              await installBundle(staged, config.serve.models, {
                backupId,
                model,
              });
              await this.#load(model);
            }
          },
        });
        log.info("galleries restored", {
          backup: backupId,
          galleries: restored.map(({ name }) => name),
        });
      } finally {
        await copy.close();
      }
      return detailOf(backupId, files);
    } finally {
      try {
        await rm(staged, { recursive: true, force: true });
      } catch (error) {
        // The galleries are in place, or are not, whatever becomes of the copy.
        log.warn("the copy of a backup stays until the next start", { error });
      }
    }
  }

  /** A gallery takes crops once its model is loaded; without it it serves what it holds. */
  async #load(model: ModelVersion): Promise<void> {
    const { registry, log } = this.#options;
    try {
      await registry.load(model);
    } catch (error) {
      if (!(error instanceof ReidError)) throw error;
      log.warn("a restored gallery's model could not be loaded", {
        model: showModel(model),
        error,
      });
    }
  }

  /** The bundles of the galleries' models, and with everything those that embed now. */
  #bundlesOf(
    models: readonly ModelVersion[],
    isComplete: boolean,
  ): readonly BackedUpBundle[] {
    const { registry, log } = this.#options;
    const active = isComplete
      ? registry.names().flatMap((name) => registry.activeVersion(name) ?? [])
      : [];
    const wanted = new Map(
      [...models, ...active]
        .filter(({ name }) => name !== EXTERNAL_MODEL)
        .map((model) => [showModel(model), model]),
    );
    return [...wanted.values()].flatMap((model) => {
      try {
        const { name, version, folder } = registry.describe(model);
        return [{ name, version, folder }];
      } catch (error) {
        if (!(error instanceof ReidError)) throw error;
        log.warn("a gallery's model is not in the backup", {
          model: showModel(model),
          error,
        });
        return [];
      }
    });
  }

  get #folder(): string {
    const { dir } = this.#options.config.backup;
    if (dir !== undefined) return dir;
    if (this.#options.config.index.engine === "milvus")
      throw new EngineUnsupportedError(
        "a backup",
        "back up PostgreSQL with pg_dump or its base backups, Milvus is filled again from it",
      );
    throw new BackupOffError();
  }

  get #stagingRoot(): string {
    return join(this.#options.store.folder, "restoring");
  }
}

function detailOf(
  backupId: string,
  files: BackupManifest["files"],
): BackupDetail {
  const sizeBytes = files.reduce((sum, file) => sum + file.sizeBytes, 0);
  return { kind: "backup", backupId, sizeBytes };
}
