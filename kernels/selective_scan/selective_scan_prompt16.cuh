// The selective scan over packed prompt chunks for N = 16, where nearly every model is. Its bound is the
// special function unit: one exponential for each state and token; next to it, the count of instructions. A
// tile of eight channels is scanned by one warp, or by two, each with half of the states, where tiles are
// few; lane 4 g + t holds the states 8 p + 2 t and 8 p + 2 t + 1 of channel g for its halves p, so that the
// tensor cores, idle otherwise, do what is not elementwise, and no operand is loaded once for each state:
//
//   inputs   (delta x) B of two tokens is an outer product: m16n8k4, rows g and g + 8 the first and the
//   second
//            token of channel g, columns the half's states; k is the token in a group of four, of which A
//            (delta x) keeps one for each row and B all
//   readout  C h of two tokens: m16n8k8, rows likewise, k the states in the order in which the lanes hold
//   them,
//            columns the C of eight tokens. Each row has one column that is meant, its own token's: column
//            2 t + q is token 4 q + t, which lane 4 g + t picks
//
// A step is sixteen tokens. The terms of two tokens, exp(delta A) and (delta x) B, are made four tokens
// before they are used. What two warps read out meets in shared memory; each finishes its share of the step
// before. x, z, delta, B and C come by the tile's own ring of copies. One warp or two: the same bits.
//
// h, C, B and delta x enter their products with the 11 bits of tf32; everything else is fp32. (A NaN in B
// spoils the tokens near it, of its own chunk alone.)
#ifndef MAMBAD_KERNELS_SELECTIVE_SCAN_SELECTIVE_SCAN_PROMPT16_CUH_
#define MAMBAD_KERNELS_SELECTIVE_SCAN_SELECTIVE_SCAN_PROMPT16_CUH_

#include "kernels/selective_scan/scan16_turns.cuh"
#include "kernels/selective_scan/selective_scan_prompt.cuh"

namespace mambad::kernels {

struct Scan16 {
  static constexpr int kChannels = 8;    // of a tile: a channel block of the token tiles
  static constexpr int kStep = 16;       // tokens
  static constexpr int kBcFloats = 256;  // B, or C, of a step
  static constexpr int kStepElements =
      1024;  // from a token to the one a step later, wherever the chunk begins

  // Where B and C of a token of a step lie, in the order in which the lanes take them, four floats each.
  static __host__ __device__ constexpr int BIndex(int token, int n) {
    return (n / 8 * 32 + n % 8 * 4 + token % 4) * 4 + token / 4;
  }
  static __host__ __device__ constexpr int CIndex(int token, int n) {
    return (n / 8 * 32 + (token % 4 * 2 + token / 4 % 2) * 4 + n % 8 / 2) * 4 + token / 8 * 2 + n % 2;
  }
  // Others take the general kernel: z would not begin at a channel block.
  static constexpr bool Takes(std::int64_t state_size, std::int64_t channels) {
    return state_size == 16 && channels % kChannels == 0;
  }
};

// A step of a tile in shared memory.
struct alignas(16) Scan16Step {
  __nv_bfloat16 x[16][8], z[16][8];  // [token][channel]
  float delta[16][8];
  float4 b[2][32], c[2][32];  // [half of the states][lane]
  float2 sums[2][32];         // [warp that finishes them][lane]: what the other warp read out
};

// As a product takes it, which cuts the last 13 bits off. (Infinite stays infinite; a NaN is in delta or x
// too.)
__device__ __forceinline__ float RoundForTf32(float v) {
  return __uint_as_float(__float_as_uint(v) + 0x1000);
}

// a b, 16 x 4 times 4 x 8 and 16 x 8 times 8 x 8.
__device__ __forceinline__ void MmaTf32(float (&d)[4], const float (&a)[2], float b) {
  asm("mma.sync.aligned.m16n8k4.row.col.f32.tf32.tf32.f32 {%0, %1, %2, %3}, {%4, %5}, {%6}, {%7, %7, %7, %7};"
      : "=f"(d[0]), "=f"(d[1]), "=f"(d[2]), "=f"(d[3])
      : "r"(__float_as_uint(a[0])), "r"(__float_as_uint(a[1])), "r"(__float_as_uint(b)), "f"(0.0f));
}
__device__ __forceinline__ void MmaTf32(float (&d)[4], const float (&a)[4], float b0, float b1) {
  asm("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
      "{%10, %10, %10, %10};"
      : "=f"(d[0]), "=f"(d[1]), "=f"(d[2]), "=f"(d[3])
      : "r"(__float_as_uint(a[0])), "r"(__float_as_uint(a[1])), "r"(__float_as_uint(a[2])),
        "r"(__float_as_uint(a[3])), "r"(__float_as_uint(b0)), "r"(__float_as_uint(b1)), "f"(0.0f));
}

__device__ __forceinline__ float Part(const float4& v, int i) {
  return i == 0 ? v.x : i == 1 ? v.y : i == 2 ? v.z : v.w;
}

// A number that the compiler does not derive anew wherever it is used.
__device__ __forceinline__ int Kept(int v) {
  asm volatile("mov.u32 %0, %0;" : "+r"(v));
  return v;
}

// Lane 4 g + t of one of kWarps warps of a tile. Tokens go by pairs.
template <int kWarps>
struct Scan16Lane {
  static constexpr int kHalves = 2 / kWarps;   // of the states, of a warp
  static constexpr int kStates = 2 * kHalves;  // of a lane
  static constexpr int kOutputs = 4 / kWarps;  // of a step, that a lane finishes

