// All layers of a step of a row or two in one kernel, whose blocks stay, one a multiprocessor, and hand each
// other what a layer's parts need through L2 (handover.cuh) while weights stream without a pause
// (weight_rings.cuh). A layer has four parts, each of which needs all of the one before:
//
//   in_proj, norm scale, convolution, SiLU, gate | x_proj | dt_proj, state step, gating | out_proj, residual
//
// Who clears a word, and when: a thread that hands over a word has seen what all blocks of the part before
// handed over, or follows from all of it, so every block is done with what that part read. It then clears the
// word that it handed over in the same part of the layer before (out_proj: the u that in_proj of its own
// layer read); before, it would hold back what others wait for, 3% of a step. With three places in turns,
// whoever comes to poll a cleared place has seen a word that its writer handed over a layer after it cleared
// that place.
//
// Instructions come from memory too: a part's code runs once a layer, and costs by its length.
#ifndef MAMBAD_KERNELS_MAMBA_LAYER_STACK_STEP_CUH_
#define MAMBAD_KERNELS_MAMBA_LAYER_STACK_STEP_CUH_

#include <cuda_bf16.h>

#include <cstddef>
#include <cstdint>

#include "kernels/mamba_layer/handover.cuh"
#include "kernels/mamba_layer/narrow_product.cuh"
#include "kernels/mamba_layer/product_outputs.cuh"
#include "kernels/mamba_layer/stack_args.cuh"
#include "kernels/mamba_layer/stack_channels.cuh"
#include "kernels/mamba_layer/state_row.cuh"
#include "kernels/mamba_layer/weight_rings.cuh"

namespace mambad::kernels {

// Shared memory: the arguments, the rings, each warp's part of x, the warps' sums of two units in turn.
template <int kHeight>
struct StackShape {
  static constexpr int kWarps = NarrowShape::kMaxWarps;  // that multiply
  static constexpr int kWorkers = kWarps * 32;
  static constexpr int kThreads = kWorkers + kWarps / 2 * 32;  // a warp feeds two
  static constexpr int kSumColumns = kHeight < 2 ? 2 : kHeight;
  static constexpr int kSumFloats = kSumColumns * NarrowShape::kSumStride;

  static constexpr int ArgsBytes(int layers) {
    return (static_cast<int>(offsetof(StackArgs, layer)) + layers * static_cast<int>(sizeof(StackLayer)) +
            127) /
           128 * 128;
  }
  static constexpr int SharedBytes(int layers, int x_bytes, int stages) {
    return ArgsBytes(layers) + kWarps * (x_bytes + 2 * kSumFloats * 4 + stages * NarrowShape::kStageBytes);
  }
};

// What the warps that multiply do.
template <int kHeight, class Rings>
class StackBlock : private LayersInTurn {
 public:
  using Shape = StackShape<kHeight>;
  static constexpr int kN = kStackStateSize, kPerLane = kN / 4;
  static constexpr int kNextChannel = kHeight * kCore;  // channel c + 8 is a core matrix on

  struct Static {
    WarpPart parts[Shape::kWarps][kStackProducts];
    typename Rings::Barriers barriers;
    float row_scale[2][kCore];  // layers in turns
    float dt_bc[kHeight][kMostDtBcWidth];
    std::uint16_t dt[kHeight][kMostDtBcWidth];  // bf16, 0 past the rank
    float dt_bc_scales[kHeight][3];
    float delta[kHeight][Shape::kWarps * 16];
  };

