#include "body.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <mutex>
#include <stdexcept>

#include "link.h"

namespace reid {
namespace {

// Rows stored and linked at once: what a batch of millions holds beside itself.
constexpr size_t kStoredAtOnce = 1024;

// Steps under the whole gate: well under a millisecond.
constexpr size_t kChangedAtOnce = 256;

/// Makes room in an array that readers look at: the larger one is filled beside it. Pages of the room that
/// nothing was written to take no memory, so it may be generous.
template <class Element>
void grow(std::vector<Element>& array, size_t needed, const Alone& alone) {
  if (array.capacity() >= needed) return;
  std::vector<Element> larger;
  larger.reserve(std::max(needed, array.capacity() + array.capacity() / 2));
  larger.insert(larger.end(), array.begin(), array.end());
  alone([&] { array.swap(larger); });
}

void write_id(std::vector<int64_t>& ids, size_t at, int64_t id) {
  __atomic_store_n(ids.data() + at, id, __ATOMIC_RELAXED);
}

}  // namespace

Body::Body(const IndexKind& kind, const IndexParameters& parameters, std::unique_ptr<faiss::Index> index,
           std::vector<int64_t> ids)
    : kind_(kind), index_(std::move(index)), parts_(kind.parts(*index_, parameters)), ids_(std::move(ids)) {
  const size_t rows = size_t(index_->ntotal);
  table_ = IdTable(rows);
  const auto enter = [&](int64_t id, int64_t place) {
    if (id == -1 && !kind_.removes) {
      tombstones_.store(tombstones() + 1);
      return;
    }
    if (id < 0 || table_.find(id) >= 0) throw std::runtime_error("an id is negative or there twice");
    table_.insert(id, place);
  };
  if (parts_.rows) {
    if (ids_.size() != rows) throw std::runtime_error("ids do not match the rows");
    for (size_t i = 0; i < rows; i++) enter(ids_[i], int64_t(i));
    count_.store(rows);
    return;
  }
  size_t found = 0;
  for (const Run& run : runs()) {
    if (found + run.n > rows) break;
    for (size_t i = 0; i < run.n; i++) enter(id_at(run.ids, i), place_in(run.list, i));
    found += run.n;
  }
  if (found != rows) throw std::runtime_error("the lists do not match their count");
}

void Body::raise_error(float error) {
  if (error > this->error()) error_.store(error);
}

Run Body::run_of(int64_t list) const {
  const faiss::InvertedLists& lists = *parts_.lists->invlists;
  return {lists.get_codes(size_t(list)), lists.get_ids(size_t(list)), lists.list_size(size_t(list)), list};
}

std::vector<Run> Body::runs() const {
  if (parts_.rows) return {{parts_.rows->codes.data(), ids_.data(), count(), -1}};
  std::vector<Run> runs;
  for (size_t list = 0; list < parts_.lists->nlist; list++) {
    const Run run = run_of(int64_t(list));
    if (run.n > 0) runs.push_back(run);
  }
  return runs;
}

Run Body::at(int64_t place) const {
  if (parts_.rows) return {parts_.rows->codes.data() + size_t(place) * parts_.codec.bytes, ids_.data() + place, 1, -1};
  const size_t offset = size_t(place & 0xffffffff);
  const Run run = run_of(place >> 32);
  return {run.codes + offset * parts_.codec.bytes, run.ids + offset, 1, run.list};
}

void Body::decode(const Run& run, size_t i, float* row) const {
  parts_.codec.decode(run.codes + i * parts_.codec.bytes, run.list, row);
}

size_t Body::bytes() const {
  size_t bytes = table_.bytes() + size_t(index_->ntotal) * (parts_.codec.bytes + sizeof(int64_t));
  if (const faiss::HNSW* graph = parts_.graph) {
    bytes += graph->neighbors.size() * sizeof(graph->neighbors[0]) + graph->offsets.size() * sizeof(size_t) +
             graph->levels.size() * sizeof(int) + locks_.size() * sizeof(omp_lock_t);
  }
  if (parts_.lists) bytes += parts_.lists->nlist * size_t(parts_.lists->d) * sizeof(float);
  return bytes;
}

void Body::make_room(size_t more, const Alone& alone) {
  if (!table_.has_room(more)) {
    IdTable larger = table_.grown(more);
    alone([&] { std::swap(table_, larger); });
  }
  if (!parts_.rows) return;
  const size_t rows = ids_.size() + more;
  grow(ids_, rows, alone);
  grow(parts_.rows->codes, rows * parts_.codec.bytes, alone);
  if (faiss::HNSW* graph = parts_.graph) {
    grow(graph->levels, rows, alone);
    grow(graph->offsets, rows + 1, alone);
  }
}

void Body::measure_error(const uint8_t* code, int64_t list, const float* row) {
  if (parts_.codec.storage == Storage::f32) return;
  std::vector<float> stored(parts_.codec.d);
  parts_.codec.decode(code, list, stored.data());
  double sum = 0;
  for (size_t i = 0; i < stored.size(); i++) sum += double(row[i] - stored[i]) * double(row[i] - stored[i]);
  raise_error(float(std::sqrt(sum)));
}

/// Puts rows behind the others, not linked yet. hidden: readers find them under no id. Returns the first position.
size_t Body::store(const int64_t* ids, const float* rows, size_t n, bool hidden, const Alone& alone) {
  const size_t first = ids_.size();
  if (faiss::HNSW* graph = parts_.graph) {
    size_t links = graph->neighbors.size();
    for (size_t i = 0; i < n; i++) {
      graph->levels.push_back(graph->random_level() + 1);
      links += size_t(graph->cum_nb_neighbors(graph->levels.back()));
    }
    grow(graph->neighbors, links, alone);
    graph->prepare_level_tab(n, true);
  }
  parts_.rows->add(faiss::Index::idx_t(n), rows);
  index_->ntotal = parts_.rows->ntotal;
  for (size_t i = 0; i < n; i++) {
    measure_error(parts_.rows->codes.data() + (first + i) * parts_.codec.bytes, -1, rows + i * parts_.codec.d);
    ids_.push_back(hidden ? -1 : ids[i]);
    if (!hidden) table_.insert(ids[i], int64_t(first + i));
  }
  count_.store(ids_.size(), std::memory_order_release);
  return first;
}

void Body::link(size_t first, const float* rows, size_t n, Pool& pool) {
  if (!parts_.graph) return;
  const size_t before = locks_.size();
  locks_.resize(ids_.size());
  for (size_t i = before; i < locks_.size(); i++) omp_init_lock(&locks_[i]);
  link_nodes(*parts_.graph, locks_, parts_.codec, parts_.rows->codes.data(), first, rows, n, pool);
}

void Body::append(const int64_t* ids, const float* rows, size_t n, Pool& pool, Gate* gate) {
  const Alone alone(gate, pool);
  make_room(n, alone);
  const size_t d = parts_.codec.d;
  for (size_t start = 0; start < n && !pool.stopping(); start += kStoredAtOnce) {
    const size_t some = std::min(n - start, kStoredAtOnce);
    if (parts_.lists) {
      store_in_lists(ids + start, rows + start * d, some, false, alone);
    } else {
      link(store(ids + start, rows + start * d, some, false, alone), rows + start * d, some, pool);
    }
    pool.relieve();
  }
}

void Body::replace(const int64_t* ids, const float* rows, size_t n, Pool& pool, Gate* gate) {
  const Alone alone(gate, pool);
  make_room(n, alone);
  const size_t d = parts_.codec.d;
  for (size_t start = 0; start < n && !pool.stopping(); start += kChangedAtOnce) {
    const size_t some = std::min(n - start, kChangedAtOnce);
    if (parts_.lists) {
      store_in_lists(ids + start, rows + start * d, some, true, alone);
      continue;
    }
    const size_t first = store(ids + start, rows + start * d, some, true, alone);
    link(first, rows + start * d, some, pool);
    std::vector<int64_t> replaced;
    alone([&] {
      for (size_t i = 0; i < some; i++) {
        const int64_t id = ids[start + i];
        const int64_t place = int64_t(first + i);
        const int64_t before = table_.find(id);
        write_id(ids_, size_t(place), id);
        if (before < 0) {
          table_.insert(id, place);
          continue;
        }
        table_.move(id, place);
        write_id(ids_, size_t(before), -1);
        replaced.push_back(before);
      }
      if (!kind_.removes) {
        tombstones_.store(tombstones() + replaced.size());
        return;
      }
      // From behind: the last row, which takes the place, is one that stays.
      std::sort(replaced.rbegin(), replaced.rend());
      for (int64_t place : replaced) drop(place);
    });
  }
}

size_t Body::remove(const std::vector<int64_t>& ids, Gate* gate) {
  size_t removed = 0;
  for (size_t start = 0; start < ids.size(); start += kChangedAtOnce) {
    const size_t end = std::min(ids.size(), start + kChangedAtOnce);
    // A tombstone is one word.
    std::unique_lock<Gate> hold;
    if (gate && kind_.removes) hold = std::unique_lock<Gate>(*gate);
    for (size_t i = start; i < end; i++) {
      const int64_t place = table_.find(ids[i]);
      if (place < 0) continue;
      table_.erase(ids[i]);
      removed++;
      if (parts_.lists) {
        drop_from_list(place);
      } else if (kind_.removes) {
        drop(place);
      } else {
        write_id(ids_, size_t(place), -1);
        tombstones_.store(tombstones() + 1);
      }
    }
  }
  return removed;
}

/// Under the whole gate. The last row takes the place of the one that leaves; order means nothing here.
void Body::drop(int64_t place) {
  const size_t last = ids_.size() - 1;
  std::vector<uint8_t>& codes = parts_.rows->codes;
  const size_t bytes = parts_.codec.bytes;
  if (size_t(place) != last) {
    std::memcpy(codes.data() + size_t(place) * bytes, codes.data() + last * bytes, bytes);
    ids_[size_t(place)] = ids_[last];
    if (ids_[last] >= 0) table_.move(ids_[last], place);
  }
  // Nothing of a row that left stays in memory behind the others.
  std::memset(codes.data() + last * bytes, 0, bytes);
  codes.resize(last * bytes);
  ids_.pop_back();
  parts_.rows->ntotal = faiss::Index::idx_t(last);
  index_->ntotal = parts_.rows->ntotal;
  count_.store(last, std::memory_order_release);
}

/// Under the whole gate.
void Body::drop_from_list(int64_t place) {
  faiss::InvertedLists& lists = *parts_.lists->invlists;
  const size_t list = size_t(place >> 32);
  const size_t offset = size_t(place & 0xffffffff);
  const size_t last = lists.list_size(list) - 1;
  if (offset != last) {
    const int64_t moved = lists.get_single_id(list, last);
    lists.update_entry(list, offset, moved, lists.get_codes(list) + last * parts_.codec.bytes);
    table_.move(moved, place);
  }
  lists.resize(list, last);
  index_->ntotal--;
}

void Body::store_in_lists(const int64_t* ids, const float* rows, size_t n, bool replaces, const Alone& alone) {
  faiss::IndexIVF& lists = *parts_.lists;
  const size_t d = parts_.codec.d;
  std::vector<faiss::Index::idx_t> homes(n);
  lists.quantizer->assign(faiss::Index::idx_t(n), rows, homes.data());
  std::vector<uint8_t> codes(n * parts_.codec.bytes);
  lists.encode_vectors(faiss::Index::idx_t(n), rows, homes.data(), codes.data());
  for (size_t i = 0; i < n; i++) measure_error(codes.data() + i * parts_.codec.bytes, homes[i], rows + i * d);
  for (size_t start = 0; start < n; start += kChangedAtOnce) {
    alone([&] {
      for (size_t i = start; i < std::min(n, start + kChangedAtOnce); i++) {
        const int64_t before = replaces ? table_.find(ids[i]) : -1;
        if (before >= 0) drop_from_list(before);
        const uint8_t* code = codes.data() + i * parts_.codec.bytes;
        const int64_t place = place_in(homes[i], lists.invlists->add_entries(size_t(homes[i]), 1, ids + i, code));
        if (before >= 0) {
          table_.move(ids[i], place);
        } else {
          table_.insert(ids[i], place);
        }
        lists.ntotal++;
      }
    });
  }
}

}  // namespace reid
