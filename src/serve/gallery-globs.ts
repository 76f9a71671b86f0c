/** How many are shown of a long list. */
const SHOWN = 4;

/** Which galleries somebody may see, by globs: `*` stands for any letters, `?` for one. */
export class GalleryGlobs {
  readonly #globs: readonly string[];
  readonly #forms: readonly RegExp[];

  /** @param globs  of the letters that names have, and `*` and `?` */
  constructor(globs: readonly string[]) {
    this.#globs = globs;
    this.#forms = globs.map(formOf);
  }

  /** Whether every gallery is seen, those that are not there yet included. */
  get isAll(): boolean {
    return this.#globs.includes("*");
  }

  /** Whether a gallery of that name is seen. */
  match(name: string): boolean {
    return this.#forms.some((form) => form.test(name));
  }

  /** `gallery/door-*, gallery/lab`, the first few of them. */
  show(): string {
    if (this.#globs.length === 0) return "no gallery";
    const shown = this.#globs.slice(0, SHOWN).map((glob) => `gallery/${glob}`);
    const more = this.#globs.length - shown.length;
    return shown.join(", ") + (more > 0 ? ` and ${more} more` : "");
  }
}

function formOf(glob: string): RegExp {
  const source = glob
    .replaceAll(".", "\\.")
    .replaceAll("?", ".")
    // Two in a row are one: a form with many would be slow to fail.
    .replaceAll(/\*+/g, ".*");
  return new RegExp(`^${source}$`);
}
