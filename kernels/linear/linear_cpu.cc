#include "kernels/linear/linear_cpu.h"

#include <algorithm>

#include "kernels/base/check.h"
#include "kernels/device/work_queue.h"

namespace mambad::kernels {
namespace {

// A worker's panels are walked in blocks of this size when many rows reuse them: half of a small L2, so
// that the rows streaming past do not push them out.
constexpr std::size_t kCacheBlockBytes = std::size_t{192} << 10;

// Up to this many row tiles a panel is fetched from memory while its predecessor is computed; with more,
// the computation is so much longer than the fetch that blocks in L2 serve better.
constexpr std::int64_t kMaxStreamedTiles = 8;

// Below this many input elements the caller converts alone: cheaper than waking the pool once more.
constexpr std::int64_t kSerialConvertElements = 32 << 10;

struct RowTiles {
  std::int64_t rows;
  std::int64_t count;

  RowTiles(std::int64_t rows, int max_rows) : rows(rows), count((rows + max_rows - 1) / max_rows) {}
  // Sizes differ by one at most: two tiles of 4 keep the FMA pipes busier than a 6 and a 2.
  Range operator[](std::int64_t tile) const { return {tile * rows / count, (tile + 1) * rows / count}; }
};

// One Linear call over rows that fit the workspace.
class Product {
 public:
  Product(const PackedLinear& weight, const LinearKernel& kernel, const LinearArgs& args, const std::byte* x,
          std::size_t x_stride)
      : weight_(weight),
        kernel_(kernel),
        args_(args),
        x_(x),
        x_stride_(x_stride),
        tiles_(args.rows, kernel.max_rows) {}

  void Run(ThreadPool& pool) const {
    const bool by_rows = SplitByRows(pool.threads());
    WorkQueue queue(by_rows ? tiles_.count : weight_.panels(), by_rows ? 1 : kernel_.panels_per_pass,
                    pool.threads());
    pool.Run([&](int, int) {
      for (Range piece = queue.Take(); piece.size() > 0; piece = queue.Take()) {
        if (by_rows) {
          Blocks({0, weight_.panels()}, piece);
        } else if (tiles_.count > kMaxStreamedTiles) {
          Blocks(piece, {0, tiles_.count});
        } else {
          Streamed(piece);
        }
      }
    });
  }

 private:
  // Channels divide the work evenly unless there are few panels; then rows do, if there are enough of them
  // and the whole weight stays in each worker's L2.
  bool SplitByRows(int workers) const {
    return tiles_.count >= 4 * workers &&
           weight_.panels() * weight_.panel_bytes() <= kCacheBlockBytes * 3 / 2;
  }

  // Every panel is read from memory once; all its rows are computed while the next one is fetched.
  void Streamed(Range panels) const {
    if (tiles_.count == 1) {
      Call(0, panels, nullptr, 0);
      return;
    }
    const std::size_t share = weight_.panel_bytes() / tiles_.count / 64 * 64;
    for (std::int64_t p = panels.begin; p < panels.end; ++p) {
      const std::byte* next = weight_.panel(std::min(p + 1, weight_.panels() - 1));
      for (std::int64_t t = 0; t < tiles_.count; ++t)
        Call(t, {p, p + 1}, next + t * share, 64 / tiles_.count);
    }
  }

  // Panels in L2-sized blocks; the rows stream past each block.
  void Blocks(Range panels, Range tiles) const {
    const std::int64_t most = std::max<std::int64_t>(1, kCacheBlockBytes / weight_.panel_bytes());
    for (std::int64_t p = panels.begin; p < panels.end; p += most) {
      const Range block = {p, std::min(p + most, panels.end)};
      for (std::int64_t t = tiles.begin; t < tiles.end; ++t) Call(t, block, nullptr, 0);
    }
  }

  void Call(std::int64_t tile, Range panels, const std::byte* prefetch, std::size_t prefetch_step) const {
    if (panels.size() == 0) return;
    const Range rows = tiles_[tile];
    const std::int64_t first = panels.begin * kPanelChannels;
    TileBlock block;
    block.weights = weight_.panel(panels.begin);
    block.panel_bytes = weight_.panel_bytes();
    block.panels = panels.size();
    block.channels = std::min(weight_.rows(), panels.end * kPanelChannels) - first;
    block.steps = PanelSteps(weight_.layout(), weight_.cols());
    block.x = x_ + rows.begin * x_stride_;
    block.x_stride = x_stride_;
    block.y = args_.y + rows.begin * args_.ldy + first;
    block.ldy = args_.ldy;
    block.bias = weight_.bias() == nullptr ? nullptr : weight_.bias() + first;
    block.accumulate = args_.accumulate;
    block.prefetch = prefetch;
    block.prefetch_step = prefetch_step;
    kernel_.run(block, static_cast<int>(rows.size()));
  }

