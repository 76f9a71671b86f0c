type Attributes = Readonly<Record<string, string>>;

/**
 * An attribute's value as PostgreSQL and Milvus hold it: no text of PostgreSQL has U+0000 in it.
 *
 * It becomes U+0001 and a digit, and so does U+0001, by another digit: different values stay different.
 */
export function storedText(value: string): string {
  return value.replace(/[\u0000\u0001]/g, (one) =>
    one === "\u0000" ? "\u00010" : "\u00011",
  );
}

/** Attributes as {@link storedText} writes their values. */
export function storedAttributes(attributes: Attributes): Attributes {
  return mapped(attributes, storedText);
}

/** Attributes as they were given. */
export function attributesFrom(stored: Attributes): Attributes {
  return mapped(stored, (value) =>
    value.replace(/\u0001([01])/g, (_, digit) =>
      digit === "0" ? "\u0000" : "\u0001",
    ),
  );
}

function mapped(
  attributes: Attributes,
  map: (value: string) => string,
): Attributes {
  return Object.fromEntries(
    Object.entries(attributes).map(([key, value]) => [key, map(value)]),
  );
}
