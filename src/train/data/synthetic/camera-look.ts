import { randomStream } from "#core/random";
import type { Rgb } from "./colour.js";
import { domainLooks, type Range } from "./domain-look.js";
import type { RenderWorld } from "./render-options.js";

/** Everything that makes a camera: the same in every crop it takes. */
export interface CameraLook {
  /** Downward tilt in radians. */
  readonly elevation: number;
  /** Mean facing angle of walkers in radians: 0 towards the camera, π/2 to the right of the crop. */
  readonly yaw: number;
  readonly yawSpread: number;
  /** Where the light comes from, −1 left … 1 right. */
  readonly light: number;
  /** Gains of the channels. */
  readonly gains: Rgb;
  readonly exposure: number;
  readonly blurPx: number;
  readonly noise: number;
}

/** Draws one camera's looks from its own random stream. */
export function drawCamera(world: RenderWorld, cameraId: number): CameraLook {
  const look = domainLooks[world.domain];
  const shared = randomStream(world.seed, "synthetic cameras", world.domain);
  const phase = shared.between(0, 2 * Math.PI);
  const random = randomStream(
    world.seed,
    "synthetic camera",
    world.domain,
    cameraId,
  );
  // Evenly spaced cameras: free draws let the strength of the domain gap swing with the seed.
  const turn = (cameraId - 1) / world.cameras;
  const hue = phase + 2 * Math.PI * turn;
  const axis = shared.between(0, Math.PI) + Math.PI * turn;
  /** A place in the camera's own share of a range; shares are dealt anew for each range. */
  const within = ([low, high]: Range) => {
    const order = shared.shuffle(
      Array.from({ length: world.cameras }, (_, camera) => camera),
    );
    const share = (order[cameraId - 1] + random.uniform()) / world.cameras;
    return low + (high - low) * share;
  };
  const gain = (channel: number) =>
    Math.exp(1.4 * look.tint * Math.cos(hue - (channel * 2 * Math.PI) / 3));
  return {
    elevation: within(look.elevation),
    // Walkers come and go along one axis, so half a turn is all there is.
    yaw: axis,
    yawSpread: within(look.yawSpread),
    light: random.uniform() < 0.5 ? -1 : 1,
    gains: [
      gain(0) * look.cast[0],
      gain(1) * look.cast[1],
      gain(2) * look.cast[2],
    ],
    exposure: random.between(0.92, 1.08),
    blurPx: within(look.blurPx),
    noise: within(look.noise),
  };
}
