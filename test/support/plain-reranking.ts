import type { RerankSettings } from "#serve/reranking";

/**
 * Re-ranked distances of rows 1 and on to row 0: Zhong et al., CVPR 2017, section 3, with sets and dense vectors,
 * in the order of its equations.
 *
 * @param features  float32 [N, D], unit rows, the query first
 * @returns         [N − 1], [0, 1], smaller is closer
 */
export function plainRerankedDistances(
  features: Float32Array,
  dimension: number,
  { k1, k2, distanceShare }: RerankSettings,
): readonly number[] {
  const count = features.length / dimension;
  const all = Array.from({ length: count }, (_, i) => i);
  const d = all.map((i) => {
    const row = all.map((j) => {
      let sum = 0;
      for (let n = 0; n < dimension; n++)
        sum += (features[i * dimension + n] - features[j * dimension + n]) ** 2;
      return sum;
    });
    const most = Math.max(...row);
    return row.map((value) => value / most);
  });
  const ranked = all.map((i) => [...all].sort((a, b) => d[i][a] - d[i][b]));
  const nearest = (i: number, k: number) => ranked[i].slice(0, k);
  const reciprocal = (i: number, k: number) =>
    new Set(nearest(i, k + 1).filter((j) => nearest(j, k + 1).includes(i)));
  // Rounded half to even, as the reference's numpy does.
  const half = k1 % 4 === 1 ? (k1 - 1) / 2 : Math.round(k1 / 2);
  const encoded = all.map((i) => {
    const own = reciprocal(i, k1);
    const expanded = new Set(own);
    for (const j of own) {
      const theirs = [...reciprocal(j, half)];
      const shared = theirs.filter((one) => own.has(one)).length;
      if (shared > (2 / 3) * theirs.length)
        for (const one of theirs) expanded.add(one);
    }
    const weights = all.map((j) => (expanded.has(j) ? Math.exp(-d[i][j]) : 0));
    const sum = weights.reduce((a, b) => a + b, 0);
    return weights.map((weight) => weight / sum);
  });
  const averaged = all.map((i) => {
    const near = nearest(i, k2);
    return all.map(
      (j) => near.reduce((sum, n) => sum + encoded[n][j], 0) / near.length,
    );
  });
  return all.slice(1).map((c) => {
    let least = 0;
    let most = 0;
    for (const j of all) {
      least += Math.min(averaged[0][j], averaged[c][j]);
      most += Math.max(averaged[0][j], averaged[c][j]);
    }
    return (1 - distanceShare) * (1 - least / most) + distanceShare * d[0][c];
  });
}
