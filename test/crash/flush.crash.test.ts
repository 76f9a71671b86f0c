import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { describe, test } from "node:test";

import { connect, type Client } from "#cli/client";

import { featureNamed, inFolder } from "../support/galleries.js";
import { mainModule, readyAddress } from "../support/server-process.js";
import {
  cannotTrace,
  eventsIn,
  MessageTrace,
  StoreTrace,
  straceArguments,
} from "../support/system-calls.js";

const dimension = 32;
const model = { name: "external", version: 1 };

function enrollment(entryId: string) {
  const feature = featureNamed(entryId, dimension);
  return {
    feature: { f32le: Buffer.from(feature.buffer), model },
    entry: { entryId, identity: `of-${entryId}` },
  };
}

const gallery = "the-door";
const requestId = "4f2b0cf1-8f0a-4f2e-9d5e-6a3c9a0e7b11";

/**
 * What each call leaves on the disk before it is answered: a text of the transaction for each message of the answer.
 *
 * An empty text: what it wrote has none of its own. `undefined`: that message acknowledges nothing.
 */
const calls: Readonly<
  Record<string, (client: Client) => Promise<readonly (string | undefined)[]>>
> = {
  CreateGallery: async ({ GalleryService }) => {
    await GalleryService.CreateGallery({
      gallery: { name: gallery, model, dimension },
    });
    return [gallery];
  },
  UpdateGallery: async ({ GalleryService }) => {
    await GalleryService.UpdateGallery({
      gallery: { name: gallery, tags: { floor: "the-third" } },
      updateMask: { paths: ["tags"] },
    });
    return ["the-third"];
  },
  Enroll: async ({ GalleryService }) => {
    await GalleryService.Enroll({ gallery, enrollments: [enrollment("one")] });
    return ["of-one"];
  },
  "Enroll under a request id": async ({ GalleryService }) => {
    await GalleryService.Enroll({
      ...{ gallery, requestId, enrollments: [enrollment("two")] },
    });
    return [requestId];
  },
  StreamEnroll: async (client) => {
    const stream = client.streamEnroll();
    const say = async (message: object): Promise<void> => {
      stream.write(message);
      await once(stream, "data");
    };
    await say({ open: { gallery } });
    for (const [correlationId, id] of ["three", "four"].entries())
      await say({ enrollment: { correlationId, item: enrollment(id) } });
    stream.end();
    await once(stream, "end");
    return [undefined, "of-three", "of-four"];
  },
  UpdateEntries: async ({ GalleryService }) => {
    await GalleryService.UpdateEntries({
      gallery,
      selector: { entryIds: ["one"] },
      entry: { cameraId: "camera-by-the-stairs" },
      updateMask: { paths: ["camera_id"] },
    });
    return ["camera-by-the-stairs"];
  },
  DeleteEntries: async ({ GalleryService }) => {
    await GalleryService.DeleteEntries({
      gallery,
      selector: { entryIds: ["two"] },
    });
    return [""];
  },
  ForgetIdentity: async ({ GalleryService }) => {
    const { receiptId } = await GalleryService.ForgetIdentity({
      identity: "of-three",
    });
    return [receiptId];
  },
  CreateSnapshot: async ({ AdminService }) => {
    const { operation } = await AdminService.CreateSnapshot({ gallery });
    return [operation?.operationId];
  },
};

/** A server under strace makes every call, one after another. @returns what each left on the disk, by message */
async function traceCalls(folder: string, trace: string) {
  await mkdir(join(folder, "models"));
  const running = spawn(
    "strace",
    [
      ...straceArguments(trace, [process.execPath, mainModule, "serve"]),
      ...["--models", join(folder, "models"), "--data", join(folder, "data")],
      ...["--listen", "127.0.0.1:0", "--metrics", ""],
    ],
    { stdio: ["ignore", "pipe", "pipe"] },
  );
  const closed = once(running, "close");
  const messages: { readonly of: string; readonly text: string | undefined }[] =
    [];
  try {
    const client = connect(await readyAddress(running));
    for (const [of, call] of Object.entries(calls))
      for (const text of await call(client)) messages.push({ of, text });
    client.close();
  } finally {
    running.kill("SIGTERM");
    await closed;
  }
  return messages;
}

describe("a server under strace", { skip: cannotTrace }, () => {
  test("answers no write before its transaction is flushed, whatever the call", () =>
    inFolder(async (folder) => {
      const trace = join(folder, "trace");
      const messages = await traceCalls(folder, trace);
      const store = new StoreTrace();
      const connections = new MessageTrace();
      let flushed = "";
      let answered = 0;
      for (const event of await eventsIn(trace)) {
        flushed += store.take(event)?.bytes.toString("latin1") ?? "";
        for (let n = connections.take(event); n > 0; n--) {
          const message = messages[answered++];
          assert.ok(message !== undefined, "more messages than were taken");
          const { of, text } = message;
          if (text === undefined) continue;
          assert.notEqual(flushed, "", `${of} is answered before any flush`);
          assert.ok(
            flushed.includes(text),
            `${of} is answered before "${text}" is flushed`,
          );
          // What the next answer speaks of comes after it.
          flushed = "";
        }
      }
      assert.equal(answered, messages.length);
    }));
});
