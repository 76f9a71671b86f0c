#include "vector_index.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <mutex>
#include <shared_mutex>

#include "graph_walk.h"
#include "kernels.h"

namespace reid {
namespace {

constexpr double kLargestId = 9007199254740991.0;  // 2^53 - 1

// Up to an eighth of the rows it is cheaper to look up each id of a filter than to ask the filter of each row.
constexpr size_t kRowsALookup = 8;

// Products of 4096 such numbers stay far below the largest float: what overflows is near to no list and to no node.
constexpr float kLargestNumber = 1e16f;

void require_finite(const std::vector<float>& features) {
  for (float value : features) {
    if (!std::isfinite(value)) throw Failure("SHAPE", "a feature is not finite");
    if (std::fabs(value) > kLargestNumber) throw Failure("SHAPE", "a feature has a number beyond 1e16");
  }
}

}  // namespace

int64_t id_from(double id) {
  if (!(id >= 0 && id <= kLargestId && std::floor(id) == id)) {
    throw Failure("SHAPE", "id " + std::to_string(id) + " is not a whole number in [0, 2^53)");
  }
  return int64_t(id);
}

VectorIndex::VectorIndex(const IndexKind* kind, int dimension, const IndexParameters& parameters)
    : kind_(kind), dimension_(dimension), parameters_(parameters) {
  trained_ = kind->least_rows(parameters, 0) == 0;
  const IndexKind& first = trained_ ? *kind : untrained_kind();
  IndexParameters plain = parameters;
  if (!trained_) plain.storage = Storage::f32;
  body_ = std::make_unique<Body>(first, plain, first.create(dimension, plain, 0, nullptr), std::vector<int64_t>());
}

void VectorIndex::put_in_place(std::unique_ptr<Body> fresh, Pool& pool) {
  Alone(&gate_, pool)([&] { body_.swap(fresh); });
  // The old one is freed here, with nobody waiting.
}

std::vector<int64_t> VectorIndex::ids_to_write(const std::vector<double>& ids,
                                               const std::vector<float>& features) const {
  require_finite(features);
  std::vector<int64_t> wanted;
  wanted.reserve(ids.size());
  for (double id : ids) wanted.push_back(id_from(id));
  std::vector<int64_t> sorted = wanted;
  std::sort(sorted.begin(), sorted.end());
  if (std::adjacent_find(sorted.begin(), sorted.end()) != sorted.end()) {
    throw Failure("SHAPE", "an id is given twice in one call");
  }
  if (body_->is_mapped) throw Failure("FAILED_PRECONDITION", "its lists lie in a file: load it without mmap");
  if (size_t(body_->index().ntotal) + wanted.size() > size_t(std::numeric_limits<int>::max())) {
    throw Failure("SHAPE", "an index holds at most 2^31 - 1 features");  // FAISS's link type
  }
  return wanted;
}

void VectorIndex::add(const std::vector<double>& ids, const std::vector<float>& features, Pool& pool) {
  const std::vector<int64_t> wanted = ids_to_write(ids, features);
  for (int64_t id : wanted) {
    if (body_->table().find(id) >= 0) {
      throw Failure("SHAPE", "id " + std::to_string(id) + " is in the index already");
    }
  }
  body_->append(wanted.data(), features.data(), wanted.size(), pool, &gate_);
}

void VectorIndex::update(const std::vector<double>& ids, const std::vector<float>& features, Pool& pool) {
  const std::vector<int64_t> wanted = ids_to_write(ids, features);
  body_->replace(wanted.data(), features.data(), wanted.size(), pool, &gate_);
}

size_t VectorIndex::remove(const std::vector<double>& ids) {
  std::vector<int64_t> wanted;
  for (double id : ids) wanted.push_back(id_from(id));
  if (body_->is_mapped) throw Failure("FAILED_PRECONDITION", "its lists lie in a file: load it without mmap");
  return body_->remove(wanted, &gate_);
}

void VectorIndex::train(const std::vector<float>& features, Pool& pool) {
  require_finite(features);
  if (trained_) return;
  const size_t d = size_t(dimension_);
  const std::vector<Run> held = body_->runs();  // one: not trained, it is flat
  const size_t n = features.empty() ? held[0].n : features.size() / d;
  const size_t least = kind_->least_rows(parameters_, n);
  if (n < least) {
    throw Failure("SHAPE", "training takes " + std::to_string(least) + " features or more, there are " +
                               std::to_string(n));
  }
  const float* rows = reinterpret_cast<const float*>(held[0].codes);
  auto fresh = std::make_unique<Body>(
      *kind_, parameters_, kind_->create(dimension_, parameters_, n, features.empty() ? rows : features.data()),
      std::vector<int64_t>());
  fresh->append(held[0].ids, rows, held[0].n, pool, nullptr);
  if (pool.stopping()) return;
  put_in_place(std::move(fresh), pool);
  trained_ = true;
}

Answer VectorIndex::search(const Query& query, Pool& pool) const {
  require_finite(query.features);
  Answer answer;
  answer.ids.resize(query.n * query.k);
  answer.similarities.resize(query.n * query.k);
  std::shared_lock<Gate> hold(gate_);
  const bool exact = query.exact || body_->kind().exact;
  if (exact || !approximate(query, pool, answer)) {
    scan(query, 0, query.n, runs_for(query), body_->parts().codec, pool.threads(), pool, answer);
    answer.exact = true;
  }
  if (query.stopped()) throw Failure("CANCELLED", "search was stopped");
  answer.error = body_->error();
  return answer;
}

/// Under the shared gate. What an exact search compares with.
std::vector<Run> VectorIndex::runs_for(const Query& query) const {
  const std::vector<int64_t>& wanted = query.ids.sorted();
  if (query.filter != FilterMode::only || wanted.size() * kRowsALookup > body_->live() + kRowsALookup ||
      wanted.size() != query.ids.size()) {
    return body_->runs();
  }
  std::vector<Run> runs;
  for (int64_t id : wanted) {
    const int64_t place = body_->table().find(id);
    if (place >= 0) runs.push_back(body_->at(place));
  }
  return runs;
}

/// Under the shared gate. Searches through the structure; false if that came back short.
bool VectorIndex::approximate(const Query& query, Pool& pool, Answer& answer) const {
  const Body& body = *body_;
  const Parts& parts = body.parts();
  const size_t survivors = query.filter == FilterMode::only ? query.ids.size() : body.live();
  if (std::min(survivors, body.live()) <= query.k) return false;
  const int effort = query.effort > 0 ? query.effort : body.kind().default_effort(parts, parameters_);
  std::atomic<bool> is_short{false};
  if (parts.graph) {
    const Run nodes = body.runs()[0];
    pool.share_read(query.n, [&](size_t q) {
      if (is_short || query.stopped()) return;
      std::vector<Candidate> found;
      walk_graph(*parts.graph, nodes, parts.codec, query, q, size_t(effort), found);
      if (found.size() < query.k) is_short = true;
      write_row(found, query, q, answer);
    });
    return !is_short;
  }
  const size_t lists = parts.lists->nlist;
  const size_t probes = std::min(lists, size_t(effort));
  const size_t d = size_t(dimension_);
  const auto* centroids =
      reinterpret_cast<const float*>(static_cast<faiss::IndexFlatCodes&>(*parts.lists->quantizer).codes.data());
  const size_t threads_a_query = query.n == 1 ? pool.threads() : 1;
  pool.share_read(query.n, [&](size_t q) {
    if (is_short || query.stopped()) return;
    std::vector<Candidate> nearest(lists);
    for (size_t list = 0; list < lists; list++) {
      nearest[list] = {inner_product(query.features.data() + q * d, centroids + list * d, d), int64_t(list)};
    }
    std::partial_sort(nearest.begin(), nearest.begin() + ptrdiff_t(probes), nearest.end());
    std::vector<Run> runs;
    for (size_t i = 0; i < probes; i++) runs.push_back(body.run_of(nearest[i].id));
    scan(query, q, q + 1, runs, parts.codec, threads_a_query, pool, answer);
    if (answer.ids[(q + 1) * query.k - 1] < 0) is_short = true;
  });
  if (probes == lists) answer.exact = true;
  return !is_short;
}

std::vector<double> VectorIndex::ids() const {
  std::shared_lock<Gate> hold(gate_);
  std::vector<double> all;
  all.reserve(body_->live());
  for (const Run& run : body_->runs()) {
    for (size_t i = 0; i < run.n; i++) {
      const int64_t id = id_at(run.ids, i);
      if (id >= 0) all.push_back(double(id));
    }
  }
  return all;
}

std::vector<float> VectorIndex::features(const std::vector<double>& ids) const {
  const size_t d = size_t(dimension_);
  std::vector<float> features(ids.size() * d, std::numeric_limits<float>::quiet_NaN());
  std::shared_lock<Gate> hold(gate_);
  for (size_t i = 0; i < ids.size(); i++) {
    const int64_t place = body_->table().find(id_from(ids[i]));
    if (place >= 0) body_->decode(body_->at(place), 0, features.data() + i * d);
  }
  return features;
}

Facts VectorIndex::facts() const {
  std::shared_lock<Gate> hold(gate_);
  const faiss::IndexIVF* lists = body_->parts().lists;
  return {double(body_->live()),  double(body_->tombstones()), double(body_->bytes()),
          lists ? double(lists->nlist) : 0, double(body_->error()), trained_};
}

}  // namespace reid