  // `shared` holds the arguments: what follows from those in the constant bank the compiler keeps in
  // registers, of which there are too few.
  __device__ __forceinline__ StackBlock(unsigned char* shared, Static& statics)
      : args_(*reinterpret_cast<const StackArgs*>(shared)), statics_(statics) {
    const int warp = threadIdx.x / 32;
    unsigned char* const rings = RingsIn(shared, args_.layers);
    ring_ = SharedAddress(rings) + warp / 2 * Rings::kStages * Rings::kStageBytes +
            warp % 2 * NarrowShape::kStageBytes;
    x_ = rings + Rings::kBytes + warp * args_.x_bytes;
    sums_ = reinterpret_cast<float*>(rings + Rings::kBytes + Shape::kWarps * args_.x_bytes);
  }
  static __device__ __forceinline__ unsigned char* RingsIn(unsigned char* shared, int layers) {
    return shared + Shape::ArgsBytes(layers);
  }

  __device__ __forceinline__ void Run() {
    ForEachLayer(args_.layers, [&] {
      InProj();
      XProj();
      States();
      OutProj();
    });
  }

 private:
  using Chunk = ChunkOperands<kHeight>;

  static __device__ __forceinline__ int Element(int row, int k) {
    return static_cast<int>(StepLayout::Of(kHeight).Index(row, k));
  }
  static __device__ __forceinline__ void Meet() { hopper::NamedBarrier(1, Shape::kWorkers); }
  // What follows from the thread is computed again for each part, for want of registers.
  __device__ __forceinline__ void Renew() { thread_ = hopper::Opaque(threadIdx.x); }
  __device__ __forceinline__ const StackLayer& Layer() const { return args_.layer[layer_]; }

  __device__ __forceinline__ void InProj() {
    const auto make = [&]() -> ConvAndGate<false> {
      const StackLayer& w = Layer();
      SlotView window = args_.window;
      window.layer_offset_bytes = w.window_offset_bytes;
      return {.norm = {.square_sums = layer_ == 0 ? args_.square_sums : args_.handed_square_sums.At(turn_),
                       .width = args_.d_model,
                       .eps = args_.norm_eps},
              .bias = w.in_bias,
              .conv_weight = w.conv_weight,
              .conv_bias = w.conv_bias,
              .window = window,
              .slot_index = args_.slot_index,
              .x = args_.x.At(place_),
              .gate = args_.gate.At(place_),
              .channels = args_.channels,
              .conv_width = args_.conv_width,
              .layout = StepLayout::Of(kHeight)};
    };
    Product(kInProj, layer_ == 0 ? args_.u : args_.handed_u.At(turn_), make, [&](int m, int row) {
      std::uint16_t* const to = m < args_.channels
                                    ? args_.x.At(before_) + Element(row, m)
                                    : args_.gate.At(before_) + Element(row, m - args_.channels);
      *reinterpret_cast<uint2*>(to) = {kAbsent, kAbsent};
    });
  }

  __device__ __forceinline__ void XProj() {
    const int width = args_.rank + 2 * kN;
    const auto make = [&]() -> PlainRows<false> {
      return {.norm = {}, .y = args_.dt_bc.At(place_), .stride = width, .width = width};
    };
    Product(kXProj, args_.x.At(place_), make, [&](int m, int row) {
#pragma unroll 1
      for (int i = m; i < min(m + kQuad, width); ++i)
        args_.dt_bc.At(before_)[row * width + i] = __uint_as_float(kAbsent);
    });
  }

  __device__ __forceinline__ void OutProj() {
    const auto make = [&]() -> AddToResidual {
      const StackLayer& w = Layer();
      const bool last = layer_ + 1 == args_.layers;
      SlotView kept = args_.last_hidden;
      if (!last) kept.base = nullptr;
      return {.norm = {},
              .bias = w.out_bias,
              .slot_index = args_.slot_index,
              .residual = args_.residual,  // a thread reads what it wrote itself, the layer before
              .next = {.weight = w.next_norm_weight,
                       .u = last ? args_.u : args_.handed_u.At(next_),
                       .square_sums = last ? args_.square_sums : args_.handed_square_sums.At(next_),
                       .width = args_.d_model,
                       .layout = StepLayout::Of(kHeight)},
              .kept = kept};
    };
    Product(kOutProj, args_.y.At(place_), make, [&](int m, int row) {
      if (layer_ == 0) return;  // what it read was not handed over
      *reinterpret_cast<uint2*>(args_.handed_u.At(turn_) + Element(row, m)) = {kAbsent, kAbsent};
      if (m % kSquareSumWidth == 0)
        args_.handed_square_sums.At(turn_)[SquareSum(row, m)] = __uint_as_float(kAbsent);
    });
  }
  __device__ __forceinline__ int SquareSum(int row, int m) const {
    return row * SquareSums(args_.d_model, kSquareSumWidth) + m / kSquareSumWidth;
  }

