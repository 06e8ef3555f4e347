// Random weights made on the device, and the prompt products by every tile against the general kernel: for
// prompt_bench.
#ifndef MAMBAD_KERNELS_BENCH_PROMPT_PRODUCTS_CUH_
#define MAMBAD_KERNELS_BENCH_PROMPT_PRODUCTS_CUH_

#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include <cstdint>
#include <cstdio>
#include <functional>
#include <vector>

#include "kernels/bench/prompt_reference.cuh"
#include "kernels/linear/linear_prompt_epilogue.cuh"
#include "kernels/linear/linear_prompt_launch.cuh"

namespace {

using namespace mambad::kernels;

__global__ void FillNormal(__nv_bfloat16* bf16, float* f32, std::size_t n, float mean, float scale,
                           std::uint64_t seed) {
  for (std::size_t i = blockIdx.x * std::size_t{256} + threadIdx.x; i < n;
       i += gridDim.x * std::size_t{256}) {
    std::uint64_t x = (i + seed) * 0x9e3779b97f4a7c15ull;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
    float s = 0;
    for (int b = 0; b < 4; ++b) s += static_cast<float>((x >> (16 * b)) & 0xffff) * (1.0f / 65536.0f) - 0.5f;
    const float v = mean + s * 1.732f * scale;
    if (bf16 != nullptr) bf16[i] = __float2bfloat16_rn(v);
    if (f32 != nullptr) f32[i] = v;
  }
}
std::uint64_t fill_seed = 1;
float* RandomFloats(std::size_t n, float mean, float scale) {
  float* p = nullptr;
  MUST(cudaMalloc(&p, n * 4));
  FillNormal<<<1024, 256>>>(nullptr, p, n, mean, scale, fill_seed += n);
  MUST(cudaGetLastError());
  return p;
}
PackedWeight RandomPackedWeight(std::int64_t rows, std::int64_t cols, double scale) {
  PackedWeight w{nullptr, static_cast<std::int32_t>(rows), static_cast<std::int32_t>(cols)};
  const std::size_t elements = PackedElements(rows, cols);
  __nv_bfloat16* p = nullptr;
  MUST(cudaMalloc(&p, elements * 2));
  FillNormal<<<1024, 256>>>(p, nullptr, elements, 0, static_cast<float>(scale), fill_seed += elements);
  MUST(cudaGetLastError());
  w.data = reinterpret_cast<const std::uint16_t*>(p);
  return w;
}
CoreMatrices Cores(const PackedWeight& w) { return {w.data, w.rows, w.cols}; }

// Every tile of the Hopper product against the general one, bit for bit, on a large shape: all that an
// epilogue may write, which begins as noise. Some tokens have no slot.
class ProductComparison {
 public:
  ProductComparison(std::int64_t rows, std::int64_t tokens)
      : tokens_(tokens),
        rows_(rows),
        w_(Cores(RandomPackedWeight(rows, kCols, 0.02))),
        x_(RandomPackedWeight(PaddedTokens(tokens), kCols, 1)),  // any bits do as token tiles
        shape_(MakeLinearPromptShape(w_, x_.data, tokens, 1)),
        elements_(PaddedTokens(tokens) * Slabs(rows) * kSlabChannels),
        sums_(SquareSumGroups(rows) * PaddedTokens(tokens)),
        bytes_((elements_ + elements_ / 2 + sums_) * sizeof(float)) {
    std::vector<TokenPlace> places(tokens);
    for (std::int64_t i = 0; i < tokens; ++i) places[i].slot = i % 7 == 3 ? kNoSlot : 0;
    places_ = Upload(places);
    bias_ = RandomFloats(rows, 0, 1);
    norm_ = RandomFloats(rows, 1, 0.1f);
    squares_ = RandomFloats(sums_, 40, 10);
    noise_ = RandomFloats(bytes_ / sizeof(float), 0, 1);
    MUST(cudaMalloc(&out_, bytes_));
  }
  ~ProductComparison() {
    for (const void* p : {static_cast<const void*>(w_.data), static_cast<const void*>(x_.data),
                          static_cast<const void*>(places_), static_cast<const void*>(bias_),
                          static_cast<const void*>(norm_), static_cast<const void*>(squares_),
                          static_cast<const void*>(noise_), static_cast<const void*>(out_)}) {
      MUST(cudaFree(const_cast<void*>(p)));
    }
  }

