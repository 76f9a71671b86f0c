// Candidates of many queries at once: products by BLAS, kept with room for their rounding.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace reid {

/// From this many queries on, one matrix product over a block of rows beats a pass of the kernel for each
/// query: the kernel is bound by its loads, BLAS is not.
constexpr size_t kBatchedFrom = 6;

/// Rows of one matrix product: with 64 queries, products and rows stay in the second-level cache.
constexpr size_t kRowsOfProduct = 256;

/// The rows that may be among the k best of one query. BLAS adds in another order than the kernel does, so
/// a product decides nothing: rows within the rounding of the k-th are kept, and measured by the kernel.
class Candidates {
 public:
  explicit Candidates(size_t k) : k_(k) {}
  /// slack bounds how far two rounded products may stand in the wrong order.
  void offer(float product, float slack, int64_t position);
  /// Takes over what another part of the rows has found.
  void merge(const Candidates& other);
  /// Positions that may be among the k best, in no order.
  std::vector<int64_t> positions() const;

 private:
  struct Kept {
    float upper;  // product + slack
    int64_t position;
  };
  bool out_of_reach(float upper) const { return best_.size() == k_ && upper < best_.front(); }
  void prune();

  size_t k_;
  std::vector<float> best_;  // the k largest lower bounds, the smallest on top
  std::vector<Kept> kept_;
};

/// products[q * b + r] = queries[q] · rows[r], both row-major with d numbers a row. Any thread; one thread
/// of BLAS.
void products(const float* queries, size_t q, const float* rows, size_t b, size_t d, float* products);

/// Bound of |p - p'| for two ways of adding up the same product, times two: each side of a comparison may be off.
/// Higham, Accuracy and Stability of Numerical Algorithms, 3.1: |error| <= d u |x| |y| to first order.
float product_slack(size_t d, float query_norm, float row_norm);

}  // namespace reid
