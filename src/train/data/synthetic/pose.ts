import type { RandomStream } from "#core/random";
import type { Appearance } from "./appearance.js";
import type { CameraLook } from "./camera-look.js";

/** A point of the crop: x to the right and y down in pixels, depth towards the camera in body heights. */
export interface Point {
  readonly x: number;
  readonly y: number;
  readonly depth: number;
}

/** Joints of one arm or leg, from the body outwards. */
export interface Limb {
  readonly root: Point;
  readonly middle: Point;
  readonly end: Point;
}

/** A body as one camera sees it in one moment. */
export interface Pose {
  /** Facing angle in radians: 0 towards the camera, π/2 to the right of the crop. */
  readonly yaw: number;
  /** Pixels of one body height. */
  readonly unitPx: number;
  readonly arms: readonly [left: Limb, right: Limb];
  readonly legs: readonly [left: Limb, right: Limb];
  /** Forward end of each foot. */
  readonly toes: readonly [Point, Point];
  readonly head: Point;
  readonly neck: Point;
  readonly chest: Point;
  readonly waist: Point;
  readonly ground: Point;
  /** Half the breadth of the body across the line of sight at shoulders, waist and hips, in pixels. */
  readonly shoulderPx: number;
  readonly waistPx: number;
  readonly hipPx: number;
  /** A place on or in the body: across to its left hand, up, and forward, in body heights. */
  readonly at: (across: number, up: number, forward: number) => Point;
}

/** Where the figure stands in the crop. */
export interface Placement {
  readonly widthPx: number;
  readonly heightPx: number;
}

/** Draws one moment of a walk: facing angle, phase of the gait, arms, and how the detector framed it. */
export function drawPose(
  random: RandomStream,
  appearance: Appearance,
  camera: CameraLook,
  { widthPx, heightPx }: Placement,
): Pose {
  const turned = random.uniform() < 0.4 ? Math.PI : 0;
  const yaw = camera.yaw + turned + camera.yawSpread * random.normal() * 0.6;
  const unitPx =
    heightPx * 0.9 * appearance.height * random.between(0.94, 1.03);
  const centreX = widthPx * (0.5 + random.normal() * 0.03);
  const groundY = heightPx * (0.965 + random.normal() * 0.012);
  const cos = Math.cos(yaw);
  const sin = Math.sin(yaw);
  const tilt = Math.sin(camera.elevation);
  const upright = Math.cos(camera.elevation) * 0.3 + 0.7;
  const lean = random.normal() * 0.012;

  const at = (across: number, up: number, forward: number): Point => {
    const depth = forward * cos - across * sin;
    const x = across * cos + forward * sin + lean * up;
    // What is higher is nearer to a camera that looks down, and so a little larger.
    const nearer = 1 + 0.22 * tilt * (up - 0.5);
    return {
      x: centreX + x * nearer * unitPx,
      y: groundY - (up * upright - depth * tilt * 0.8) * unitPx,
      depth,
    };
  };

  const { build } = appearance;
  const stride = random.uniform() < 0.2 ? 0.06 : random.between(0.25, 0.55);
  const phase = random.between(0, 2 * Math.PI);
  const leg = (side: number): { limb: Limb; toe: Point } => {
    const swing = stride * Math.sin(phase + (side > 0 ? 0 : Math.PI));
    const lifted = Math.max(0, Math.cos(phase + (side > 0 ? 0 : Math.PI)));
    const bend = stride * 1.5 * lifted + 0.04;
    const x = 0.052 * side * (0.6 + 0.4 * build);
    const kneeUp = 0.5 - 0.235 * Math.cos(swing);
    const kneeForward = 0.235 * Math.sin(swing);
    const shin = swing - bend;
    const ankleUp = Math.max(0.03, kneeUp - 0.235 * Math.cos(shin));
    const ankleForward = kneeForward + 0.235 * Math.sin(shin);
    return {
      limb: {
        root: at(x, 0.5, 0),
        middle: at(x * 1.05, kneeUp, kneeForward),
        end: at(x, ankleUp, ankleForward),
      },
      toe: at(x * 1.15, Math.max(0.012, ankleUp - 0.03), ankleForward + 0.085),
    };
  };
  const shoulder = 0.128 * build;
  const gesture = random.uniform();
  const arm = (side: number): Limb => {
    const swing = -stride * 0.9 * Math.sin(phase + (side > 0 ? 0 : Math.PI));
    // One arm in ten holds a telephone, one in seven has its hand in a pocket.
    const isRaised = gesture < 0.1 && side > 0;
    const isPocketed = gesture > 0.85 && side < 0;
    const elbow = isRaised ? 1.9 : isPocketed ? 0.5 : 0.25 + stride * 0.5;
    const upper = isRaised ? 0.3 : isPocketed ? -0.35 : swing;
    const out = shoulder + 0.022;
    const elbowAt = [
      side * (out + 0.018),
      0.81 - 0.165 * Math.cos(upper),
      0.165 * Math.sin(upper),
    ] as const;
    const forearm = upper + elbow;
    return {
      root: at(side * shoulder, 0.805, 0),
      middle: at(...elbowAt),
      end: at(
        side * (isPocketed ? shoulder * 0.85 : out + 0.012),
        elbowAt[1] - 0.15 * Math.cos(forearm),
        elbowAt[2] + 0.15 * Math.sin(forearm),
      ),
    };
  };
  // An elliptic body: its half-breadth across the line of sight.
  const breadth = (half: number, thickness: number) =>
    Math.hypot(half * cos, thickness * sin) * unitPx;
  const left = leg(1);
  const right = leg(-1);
  return {
    yaw,
    unitPx,
    arms: [arm(1), arm(-1)],
    legs: [left.limb, right.limb],
    toes: [left.toe, right.toe],
    head: at(0, 0.925, 0.012),
    neck: at(0, 0.845, 0),
    chest: at(0, 0.74, 0),
    waist: at(0, 0.54, 0),
    ground: at(0, 0, 0),
    shoulderPx: breadth(0.135 * build, 0.085 * build),
    waistPx: breadth(0.108 * build, 0.078 * build),
    hipPx: breadth(0.112 * build, 0.09 * build),
    at,
  };
}
