// Launches of a step's kernels.
#ifndef MAMBAD_KERNELS_MAMBA_LAYER_LAUNCH_CUH_
#define MAMBAD_KERNELS_MAMBA_LAYER_LAUNCH_CUH_

#include <cuda_runtime.h>

#include <algorithm>

#include "kernels/mamba_layer/narrow_product.cuh"
#include "kernels/mamba_layer/packed_weight.h"
#include "kernels/mamba_layer/product_args.h"
#include "kernels/mamba_layer/wide_product.cuh"

namespace mambad::kernels {

inline const char* ErrorText(cudaError_t error) {
  return error == cudaSuccess ? nullptr : cudaGetErrorString(error);
}

struct LaunchShape {
  dim3 grid;
  int threads = 0;
  int shared_bytes = 0;
  int cluster = 1;         // along x
  bool overlaps = true;    // begins before the previous kernel of the stream has ended
};

template <class... Parameters, class... Arguments>
const char* Launch(void* stream, void (*kernel)(Parameters...), const LaunchShape& shape,
                   const Arguments&... arguments) {
  if (const cudaError_t error = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                                     shape.shared_bytes);
      error != cudaSuccess)
    return cudaGetErrorString(error);
  cudaLaunchAttribute attributes[2] = {};
  unsigned count = 0;
  if (shape.overlaps) {
    attributes[count].id = cudaLaunchAttributeProgrammaticStreamSerialization;
    attributes[count++].val.programmaticStreamSerializationAllowed = 1;
  }
  if (shape.cluster > 1) {
    attributes[count].id = cudaLaunchAttributeClusterDimension;
    attributes[count++].val.clusterDim = {static_cast<unsigned>(shape.cluster), 1, 1};
  }
  cudaLaunchConfig_t config = {};
  config.gridDim = shape.grid;
  config.blockDim = shape.threads;
  config.dynamicSmemBytes = shape.shared_bytes;
  config.stream = static_cast<cudaStream_t>(stream);
  config.attrs = attributes;
  config.numAttrs = count;
  return ErrorText(cudaLaunchKernelEx(&config, kernel, arguments...));
}

template <int kHeight, class Output>
const char* LaunchNarrow(void* stream, ProductArgs args, const Output& output) {
  using Shape = NarrowShape;
  // What is left of a budget that lets several blocks, also of the next kernels, share a multiprocessor.
  constexpr int kBudget = 96 * 1024;
  constexpr int kLeastStages = 2;
  const int fixed = Shape::SharedBytes(args.k_pad, kHeight, 0);
  const int steps = args.segment_k / kChunkK;
  args.stages = std::clamp((kBudget - fixed) / (Shape::kWarps * Shape::kStageBytes), kLeastStages,
                           std::min(Shape::kMaxStages, std::max(steps, kLeastStages)));
  const int rows = Shape::BlockRows(args.segments);
  return Launch(stream, NarrowProduct<kHeight, Output>,
                {.grid = dim3((args.rows + rows - 1) / rows),
                 .threads = Shape::kThreads,
                 .shared_bytes = Shape::SharedBytes(args.k_pad, kHeight, args.stages)},
                args, output);
}

template <int kColumns, class Output>
const char* LaunchWide(void* stream, const ProductArgs& args, const Output& output) {
  using Shape = WideShape<kColumns>;
  return Launch(stream, WideProduct<kColumns, Output>,
                {.grid = dim3(args.segments, (args.columns + kColumns - 1) / kColumns,
                              (args.rows + kTileRows - 1) / kTileRows),
                 .threads = Shape::kThreads,
                 .shared_bytes = Shape::kSharedBytes,
                 .cluster = args.segments},
                args, output);
}

// output(x weight^T) for `rows` rows of x, a bucket.
template <class Output>
const char* LaunchProduct(void* stream, const PackedWeight& weight, const std::uint16_t* x, int rows,
                          const Output& output) {
  const ProductArgs args = {.weights = weight.data,
                            .x = x,
                            .rows = weight.rows,
                            .columns = rows,
                            .k_pad = weight.k_pad(),
                            .segments = weight.segments(),
                            .segment_k = weight.segment_k(),
                            .stages = 0};
  if (rows == 1) return LaunchNarrow<1>(stream, args, output);
  if (rows == 2) return LaunchNarrow<2>(stream, args, output);
  if (rows == 4) return LaunchNarrow<4>(stream, args, output);
  if (rows == 8) return LaunchNarrow<8>(stream, args, output);
  if (rows <= 16) return LaunchWide<16>(stream, args, output);
  if (rows <= 32) return LaunchWide<32>(stream, args, output);
  if (rows <= 64) return LaunchWide<64>(stream, args, output);
  if (rows % 128 != 0 && rows % 96 == 0) return LaunchWide<96>(stream, args, output);
  return LaunchWide<128>(stream, args, output);
}

}  // namespace mambad::kernels

#endif  // MAMBAD_KERNELS_MAMBA_LAYER_LAUNCH_CUH_