  // What is kept of a channel.
  struct Constants {
    float decay_log2[kStates];
    float skip;
  };
  // What a step does to the states: `token` multiplies state k by decay[token][k] and adds
  // input[token / 2][k / 2][token % 2 * 2 + k % 2].
  struct Terms {
    float decay[16][kStates];
    float input[8][kHalves][4];
  };
  struct Outputs {
    float x[kOutputs], z[kOutputs], y[kOutputs];
  };

  int warp, g, t;
  int x, delta, own_delta, bc, finished;  // where its places in a step are, in bytes

  __device__ __forceinline__ explicit Scan16Lane(int thread)
      : warp(thread / 32 % kWarps), g(thread % 32 / 4), t(thread % 4) {
    x = Kept(t * 16 + g * 2);
    delta = Kept(g * 4);
    own_delta = Kept(g * 4 + t * 32);
    bc = Kept(warp * 512 + thread % 32 * 16);
    finished = Kept(x + warp * 128);
  }
  __device__ __forceinline__ int State(int k) const { return 8 * (warp + k / 2) + 2 * t + k % 2; }
  __device__ __forceinline__ int Finishes(int i) const { return 8 * warp + 4 * i + t; }

  template <class T>
  static __device__ __forceinline__ T Load(const void* array, int lane_bytes, int more_bytes) {
    return *reinterpret_cast<const T*>(static_cast<const char*>(array) + lane_bytes + more_bytes);
  }
  static __device__ __forceinline__ float LoadBf16(const void* array, int lane_bytes, int more_bytes) {
    return WidenBf16(Load<unsigned short>(array, lane_bytes, more_bytes));
  }

  __device__ __forceinline__ void Expand(const Scan16Step& step, const Constants& constants, int pair,
                                         Terms& out) const {
    const int q = pair / 2, first = pair % 2 * 2;
    const float delta_x =
        RoundForTf32(__fmul_rn(Load<float>(step.delta, own_delta, q * 128), LoadBf16(step.x, x, q * 64)));
    const float a[2] = {t == first ? delta_x : 0.0f, t == first + 1 ? delta_x : 0.0f};
#pragma unroll
    for (int half = 0; half < kHalves; ++half) {
      MmaTf32(out.input[pair][half], a, Part(Load<float4>(step.b, bc, half * 512), q));
    }
#pragma unroll
    for (int token = 2 * pair; token < 2 * pair + 2; ++token) {
      const float token_delta = Load<float>(step.delta, delta, token * 32);
#pragma unroll
      for (int k = 0; k < kStates; ++k) {
        out.decay[token][k] = Exp2Approx(__fmul_rn(token_delta, constants.decay_log2[k]));
      }
    }
  }

