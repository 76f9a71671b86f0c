import type { Appearance, Upper } from "./appearance.js";
import { drawEllipse, drawSegment, roundPaint, type Brush } from "./brush.js";
import { css, mixed, scaled, type Rgb } from "./colour.js";
import { drawTrunk } from "./garment.js";
import { drawHead } from "./head.js";
import type { Limb, Point, Pose } from "./pose.js";

/** How far down the arm the cloth reaches. */
const sleeves: Readonly<Record<Upper, "none" | "short" | "long">> = {
  tee: "short",
  shirt: "long",
  sweater: "long",
  hoodie: "long",
  jacket: "long",
  coat: "long",
  vest: "none",
};

/** Paints a whole figure, what is farther first. */
export function drawFigure(brush: Brush, who: Appearance, pose: Pose): void {
  const facesAway = Math.cos(pose.yaw) < 0;
  const [farLeg, nearLeg] = byDepth(pose.legs);
  const [farArm, nearArm] = byDepth(pose.arms);
  const isBehind = (arm: Limb) => arm.root.depth < -0.03;
  drawLeg(brush, who, pose, farLeg);
  drawLeg(brush, who, pose, nearLeg);
  if (who.lower === "skirt") drawSkirt(brush, who, pose);
  if (isBehind(farArm)) drawArm(brush, who, pose, farArm);
  if (who.bag === "backpack" && !facesAway) drawBackpack(brush, who, pose);
  drawNeck(brush, who, pose);
  drawTrunk(brush, who, pose);
  if (who.bag === "backpack" && !facesAway) drawStraps(brush, who, pose);
  if (who.bag === "belt") drawBelt(brush, who, pose);
  if (who.bag === "shoulder") drawShoulderBag(brush, who, pose);
  if (!isBehind(farArm)) drawArm(brush, who, pose, farArm);
  if (who.bag === "backpack" && facesAway) drawBackpack(brush, who, pose);
  drawHead(brush, who, pose);
  drawArm(brush, who, pose, nearArm);
  if (who.bag === "tote") drawTote(brush, who, pose);
}

function byDepth([a, b]: readonly [Limb, Limb]): readonly [Limb, Limb] {
  return a.root.depth + a.end.depth <= b.root.depth + b.end.depth
    ? [a, b]
    : [b, a];
}

function drawLeg(brush: Brush, who: Appearance, pose: Pose, leg: Limb): void {
  const { unitPx } = pose;
  const toe = pose.toes[pose.legs[0] === leg ? 0 : 1];
  const thick =
    unitPx * (who.lower === "leggings" ? 0.86 : 1) * (0.4 + 0.6 * who.build);
  const [hip, knee, ankle] = [thick * 0.068, thick * 0.05, thick * 0.036];
  const isBare = who.lower === "shorts" || who.lower === "skirt";
  const shin: Rgb = isBare ? who.skin : who.lowerColour;
  const loose = who.lower === "trousers" ? 1.25 : 1;
  drawSegment(
    brush,
    who.shoes,
    [leg.end, unitPx * 0.028],
    [toe, unitPx * 0.022],
  );
  if (brightnessOf(who.shoes) < 120) {
    brush.context.fillStyle = "rgba(235,235,235,0.6)";
    drawEllipse(
      brush.context,
      { x: (leg.end.x + toe.x) / 2, y: toe.y + unitPx * 0.02 },
      unitPx * 0.04,
      unitPx * 0.008,
    );
  }
  drawSegment(
    brush,
    shin,
    [leg.middle, knee * (isBare ? 0.85 : 1)],
    [leg.end, ankle * (isBare ? 0.8 : loose)],
  );
  const thigh = who.lower === "skirt" ? who.skin : who.lowerColour;
  drawSegment(
    brush,
    thigh,
    [leg.root, hip],
    [leg.middle, knee * (isBare ? 1.25 : 1.04)],
  );
  if (who.lower === "jeans") {
    const fade = mixed(who.lowerColour, [200, 210, 224], 0.3);
    drawSegment(
      brush,
      fade,
      [between(leg.root, leg.middle, 0.35), hip * 0.4],
      [between(leg.root, leg.middle, 0.85), knee * 0.45],
    );
  }
  if (who.sideStripe !== undefined && !isBare) {
    const { context } = brush;
    context.strokeStyle = css(who.sideStripe);
    context.lineWidth = unitPx * 0.018;
    const shift = leg === pose.legs[0] ? knee * 0.6 : -knee * 0.6;
    const seen = shift * Math.cos(pose.yaw);
    context.beginPath();
    context.moveTo(leg.root.x + seen, leg.root.y);
    context.lineTo(leg.middle.x + seen, leg.middle.y);
    context.lineTo(leg.end.x + seen, leg.end.y);
    context.stroke();
  }
}

