/** Whether a value has to be there. */
export type Presence = "either" | "present" | "absent";

/** A span of time in microseconds since 1970, UTC. */
export interface TimeRange {
  /** Inclusive; open where left out. */
  readonly startUs?: number;
  /** Exclusive; open where left out. */
  readonly endUs?: number;
}

/** A condition on one attribute: exactly one list is not empty. */
export interface AttributeCondition {
  readonly key: string;
  readonly anyOf?: readonly string[];
  /** The complement of `anyOf`: an entry without the key passes. */
  readonly noneOf?: readonly string[];
}

/** Which entries take part: all set fields must hold, an empty or missing list is no condition. */
export interface Filter {
  readonly cameraIn?: readonly string[];
  readonly cameraNotIn?: readonly string[];
  readonly captured?: TimeRange;
  readonly identityIn?: readonly string[];
  readonly identityNotIn?: readonly string[];
  readonly identified?: Presence;
  readonly attributes?: readonly AttributeCondition[];
  readonly trackIn?: readonly string[];
  readonly entryNotIn?: readonly string[];
  /** Leaves out entries with this identity and this camera: the junk rule of Market-1501. */
  readonly notBoth?: { readonly identity: string; readonly cameraId: string };
}

/** Whether any condition is set. */
export function hasConditions(filter: Filter | undefined): boolean {
  if (filter === undefined) return false;
  const lists = [
    filter.cameraIn,
    filter.cameraNotIn,
    filter.identityIn,
    filter.identityNotIn,
    filter.attributes,
    filter.trackIn,
    filter.entryNotIn,
  ];
  return (
    lists.some((list) => list !== undefined && list.length > 0) ||
    filter.captured?.startUs !== undefined ||
    filter.captured?.endUs !== undefined ||
    (filter.identified ?? "either") !== "either" ||
    filter.notBoth !== undefined
  );
}
