// Launches of a step's kernels.
#ifndef MAMBAD_KERNELS_MAMBA_LAYER_LAUNCH_CUH_
#define MAMBAD_KERNELS_MAMBA_LAYER_LAUNCH_CUH_

#include <cuda_runtime.h>

#include <algorithm>

#include "kernels/device/launch.cuh"
#include "kernels/mamba_layer/narrow_product.cuh"
#include "kernels/mamba_layer/packed_weight.h"
#include "kernels/mamba_layer/product_args.h"
#include "kernels/mamba_layer/whole_product.cuh"
#include "kernels/mamba_layer/wide_product.cuh"

namespace mambad::kernels {

inline const char* ErrorText(cudaError_t error) {
  return error == cudaSuccess ? nullptr : cudaGetErrorString(error);
}

// Null or what went wrong.
template <class... Parameters, class... Arguments>
const char* Launch(void* stream, void (*kernel)(Parameters...), const LaunchShape& shape,
                   const Arguments&... arguments) {
  // One division of shared memory for all: a multiprocessor must run dry to divide its memory anew.
  if (const char* error = ErrorText(cudaFuncSetAttribute(
          kernel, cudaFuncAttributePreferredSharedMemoryCarveout, cudaSharedmemCarveoutMaxShared)))
    return error;
  return ErrorText(LaunchKernel(static_cast<cudaStream_t>(stream), kernel, shape, arguments...));
}

inline constexpr int kMaxNarrowRows = 8;

// Tiles of 16 rows a block: where K is one segment, some tiles share x.
constexpr int NarrowTiles(int segments) { return segments == 1 ? 4 : 1; }

// Whether a block of the narrow product finds room beside what it declares itself.
inline bool FitsNarrow(int k_pad, int height, int warps, int segment_chunks, int stages) {
  constexpr int kStaticBytes = 1024;
  return NarrowShape::SharedBytes(k_pad, height, warps, segment_chunks, stages) + kStaticBytes <=
         DeviceAttribute(cudaDevAttrMaxSharedMemoryPerBlockOptin);
}

// Whether it does so for 8 rows of x.
inline bool FitsNarrow(const PackedWeight& weight, int tiles) {
  return FitsNarrow(weight.k_pad(), kCore, weight.segments() * tiles, weight.segment_chunks(),
                    NarrowShape::kLeastStages);
}
inline bool FitsNarrow(const PackedWeight& weight) {
  return FitsNarrow(weight, NarrowTiles(weight.segments()));
}

template <int kHeight, int kStages, class Output>
const char* LaunchNarrowIn(void* stream, ProductArgs args, int warps, const Output& output) {
  using Shape = NarrowShape;
  const int rows = args.tiles * Shape::kRows;
  const int blocks = (args.rows + rows - 1) / rows;
  // Blocks that begin late would only begin later.
  args.rehearses = blocks <= DeviceAttribute(cudaDevAttrMultiProcessorCount);
  return Launch(
      stream, NarrowProduct<kHeight, kStages, Output>,
      {.grid = dim3(blocks),
       .threads = (warps + (Output::kScaled ? 1 : 0)) * 32,
       .shared_bytes = Shape::SharedBytes(args.k_pad, kHeight, warps, args.segment_chunks, kStages)},
      args, output);
}

template <int kHeight, class Output>
const char* LaunchNarrow(void* stream, ProductArgs args, const Output& output) {
  using Shape = NarrowShape;
  args.tiles = Output::kFolds ? kFoldTiles : NarrowTiles(args.segments);
  const int warps = args.segments * args.tiles;
  if constexpr (!Output::kScaled) {  // others have no registers to spare
    if (args.segment_chunks <= Shape::kHeldStages)
      return LaunchNarrowIn<kHeight, Shape::kHeldStages>(stream, args, warps, output);
  }
  if constexpr (kHeight == kCore) {
    if (!FitsNarrow(args.k_pad, kHeight, warps, args.segment_chunks, Shape::kMostStages))
      return LaunchNarrowIn<kHeight, Shape::kLeastStages>(stream, args, warps, output);
  }
  return LaunchNarrowIn<kHeight, Shape::kMostStages>(stream, args, warps, output);
}

template <int kColumns, int kBudget, class Output>
const char* LaunchWideIn(void* stream, const ProductArgs& args, const Output& output) {
  using Shape = WideShape<kColumns, kBudget>;
  return Launch(stream, WideProduct<kColumns, kBudget, Output>,
                {.grid = dim3(args.segments, (args.columns + kColumns - 1) / kColumns,
                              (args.rows + Shape::kRows - 1) / Shape::kRows),
                 .threads = Shape::kThreads,
                 .shared_bytes = Shape::kSharedBytes,
                 .cluster = args.segments},
                args, output);
}

template <int kColumns, class Output>
const char* LaunchWide(void* stream, const ProductArgs& args, const Output& output) {
  constexpr int kShare = 104, kAll = 200;  // KB: two blocks a multiprocessor, or one
  const int blocks =
      args.segments * ((args.columns + kColumns - 1) / kColumns) * ((args.rows + kTileRows - 1) / kTileRows);
  // A cluster lies in one GPC, and those have unlike numbers of multiprocessors: of an H100's 132, clusters
  // of 4 or 8 with one block each find room on 120.
  if (blocks <= DeviceAttribute(cudaDevAttrMultiProcessorCount) * 10 / 11)
    return LaunchWideIn<kColumns, kAll>(stream, args, output);
  return LaunchWideIn<kColumns, kShare>(stream, args, output);
}

// How many rows of x a block of the wide product takes: all of them up to 128, fewer while that leaves
// multiprocessors idle.
inline int WideColumns(const PackedWeight& weight, int rows) {
  if (rows <= 16) return 16;
  if (rows <= 32) return 32;
  if (rows > 64 && rows % 128 != 0 && rows % 96 == 0) return 96;
  constexpr int kLeastColumns = 32;
  const int pieces = weight.tiles() * weight.segments();
  int columns = rows <= 64 ? 64 : 128;
  while (columns > kLeastColumns &&
         pieces * ((2 * rows + columns - 1) / columns) <= DeviceAttribute(cudaDevAttrMultiProcessorCount))
    columns /= 2;
  return columns;
}

inline ProductArgs ArgsOf(const PackedWeight& weight, const std::uint16_t* x, int rows) {
  return {.weights = weight.data,
          .x = x,
          .rows = weight.rows,
          .columns = rows,
          .k_pad = weight.k_pad(),
          .segments = weight.segments(),
          .chunks = weight.chunks(),
          .segment_chunks = weight.segment_chunks(),
          .tiles = 1,
          .rehearses = false};
}

// The tile of the whole product: rows of W a block takes, 0 where too many multiprocessors would idle; rows
// of x; and what the blocks of a cluster share.
struct WholeTileChoice {
  int rows;
  int columns;
  bool shares_x;

