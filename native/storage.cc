#include "storage.h"

#include <faiss/IndexFlat.h>
#include <faiss/IndexIVF.h>
#include <faiss/impl/ScalarQuantizer.h>

#include <cstring>

#include "kernels.h"

namespace reid {
namespace {

struct Name {
  const char* name;
  Storage storage;
};

const Name names[] = {
    {"f32", Storage::f32}, {"f16", Storage::f16}, {"int8", Storage::int8}, {"product", Storage::product}};

const float* centroid(const faiss::IndexIVF& lists, int64_t list) {
  const auto& centroids = static_cast<const faiss::IndexFlat&>(*lists.quantizer);
  return reinterpret_cast<const float*>(centroids.codes.data()) + size_t(list) * size_t(lists.d);
}

}  // namespace

bool storage_from(const std::string& name, Storage& storage) {
  for (const Name& one : names) {
    if (name == one.name) {
      storage = one.storage;
      return true;
    }
  }
  return false;
}

const char* name_of(Storage storage) {
  for (const Name& one : names) {
    if (storage == one.storage) return one.name;
  }
  return "";
}

Codec Codec::of(Storage storage, size_t d, size_t bytes, const faiss::ScalarQuantizer* trained) {
  Codec codec;
  codec.storage = storage;
  codec.d = d;
  codec.bytes = bytes;
  if (storage == Storage::int8) {
    // faiss impl/ScalarQuantizer.cpp, Codec8bit: x = vmin + vdiff · (code + 0.5) / 255; vmin, then vdiff.
    for (size_t i = 0; i < d; i++) {
      codec.step.push_back(trained->trained[d + i] / 255);
      codec.low.push_back(trained->trained[i] + codec.step[i] / 2);
    }
  }
  return codec;
}

void Codec::decode(const uint8_t* code, int64_t list, float* row) const {
  switch (storage) {
    case Storage::f32:
      std::memcpy(row, code, d * sizeof(float));
      return;
    case Storage::f16:
      floats_from_halves(reinterpret_cast<const uint16_t*>(code), row, d);
      return;
    case Storage::int8:
      for (size_t i = 0; i < d; i++) row[i] = low[i] + step[i] * float(code[i]);
      return;
    case Storage::product: {
      // sa_decode takes the number of the list in front of the code.
      std::vector<uint8_t> whole(lists->sa_code_size());
      lists->encode_listno(list, whole.data());
      std::memcpy(whole.data() + lists->coarse_code_size(), code, lists->code_size);
      lists->sa_decode(1, whole.data(), row);
      return;
    }
  }
}

Measure::Measure(const Codec& codec, const float* query) : codec_(&codec), query_(query) {
  if (codec.storage == Storage::int8) {
    scaled_.resize(codec.d);
    for (size_t i = 0; i < codec.d; i++) scaled_[i] = query[i] * codec.step[i];
    offset_ = inner_product(query, codec.low.data(), codec.d);
  }
  if (codec.storage == Storage::product) {
    scanner_ = codec.lists->get_InvertedListScanner(true);
    scanner_->set_query(query);
  }
}

Measure::Measure(Measure&& other) noexcept
    : codec_(other.codec_),
      query_(other.query_),
      scaled_(std::move(other.scaled_)),
      offset_(other.offset_),
      scanner_(other.scanner_),
      list_(other.list_) {
  other.scanner_ = nullptr;
}

Measure::~Measure() { delete scanner_; }

void Measure::enter(int64_t list) {
  if (scanner_ == nullptr || list == list_) return;
  list_ = list;
  scanner_->set_list(list, inner_product(query_, centroid(*codec_->lists, list), codec_->d));
}

float Measure::operator()(const uint8_t* code) const {
  switch (codec_->storage) {
    case Storage::f32:
      return inner_product(query_, reinterpret_cast<const float*>(code), codec_->d);
    case Storage::f16:
      return inner_product_halves(query_, reinterpret_cast<const uint16_t*>(code), codec_->d);
    case Storage::int8:
      return offset_ + inner_product_bytes(scaled_.data(), code, codec_->d);
    case Storage::product:
      return scanner_->distance_to_code(code);
  }
  return 0;
}

}  // namespace reid