  // y: C h of the tokens 4 q + t, by q.
  __device__ __forceinline__ void Recur(const Scan16Step& step, const Terms& terms, int pair,
                                        float (&h)[kStates], float (&y)[4]) const {
    float states[kHalves][4];  // as the A operand has them
#pragma unroll
    for (int i = 0; i < 2; ++i) {
#pragma unroll
      for (int k = 0; k < kStates; ++k) {
        h[k] = __fmaf_rn(terms.decay[2 * pair + i][k], h[k], terms.input[pair][k / 2][2 * i + k % 2]);
        states[k / 2][k % 2 * 2 + i] = h[k];
      }
    }
    const int q = pair / 2, first = pair % 2 * 2;
    float sums[2];
#pragma unroll
    for (int half = 0; half < kHalves; ++half) {
      const float4 c = Load<float4>(step.c, bc, half * 512);
      float products[4];
      MmaTf32(products, states[half], Part(c, pair / 4 * 2), Part(c, pair / 4 * 2 + 1));
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        const float sum = products[2 * i + q % 2];
        sums[i] = half == 0 ? sum : __fadd_rn(sums[i], sum);
      }
    }
    y[q] = first == 0 || t == first ? sums[0] : y[q];
    y[q] = t == first + 1 ? sums[1] : y[q];
  }

  // Keeps what this warp finishes of a step, and gives the other warp its part.
  __device__ __forceinline__ void Read(Scan16Step& step, const float (&y)[4], Outputs& out) const {
#pragma unroll
    for (int i = 0; i < kOutputs; ++i) {
      out.y[i] = warp == 0 ? y[i] : y[(2 + i) % 4];
      out.x[i] = LoadBf16(step.x, finished, i * 64);
      out.z[i] = LoadBf16(step.z, finished, i * 64);
    }
    if constexpr (kWarps == 2) {
      step.sums[warp ^ 1][threadIdx.x % 32] = {warp == 0 ? y[2] : y[0], warp == 0 ? y[3] : y[1]};
    }
  }

  // `step` is the one that `in` was read from.
  __device__ __forceinline__ void Finish(const Scan16Step& step, const Outputs& in, float skip,
                                         __nv_bfloat16 (&out)[kOutputs]) const {
    float others[2] = {};
    if constexpr (kWarps == 2) {
      const float2 sums = step.sums[warp][threadIdx.x % 32];
      others[0] = sums.x, others[1] = sums.y;
    }
#pragma unroll
    for (int i = 0; i < kOutputs; ++i) {
      const float y = kWarps == 2 ? __fadd_rn(in.y[i], others[i]) : in.y[i];
      out[i] = __float2bfloat16_rn(__fmul_rn(__fmaf_rn(skip, in.x[i], y), FastSilu(in.z[i])));
    }
  }
};

// Copies the steps of a tile's turns into its ring, in their order and ahead of the scan. Rows are of two
// kinds: those of x and z, and halves of those of delta. Of two warps each copies one kind, and B and C of
// its states.
template <int kWarps, int kRing>
struct Scan16Loads {
  static constexpr int kShare = 2 / kWarps;

  const SelectiveScanPrompt& args;
  const Scan16Plan& plan;
  const Scan16Turns& turns;
  Scan16Step* ring;
  int warp;
  int turn;           // index in turns.order
  unsigned step = 0;  // of the ring
  int left = 0;       // tokens of the turn
  int existing;       // tokens of the chunk from the step on
  const char* rows[kShare];
  const float* bc;