function brightnessOf([r, g, b]: Rgb): number {
  return (r + g + b) / 3;
}

function between(a: Point, b: Point, share: number): Point {
  return {
    x: a.x + (b.x - a.x) * share,
    y: a.y + (b.y - a.y) * share,
    depth: a.depth + (b.depth - a.depth) * share,
  };
}

function drawSkirt(brush: Brush, who: Appearance, pose: Pose): void {
  const { context } = brush;
  const top = pose.waist;
  const hem = pose.at(0, 0.3, 0);
  const half = pose.hipPx * 1.28;
  context.fillStyle = roundPaint(
    brush,
    who.lowerColour,
    top.x - half,
    top.x + half,
  );
  context.beginPath();
  context.moveTo(top.x - pose.waistPx, top.y);
  context.lineTo(top.x + pose.waistPx, top.y);
  context.lineTo(hem.x + half, hem.y);
  context.quadraticCurveTo(
    hem.x,
    hem.y + pose.unitPx * 0.025,
    hem.x - half,
    hem.y,
  );
  context.fill();
  context.strokeStyle = css(scaled(who.lowerColour, 0.7), 0.6);
  context.lineWidth = Math.max(0.6, pose.unitPx * 0.009);
  for (const share of [-0.5, 0, 0.5]) {
    context.beginPath();
    context.moveTo(top.x + pose.waistPx * share, top.y + pose.unitPx * 0.06);
    context.lineTo(hem.x + half * share, hem.y);
    context.stroke();
  }
}

function drawArm(brush: Brush, who: Appearance, pose: Pose, arm: Limb): void {
  const { unitPx } = pose;
  const sleeve = sleeves[who.upper];
  const colour = who.pattern === "raglan" ? who.patternColour : who.upperColour;
  const thick =
    unitPx * (0.5 + 0.5 * who.build) * (sleeve === "long" ? 1.06 : 1);
  const [shoulder, elbow, wrist] = [
    thick * 0.045,
    thick * 0.034,
    thick * 0.025,
  ];
  brush.context.fillStyle = css(scaled(who.skin, 0.95));
  drawEllipse(brush.context, arm.end, unitPx * 0.025, unitPx * 0.03);
  const forearm = sleeve === "long" ? colour : who.skin;
  drawSegment(brush, forearm, [arm.middle, elbow], [arm.end, wrist]);
  if (sleeve === "short") {
    drawSegment(
      brush,
      who.skin,
      [arm.root, shoulder * 0.8],
      [arm.middle, elbow],
    );
    drawSegment(
      brush,
      colour,
      [arm.root, shoulder],
      [between(arm.root, arm.middle, 0.66), elbow * 1.3],
    );
  } else {
    drawSegment(
      brush,
      sleeve === "none" ? who.skin : colour,
      [arm.root, shoulder],
      [arm.middle, elbow],
    );
  }
  if (who.pattern === "stripes" && sleeve === "long") {
    for (const share of [0.3, 0.7])
      drawSegment(
        brush,
        who.patternColour,
        [between(arm.root, arm.middle, share), elbow * 1.12],
        [between(arm.root, arm.middle, share + 0.12), elbow * 1.1],
      );
  }
}

function drawNeck(brush: Brush, who: Appearance, pose: Pose): void {
  drawSegment(
    brush,
    scaled(who.skin, 0.86),
    [pose.neck, pose.unitPx * 0.03],
    [pose.head, pose.unitPx * 0.03],
  );
}

