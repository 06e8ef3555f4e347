// One matrix product of a step, as its kernels see it.
#ifndef MAMBAD_KERNELS_MAMBA_LAYER_PRODUCT_ARGS_H_
#define MAMBAD_KERNELS_MAMBA_LAYER_PRODUCT_ARGS_H_

#include <cstdint>

#include "kernels/mamba_layer/packed_weight.h"

namespace mambad::kernels {

struct ProductArgs {
  const std::uint16_t* weights;  // packed
  const std::uint16_t* x;        // (columns, k_pad) core matrices
  std::int32_t rows;             // of the weight: M
  std::int32_t columns;          // rows of x
  std::int32_t k_pad;
  std::int32_t segments;
  std::int32_t chunks;  // of K
  std::int32_t segment_chunks;
  std::int32_t tiles;  // of 16 rows, a block of the narrow product
  bool rehearses;      // see NarrowProduct
};

}  // namespace mambad::kernels

#endif  // MAMBAD_KERNELS_MAMBA_LAYER_PRODUCT_ARGS_H_