  static __device__ __forceinline__ int Row(int kind) {
    const int lane = threadIdx.x % 32;
    return kind == 0 ? lane % 16 : lane / 2;
  }
  __device__ __forceinline__ void Begin() {
    if (turn >= turns.count) return;
    const int lane = threadIdx.x % 32, order = turns.order[turn];
    const Scan16Tile tile = turns.tiles[order % Scan16Turns::kMaxTiles];
    const int first = order / Scan16Turns::kMaxTiles * plan.turn;
    left = min(plan.turn, tile.length - first);
    existing = tile.channel < args.channels ? tile.length - first : 0;
#pragma unroll
    for (int i = 0; i < kShare; ++i) {
      const int kind = warp + i;
      const bool z = kind == 0 && lane >= 16;
      const std::int64_t at = TileIndex(args.token_blocks, tile.begin + first + Row(kind),
                                        tile.channel + (z ? args.channels : 0));
      rows[i] = kind == 1 ? reinterpret_cast<const char*>(args.delta + at + lane % 2 * 4)
                          : reinterpret_cast<const char*>((z ? args.xz : args.x) + at);
    }
    bc = args.bc + (BcStart(tile.begin, tile.chunk) + first) / Scan16::kStep * (2 * Scan16::kBcFloats) +
         warp * 128 + lane * 4;
  }
  __device__ __forceinline__ void Next() {
    if (left <= 0 && turn < turns.count) {
      turn += blockDim.x / (32 * kWarps);
      Begin();
    }
    const int lane = threadIdx.x % 32;
    if (left > 0) {
      Scan16Step& to = ring[step];
#pragma unroll
      for (int i = 0; i < kShare; ++i) {
        const int part = warp + i;
        CopyAsync16OrZeros(reinterpret_cast<float4*>(to.x) + part * 32 + lane, rows[i], Row(part) < existing);
        CopyAsync16Shared(&to.b[part][lane], bc + i * 128);
        CopyAsync16Shared(&to.c[part][lane], bc + Scan16::kBcFloats + i * 128);
      }
    }
    CommitCopies();
#pragma unroll
    for (int i = 0; i < kShare; ++i) {
      rows[i] += Scan16::kStepElements * (warp + i == 0 ? sizeof(__nv_bfloat16) : sizeof(float));
    }
    bc += 2 * Scan16::kBcFloats;
    existing -= Scan16::kStep, left -= Scan16::kStep;
    step = step + 1 == kRing ? 0 : step + 1;
  }
};

// The warps of a tile.
template <int kWarps>
__device__ __forceinline__ void SyncTile() {
  if constexpr (kWarps == 1) {
    __syncwarp();
  } else {
    asm volatile("bar.sync %0, 64;" ::"r"(threadIdx.x / 64 + 1) : "memory");
  }
}

