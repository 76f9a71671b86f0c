import { assert } from "#core/errors";
import type { Model, Tensor } from "#onnx/graph";
import type { Domain, TrainingState } from "../engine.js";
import { CheckpointMismatchError } from "../errors.js";
import {
  type Group,
  type ParameterLayout,
  type Place,
  statisticsGroup,
} from "../parameter-layout.js";

/** The vectors of one group; the same memory for the whole session. */
export interface GroupVectors {
  readonly weights: Float32Array;
  readonly moment1: Float32Array;
  readonly moment2: Float32Array;
  readonly statistics: Float32Array;
}

/** The vectors that are written to checkpoints, by the name they have there. */
const KINDS = ["weights", "moment1", "moment2", "statistics"] as const;

/** Everything that training moves: one vector a group and kind, allocated once. */
export class StateVectors {
  readonly groups: ReadonlyMap<Group, GroupVectors>;
  /** Updates made so far. */
  step = 0;
  readonly #layout: ParameterLayout;

  /** Starts from the encoder's own weights and statistics; both domains' copies alike. */
  constructor(encoder: Model, layout: ParameterLayout) {
    this.#layout = layout;
    const { initializers } = encoder.graph;
    this.groups = new Map(
      [...layout.groups].map(
        ([group, { trained, trainedSize, statistics, statisticsSize }]) => [
          group,
          {
            weights: gathered(initializers, trained, trainedSize),
            moment1: new Float32Array(trainedSize),
            moment2: new Float32Array(trainedSize),
            statistics: gathered(initializers, statistics, statisticsSize),
          },
        ],
      ),
    );
  }

  /** Number of trained scalars, every copy counted. */
  get parameterCount(): number {
    let count = 0;
    for (const { trainedSize } of this.#layout.groups.values())
      count += trainedSize;
    return count;
  }

  vectors(group: Group): GroupVectors {
    const vectors = this.groups.get(group);
    assert(vectors !== undefined, `the state has group ${group}`);
    return vectors;
  }

  /** A copy of all of it, tensor for tensor: `group/kind/initializer`. */
  state(): TrainingState {
    const tensors = new Map<string, Float32Array>();
    for (const { name, view } of this.#views()) tensors.set(name, view.slice());
    return {
      step: this.step,
      tensors: new Map([...tensors].sort(([a], [b]) => (a < b ? -1 : 1))),
    };
  }

  /** @throws {CheckpointMismatchError} names or sizes differ */
  restore({ step, tensors }: TrainingState): void {
    const views = this.#views();
    const known = new Set(views.map(({ name }) => name));
    for (const [name, saved] of tensors)
      if (!known.has(name))
        throw new CheckpointMismatchError(
          name,
          "nothing",
          `${saved.length} numbers`,
        );
    for (const { name, view } of views) {
      const saved = tensors.get(name);
      if (saved?.length !== view.length)
        throw new CheckpointMismatchError(
          name,
          `${view.length} numbers`,
          saved ? `${saved.length} numbers` : "nothing",
        );
    }
    for (const { name, view } of views) {
      const saved = tensors.get(name);
      if (saved !== undefined) view.set(saved);
    }
    this.step = step;
  }

  /** Batch norms of the target become those of the source, moments included. */
  copySourceToTarget(): void {
    if (!this.#layout.isDomainSpecific) return;
    const [source, target] = [this.vectors("source"), this.vectors("target")];
    for (const kind of KINDS) target[kind].set(source[kind]);
  }

  /** The encoder's initializers with the present numbers, batch norms of one domain; views, not copies. */
  initializers(encoder: Model, domain: Domain): ReadonlyMap<string, Tensor> {
    const initializers = new Map(encoder.graph.initializers);
    const groups: Group[] = this.#layout.isDomainSpecific
      ? ["shared", domain]
      : ["shared"];
    const put = (places: readonly Place[], vector: Float32Array) => {
      for (const { name, dims, offset, size } of places)
        initializers.set(name, {
          dataType: "float32",
          dims,
          data: vector.subarray(offset, offset + size),
        });
    };
    for (const group of groups)
      put(this.#groupLayout(group).trained, this.vectors(group).weights);
    const owner = statisticsGroup(this.#layout, domain);
    put(this.#groupLayout(owner).statistics, this.vectors(owner).statistics);
    return initializers;
  }

  #views(): { readonly name: string; readonly view: Float32Array }[] {
    return [...this.groups].flatMap(([group, vectors]) =>
      KINDS.flatMap((kind) => {
        const layout = this.#groupLayout(group);
        const places =
          kind === "statistics" ? layout.statistics : layout.trained;
        return places.map(({ name, offset, size }) => ({
          name: `${group}/${kind}/${name}`,
          view: vectors[kind].subarray(offset, offset + size),
        }));
      }),
    );
  }

  #groupLayout(group: Group) {
    const layout = this.#layout.groups.get(group);
    assert(layout !== undefined, `the layout has group ${group}`);
    return layout;
  }
}

function gathered(
  initializers: ReadonlyMap<string, Tensor>,
  places: readonly Place[],
  size: number,
): Float32Array {
  const vector = new Float32Array(size);
  for (const { name, offset } of places) {
    const tensor = initializers.get(name);
    if (tensor?.data instanceof Float32Array) vector.set(tensor.data, offset);
  }
  return vector;
}
