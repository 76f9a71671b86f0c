import {
  createCanvas,
  ImageData,
  type Canvas,
  type CanvasContext,
} from "#core/canvas";
import { randomStream, type RandomStream } from "#core/random";
import { drawAppearance, type Appearance } from "./appearance.js";
import { copyWindow, drawBackdrop, type Backdrop } from "./backdrop.js";
import { drawCamera, type CameraLook } from "./camera-look.js";
import type { PlannedCrop } from "./crop-plan.js";
import { domainLooks, type DomainLook } from "./domain-look.js";
import { drawFigure } from "./figure.js";
import { drawOccluder } from "./occluder.js";
import { drawPose, type Pose } from "./pose.js";
import type { RenderWorld } from "./render-options.js";
import { createNoiseTable, expose } from "./sensor.js";

/** Identities of passers-by start here, beyond any that a data set holds. */
const passerByStart = 1_000_000;
const passerByShare = 0.35;

/**
 * Renders single crops of one world.
 *
 * Every crop draws from streams named by identity, camera and shot, so that its bytes depend neither on the
 * order nor on which other crops are rendered.
 */
export class CropRenderer {
  readonly #world: RenderWorld;
  readonly #look: DomainLook;
  readonly #canvas: Canvas;
  readonly #figure: Canvas;
  readonly #context: CanvasContext;
  readonly #ground: ImageData;
  readonly #noise: Float32Array;
  readonly #appearances = new Map<number, Appearance>();
  readonly #cameras = new Map<
    number,
    { camera: CameraLook; backdrop: Backdrop }
  >();

  constructor(world: RenderWorld) {
    this.#world = world;
    this.#look = domainLooks[world.domain];
    this.#canvas = createCanvas(world.widthPx, world.heightPx);
    this.#figure = createCanvas(world.widthPx, world.heightPx);
    this.#context = this.#canvas.getContext("2d");
    this.#ground = new ImageData(world.widthPx, world.heightPx);
    this.#noise = createNoiseTable(randomStream(world.seed, "synthetic noise"));
  }

  /** @returns the crop as a JPEG file's bytes, owned by the caller */
  render(
    crop: Pick<PlannedCrop, "identity" | "cameraId" | "shot">,
  ): Uint8Array {
    const { seed, domain, widthPx, heightPx } = this.#world;
    const { identity, cameraId, shot } = crop;
    const random = randomStream(
      seed,
      "synthetic crop",
      domain,
      identity,
      cameraId,
      shot,
    );
    const who = this.#appearance(identity);
    const { camera, backdrop } = this.#camera(cameraId);
    this.#drawGround(backdrop, random);
    const isOccluded = random.uniform() < this.#look.occlusion;
    const isPerson = isOccluded && random.uniform() < passerByShare;
    const pose = drawPose(random, who, camera, { widthPx, heightPx });
    const neighbour = random.uniform();
    if (neighbour < 0.15) this.#drawPasserBy(random, camera, 0.8);
    this.#drawPerson(who, pose, camera);
    if (isPerson) this.#drawPasserBy(random, camera, 0.62);
    else if (isOccluded) drawOccluder(this.#context, random, widthPx, heightPx);

    const image = this.#context.getImageData(0, 0, widthPx, heightPx);
    const look = this.#look;
    expose(image.data, widthPx, heightPx, {
      camera,
      look,
      noise: this.#noise,
      random,
    });
    this.#context.putImageData(image, 0, 0);
    const quality = Math.round(random.between(...look.jpegQuality));
    return this.#canvas.encodeSync("jpeg", quality);
  }

  #appearance(identity: number): Appearance {
    const known = this.#appearances.get(identity);
    if (known !== undefined) return known;
    const drawn = drawAppearance(this.#world, identity);
    this.#appearances.set(identity, drawn);
    return drawn;
  }

  #camera(cameraId: number): { camera: CameraLook; backdrop: Backdrop } {
    const known = this.#cameras.get(cameraId);
    if (known !== undefined) return known;
    const camera = drawCamera(this.#world, cameraId);
    const drawn = {
      camera,
      backdrop: drawBackdrop(this.#world, cameraId, camera),
    };
    this.#cameras.set(cameraId, drawn);
    return drawn;
  }

  #drawGround(backdrop: Backdrop, random: RandomStream): void {
    const { widthPx, heightPx } = this.#world;
    const zoom = random.between(0.88, 1.12);
    const wide = widthPx * zoom;
    const high = heightPx * zoom;
    const window = {
      x: random.between(0, backdrop.widthPx - wide),
      y: random.between(0, backdrop.heightPx - high),
      widthPx: wide,
      heightPx: high,
    };
    copyWindow(backdrop, window, this.#ground);
    this.#context.putImageData(this.#ground, 0, 0);
  }

  #drawPerson(who: Appearance, pose: Pose, camera: CameraLook): void {
    const { widthPx, heightPx } = this.#world;
    const layer = this.#figure.getContext("2d");
    layer.clearRect(0, 0, widthPx, heightPx);
    drawFigure(
      { context: layer, light: camera.light, contrast: this.#look.contrast },
      who,
      pose,
    );
    this.#drawShadow(pose, camera);
    this.#context.drawImage(this.#figure, 0, 0);
  }

  /** The contact shadow under the feet, and the long one on the ground, away from the light. */
  #drawShadow({ ground, unitPx }: Pose, { light }: CameraLook): void {
    const context = this.#context;
    const { shadow } = this.#look;
    context.save();
    context.translate(ground.x, ground.y);
    context.fillStyle = `rgba(0,0,0,${shadow})`;
    context.beginPath();
    context.ellipse(0, 0, unitPx * 0.13, unitPx * 0.03, 0, 0, 7);
    context.fill();
    context.rotate(-light * 0.35);
    context.fillStyle = `rgba(0,0,0,${shadow * 0.7})`;
    context.beginPath();
    context.ellipse(
      -light * unitPx * 0.2,
      0,
      unitPx * 0.3,
      unitPx * 0.045,
      0,
      0,
      7,
    );
    context.fill();
    context.restore();
  }

  #drawPasserBy(
    random: RandomStream,
    camera: CameraLook,
    offset: number,
  ): void {
    const { widthPx, heightPx } = this.#world;
    const who = this.#appearance(passerByStart + random.below(200));
    const pose = drawPose(random, who, camera, { widthPx, heightPx });
    const side = random.uniform() < 0.5 ? -1 : 1;
    this.#context.save();
    this.#context.translate(
      side * widthPx * offset,
      heightPx * random.between(-0.06, 0.06),
    );
    this.#drawPerson(who, pose, camera);
    this.#context.restore();
  }
}