// Grid: blocks that share the tiles. kTiles is how many a block scans at a time, at most.
template <int kWarps, int kTiles, int kRing>
__global__ void __launch_bounds__(kTiles* kWarps * 32, 1)
    SelectiveScanPrompt16Kernel(const SelectiveScanPrompt args, const Scan16Plan plan) {
  using Lane = Scan16Lane<kWarps>;
  extern __shared__ __align__(16) char tiles16[];
  Scan16Turns& turns = *reinterpret_cast<Scan16Turns*>(tiles16);
  const int place = threadIdx.x / (32 * kWarps), places = blockDim.x / (32 * kWarps);
  Scan16Step* const ring =
      reinterpret_cast<Scan16Step*>(tiles16 + RoundUp(sizeof(Scan16Turns), 16)) + place * kRing;
  const Lane lane(threadIdx.x);
  WaitForPreviousKernel();
  AllowNextKernel();
  turns.Fill(plan, args.offsets, args.slot_index, args.state_index);

  const auto constants_of = [&](int turn) {
    typename Lane::Constants constants = {};
    if (turn < turns.count) {
      const int channel = turns.tiles[turns.order[turn] % Scan16Turns::kMaxTiles].channel + lane.g;
      const int d = min(channel, args.channels - 1);
#pragma unroll
      for (int k = 0; k < Lane::kStates; ++k) {
        constants.decay_log2[k] =
            args.decay_log2[static_cast<std::int64_t>(lane.State(k)) * args.channels + d];
      }
      constants.skip = args.skip[d];
    }
    return constants;
  };

  Scan16Loads<kWarps, kRing> loads{args, plan, turns, ring, lane.warp, place};
  loads.Begin();
  for (int i = 0; i < kRing - 2; ++i) loads.Next();
  unsigned at = 0;  // step of the ring
  const auto next_step = [&]() -> Scan16Step& {
    WaitCopies<kRing - 3>();
    SyncTile<kWarps>();  // the step is there, and the other warp's sums; the room of the last but one is free
    loads.Next();
    Scan16Step& step = ring[at];
    at = at + 1 == kRing ? 0 : at + 1;
    return step;
  };
  typename Lane::Constants next_constants = constants_of(place);
  for (int turn = place; turn < turns.count; turn += places) {
    const int order = turns.order[turn];
    const int tile_index = order % Scan16Turns::kMaxTiles, tile_turn = order / Scan16Turns::kMaxTiles;
    const Scan16Tile tile = turns.tiles[tile_index];
    const int first = tile_turn * plan.turn, tokens = min(plan.turn, tile.length - first);
    const bool live = tile.channel < args.channels;
    const int d = tile.channel + lane.g;
    const typename Lane::Constants constants = next_constants;
    next_constants = constants_of(turn + places);
    float* const state = args.state.At(tile.state) + d;
    float h[Lane::kStates] = {};
    if (tile_turn > 0) turns.AwaitTurn(tile_index, lane.warp, tile_turn);
    if (live) {
#pragma unroll
      for (int k = 0; k < Lane::kStates; ++k) {
        h[k] = state[static_cast<std::int64_t>(lane.State(k)) * args.channels];
      }
    }
    // Of the step that is finished, which at first is the one before the turn: none.
    int finished = lane.Finishes(0) - Scan16::kStep;
    __nv_bfloat16* y[2];  // of even and odd outputs
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      y[i] = args.y + TileIndex(args.token_blocks, tile.begin + first + lane.Finishes(i), d) -
             Scan16::kStepElements;
    }
    typename Lane::Outputs outputs = {};
    const auto finish = [&](const Scan16Step& step) {
      __nv_bfloat16 out[Lane::kOutputs];
      lane.Finish(step, outputs, constants.skip, out);
#pragma unroll
      for (int i = 0; i < Lane::kOutputs; ++i) {
        if (static_cast<unsigned>(finished + 4 * i) < static_cast<unsigned>(tokens))
          y[i % 2][i / 2 * 512] = out[i];
      }
      y[0] += Scan16::kStepElements, y[1] += Scan16::kStepElements;
      finished += Scan16::kStep;
    };
    typename Lane::Terms terms;
    // Terms are made kPairsAhead pairs before they are used; `next` is the step after, if there is one.
    constexpr int kPairsAhead = 2;
    const auto advance = [&]<bool kLast>(const Scan16Step& before, Scan16Step& step, const Scan16Step& next) {
      float sums[4];
#pragma unroll
      for (int pair = 0; pair < 8; ++pair) {
        if (pair < 8 - kPairsAhead) {
          lane.Expand(step, constants, pair + kPairsAhead, terms);
        } else if constexpr (!kLast) {
          lane.Expand(next, constants, pair + kPairsAhead - 8, terms);
        }
        lane.Recur(step, terms, pair, h, sums);
      }
      finish(before);
      lane.Read(step, sums, outputs);
    };
    Scan16Step* step = &next_step();
    Scan16Step* before = step;
#pragma unroll
    for (int pair = 0; pair < kPairsAhead; ++pair) lane.Expand(*step, constants, pair, terms);
    for (int left = tokens; left > Scan16::kStep; left -= Scan16::kStep) {
      Scan16Step& next = next_step();
      advance.template operator()<false>(*before, *step, next);
      before = step, step = &next;
    }
    SyncTile<kWarps>();
    advance.template operator()<true>(*before, *step, *step);
    SyncTile<kWarps>();
    finish(*step);
    if (live) {
#pragma unroll
      for (int k = 0; k < Lane::kStates; ++k) {  // tokens past the end may have made +0 of -0: always +0
        state[static_cast<std::int64_t>(lane.State(k)) * args.channels] = __fadd_rn(h[k], 0.0f);
      }
    }
    turns.EndTurn(tile_index, lane.warp, tile_turn);
    if (live && first + tokens == tile.length && lane.warp == 0 && lane.t == 0) {
      ReplaceWindow(args, tile.slot, tile.begin, tile.begin + tile.length, d);
    }
  }
}

}  // namespace mambad::kernels

#endif  // MAMBAD_KERNELS_SELECTIVE_SCAN_SELECTIVE_SCAN_PROMPT16_CUH_
