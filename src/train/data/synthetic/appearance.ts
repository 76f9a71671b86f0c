import { randomStream, type RandomStream } from "#core/random";
import type { Rgb } from "./colour.js";
import { domainLooks } from "./domain-look.js";
import type { RenderWorld } from "./render-options.js";

/** What a garment's cloth looks like. */
export type Pattern =
  | "plain"
  | "stripes"
  | "pinstripes"
  | "checks"
  | "block"
  | "dots"
  | "print"
  | "raglan";

/** What is printed or sewn on the chest. */
export type Logo =
  "none" | "disc" | "square" | "letters" | "band" | "bolt" | "ring";

/** The cut of what is worn above. */
export type Upper =
  "tee" | "shirt" | "sweater" | "hoodie" | "jacket" | "coat" | "vest";

/** The cut of what is worn below. */
export type Lower = "trousers" | "jeans" | "shorts" | "skirt" | "leggings";

/** Hair as seen from afar. */
export type Hair =
  "bald" | "cropped" | "short" | "bob" | "long" | "ponytail" | "bun" | "curly";

/** Everything that makes an identity: the same in every crop of it. */
export interface Appearance {
  /** Body height as a share of the usual one, and breadth likewise. */
  readonly height: number;
  readonly build: number;
  readonly skin: Rgb;
  readonly hair: Hair;
  readonly hairColour: Rgb;
  readonly hat: "none" | "cap" | "beanie" | "brim";
  readonly hatColour: Rgb;
  readonly beard: boolean;
  readonly upper: Upper;
  readonly upperColour: Rgb;
  readonly pattern: Pattern;
  readonly patternColour: Rgb;
  /** Repeats over the torso's height. */
  readonly patternCount: number;
  readonly logo: Logo;
  readonly logoColour: Rgb;
  /** On the back as well, and then larger. */
  readonly backPrint: boolean;
  /** A jacket or coat worn open shows this beneath; undefined: closed. */
  readonly innerColour: Rgb | undefined;
  readonly scarf: Rgb | undefined;
  readonly lower: Lower;
  readonly lowerColour: Rgb;
  readonly sideStripe: Rgb | undefined;
  readonly shoes: Rgb;
  readonly bag: "none" | "backpack" | "shoulder" | "tote" | "belt";
  readonly bagColour: Rgb;
  /** Side the bag is carried on. */
  readonly bagSide: -1 | 1;
}

const skins: readonly Rgb[] = [
  [238, 204, 178],
  [226, 184, 150],
  [204, 156, 116],
  [172, 122, 84],
  [128, 86, 58],
  [90, 60, 44],
];
const hairColours: readonly Rgb[] = [
  [28, 24, 24],
  [58, 40, 28],
  [98, 66, 40],
  [168, 128, 72],
  [212, 186, 128],
  [128, 52, 30],
  [156, 152, 150],
];
const shoeColours: readonly Rgb[] = [
  [32, 32, 34],
  [226, 226, 222],
  [104, 70, 46],
  [150, 44, 44],
  [60, 78, 120],
];

/** Draws one identity's looks from its own random stream. */
export function drawAppearance(
  world: Pick<RenderWorld, "domain" | "seed">,
  identity: number,
): Appearance {
  const look = domainLooks[world.domain];
  const random = randomStream(
    world.seed,
    "synthetic identity",
    world.domain,
    identity,
  );
  const upper = pick(random, [
    "tee",
    "tee",
    "shirt",
    "sweater",
    "hoodie",
    "jacket",
    "jacket",
    "coat",
    "vest",
  ] as const);
  const opens = upper === "jacket" || upper === "coat" || upper === "shirt";
  const upperColour = pick(random, look.uppers);
  const other = (taken: Rgb, among: readonly Rgb[]) =>
    pick(
      random,
      among.filter((colour) => distance(colour, taken) > 60),
    );
  const chance = (probability: number) => random.uniform() < probability;
  return {
    height: random.between(0.94, 1.04),
    build: random.between(0.84, 1.22),
    skin: pick(random, skins),
    hair: pick(random, [
      "bald",
      "cropped",
      "short",
      "short",
      "bob",
      "long",
      "long",
      "ponytail",
      "bun",
      "curly",
    ] as const),
    hairColour: pick(random, hairColours),
    hat: pick(random, [
      "none",
      "none",
      "none",
      "none",
      "none",
      "none",
      "none",
      "cap",
      "beanie",
      "brim",
    ] as const),
    hatColour: pick(random, [...look.accents, ...look.uppers]),
    beard: chance(0.15),
    upper,
    upperColour,
    pattern: pick(random, [
      "plain",
      "plain",
      "plain",
      "stripes",
      "pinstripes",
      "checks",
      "block",
      "dots",
      "print",
      "raglan",
    ] as const),
    patternColour: other(upperColour, [...look.uppers, ...look.accents]),
    patternCount: 3 + random.below(4),
    logo: pick(random, [
      "none",
      "none",
      "disc",
      "square",
      "letters",
      "band",
      "bolt",
      "ring",
    ] as const),
    logoColour: other(upperColour, look.accents),
    backPrint: chance(0.3),
    innerColour:
      opens && chance(0.6)
        ? other(upperColour, [...look.accents, ...look.uppers])
        : undefined,
    scarf: chance(0.12) ? pick(random, look.accents) : undefined,
    lower: pick(random, [
      "trousers",
      "trousers",
      "trousers",
      "jeans",
      "jeans",
      "leggings",
      "shorts",
      "shorts",
      "skirt",
    ] as const),
    lowerColour: pick(random, look.lowers),
    sideStripe: chance(0.15) ? pick(random, look.accents) : undefined,
    shoes: pick(random, shoeColours),
    bag: pick(random, [
      "none",
      "none",
      "none",
      "backpack",
      "backpack",
      "shoulder",
      "tote",
      "belt",
    ] as const),
    bagColour: pick(random, [...look.accents, ...look.lowers]),
    bagSide: chance(0.5) ? 1 : -1,
  };
}

/** One of a list, each equally likely. */
export function pick<T>(random: RandomStream, items: readonly T[]): T {
  return items[random.below(items.length)];
}

function distance(a: Rgb, b: Rgb): number {
  return Math.abs(a[0] - b[0]) + Math.abs(a[1] - b[1]) + Math.abs(a[2] - b[2]);
}
