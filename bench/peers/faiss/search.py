"""python3-faiss: HNSW over the rows at the least efSearch that finds enough, or exact search; one JSON line."""
import json
import os
import statistics
import sys
import time

import faiss
import numpy as np

kind, rows_path, queries_path, dimension, truth_path, file, m, ef_construction = sys.argv[1:]
dimension = int(dimension)
rows = np.fromfile(rows_path, dtype=np.float32).reshape(-1, dimension)
queries = np.fromfile(queries_path, dtype=np.float32).reshape(-1, dimension)

if kind == "flat":
    index = faiss.IndexFlatIP(dimension)
    index.add(rows)
    efforts = [0]
elif os.path.exists(file):
    index = faiss.read_index(file)
    efforts = [16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512]
else:
    index = faiss.IndexHNSWFlat(dimension, int(m), faiss.METRIC_INNER_PRODUCT)
    index.hnsw.efConstruction = int(ef_construction)
    index.add(rows)
    faiss.write_index(index, file)
    efforts = [16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512]

truth = np.array(json.load(open(truth_path))).reshape(-1, 10) if truth_path else None
recall = 1.0
for effort in efforts:
    if effort:
        index.hnsw.efSearch = effort
    found = np.vstack([index.search(queries[q : q + 1], 10)[1] for q in range(len(queries))])
    if truth is not None:
        recall = float(np.mean([len(set(a) & set(b)) / 10 for a, b in zip(found.tolist(), truth.tolist())]))
    if recall >= 0.99:
        break


def timed(size):
    times = []
    for q in range(0, len(queries) - size + 1, size):
        started = time.perf_counter()
        index.search(queries[q : q + size], 10)
        times.append((time.perf_counter() - started) * 1000)
    return statistics.median(times)


print(json.dumps({"oneMs": timed(1), "batchMs": timed(64), "hits": found.flatten().tolist(), "effort": effort, "recall": recall, "openS": 0}))