function drawBackpack(brush: Brush, who: Appearance, pose: Pose): void {
  const { context } = brush;
  const { unitPx } = pose;
  const centre = pose.at(0, 0.7, -0.11);
  const half =
    unitPx * Math.hypot(0.095 * Math.cos(pose.yaw), 0.06 * Math.sin(pose.yaw));
  const high = unitPx * 0.125;
  context.fillStyle = roundPaint(
    brush,
    who.bagColour,
    centre.x - half,
    centre.x + half,
  );
  context.beginPath();
  context.roundRect(
    centre.x - half,
    centre.y - high,
    half * 2,
    high * 2,
    unitPx * 0.04,
  );
  context.fill();
  if (Math.cos(pose.yaw) < 0) {
    context.fillStyle = css(scaled(who.bagColour, 0.66));
    context.beginPath();
    context.roundRect(
      centre.x - half * 0.7,
      centre.y + high * 0.1,
      half * 1.4,
      high * 0.65,
      unitPx * 0.02,
    );
    context.fill();
    context.fillRect(
      centre.x - half * 0.9,
      centre.y - high * 0.35,
      half * 1.8,
      unitPx * 0.01,
    );
  }
}

function drawStraps({ context }: Brush, who: Appearance, pose: Pose): void {
  context.strokeStyle = css(scaled(who.bagColour, 0.8));
  context.lineWidth = pose.unitPx * 0.024;
  for (const side of [-1, 1]) {
    const top = pose.at(side * 0.075, 0.83, 0.04);
    const low = pose.at(side * 0.095, 0.66, 0.06);
    if (low.depth < 0) continue;
    context.beginPath();
    context.moveTo(top.x, top.y);
    context.lineTo(low.x, low.y);
    context.stroke();
  }
}

function drawBelt({ context }: Brush, who: Appearance, pose: Pose): void {
  const { waist, unitPx } = pose;
  context.fillStyle = css(who.bagColour);
  context.fillRect(
    waist.x - pose.waistPx,
    waist.y,
    pose.waistPx * 2,
    unitPx * 0.022,
  );
  const pouch = pose.at(0, 0.525, 0.1);
  if (pouch.depth > 0) {
    context.beginPath();
    context.roundRect(
      pouch.x - unitPx * 0.055,
      pouch.y - unitPx * 0.02,
      unitPx * 0.11,
      unitPx * 0.06,
      unitPx * 0.02,
    );
    context.fill();
  }
}

function drawShoulderBag(brush: Brush, who: Appearance, pose: Pose): void {
  const { context } = brush;
  const { unitPx } = pose;
  const side = who.bagSide;
  const away = Math.cos(pose.yaw) < 0 ? -0.07 : 0.07;
  const top = pose.at(-side * 0.08, 0.83, away);
  const bag = pose.at(side * 0.13, 0.5, 0);
  context.strokeStyle = css(scaled(who.bagColour, 0.75));
  context.lineWidth = unitPx * 0.02;
  context.beginPath();
  context.moveTo(top.x, top.y);
  context.lineTo(bag.x, bag.y - unitPx * 0.05);
  context.stroke();
  if (bag.depth < -0.06) return;
  const half = unitPx * (0.045 + 0.035 * Math.abs(Math.sin(pose.yaw)));
  context.fillStyle = roundPaint(
    brush,
    who.bagColour,
    bag.x - half,
    bag.x + half,
  );
  context.beginPath();
  context.roundRect(
    bag.x - half,
    bag.y - unitPx * 0.06,
    half * 2,
    unitPx * 0.13,
    unitPx * 0.02,
  );
  context.fill();
}

function drawTote(brush: Brush, who: Appearance, pose: Pose): void {
  const { context } = brush;
  const { unitPx } = pose;
  const hand = pose.arms[who.bagSide > 0 ? 0 : 1].end;
  if (hand.depth < -0.1) return;
  const half = unitPx * (0.05 + 0.03 * Math.abs(Math.sin(pose.yaw)));
  context.strokeStyle = css(scaled(who.bagColour, 0.7));
  context.lineWidth = unitPx * 0.012;
  context.beginPath();
  context.moveTo(hand.x - half * 0.6, hand.y + unitPx * 0.06);
  context.lineTo(hand.x, hand.y);
  context.lineTo(hand.x + half * 0.6, hand.y + unitPx * 0.06);
  context.stroke();
  context.fillStyle = roundPaint(
    brush,
    who.bagColour,
    hand.x - half,
    hand.x + half,
  );
  context.fillRect(
    hand.x - half,
    hand.y + unitPx * 0.055,
    half * 2,
    unitPx * 0.14,
  );
}
