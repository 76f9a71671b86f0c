import type { CanvasContext } from "#core/canvas";
import type { Appearance } from "./appearance.js";
import { drawEllipse, roundPaint, type Brush } from "./brush.js";
import { css, scaled, type Rgb } from "./colour.js";
import type { Pose } from "./pose.js";

/** The trunk on the crop: its outline, and where a place on the cloth is. */
interface Trunk {
  readonly top: number;
  readonly bottom: number;
  /** Half-breadth in pixels at a height of the crop. */
  readonly half: (y: number) => number;
  readonly x: (y: number) => number;
  readonly trace: (context: CanvasContext) => void;
}

/** Paints what is worn on the trunk: cloth, pattern, print, opening, collar, folds. */
export function drawTrunk(brush: Brush, who: Appearance, pose: Pose): void {
  const { context } = brush;
  const trunk = traceTrunk(who, pose);
  const middle = trunk.x(trunk.top);
  const widest = Math.max(pose.shoulderPx, pose.hipPx);
  const paint = (colour: Rgb) =>
    roundPaint(brush, colour, middle - widest, middle + widest);
  context.save();
  trunk.trace(context);
  context.clip();
  context.fillStyle = paint(who.upperColour);
  context.fillRect(
    middle - widest * 2,
    trunk.top - 40,
    widest * 4,
    trunk.bottom - trunk.top + 80,
  );
  context.fillStyle = paint(who.patternColour);
  drawPattern(context, who, pose, trunk);
  if (who.innerColour !== undefined && Math.cos(pose.yaw) > 0.05) {
    context.fillStyle = paint(who.innerColour);
    fillSector(context, pose, trunk, [-0.42, 0.42]);
    context.fillStyle = paint(scaled(who.upperColour, 0.62));
    fillSector(context, pose, trunk, [-0.5, -0.4]);
    fillSector(context, pose, trunk, [0.4, 0.5]);
  } else if (
    who.upper === "jacket" ||
    who.upper === "coat" ||
    who.upper === "shirt"
  ) {
    context.fillStyle = paint(scaled(who.upperColour, 0.55));
    fillSector(context, pose, trunk, [-0.05, 0.05]);
  }
  context.fillStyle = css(who.logoColour);
  if (who.innerColour === undefined) drawLogo(context, who, pose, trunk);
  if (who.upper === "hoodie") {
    context.fillStyle = paint(scaled(who.upperColour, 0.78));
    const y = trunk.top + (trunk.bottom - trunk.top) * 0.72;
    if (Math.cos(pose.yaw) > 0)
      context.fillRect(
        around(pose, trunk, -0.7, y),
        y,
        around(pose, trunk, 0.7, y) - around(pose, trunk, -0.7, y),
        (trunk.bottom - trunk.top) * 0.16,
      );
  }
  if (who.upper === "vest") {
    // Quilting.
    context.fillStyle = "rgba(0,0,0,0.22)";
    for (let y = trunk.top; y < trunk.bottom; y += pose.unitPx * 0.055)
      context.fillRect(middle - widest * 2, y, widest * 4, pose.unitPx * 0.012);
  }
  drawFolds(context, pose, trunk);
  context.restore();
  drawCollar(brush, who, pose);
}

function traceTrunk(who: Appearance, pose: Pose): Trunk {
  const { unitPx, at } = pose;
  const shoulders = at(0, 0.835, 0);
  const waist = pose.waist;
  const hemUp =
    who.upper === "coat"
      ? 0.3
      : who.upper === "shirt" || who.upper === "hoodie"
        ? 0.455
        : 0.475;
  const hem = at(0, hemUp, 0);
  const loose = who.upper === "tee" || who.upper === "shirt" ? 1 : 1.08;
  const shoulderPx = pose.shoulderPx * loose;
  const waistPx = pose.waistPx * loose;
  const hemPx = pose.hipPx * (who.upper === "coat" ? 1.22 : loose * 1.02);
  const ys = [shoulders.y, waist.y, hem.y] as const;
  const share = (y: number, from: number, to: number) =>
    Math.min(1, Math.max(0, (y - from) / Math.max(1, to - from)));
  const half = (y: number) =>
    y < ys[1]
      ? shoulderPx + (waistPx - shoulderPx) * share(y, ys[0], ys[1])
      : waistPx + (hemPx - waistPx) * share(y, ys[1], ys[2]);
  const x = (y: number) =>
    shoulders.x + (hem.x - shoulders.x) * share(y, ys[0], ys[2]);
  const round = unitPx * 0.05;
  return {
    top: shoulders.y,
    bottom: hem.y,
    half,
    x,
    trace: (context) => {
      context.beginPath();
      context.moveTo(
        shoulders.x - shoulderPx * 0.45,
        shoulders.y - round * 0.35,
      );
      context.lineTo(
        shoulders.x + shoulderPx * 0.45,
        shoulders.y - round * 0.35,
      );
      context.quadraticCurveTo(
        shoulders.x + shoulderPx,
        shoulders.y,
        shoulders.x + shoulderPx,
        shoulders.y + round,
      );
      context.lineTo(waist.x + waistPx, waist.y);
      context.lineTo(hem.x + hemPx, hem.y - round * 0.2);
      context.quadraticCurveTo(
        hem.x,
        hem.y + round * 0.5,
        hem.x - hemPx,
        hem.y - round * 0.2,
      );
      context.lineTo(waist.x - waistPx, waist.y);
      context.lineTo(shoulders.x - shoulderPx, shoulders.y + round);
      context.quadraticCurveTo(
        shoulders.x - shoulderPx,
        shoulders.y,
        shoulders.x - shoulderPx * 0.45,
        shoulders.y - round * 0.35,
      );
      context.closePath();
    },
  };
}