  // This block's units of a product of x. make() gives the output, clear(m, row) clears the quad that was
  // handed over before.
  template <class Make, class Clear>
  __device__ __forceinline__ void Product(StackProduct product, const std::uint16_t* x, const Make& make,
                                          const Clear& clear) {
    using Output = decltype(make());
    Renew();
    const int warp = thread_ / 32, lane = thread_ % 32;
    const ProductPlan& plan = args_.plans.of[product];
    const WarpPart& part = statics_.parts[warp][product];
    const int quads = kHeight * plan.tiles * (NarrowShape::kRows / kQuad);
    const int row = thread_ / 4 % kHeight, quad_tile = thread_ / 4 / kHeight;
#pragma unroll 1
    for (int unit = part.first_unit; unit < plan.units; unit += gridDim.x) {
      const int m = (unit * plan.tiles + quad_tile) * NarrowShape::kRows + thread_ % 4 * kQuad;
      const bool inside = thread_ < quads && m < plan.rows;
      const Output output = make();
      typename Output::Constants constants = {};
      typename Output::Operands operands = {};
      if (inside) {
        output.LoadSlot(m, row, operands);
        output.LoadConstants(m, constants);
        output.LoadFresh(m, row, operands);
      }
      if (unit == part.first_unit) {
        if (Output::kScaled && warp == Shape::kWarps - 1) FindScales(output.norm);
        TakeInput(part, x + part.segment * plan.segment_chunks * kChunkK * kHeight);
      }
      float sum[4] = {};
      Multiply(part, sum);
      float* const sums = sums_ + parity_ * Shape::kWarps * Shape::kSumFloats;
      if (part.steps > 0 && lane % 4 * 2 < Shape::kSumColumns) {
        float* const own = sums + (part.tile * plan.segments + part.segment) * Shape::kSumFloats +
                           lane % 4 * 2 * NarrowShape::kSumStride + lane / 4;
        own[0] = sum[0];
        own[NarrowShape::kSumStride] = sum[1];
        own[8] = sum[2];
        own[NarrowShape::kSumStride + 8] = sum[3];
      }
      Meet();
      parity_ ^= 1;
      if (warp * 32 >= quads) continue;
      float4 total = {};
      if (inside) {
        const float* const from = sums + quad_tile * plan.segments * Shape::kSumFloats +
                                  row * NarrowShape::kSumStride + thread_ % 4 * kQuad;
        total = Load4(from);
#pragma unroll
        for (int s = 1; s < kMaxSegments; ++s) {
          if (s < plan.segments) total = AddEach(total, Load4(from + s * Shape::kSumFloats));
        }
      }
      const float scale = Output::kScaled ? statics_.row_scale[layer_ % 2][row] : 1.0f;
      output.Apply(m, row, inside, true, total, scale, constants, operands);
      if (!inside) continue;
      HandOverNothing(output, m, row, operands);
      DelayAtRandom<DelayAt::kHandover, 2>();
      clear(m, row);
    }
  }

