#include "scan.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "batch_scan.h"
#include "kernels.h"

namespace reid {
namespace {

/// The k best seen so far; the worst on top.
class Best {
 public:
  explicit Best(size_t k) : k_(k) {}
  void offer(float similarity, int64_t id) {
    if (heap_.size() == k_ && similarity < heap_.front().similarity) return;
    const Candidate candidate{similarity, id};
    if (heap_.size() < k_) {
      heap_.push_back(candidate);
      std::push_heap(heap_.begin(), heap_.end());
    } else if (candidate < heap_.front()) {
      std::pop_heap(heap_.begin(), heap_.end());
      heap_.back() = candidate;
      std::push_heap(heap_.begin(), heap_.end());
    }
  }
  const std::vector<Candidate>& all() const { return heap_; }

 private:
  size_t k_;
  std::vector<Candidate> heap_;
};

float norm(const float* x, size_t d) { return std::sqrt(inner_product(x, x, d)); }

/// A piece of a run: what a thread takes at a time.
struct Block {
  size_t run;
  size_t start;
  size_t n;
};

/// Runs cut into blocks of at most so many rows.
std::vector<Block> blocks_of(const std::vector<Run>& runs, size_t rows) {
  std::vector<Block> blocks;
  for (size_t r = 0; r < runs.size(); r++) {
    for (size_t start = 0; start < runs[r].n; start += rows) blocks.push_back({r, start, std::min(rows, runs[r].n - start)});
  }
  return blocks;
}

/// How many threads so many numbers are worth.
size_t parts_of(double numbers, double of_one, size_t most) {
  return std::max<size_t>(1, std::min(most, size_t(numbers / of_one)));
}

/// A pass of the kernel for each query over each block.
void scan_rows(const Query& query, size_t first, size_t end, const std::vector<Run>& runs, const Codec& codec,
               size_t parts, Pool& pool, Answer& answer) {
  // A block of rows stays in the second-level cache while every query passes over it.
  const std::vector<Block> blocks = blocks_of(runs, std::max<size_t>(8, 131072 / codec.bytes));
  const size_t per_part = (blocks.size() + parts - 1) / parts;
  std::vector<std::vector<Best>> best(parts, std::vector<Best>(end - first, Best(query.k)));
  pool.share_read(parts, [&](size_t part) {
    std::vector<Measure> measures;
    measures.reserve(end - first);
    for (size_t q = first; q < end; q++) measures.emplace_back(codec, query.features.data() + q * codec.d);
    const size_t last = std::min(blocks.size(), (part + 1) * per_part);
    for (size_t b = part * per_part; b < last && !query.stopped(); b++) {
      const Run& run = runs[blocks[b].run];
      for (Measure& measure : measures) measure.enter(run.list);
      for (size_t i = blocks[b].start; i < blocks[b].start + blocks[b].n; i++) {
        const int64_t id = id_at(run.ids, i);
        if (!query.allows(id)) continue;
        for (size_t q = 0; q < measures.size(); q++) best[part][q].offer(measures[q](run.codes + i * codec.bytes), id);
      }
    }
  });
  for (size_t q = first; q < end; q++) {
    std::vector<Candidate> merged;
    for (const auto& part : best) merged.insert(merged.end(), part[q - first].all().begin(), part[q - first].all().end());
    write_row(merged, query, q, answer);
  }
}

/// For many queries: products by BLAS choose what may be among the nearest, the kernel measures it.
void scan_products(const Query& query, size_t first, size_t end, const std::vector<Run>& runs, const Codec& codec,
                   size_t parts, Pool& pool, Answer& answer) {
  const size_t d = codec.d;
  const size_t n = end - first;
  const float* features = query.features.data() + first * d;
  const std::vector<Block> blocks = blocks_of(runs, kRowsOfProduct);
  const size_t per_part = (blocks.size() + parts - 1) / parts;
  std::vector<float> query_norms(n);
  for (size_t q = 0; q < n; q++) query_norms[q] = norm(features + q * d, d);
  // The kernel measures codes without widening them: one rounding more each way.
  const float slack_of_codes = codec.storage == Storage::f32 ? 1.0f : 2.0f;
  std::vector<std::vector<Candidates>> found(parts, std::vector<Candidates>(n, Candidates(query.k)));
  pool.share_read(parts, [&](size_t part) {
    std::vector<float> gathered(kRowsOfProduct * d);
    std::vector<float> product(kRowsOfProduct * n);
    std::vector<size_t> offsets(kRowsOfProduct);
    const size_t last = std::min(blocks.size(), (part + 1) * per_part);
    for (size_t b = part * per_part; b < last && !query.stopped(); b++) {
      const Run& run = runs[blocks[b].run];
      size_t count = 0;
      for (size_t i = blocks[b].start; i < blocks[b].start + blocks[b].n; i++) {
        if (query.allows(id_at(run.ids, i))) offsets[count++] = i;
      }
      if (count == 0) continue;
      const float* rows = gathered.data();
      if (codec.storage == Storage::f32 && count == blocks[b].n) {
        rows = reinterpret_cast<const float*>(run.codes) + blocks[b].start * d;
      } else {
        for (size_t i = 0; i < count; i++) codec.decode(run.codes + offsets[i] * codec.bytes, run.list, gathered.data() + i * d);
      }
      products(features, n, rows, count, d, product.data());
      for (size_t i = 0; i < count; i++) {
        const float row_norm = slack_of_codes * norm(rows + i * d, d);
        const int64_t place = int64_t(blocks[b].run << 32 | offsets[i]);
        for (size_t q = 0; q < n; q++) {
          found[part][q].offer(product[q * count + i], product_slack(d, query_norms[q], row_norm), place);
        }
      }
    }
  });
  if (query.stopped()) return;
  pool.share_read(n, [&](size_t q) {
    Candidates candidates = found[0][q];
    for (size_t part = 1; part < parts; part++) candidates.merge(found[part][q]);
    Best best(query.k);
    const Measure measure(codec, features + q * d);
    for (int64_t place : candidates.positions()) {
      const Run& run = runs[size_t(place >> 32)];
      const size_t i = size_t(place & 0xffffffff);
      best.offer(measure(run.codes + i * codec.bytes), id_at(run.ids, i));
    }
    std::vector<Candidate> nearest = best.all();
    write_row(nearest, query, first + q, answer);
  });
}

}  // namespace

void write_row(std::vector<Candidate>& candidates, const Query& query, size_t q, Answer& answer) {
  std::sort(candidates.begin(), candidates.end());
  double* ids = answer.ids.data() + q * query.k;
  float* similarities = answer.similarities.data() + q * query.k;
  size_t found = 0;
  for (const Candidate& candidate : candidates) {
    if (found == query.k) break;
    ids[found] = double(candidate.id);
    similarities[found++] = candidate.similarity;
  }
  std::fill(ids + found, ids + query.k, -1.0);
  std::fill(similarities + found, similarities + query.k, -std::numeric_limits<float>::infinity());
}

void scan(const Query& query, size_t first, size_t end, const std::vector<Run>& runs, const Codec& codec,
          size_t parts, Pool& pool, Answer& answer) {
  size_t rows = 0;
  for (const Run& run : runs) rows += run.n;
  const double numbers = double(rows) * double(codec.d) * double(end - first);
  // Parts of about a millisecond, which is more numbers where BLAS multiplies them.
  if (end - first >= kBatchedFrom && codec.storage != Storage::product) {
    scan_products(query, first, end, runs, codec, parts_of(numbers, 2e7, parts), pool, answer);
  } else {
    scan_rows(query, first, end, runs, codec, parts_of(numbers, 2e6, parts), pool, answer);
  }
}

}  // namespace reid