/** The x of a place at an angle around the body (0 the breastbone), hidden ones at the edge. */
function around(pose: Pose, trunk: Trunk, angle: number, y: number): number {
  const seen = pose.yaw + angle;
  const across =
    Math.cos(seen) > 0 ? Math.sin(seen) : Math.sign(Math.sin(seen));
  return trunk.x(y) + trunk.half(y) * across;
}

function fillSector(
  context: CanvasContext,
  pose: Pose,
  trunk: Trunk,
  [from, to]: readonly [number, number],
): void {
  if (Math.cos(pose.yaw + (from + to) / 2) < -0.1) return;
  const low = trunk.bottom + pose.unitPx * 0.05;
  const high = trunk.top - pose.unitPx * 0.05;
  context.beginPath();
  context.moveTo(around(pose, trunk, from, high), high);
  context.lineTo(around(pose, trunk, to, high), high);
  context.lineTo(around(pose, trunk, to, low), low);
  context.lineTo(around(pose, trunk, from, low), low);
  context.fill();
}

function drawPattern(
  context: CanvasContext,
  who: Appearance,
  pose: Pose,
  trunk: Trunk,
): void {
  const length = trunk.bottom - trunk.top;
  const count = who.patternCount;
  const bands = (share: number) => {
    for (let i = 0; i < count; i++)
      context.fillRect(
        trunk.x(trunk.top) - pose.unitPx,
        trunk.top + (length * (i + 0.35)) / count,
        pose.unitPx * 2,
        (length / count) * share,
      );
  };
  const columns = (every: number, width: number) => {
    for (let angle = -Math.PI; angle < Math.PI - 0.01; angle += every)
      if (Math.cos(pose.yaw + angle) > 0)
        fillSector(context, pose, trunk, [angle, angle + width]);
  };
  const painters: Readonly<Record<Appearance["pattern"], () => void>> = {
    plain: () => undefined,
    raglan: () => undefined,
    stripes: () => bands(0.45),
    pinstripes: () => columns(Math.PI / (count + 2), 0.16),
    checks: () => {
      context.globalAlpha = 0.6;
      bands(0.4);
      columns(Math.PI / (count + 1), Math.PI / (count + 1) / 2.4);
      context.globalAlpha = 1;
    },
    block: () =>
      context.fillRect(
        trunk.x(trunk.top) - pose.unitPx,
        trunk.top + length * (0.3 + 0.06 * count),
        pose.unitPx * 2,
        length,
      ),
    dots: () =>
      scatter(context, pose, trunk, {
        rows: count + 2,
        radius: 0.014,
        offset: 0,
      }),
    print: () =>
      scatter(context, pose, trunk, {
        rows: count,
        radius: 0.032,
        offset: count,
      }),
  };
  painters[who.pattern]();
}

function scatter(
  context: CanvasContext,
  pose: Pose,
  trunk: Trunk,
  {
    rows,
    radius,
    offset,
  }: {
    readonly rows: number;
    readonly radius: number;
    readonly offset: number;
  },
): void {
  const around12 = 12;
  for (let row = 0; row < rows; row++)
    for (let column = 0; column < around12; column++) {
      // A print's blobs are shifted and sized by a fixed irregular rule, so that they are its own from every side.
      const wobble =
        offset === 0 ? 0 : Math.sin(row * 12.9 + column * 78.2 + offset * 3.7);
      const angle =
        ((column + (row % 2) / 2 + wobble * 0.4) * 2 * Math.PI) / around12;
      const facing = Math.cos(pose.yaw + angle);
      if (facing <= 0.05) continue;
      const y =
        trunk.top +
        ((trunk.bottom - trunk.top) * (row + 0.5 + wobble * 0.3)) / rows;
      const size = pose.unitPx * radius * (1 + wobble * 0.5);
      drawEllipse(
        context,
        { x: around(pose, trunk, angle, y), y },
        size * facing,
        size,
      );
    }
}

