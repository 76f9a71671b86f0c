#include "batch_scan.h"

#include <cblas.h>

#include <algorithm>
#include <functional>

namespace reid {

void Candidates::offer(float product, float slack, int64_t position) {
  const float upper = product + slack;
  if (out_of_reach(upper)) return;
  const float lower = product - slack;
  if (best_.size() < k_) {
    best_.push_back(lower);
    std::push_heap(best_.begin(), best_.end(), std::greater<float>());
  } else if (lower > best_.front()) {
    std::pop_heap(best_.begin(), best_.end(), std::greater<float>());
    best_.back() = lower;
    std::push_heap(best_.begin(), best_.end(), std::greater<float>());
  }
  kept_.push_back({upper, position});
  if (kept_.size() >= 4 * k_ + 1024 && kept_.size() == kept_.capacity()) prune();
}

void Candidates::merge(const Candidates& other) {
  for (float lower : other.best_) {
    best_.push_back(lower);
    std::push_heap(best_.begin(), best_.end(), std::greater<float>());
    if (best_.size() > k_) {
      std::pop_heap(best_.begin(), best_.end(), std::greater<float>());
      best_.pop_back();
    }
  }
  kept_.insert(kept_.end(), other.kept_.begin(), other.kept_.end());
}

std::vector<int64_t> Candidates::positions() const {
  std::vector<int64_t> positions;
  for (const Kept& one : kept_) {
    if (!out_of_reach(one.upper)) positions.push_back(one.position);
  }
  return positions;
}

void Candidates::prune() {
  kept_.erase(std::remove_if(kept_.begin(), kept_.end(),
                             [this](const Kept& one) { return out_of_reach(one.upper); }),
              kept_.end());
}

void products(const float* queries, size_t q, const float* rows, size_t b, size_t d, float* products) {
  cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, int(q), int(b), int(d), 1.0f, queries, int(d), rows,
              int(d), 0.0f, products, int(b));
}

float product_slack(size_t d, float query_norm, float row_norm) {
  const float unit_roundoff = 5.9604645e-8f;  // 2^-24
  return 2.0f * float(d) * unit_roundoff * query_norm * row_norm;
}

}  // namespace reid