  // Zeros for a row without a slot: others wait for its words too.
  __device__ __forceinline__ void HandOverNothing(const ConvAndGate<false>& output, int m, int row,
                                                  const ConvAndGate<false>::Operands& operands) const {
    if (operands.slot != kNoSlot) return;
    std::uint16_t* const to =
        m < args_.channels ? output.x + Element(row, m) : output.gate + Element(row, m - args_.channels);
    *reinterpret_cast<uint2*>(to) = {0, 0};
  }
  __device__ __forceinline__ void HandOverNothing(const AddToResidual& output, int m, int row,
                                                  const AddToResidual::Operands& operands) const {
    if (operands.slot != kNoSlot) return;
    *reinterpret_cast<uint2*>(output.next.u + Element(row, m)) = {0, 0};
    if (m % kSquareSumWidth == 0) output.next.square_sums[SquareSum(row, m)] = 0.0f;
  }
  __device__ __forceinline__ void HandOverNothing(const PlainRows<false>&, int, int,
                                                  const PlainRows<false>::Operands&) const {}

  __device__ __forceinline__ void FindScales(const NormedRows& norm) {
    const int row = thread_ % 32 / 8;
    const float scale = RowScale<true>(norm, row, kHeight);
    if (thread_ % 8 == 0) statics_.row_scale[layer_ % 2][row] = scale;
  }

  // A warp's part of x, into shared memory.
  __device__ __forceinline__ void TakeInput(const WarpPart& part, const std::uint16_t* x) {
    constexpr int kAtOnce = kHeight == 1 ? 3 : 5;
    const int lane = thread_ % 32;
    const int pieces = part.steps * (kChunkK * kHeight / 8);
    if (pieces == 0) return;
    __syncwarp();
    AwaitWord(x);
#pragma unroll 1
    for (int first = lane; first < pieces; first += 32 * kAtOnce) {
      uint4 v[kAtOnce];
      const auto wants = [&](int i) { return first + 32 * i < pieces; };
      Await(
          v, [&](int i) { return x + (first + 32 * i) * 8; }, wants);
#pragma unroll
      for (int i = 0; i < kAtOnce; ++i) {
        if (wants(i)) *reinterpret_cast<uint4*>(x_ + (first + 32 * i) * 16) = v[i];
      }
    }
    __syncwarp();
  }

  // The lane's address of this warp's next chunk in the ring, when it is there; then it may be fed anew.
  __device__ __forceinline__ std::uint32_t AwaitChunk() {
    const int lane = thread_ % 32;
    WaitBarrier(&statics_.barriers.full[thread_ / 64][at_.stage], at_.parity);
    return ring_ + at_.stage * Rings::kStageBytes + lane / 8 % 2 * kRowBlockBytes + lane / 16 * 128 +
           lane % 8 * 16;
  }
  __device__ __forceinline__ void ReleaseChunk() {
    __syncwarp();
    if (thread_ % 32 == 0) hopper::Arrive(&statics_.barriers.empty[thread_ / 64][at_.stage]);
    at_.Next();
  }

  // A unit's chunks: the next one's operands on their way while one is multiplied.
  __device__ __forceinline__ void Multiply(const WarpPart& part, float (&sum)[4]) {
    const int lane = thread_ % 32;
    const std::uint32_t b_lane = SharedAddress(x_) + lane / 8 * kHeight * 16 + lane % 8 % kHeight * 16;
    // Past its own chunks a warp takes what lies there, which nobody multiplies.
    const auto take = [&](int step, Chunk& chunk) {
      chunk.LoadA(AwaitChunk());
      chunk.LoadB(b_lane + step * Chunk::kBytesOfX);
      ReleaseChunk();
    };
    const auto multiply = [&](int step, const Chunk& chunk) {
      if (step < part.steps) chunk.Multiply(sum);
    };
    if (part.turns == 0) return;
    Chunk even, odd;
    take(0, even);
#pragma unroll 1
    for (int step = 0;; step += 2) {
      if (step + 1 == part.turns) {
        multiply(step, even);
        break;
      }
      take(step + 1, odd);
      multiply(step, even);
      if (step + 2 == part.turns) {
        multiply(step + 1, odd);
        break;
      }
      take(step + 2, even);
      multiply(step + 1, odd);
    }
  }

