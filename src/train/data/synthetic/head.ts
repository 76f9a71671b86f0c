import type { Appearance } from "./appearance.js";
import { drawEllipse, roundPaint, type Brush } from "./brush.js";
import { css, scaled } from "./colour.js";
import type { Pose } from "./pose.js";

/** Paints head, face, hair and hat. */
export function drawHead(brush: Brush, who: Appearance, pose: Pose): void {
  const { context } = brush;
  const { head, unitPx, yaw } = pose;
  const front = Math.cos(yaw);
  const side = Math.sin(yaw);
  const wide = unitPx * (0.055 + 0.008 * Math.abs(side));
  const high = unitPx * 0.073;
  const shaded = (colour: Appearance["skin"]) =>
    roundPaint(brush, colour, head.x - wide, head.x + wide);

  if (who.hair === "long" || who.hair === "bob") {
    // Hair that falls behind the face: to the shoulders or to the chin.
    const fall = who.hair === "long" ? 1.35 : 0.75;
    context.fillStyle = shaded(scaled(who.hairColour, 0.85));
    const x = head.x - side * wide * 0.35;
    drawEllipse(
      context,
      { x, y: head.y + high * fall * 0.4 },
      wide * 1.22,
      high * (0.75 + fall * 0.45),
    );
  }
  context.fillStyle = shaded(who.skin);
  drawEllipse(context, head, wide, high);
  drawFace(brush, who, pose, { wide, high });
  drawHair(brush, who, pose, { wide, high });
  drawHat(brush, who, pose, { wide, high });
  if (front < 0 && who.hair === "ponytail") {
    context.fillStyle = css(scaled(who.hairColour, 0.8));
    drawEllipse(
      context,
      { x: head.x - side * wide, y: head.y + high * 0.9 },
      wide * 0.32,
      high * 0.95,
    );
  }
}

interface HeadSize {
  readonly wide: number;
  readonly high: number;
}

function drawFace(
  { context }: Brush,
  who: Appearance,
  { head, yaw }: Pose,
  { wide, high }: HeadSize,
): void {
  const place = (angle: number, down: number) => ({
    x: head.x + Math.sin(yaw + angle) * wide * 0.86,
    y: head.y + high * down,
  });
  const isSeen = (angle: number) => Math.cos(yaw + angle) > 0.15;
  if (who.beard && isSeen(0)) {
    context.fillStyle = css(who.hairColour, 0.85);
    drawEllipse(context, place(0, 0.62), wide * 0.66, high * 0.36);
  }
  context.fillStyle = "rgba(20,16,16,0.75)";
  for (const eye of [-0.42, 0.42])
    if (isSeen(eye))
      drawEllipse(context, place(eye, 0.06), wide * 0.14, high * 0.08);
  if (isSeen(0)) {
    context.fillStyle = css(scaled(who.skin, 0.72));
    drawEllipse(context, place(0, 0.52), wide * 0.26, high * 0.06);
  }
}

function drawHair(
  brush: Brush,
  who: Appearance,
  { head, yaw }: Pose,
  { wide, high }: HeadSize,
): void {
  if (who.hair === "bald") return;
  const { context } = brush;
  const front = Math.cos(yaw);
  const side = Math.sin(yaw);
  const volume =
    who.hair === "curly" ? 1.34 : who.hair === "cropped" ? 1.03 : 1.12;
  const colour = roundPaint(
    brush,
    who.hairColour,
    head.x - wide * volume,
    head.x + wide * volume,
  );
  context.fillStyle = colour;
  context.save();
  context.beginPath();
  // The hairline: low at the back, above the eyes in front.
  const line =
    head.y + high * (front > 0 ? 0.5 - 0.85 * front : 0.5 - 0.3 * front);
  const slope = side * high * 0.5;
  context.moveTo(head.x - wide * 2, head.y - high * 2);
  context.lineTo(head.x + wide * 2, head.y - high * 2);
  context.lineTo(head.x + wide * 2, line - slope);
  context.lineTo(head.x - wide * 2, line + slope);
  context.clip();
  drawEllipse(
    context,
    { x: head.x - side * wide * 0.14, y: head.y - high * 0.08 * volume },
    wide * volume,
    high * volume,
  );
  context.restore();
  if (who.hair === "bun") {
    context.fillStyle = colour;
    drawEllipse(
      context,
      { x: head.x - side * wide * 0.9, y: head.y - high * 0.95 },
      wide * 0.5,
      high * 0.36,
    );
  }
  if (who.hair === "ponytail" && Math.abs(side) > 0.4 && front >= 0) {
    context.fillStyle = colour;
    drawEllipse(
      context,
      { x: head.x - side * wide * 1.2, y: head.y + high * 0.5 },
      wide * 0.3,
      high * 0.8,
    );
  }
}

function drawHat(
  brush: Brush,
  who: Appearance,
  { head, yaw }: Pose,
  { wide, high }: HeadSize,
): void {
  if (who.hat === "none") return;
  const { context } = brush;
  const side = Math.sin(yaw);
  const front = Math.cos(yaw);
  const paint = (factor: number) =>
    roundPaint(
      brush,
      scaled(who.hatColour, factor),
      head.x - wide * 1.2,
      head.x + wide * 1.2,
    );
  context.fillStyle = paint(1);
  context.save();
  context.beginPath();
  const edge = head.y - high * (who.hat === "beanie" ? 0.22 : 0.32);
  context.rect(
    head.x - wide * 3,
    head.y - high * 3,
    wide * 6,
    edge - head.y + high * 3,
  );
  context.clip();
  drawEllipse(
    context,
    { x: head.x, y: head.y - high * 0.06 },
    wide * 1.18,
    high * 1.16,
  );
  context.restore();
  if (who.hat === "beanie") {
    context.fillStyle = paint(0.78);
    context.fillRect(
      head.x - wide * 1.18,
      edge - high * 0.2,
      wide * 2.36,
      high * 0.26,
    );
    return;
  }
  context.fillStyle = paint(0.7);
  if (who.hat === "brim")
    drawEllipse(context, { x: head.x, y: edge }, wide * 1.9, high * 0.2);
  else if (front > -0.3)
    drawEllipse(
      context,
      { x: head.x + side * wide * 0.9, y: edge },
      wide * (0.65 + 0.4 * Math.abs(side)),
      high * 0.16,
    );
}