  bool Run() const {
    const auto tokens = static_cast<std::uint32_t>(tokens_), rows = static_cast<std::uint32_t>(rows_);
    const auto blocks = static_cast<std::uint32_t>((rows + 7) / 8);
    const std::int64_t token_blocks = shape_.token_blocks;
    bool ok = Tiles("segments", StoreSegments{out_, token_blocks, blocks, tokens});
    const TokenNorm norm{squares_, token_blocks * 8, static_cast<std::int32_t>(rows_), 1e-5f};
    const TokenNormInput input{norm_, reinterpret_cast<__nv_bfloat16*>(out_ + elements_),
                               out_ + elements_ + elements_ / 2};
    for (const float* bias : {static_cast<const float*>(nullptr), static_cast<const float*>(bias_)}) {
      ok &= Tiles("bf16", StoreScaledBf16{reinterpret_cast<__nv_bfloat16*>(out_), bias, token_blocks, tokens,
                                          rows, norm});
      ok &= Tiles("residual", AddToTokens{out_, bias, places_, token_blocks, tokens, rows, input});
    }
    ok &= Short(StoreSegments{out_, token_blocks, blocks, tokens});
    return ok & Short(StoreDelta{out_, bias_, token_blocks, tokens, rows});
  }

 private:
  static constexpr std::int64_t kCols = 2560;

  std::vector<std::uint32_t> Product(const std::function<cudaError_t()>& launch) const {
    MUST(cudaMemcpy(out_, noise_, bytes_, cudaMemcpyDeviceToDevice));
    MUST(launch());
    MUST(cudaDeviceSynchronize());
    return Download(reinterpret_cast<const std::uint32_t*>(out_), bytes_ / sizeof(std::uint32_t));
  }
  bool Compare(const char* name, const PromptTile& tile, const std::vector<std::uint32_t>& want,
               const std::function<cudaError_t()>& launch) const {
    const std::vector<std::uint32_t> got = Product(launch);
    std::size_t different = 0;
    for (std::size_t i = 0; i < want.size(); ++i) different += want[i] != got[i];
    std::printf("%s %s%s, %d x %d, %ld x %ld: %zu of %zu words differ from mma.sync\n",
                different == 0 ? "ok  " : "FAIL", name, tile.shares_x() ? ", sharing x" : "",
                tile.tiles * 128, tile.columns, tokens_, rows_, different, want.size());
    return different == 0;
  }
  template <class Epilogue>
  bool Tiles(const char* name, const Epilogue& epilogue) const {
    const auto want = Product([&] { return LaunchLinearPromptGeneral(nullptr, shape_, w_, epilogue); });
    bool ok = true;
    for (const PromptTile tile : kPromptTiles) {
      if (Epilogue::kAdds && !tile.FitsAdding()) continue;
      ok &= Compare(name, tile, want,
                    [&] { return LaunchPromptTile(nullptr, tile, shape_, w_, epilogue, PromptClusters()); });
    }
    return ok;
  }
  template <class Epilogue>
  bool Short(const Epilogue& epilogue) const {
    const auto want = Product([&] { return LaunchLinearPromptGeneral(nullptr, shape_, w_, epilogue); });
    const auto compare = [&]<int kColumns, PromptShared kShared>() {
      return Compare("short", {1, kColumns, kShared}, want,
                     [&] { return LaunchShortPrompt<kColumns, kShared>(nullptr, shape_, w_, epilogue); });
    };
    return compare.template operator()<32, PromptShared::kActivations>() &
           compare.template operator()<64, PromptShared::kWeights>() &
           compare.template operator()<96, PromptShared::kWeights>();
  }

  const std::int64_t tokens_, rows_;
  const CoreMatrices w_;
  const PackedWeight x_;
  const LinearPromptShape shape_;
  const std::int64_t elements_, sums_;  // of what a product gives, and of its squares' sums
  const std::size_t bytes_;             // elements as fp32, as bf16, and the sums
  TokenPlace* places_ = nullptr;
  float* bias_ = nullptr;
  float* norm_ = nullptr;
  float* squares_ = nullptr;
  float* noise_ = nullptr;
  float* out_ = nullptr;
};

bool CompareProducts() {
  bool ok = true;
  for (const std::int64_t rows : {1030, 1031}) {
    for (const std::int64_t tokens : {1000, 300, 100, 60, 20}) ok &= ProductComparison(rows, tokens).Run();
  }
  ok &= ProductComparison(2062, 3000).Run();  // clusters whose tiles are of different tokens
  return ok;
}

}  // namespace

#endif  // MAMBAD_KERNELS_BENCH_PROMPT_PRODUCTS_CUH_
