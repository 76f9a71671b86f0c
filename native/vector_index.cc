#include "vector_index.h"

#include <omp.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <mutex>
#include <shared_mutex>

#include "batch_scan.h"
#include "kernels.h"

namespace reid {
namespace {

// Nodes linked while the index is closed to searches: about 20 ms at 512 numbers.
constexpr size_t kLinkedAtOnce = 32;
constexpr double kLargestId = 9007199254740991.0;  // 2^53 - 1

void require_finite(const std::vector<float>& features) {
  for (float value : features) {
    if (!std::isfinite(value)) throw Failure("SHAPE", "a feature is not finite");
  }
}

/// One hit while searching: better is larger similarity, then smaller id.
struct Candidate {
  float similarity;
  int64_t id;
  bool operator<(const Candidate& other) const {
    return similarity > other.similarity || (similarity == other.similarity && id < other.id);
  }
};

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

void write_row(std::vector<Candidate>& candidates, size_t k, double* ids, float* similarities) {
  std::sort(candidates.begin(), candidates.end());
  const size_t found = std::min(k, candidates.size());
  for (size_t i = 0; i < found; i++) {
    ids[i] = double(candidates[i].id);
    similarities[i] = candidates[i].similarity;
  }
  std::fill(ids + found, ids + k, -1.0);
  std::fill(similarities + found, similarities + k, -std::numeric_limits<float>::infinity());
}

float norm(const float* x, size_t d) { return std::sqrt(inner_product(x, x, d)); }

bool stopped(const Query& query) { return query.stop && query.stop->load(std::memory_order_relaxed); }

struct AllowedPositions : faiss::IDSelector {
  explicit AllowedPositions(const std::vector<uint8_t>& allowed) : allowed(allowed) {}
  bool is_member(idx_t position) const override { return allowed[size_t(position)] != 0; }
  const std::vector<uint8_t>& allowed;
};

}  // namespace

int64_t id_from(double id) {
  if (!(id >= 0 && id <= kLargestId && std::floor(id) == id)) {
    throw Failure("SHAPE", "id " + std::to_string(id) + " is not a whole number in [0, 2^53)");
  }
  return int64_t(id);
}

VectorIndex::VectorIndex(const IndexKind* kind, int dimension, const IndexParameters& parameters)
    : kind_(kind), dimension_(dimension), parameters_(parameters), body_(empty_body()) {}

VectorIndex::Body VectorIndex::empty_body() const {
  Body body;
  body.index = kind_->create(dimension_, parameters_);
  body.rows = kind_->rows(*body.index);
  return body;
}

const float* VectorIndex::row(const Body& body, int64_t position) const {
  return reinterpret_cast<const float*>(body.rows->codes.data()) + size_t(position) * size_t(dimension_);
}

void VectorIndex::append(Body& body, const std::vector<int64_t>& ids, const float* features,
                         int threads) const {
  // The vector would double; an index of gigabytes cannot afford that.
  std::vector<uint8_t>& codes = body.rows->codes;
  const size_t needed = codes.size() + ids.size() * size_t(dimension_) * sizeof(float);
  if (codes.capacity() < needed) codes.reserve(std::max(needed, codes.capacity() + codes.capacity() / 4));
  omp_set_num_threads(std::max(1, threads));
  body.index->add(faiss::Index::idx_t(ids.size()), features);
  omp_set_num_threads(1);
  for (int64_t id : ids) {
    body.positions.emplace(id, int64_t(body.ids.size()));
    body.ids.push_back(id);
  }
}

void VectorIndex::drop(Body& body, int64_t id) const {
  const auto found = body.positions.find(id);
  const int64_t position = found->second;
  body.positions.erase(found);
  if (!kind_->removes) {
    body.ids[size_t(position)] = -1;
    body.tombstones++;
    return;
  }
  // The last row takes the place of the one that leaves; order means nothing here.
  const int64_t last = int64_t(body.ids.size()) - 1;
  std::vector<uint8_t>& codes = body.rows->codes;
  const size_t bytes = size_t(dimension_) * sizeof(float);
  if (position != last) {
    std::copy_n(codes.begin() + ptrdiff_t(size_t(last) * bytes), bytes,
                codes.begin() + ptrdiff_t(size_t(position) * bytes));
    body.ids[size_t(position)] = body.ids[size_t(last)];
    body.positions[body.ids[size_t(position)]] = position;
  }
  codes.resize(size_t(last) * bytes);
  body.ids.pop_back();
  body.rows->ntotal = last;
}

void VectorIndex::add(const std::vector<double>& ids, const std::vector<float>& features, int threads) {
  require_finite(features);
  std::vector<int64_t> wanted;
  wanted.reserve(ids.size());
  for (double id : ids) wanted.push_back(id_from(id));
  std::vector<int64_t> sorted = wanted;
  std::sort(sorted.begin(), sorted.end());
  if (std::adjacent_find(sorted.begin(), sorted.end()) != sorted.end()) {
    throw Failure("SHAPE", "an id is given twice in one add");
  }
  std::unique_lock<Gate> hold(gate_);
  for (int64_t id : wanted) {
    if (body_.positions.count(id)) {
      throw Failure("SHAPE", "id " + std::to_string(id) + " is in the index already");
    }
  }
  if (body_.ids.size() + wanted.size() > size_t(std::numeric_limits<int>::max())) {
    throw Failure("SHAPE", "an index holds at most 2^31 - 1 features");  // FAISS's link type
  }
  append(body_, wanted, features.data(), wanted.size() > 1 ? threads : 1);
}

size_t VectorIndex::remove(const std::vector<double>& ids) {
  std::unique_lock<Gate> hold(gate_);
  size_t removed = 0;
  for (double id : ids) {
    const int64_t wanted = id_from(id);
    if (!body_.positions.count(wanted)) continue;
    drop(body_, wanted);
    removed++;
  }
  return removed;
}

Answer VectorIndex::search(const Query& query, Pool& pool) const {
  require_finite(query.features);
  Answer answer;
  answer.ids.resize(query.n * query.k);
  answer.similarities.resize(query.n * query.k);
  std::shared_lock<Gate> hold(gate_);
  const bool exact = query.exact || kind_->exact;
  const size_t live = body_.positions.size();

  std::vector<uint8_t> allowed;
  size_t survivors = live;
  if (query.filter != FilterMode::none || body_.tombstones > 0) {
    survivors = 0;
    allowed.resize(body_.ids.size());
    for (size_t i = 0; i < allowed.size(); i++) {
      const int64_t id = body_.ids[i];
      const bool passes = id >= 0 && (query.filter == FilterMode::none ||
                                      query.ids.contains(id) == (query.filter == FilterMode::only));
      allowed[i] = passes;
      survivors += passes;
    }
  }
  if (!exact && walk(query, allowed.empty() ? nullptr : &allowed, survivors, pool, answer)) return answer;
  if (allowed.empty()) {
    scan(query, nullptr, pool, answer);
  } else {
    std::vector<int64_t> positions;
    positions.reserve(survivors);
    for (size_t i = 0; i < allowed.size(); i++) {
      if (allowed[i]) positions.push_back(int64_t(i));
    }
    scan(query, &positions, pool, answer);
  }
  return answer;
}

/// On a thread of the pool, under the shared gate. Compares with every row, or with those at positions.
void VectorIndex::scan(const Query& query, const std::vector<int64_t>* positions, Pool& pool,
                       Answer& answer) const {
  const size_t d = size_t(dimension_);
  const size_t rows = positions ? positions->size() : body_.ids.size();
  // A block of rows stays in the second-level cache while every query passes over it.
  const size_t block = std::max<size_t>(8, 131072 / (d * sizeof(float)));
  // Parts of about a millisecond; one thread where there is not work for two.
  const double work = double(rows) * double(d) * double(query.n);
  const size_t parts = std::max<size_t>(1, std::min<size_t>(pool.threads(), size_t(work / 2e6)));
  const size_t per_part = (rows + parts - 1) / std::max<size_t>(1, parts);
  if (query.n >= kBatchedFrom) {
    scan_batch(query, positions, pool, answer);
    return;
  }
  std::vector<std::vector<Best>> best(parts, std::vector<Best>(query.n, Best(query.k)));
  pool.share(parts, [&](size_t part) {
    const size_t end = std::min(rows, (part + 1) * per_part);
    for (size_t start = part * per_part; start < end && !stopped(query); start += block) {
      const size_t stop = std::min(end, start + block);
      for (size_t q = 0; q < query.n; q++) {
        const float* feature = query.features.data() + q * d;
        Best& found = best[part][q];
        for (size_t i = start; i < stop; i++) {
          const int64_t position = positions ? (*positions)[i] : int64_t(i);
          const int64_t id = body_.ids[size_t(position)];
          if (id >= 0) found.offer(inner_product(feature, row(body_, position), d), id);
        }
      }
    }
  });
  if (stopped(query)) throw Failure("CANCELLED", "search was stopped");
  for (size_t q = 0; q < query.n; q++) {
    std::vector<Candidate> merged;
    for (const auto& part : best) merged.insert(merged.end(), part[q].all().begin(), part[q].all().end());
    write_row(merged, query.k, answer.ids.data() + q * query.k, answer.similarities.data() + q * query.k);
  }
  answer.exact = true;
}

/// As scan, for many queries: products by BLAS choose what may be among the nearest, the kernel measures it.
void VectorIndex::scan_batch(const Query& query, const std::vector<int64_t>* positions, Pool& pool,
                             Answer& answer) const {
  const size_t d = size_t(dimension_);
  const size_t rows = positions ? positions->size() : body_.ids.size();
  const double work = double(rows) * double(d) * double(query.n);
  const size_t parts = std::max<size_t>(1, std::min<size_t>(pool.threads(), size_t(work / 2e7)));
  const size_t per_part = (rows + parts - 1) / parts;
  std::vector<float> query_norms(query.n);
  for (size_t q = 0; q < query.n; q++) query_norms[q] = norm(query.features.data() + q * d, d);
  std::vector<std::vector<Candidates>> found(parts, std::vector<Candidates>(query.n, Candidates(query.k)));
  pool.share(parts, [&](size_t part) {
    std::vector<float> gathered(positions ? kRowsOfProduct * d : 0);
    std::vector<float> product(kRowsOfProduct * query.n);
    std::vector<float> row_norms(kRowsOfProduct);
    const size_t end = std::min(rows, (part + 1) * per_part);
    for (size_t start = part * per_part; start < end && !stopped(query); start += kRowsOfProduct) {
      const size_t count = std::min(end - start, kRowsOfProduct);
      const float* block = positions ? gathered.data() : row(body_, int64_t(start));
      for (size_t i = 0; positions && i < count; i++) {
        std::copy_n(row(body_, (*positions)[start + i]), d, gathered.data() + i * d);
      }
      products(query.features.data(), query.n, block, count, d, product.data());
      for (size_t i = 0; i < count; i++) row_norms[i] = norm(block + i * d, d);
      for (size_t q = 0; q < query.n; q++) {
        Candidates& candidates = found[part][q];
        for (size_t i = 0; i < count; i++) {
          const int64_t position = positions ? (*positions)[start + i] : int64_t(start + i);
          if (body_.ids[size_t(position)] < 0) continue;
          candidates.offer(product[q * count + i], product_slack(d, query_norms[q], row_norms[i]), position);
        }
      }
    }
  });
  if (stopped(query)) throw Failure("CANCELLED", "search was stopped");
  pool.share(query.n, [&](size_t q) {
    Candidates candidates = found[0][q];
    for (size_t part = 1; part < parts; part++) candidates.merge(found[part][q]);
    Best best(query.k);
    const float* feature = query.features.data() + q * d;
    for (int64_t position : candidates.positions()) {
      best.offer(inner_product(feature, row(body_, position), d), body_.ids[size_t(position)]);
    }
    std::vector<Candidate> nearest = best.all();
    write_row(nearest, query.k, answer.ids.data() + q * query.k, answer.similarities.data() + q * query.k);
  });
  answer.exact = true;
}

/// On a thread of the pool, under the shared gate. Walks the structure; false if it came back short.
bool VectorIndex::walk(const Query& query, const std::vector<uint8_t>* allowed, size_t survivors, Pool& pool,
                       Answer& answer) const {
  if (survivors <= query.k) return false;
  const size_t d = size_t(dimension_);
  const int effort = query.effort > 0 ? query.effort : kind_->default_effort(*body_.index);
  std::vector<float> similarities(query.n * query.k);
  std::vector<faiss::Index::idx_t> found(query.n * query.k);
  const std::unique_ptr<AllowedPositions> selector(allowed ? new AllowedPositions(*allowed) : nullptr);
  std::atomic<bool> short_of{false};
  pool.share(query.n, [&](size_t q) {
    if (short_of || stopped(query)) return;
    kind_->search(*body_.index, query.features.data() + q * d, 1, query.k, effort, selector.get(),
                  similarities.data() + q * query.k, found.data() + q * query.k);
    std::vector<Candidate> candidates;
    for (size_t i = q * query.k; i < (q + 1) * query.k; i++) {
      if (found[i] >= 0) candidates.push_back({similarities[i], body_.ids[size_t(found[i])]});
    }
    if (candidates.size() < query.k) short_of = true;
    write_row(candidates, query.k, answer.ids.data() + q * query.k, answer.similarities.data() + q * query.k);
  });
  if (stopped(query)) throw Failure("CANCELLED", "search was stopped");
  return !short_of;
}

std::vector<double> VectorIndex::ids() const {
  std::shared_lock<Gate> hold(gate_);
  std::vector<double> all;
  all.reserve(body_.positions.size());
  for (int64_t id : body_.ids) {
    if (id >= 0) all.push_back(double(id));
  }
  return all;
}

std::vector<float> VectorIndex::features(const std::vector<double>& ids) const {
  const size_t d = size_t(dimension_);
  std::vector<float> features(ids.size() * d, std::numeric_limits<float>::quiet_NaN());
  std::shared_lock<Gate> hold(gate_);
  for (size_t i = 0; i < ids.size(); i++) {
    const auto found = body_.positions.find(id_from(ids[i]));
    if (found != body_.positions.end()) std::copy_n(row(body_, found->second), d, features.data() + i * d);
  }
  return features;
}

void VectorIndex::compact(int threads, const Pool& pool) {
  if (compacting_.exchange(true)) throw Failure("FAILED_PRECONDITION", "the index is being compacted already");
  struct Release {
    std::atomic<bool>& flag;
    ~Release() { flag = false; }
  } release{compacting_};

  const size_t d = size_t(dimension_);
  std::vector<int64_t> ids;
  std::vector<float> features;
  {
    std::shared_lock<Gate> hold(gate_);
    if (body_.tombstones == 0) return;
    ids.reserve(body_.positions.size());
    features.reserve(body_.positions.size() * d);
    for (size_t i = 0; i < body_.ids.size(); i++) {
      if (body_.ids[i] < 0) continue;
      ids.push_back(body_.ids[i]);
      features.insert(features.end(), row(body_, int64_t(i)), row(body_, int64_t(i)) + d);
    }
  }
  Body fresh = empty_body();
  for (size_t start = 0; start < ids.size(); start += 1024) {
    if (pool.stopping()) return;
    const size_t end = std::min(ids.size(), start + 1024);
    append(fresh, std::vector<int64_t>(ids.begin() + ptrdiff_t(start), ids.begin() + ptrdiff_t(end)),
           features.data() + start * d, threads);
  }
  std::vector<float>().swap(features);

  // What happened since: ids that came are added, ids that left become tombstones of the new body. Most
  // of it is done in small steps, so that a search waits for the last one only.
  for (;;) {
    std::unique_lock<Gate> hold(gate_);
    std::vector<int64_t> came;
    std::vector<float> rows;
    size_t remaining = 0;
    for (size_t i = 0; i < body_.ids.size(); i++) {
      const int64_t id = body_.ids[i];
      if (id < 0 || fresh.positions.count(id)) continue;
      if (came.size() == kLinkedAtOnce) {
        remaining++;
        continue;
      }
      came.push_back(id);
      rows.insert(rows.end(), row(body_, int64_t(i)), row(body_, int64_t(i)) + d);
    }
    if (remaining > 0) {
      hold.unlock();
      append(fresh, came, rows.data(), threads);
      continue;
    }
    if (!came.empty()) append(fresh, came, rows.data(), threads);
    std::vector<int64_t> left;
    for (int64_t id : fresh.ids) {
      if (id >= 0 && !body_.positions.count(id)) left.push_back(id);
    }
    for (int64_t id : left) drop(fresh, id);
    body_ = std::move(fresh);
    return;
  }
}

Facts VectorIndex::facts() const {
  std::shared_lock<Gate> hold(gate_);
  const double map_bytes = 48;  // of an unordered_map's node and bucket
  return {double(body_.positions.size()), double(body_.tombstones),
          double(body_.rows->codes.capacity()) + double(kind_->structure_bytes(*body_.index)) +
              double(body_.ids.capacity()) * 8 + double(body_.positions.size()) * map_bytes};
}

}  // namespace reid
