// Inner product and squared L2 distance, in one clone per instruction set.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace reid {

/// The clones this processor can run, slowest first. "faiss" is the library's own loop.
std::vector<std::string> kernel_names();

/// Makes one clone the one that is used, in the whole process; false if the processor lacks it.
/// For tests and benches: the best one is chosen when the addon is loaded.
bool use_kernel(const std::string& name);

/// The clone in use.
std::string kernel_in_use();

/// Inner product of two float32 [d]; any thread; borrows both.
float inner_product(const float* x, const float* y, size_t d);

/// Squared L2 distance of two float32 [d]; any thread; borrows both. What FAISS's training measures with.
float squared_distance(const float* x, const float* y, size_t d);

/// As inner_product, with y as IEEE binary16 or as whole numbers from 0 to 255.
float inner_product_halves(const float* x, const uint16_t* y, size_t d);
float inner_product_bytes(const float* x, const uint8_t* y, size_t d);

/// Widens binary16 [d]; exact.
void floats_from_halves(const uint16_t* halves, float* floats, size_t d);

}  // namespace reid