  __device__ __forceinline__ void States() {
    Renew();
    const ProductPlan& plan = args_.plans.of[kDtProj];
    const WarpPart& part = statics_.parts[thread_ / 32][kDtProj];
#pragma unroll 1
    for (int unit = part.first_unit; unit < plan.units; unit += gridDim.x) {
      const int row = part.state_row, tile = part.state_tile;
      const int c = (unit * plan.tiles + tile) * 16 + thread_ % 32 / 4;
      const bool works = row < kHeight && c < args_.channels;
      StackChannels channels = {};
      StackInputs inputs = {};
      if (works) {
        channels.Load(args_, Layer(), args_.slot_index[row], c);
        inputs.Load(args_.x.At(place_), args_.gate.At(place_), Element(row, c), kNextChannel);
      }
      if (unit == part.first_unit) TakeDtBC();
      FindDelta(part, channels.dt_bias);
      Meet();
      if (works) StepChannels(row, tile, c, channels, inputs);
      Meet();  // delta is read
    }
  }

  // dt, B and C of all rows, and the scales of their norms.
  __device__ __forceinline__ void TakeDtBC() {
    const int width = args_.rank + 2 * kN, warp = thread_ / 32;
#pragma unroll 1
    for (int row = 0; row < kHeight; ++row) {
      const float* const from = args_.dt_bc.At(place_) + row * width;
      if (warp * 32 < width) AwaitWord(from + warp * 32);
#pragma unroll 1
      for (int i = thread_; i < width; i += Shape::kWorkers) {
        const float value = __uint_as_float(AwaitOne(from + i));
        statics_.dt_bc[row][i] = value;
        statics_.dt[row][i] = i < args_.rank ? __bfloat16_as_ushort(__float2bfloat16_rn(value)) : 0;
      }
    }
    Meet();
    if (args_.dt_bc_eps < 0.0f) return;
#pragma unroll 1
    for (int i = warp; i < 3 * kHeight; i += Shape::kWarps) {
      const int row = i / 3, part = i % 3, begin = part == 0 ? 0 : args_.rank + (part - 1) * kN;
      const float scale =
          PlainScale(statics_.dt_bc[row] + begin, part == 0 ? args_.rank : kN, args_.dt_bc_eps);
      if (thread_ % 32 == 0) statics_.dt_bc_scales[row][part] = scale;
    }
    Meet();
  }

  // delta of a warp's tile, all rows.
  __device__ __forceinline__ void FindDelta(const WarpPart& part, const float (&bias)[2]) {
    const int lane = thread_ % 32;
    const std::uint16_t* const dt = statics_.dt[min(lane / 4, kHeight - 1)] + lane % 4 * 2;
    float sum[4] = {};
#pragma unroll 1
    for (int step = 0; step < part.turns; ++step) {
      const std::uint32_t weights = AwaitChunk();
#pragma unroll
      for (int i = 0; i < kChunkK / 16; ++i) {
        const int k = step * kChunkK + i * 16;
        if (step >= part.steps || k >= args_.rank) break;
        std::uint32_t a[4];
        hopper::LoadMatrices(weights + i * 256, a);
        hopper::Mma(sum, a, *reinterpret_cast<const std::uint32_t*>(dt + k),
                    *reinterpret_cast<const std::uint32_t*>(dt + k + 8));
      }
      ReleaseChunk();
    }
    if (part.steps == 0) return;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int row = lane % 4 * 2 + i % 2;
      if (row >= kHeight) continue;
      float product = sum[i];
      if (args_.dt_bc_eps >= 0.0f) product = __fmul_rn(product, statics_.dt_bc_scales[row][0]);
      statics_.delta[row][part.tile * 16 + lane / 4 + i / 2 * 8] =
          SoftplusApprox(__fadd_rn(product, bias[i / 2]));
    }
  }

