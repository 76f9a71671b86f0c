/**
 * Exact neighbour lists by a double loop: by falling inner product, ties by index, the row itself first.
 *
 * @param k  entries a row, at most N
 */
export function neighboursByLoop(
  features: Float32Array,
  dimension: number,
  k: number,
): Int32Array {
  const count = features.length / dimension;
  const width = Math.min(k, count);
  const lists = new Int32Array(count * width);
  const similarity = new Float64Array(count);
  for (let i = 0; i < count; i++) {
    for (let j = 0; j < count; j++) {
      let dot = 0;
      for (let d = 0; d < dimension; d++)
        dot += features[i * dimension + d] * features[j * dimension + d];
      similarity[j] = dot;
    }
    similarity[i] = Infinity;
    const order = Array.from({ length: count }, (_, j) => j).sort((a, b) =>
      similarity[b] === similarity[a] ? a - b : similarity[b] - similarity[a],
    );
    lists.set(order.slice(0, width), i * width);
  }
  return lists;
}