function drawLogo(
  context: CanvasContext,
  who: Appearance,
  pose: Pose,
  trunk: Trunk,
): void {
  const isFront = Math.cos(pose.yaw) > 0;
  if (who.logo === "none" || (!isFront && !who.backPrint)) return;
  const facing = Math.abs(Math.cos(pose.yaw));
  if (facing < 0.12) return;
  const size = pose.unitPx * (isFront ? 0.062 : 0.078);
  const y = trunk.top + (trunk.bottom - trunk.top) * 0.36;
  const x = around(pose, trunk, isFront ? 0 : Math.PI, y);
  context.save();
  context.translate(x, y);
  context.scale(facing, 1);
  const painters: Readonly<
    Record<Exclude<Appearance["logo"], "none">, () => void>
  > = {
    disc: () => drawEllipse(context, { x: 0, y: 0 }, size, size),
    square: () => context.fillRect(-size, -size, size * 2, size * 2),
    letters: () => {
      for (let i = -1; i <= 1; i++)
        context.fillRect(
          i * size * 0.95 - size * 0.3,
          -size * 0.6,
          size * 0.6,
          size * 1.2,
        );
    },
    band: () => context.fillRect(-size * 4, -size * 0.5, size * 8, size),
    bolt: () => {
      context.beginPath();
      context.moveTo(size * 0.4, -size * 1.2);
      context.lineTo(-size * 0.9, size * 0.3);
      context.lineTo(0, size * 0.1);
      context.lineTo(-size * 0.4, size * 1.3);
      context.lineTo(size, -size * 0.3);
      context.lineTo(size * 0.1, -size * 0.1);
      context.fill();
    },
    ring: () => {
      context.lineWidth = size * 0.5;
      context.strokeStyle = context.fillStyle;
      context.beginPath();
      context.arc(0, 0, size * 0.9, 0, 7);
      context.stroke();
    },
  };
  painters[who.logo]();
  context.restore();
}

function drawFolds(context: CanvasContext, pose: Pose, trunk: Trunk): void {
  const length = trunk.bottom - trunk.top;
  context.strokeStyle = "rgba(0,0,0,0.16)";
  context.lineWidth = Math.max(0.6, pose.unitPx * 0.01);
  for (const [side, down] of [
    [-0.75, 0.3],
    [0.7, 0.45],
    [-0.5, 0.78],
  ] as const) {
    const y = trunk.top + length * down;
    const x = trunk.x(y) + trunk.half(y) * side;
    context.beginPath();
    context.moveTo(x, y);
    context.quadraticCurveTo(
      x - side * length * 0.12,
      y + length * 0.06,
      x - side * length * 0.3,
      y + length * 0.05,
    );
    context.stroke();
  }
  const shade = context.createLinearGradient(0, trunk.top, 0, trunk.bottom);
  shade.addColorStop(0, "rgba(255,255,255,0.1)");
  shade.addColorStop(0.35, "rgba(0,0,0,0)");
  shade.addColorStop(1, "rgba(0,0,0,0.2)");
  context.fillStyle = shade;
  context.fillRect(
    trunk.x(trunk.top) - pose.unitPx,
    trunk.top - 10,
    pose.unitPx * 2,
    length + 20,
  );
}

function drawCollar(brush: Brush, who: Appearance, pose: Pose): void {
  const { context } = brush;
  const { neck, unitPx } = pose;
  if (who.scarf !== undefined) {
    context.fillStyle = roundPaint(
      brush,
      who.scarf,
      neck.x - unitPx * 0.07,
      neck.x + unitPx * 0.07,
    );
    drawEllipse(context, neck, unitPx * 0.066, unitPx * 0.034);
    return;
  }
  if (
    who.upper === "hoodie" ||
    who.upper === "coat" ||
    who.upper === "jacket"
  ) {
    context.fillStyle = css(scaled(who.upperColour, 0.7));
    drawEllipse(
      context,
      { x: neck.x, y: neck.y + unitPx * 0.012 },
      unitPx * (who.upper === "hoodie" ? 0.075 : 0.058),
      unitPx * 0.026,
    );
  }
}