  bool operator==(const WholeTileChoice&) const = default;
};
inline constexpr WholeTileChoice kWholeTiles[] = {
    {96, kWholeColumns, false},    {128, kWholeColumns, false},   {160, kWholeColumns, false},
    {32, kWholeColumns, true},     {64, kWholeColumns, true},     {80, kWholeColumns, true},
    {128, kWholeColumns, true},    {64, kWholeColumns / 2, true}, {80, kWholeColumns / 2, true},
    {128, kWholeColumns / 2, true}};
// For an output that sums squares of groups: a tile has one.
inline constexpr WholeTileChoice kGroupTiles[] = {{kSquareGroupWidth, kWholeColumns / 2, false},
                                                  {kSquareGroupWidth, kWholeColumns, false}};

// Keeps the tile that takes least time: whole rounds of the clusters, each as long as `round`.
class LeastTime {
 public:
  explicit LeastTime(int least_percent) : least_percent_(least_percent) {}
  void Try(const WholeTileChoice& tile, int work, int round) {
    const int clusters = DeviceAttribute(cudaDevAttrMultiProcessorCount) / kWholeBlocks;
    const int rounds = (work + clusters - 1) / clusters;
    if (work * 100 < rounds * clusters * least_percent_) return;
    if (best_.rows == 0 || rounds * round < time_) best_ = tile, time_ = rounds * round;
  }
  const WholeTileChoice& best() const { return best_; }