  const PackedLinear& weight_;
  const LinearKernel& kernel_;
  const LinearArgs& args_;
  const std::byte* x_;
  std::size_t x_stride_;
  RowTiles tiles_;
};

// Fills `out` with the rows of x as the kernel wants them.
void ConvertRows(ThreadPool& pool, const LinearKernel& kernel, const LinearArgs& args, std::int64_t K,
                 std::byte* out, std::size_t stride) {
  const auto convert = [&](Range rows) {
    for (std::int64_t r = rows.begin; r < rows.end; ++r)
      kernel.convert(args.x + r * args.ldx, K, out + r * stride);
  };
  if (args.rows * K <= kSerialConvertElements) {
    convert({0, args.rows});
    return;
  }
  pool.Run([&](int worker, int workers) { convert(Slice(args.rows, 1, worker, workers)); });
}

void PackPanel(const LinearWeight& weight, PanelLayout layout, std::int64_t panel, std::byte* out) {
  const std::int64_t K = weight.cols;
  const std::int64_t first = panel * kPanelChannels;
  const std::int64_t steps = PanelSteps(layout, K);
  const auto value = [&](std::int64_t lane, std::int64_t k) {
    const std::int64_t m = first + lane;
    return m < weight.rows && k < K ? LoadAsFloat(weight.data, weight.dtype, m * K + k) : 0.0f;
  };
  float* floats = reinterpret_cast<float*>(out);
  std::uint32_t* words = reinterpret_cast<std::uint32_t*>(out);
  const auto word = [](float low, float high) {
    return std::uint32_t{FloatToBf16(low)} | (std::uint32_t{FloatToBf16(high)} << 16);
  };
  for (std::int64_t s = 0; s < steps; ++s) {
    switch (layout) {
      case PanelLayout::kF32:
        for (int j = 0; j < 16; ++j) floats[s * 16 + j] = value(j, s);
        break;
      case PanelLayout::kBf16Split:
        for (int j = 0; j < 8; ++j) words[s * 8 + j] = word(value(j, s), value(j + 8, s));
        break;
      case PanelLayout::kBf16Pair:
        for (int j = 0; j < 16; ++j) words[s * 16 + j] = word(value(j, 2 * s), value(j, 2 * s + 1));
        break;
    }
  }
}

}  // namespace

const LinearKernel& LinearKernelFor(CpuPath path, WeightPrecision precision) {
  const LinearKernels* kernels = &PortableLinearKernels();
#if defined(__x86_64__)
  if (path == CpuPath::kAvx2) kernels = &Avx2LinearKernels();
  if (path == CpuPath::kAvx512) kernels = &Avx512LinearKernels();
#endif
  return precision == WeightPrecision::kF32 ? kernels->f32 : kernels->bf16;
}

void PackPanelsCpu(Device& device, const LinearWeight& weight, PanelLayout layout, std::size_t panel_bytes,
                   std::byte* panels) {
  const std::int64_t count = (weight.rows + kPanelChannels - 1) / kPanelChannels;
  device.pool().Run([&](int worker, int workers) {
    const Range mine = Slice(count, 1, worker, workers);
    for (std::int64_t p = mine.begin; p < mine.end; ++p)
      PackPanel(weight, layout, p, panels + p * panel_bytes);
  });
}

absl::Status LinearCpu(Stream& stream, const PackedLinear& weight, const LinearArgs& args) {
  const LinearKernel& kernel = LinearKernelFor(stream.cpu_path(), weight.precision());
  MAMBAD_CHECK(kernel.layout == weight.layout());
  ThreadPool& pool = stream.pool();
  if (kernel.convert == nullptr) {
    Product(weight, kernel, args, reinterpret_cast<const std::byte*>(args.x), args.ldx * sizeof(float))
        .Run(pool);
    return absl::OkStatus();
  }
  const std::size_t stride =
      (PanelSteps(weight.layout(), weight.cols()) * kernel.x_entry_bytes + 63) / 64 * 64;
  const std::int64_t most = stream.workspace().size() / stride;
  MAMBAD_CHECK(most >= 1);
  std::byte* converted = stream.workspace().data();
  for (std::int64_t first = 0; first < args.rows; first += most) {
    LinearArgs part = args;
    part.x += first * args.ldx;
    part.y += first * args.ldy;
    part.rows = std::min(most, args.rows - first);
    ConvertRows(pool, kernel, part, weight.cols(), converted, stride);
    Product(weight, kernel, part, converted, stride).Run(pool);
  }
  return absl::OkStatus();
}

}  // namespace mambad::kernels
