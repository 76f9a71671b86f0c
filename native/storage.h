// How the numbers of a row are stored, and what is measured on them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace faiss {
struct IndexIVF;
struct InvertedListScanner;
struct ScalarQuantizer;
}  // namespace faiss

namespace reid {

/// FeatureStorage of api.md section 6, and the product code of inverted lists.
enum class Storage { f32, f16, int8, product };

/// The storage of that name, as src/index/index-kinds.ts has it; false if there is none.
bool storage_from(const std::string& name, Storage& storage);
const char* name_of(Storage storage);

/// A row's code to float32 and back to similarities. Immutable once trained: any thread.
///
///     f32  x           f16  x as IEEE binary16           int8  x = low + step · code
///
/// int8 is FAISS's QT_8bit, with low and step for each dimension from the rows it was trained on.
struct Codec {
  Storage storage = Storage::f32;
  size_t d = 0;
  size_t bytes = 0;               // of a row
  std::vector<float> low, step;   // [d], int8 only
  const faiss::IndexIVF* lists = nullptr;  // product only; borrowed

  static Codec of(Storage storage, size_t d, size_t bytes, const faiss::ScalarQuantizer* trained);
  /// float32 [d] of a code; list is its inverted list, for product codes only.
  void decode(const uint8_t* code, int64_t list, float* row) const;
};

/// The similarity of one query to rows: inner products with what their codes stand for.
///
/// One thread. Borrows codec and query.
class Measure {
 public:
  Measure(const Codec& codec, const float* query);
  Measure(Measure&&) noexcept;
  ~Measure();
  /// Product codes are relative to their inverted list: says which one the next codes are of.
  void enter(int64_t list);
  float operator()(const uint8_t* code) const;

 private:
  const Codec* codec_;
  const float* query_;
  std::vector<float> scaled_;  // int8: query · step
  float offset_ = 0;           // int8: query · low
  faiss::InvertedListScanner* scanner_ = nullptr;  // owned
  int64_t list_ = -1;
};

}  // namespace reid