 private:
  const int least_percent_;  // of the places of its rounds that a tile fills
  int time_ = 0;
  WholeTileChoice best_ = {};
};

// Of kWholeTiles. A round takes as long as what a block reads of L2.
inline WholeTileChoice ChooseWholeTile(const PackedWeight& weight, int rows) {
  constexpr int kLeastRows = 33, kPair = kWholeColumns * kWholeBlocks;
  LeastTime least(70);
  if (rows < kLeastRows) return least.best();
  const bool shares_x = rows <= kWholeColumns;
  const int columns = rows <= kWholeColumns / 2 ? kWholeColumns / 2 : kWholeColumns;
  for (const WholeTileChoice& tile : kWholeTiles) {
    if (tile.shares_x != shares_x || tile.columns != columns) continue;
    const int tiles = (weight.rows + tile.rows - 1) / tile.rows;
    if (shares_x) {
      least.Try(tile, (tiles + 1) / 2, tile.rows + columns / 2);
    } else {
      least.Try(tile, tiles * ((rows + kPair - 1) / kPair), columns + tile.rows / 2);
    }
  }
  return least.best();
}

// Of kGroupTiles. What the wide product reads and sends between blocks is worth as many idle multiprocessors.
inline WholeTileChoice ChooseGroupTile(const PackedWeight& weight, int rows) {
  LeastTime least(45);
  if (rows <= kWholeColumns) return least.best();
  for (const WholeTileChoice& tile : kGroupTiles) {
    const int pair = tile.columns * kWholeBlocks;
    least.Try(tile, weight.tiles() * ((rows + pair - 1) / pair), tile.columns + tile.rows);
  }
  return least.best();
}

template <int kRows, int kColumns, bool kSharesX, class Output>
const char* LaunchWholeTiles(void* stream, const ProductArgs& args, const Output& output) {
  using Shape = WholeShape<kRows, kColumns, kSharesX, Output>;
  const int across = WholeTile<Shape>::Across(args);
  const int fitting = DeviceAttribute(cudaDevAttrMultiProcessorCount) / kWholeBlocks / across * across;
  const int clusters = std::min(WholeTile<Shape>::Count(args), std::max(fitting, across));
  return Launch(stream, WholeProduct<Shape, Output>,
                {.grid = dim3(clusters * kWholeBlocks),
                 .threads = Shape::kThreads,
                 .shared_bytes = Shape::kSharedBytes,
                 .cluster = kWholeBlocks},
                args, output);
}

template <class Output>
const char* LaunchWhole(void* stream, const WholeTileChoice& tile, const ProductArgs& args,
                        const Output& output) {
  const auto launch = [&]<WholeTileChoice kTile>() {
    return LaunchWholeTiles<kTile.rows, kTile.columns, kTile.shares_x>(stream, args, output);
  };
  if constexpr (Output::kSquares) {
    return WithListed<kGroupTiles>(tile, launch);
  } else {
    return WithListed<kWholeTiles>(tile, launch);
  }
}

// output(x weight^T) for 1, 2, 4 or 8 rows of x.
template <class Output>
const char* LaunchNarrowProduct(void* stream, const PackedWeight& weight, const std::uint16_t* x, int rows,
                                const Output& output) {
  const ProductArgs args = ArgsOf(weight, x, rows);
  if (rows == 1) return LaunchNarrow<1>(stream, args, output);
  if (rows == 2) return LaunchNarrow<2>(stream, args, output);
  if (rows == 4) return LaunchNarrow<4>(stream, args, output);
  return LaunchNarrow<8>(stream, args, output);
}

// output(x weight^T) for `rows` rows of x, a bucket.
template <class Output>
const char* LaunchProduct(void* stream, const PackedWeight& weight, const std::uint16_t* x, int rows,
                          const Output& output) {
  if (rows <= kMaxNarrowRows) return LaunchNarrowProduct(stream, weight, x, rows, output);
  const ProductArgs args = ArgsOf(weight, x, rows);
  if constexpr (Output::kIsWhole) {
    const WholeTileChoice tile =
        Output::kSquares ? ChooseGroupTile(weight, rows) : ChooseWholeTile(weight, rows);
    if (tile.rows > 0) return LaunchWhole(stream, tile, args, output);
  }
  switch (WideColumns(weight, rows)) {
    case 16:
      return LaunchWide<16>(stream, args, output);
    case 32:
      return LaunchWide<32>(stream, args, output);
    case 64:
      return LaunchWide<64>(stream, args, output);
    case 96:
      return LaunchWide<96>(stream, args, output);
    default:
      return LaunchWide<128>(stream, args, output);
  }
}

}  // namespace mambad::kernels

#endif  // MAMBAD_KERNELS_MAMBA_LAYER_LAUNCH_CUH_
