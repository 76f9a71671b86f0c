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