  __device__ __forceinline__ void StepChannels(int row, int tile, int channel, const StackChannels& channels,
                                               StackInputs& inputs) {
    const int lane = thread_ % 32, n0 = lane % 4, element = Element(row, channel);
    // Of a row without a slot too: that y is there must say that all of in_proj is.
    inputs.Await(args_.x.At(place_), args_.gate.At(place_), element, kNextChannel);
    float b[kPerLane], c[kPerLane];
#pragma unroll
    for (int j = 0; j < kPerLane; ++j) {
      b[j] = statics_.dt_bc[row][args_.rank + n0 + 4 * j];
      c[j] = statics_.dt_bc[row][args_.rank + kN + n0 + 4 * j];
      if (args_.dt_bc_eps >= 0.0f) {
        b[j] = __fmul_rn(b[j], statics_.dt_bc_scales[row][1]);
        c[j] = __fmul_rn(c[j], statics_.dt_bc_scales[row][2]);
      }
    }
    float next_h[2][kPerLane];
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const float y = StepChannel(statics_.delta[row][tile * 16 + lane / 4 + i * 8], WidenedBf16(inputs.x[i]),
                                  WidenedBf16(inputs.gate[i]), channels.skip[i], channels.decay[i],
                                  channels.h[i], b, c, next_h[i]);
      // Two channels a word: a word that is half there would look whole.
      const std::uint32_t own = __bfloat16_as_ushort(__float2bfloat16_rn(y));
      const std::uint32_t next = __shfl_down_sync(~0u, own, 4);
      if (lane % 8 == 0) {
        const int at = element + i * kNextChannel;
        *reinterpret_cast<std::uint32_t*>(args_.y.At(place_) + at) =
            channels.at != nullptr ? own | next << 16 : 0;
        DelayAtRandom<DelayAt::kHandover, 2>();
        *reinterpret_cast<std::uint32_t*>(args_.y.At(before_) + at) = kAbsent;
      }
    }
    channels.Store(args_, next_h);
  }

  const StackArgs& args_;
  Static& statics_;
  unsigned char* x_;    // this warp's part of a product's input
  std::uint32_t ring_;  // this warp's
  float* sums_;         // [parity][tile][segment][column][row of W]
  int parity_ = 0;      // of the sums, which units take in turns
  int thread_ = 0;
  RingPlace<Rings::kStages> at_;
};

// REQUIRES: all blocks run at once.
template <int kHeight, int kStages>
__global__ void __launch_bounds__(StackShape<kHeight>::kThreads, 1)
    StepStack(const __grid_constant__ StackArgs args) {
#if __CUDA_ARCH__ >= 900
  using Rings = WeightRings<kStages>;
  using Block = StackBlock<kHeight, Rings>;
  using Shape = StackShape<kHeight>;
  extern __shared__ __align__(128) unsigned char shared[];
  __shared__ typename Block::Static statics;
  AllowNextKernel();
  const int words = (offsetof(StackArgs, layer) + args.layers * sizeof(StackLayer)) / 4;
  for (int i = threadIdx.x; i < words; i += Shape::kThreads)
    reinterpret_cast<std::uint32_t*>(shared)[i] = reinterpret_cast<const std::uint32_t*>(&args)[i];
  constexpr int kParts = Shape::kWarps * kStackProducts;
  if (threadIdx.x < kParts) {
    const int warp = threadIdx.x / kStackProducts, product = threadIdx.x % kStackProducts;
    statics.parts[warp][product] = WarpPart::Of(args.plans.of[product], warp);
  }
  if (threadIdx.x == kParts) Rings::Init(statics.barriers);
  __syncthreads();
  if (threadIdx.x >= Shape::kWorkers) {
    Rings::Feed(args, statics.parts, (threadIdx.x - Shape::kWorkers) / 32, statics.barriers,
                Block::RingsIn(shared, args.layers));
  } else {
    Block block(shared, statics);
    WaitForPreviousKernel();
    block.Run();
  }
#endif
}

}  // namespace mambad::kernels

#endif  // MAMBAD_KERNELS_MAMBA_LAYER_STACK_STEP_CUH_
