// The selective scan over packed prompt chunks for N = 16, where nearly every model is. Its bound is the
// special function unit: one exponential for each state and token; next to it, the count of instructions. A
// tile of eight channels is scanned by two warps, each with eight of the states; lane 4 g + t holds the two
// states from 2 t on of channel g, so that the tensor cores, idle otherwise, do what is not elementwise, and
// no operand is loaded once for each state:
//
//   inputs   (delta x) B of two tokens is an outer product: m16n8k4, rows g and g + 8 the first and the
//            second token of channel g, columns the states; k is one of four tokens, of which A (delta x)
//            keeps one for each row and B all
//   readout  C h of two tokens: m16n8k8, rows likewise, k the states in the order in which the lanes hold
//            them, columns the C of eight tokens. Each row has one column that is meant, its own token's
//
// A step is 16 tokens, two token blocks of the buffers: a chunk's first and last steps may be short, and what
// they lack is delta = x = 0, which changes no state. Lane 4 g + t prepares and finishes the tokens 2 t and
// 2 t + 1 of a block for channel g, which is how a transposing load of x and z deals them out. The terms of
// four tokens, exp(delta A) and (delta x) B, are made before those of the four before are used. What the
// warps read out meets in shared memory; a step later each finishes one of the blocks. x, z, delta, B and C
// come by the tile's own ring of copies.
//
// h, C, B and delta x enter their products with the 11 bits of tf32; everything else is fp32. (A NaN in B
// spoils the tokens near it, of its own chunk alone.)
#ifndef MAMBAD_KERNELS_SELECTIVE_SCAN_SELECTIVE_SCAN_PROMPT16_CUH_
#define MAMBAD_KERNELS_SELECTIVE_SCAN_SELECTIVE_SCAN_PROMPT16_CUH_

#include <cstddef>

#include "kernels/selective_scan/scan16_turns.cuh"
#include "kernels/selective_scan/selective_scan_prompt.cuh"

namespace mambad::kernels {

struct Scan16 {
  static constexpr int kChannels = 8;  // of a tile: a channel block of the token tiles
  static constexpr int kWarps = 2;     // of a tile
  static constexpr int kStates = 2;    // of a lane
  static constexpr int kStep = Scan16Turns::kStepTokens;
  static constexpr int kBcFloats = 256;       // B, or C, of a step
  static constexpr int kStepElements = 1024;  // from a token to the one a step later

  // Where B and C of a token of a step lie, in the order in which the lanes take them, four floats each.
  static __host__ __device__ constexpr int BIndex(int token, int n) {
    return (n / 8 * 32 + n % 8 * 4 + token % 8 / 2) * 4 + token / 8 * 2 + token % 2;
  }
  static __host__ __device__ constexpr int CIndex(int token, int n) {
    return (n / 8 * 32 + token % 8 * 4 + n % 8 / 2) * 4 + token / 8 * 2 + n % 2;
  }
  // Of a token of the chunk in rows of B and C: chunks lie 32 rows apart, so that none shares a step.
  static __host__ __device__ constexpr std::int64_t BcRow(std::int64_t token, std::int64_t chunk) {
    return token + chunk * kBcAlign;
  }
  // Others take the general kernel: z would not begin at a channel block.
  static constexpr bool Takes(std::int64_t state_size, std::int64_t channels) {
    return state_size == 16 && channels % kChannels == 0;
  }
};

// A step of a tile in shared memory.
struct alignas(16) Scan16Step {
  static constexpr int kDeltaStride = 20;  // so that four lanes' quads of tokens lie in different banks
  __nv_bfloat16 x[16][8], z[16][8];        // [token][channel]
  float delta[8][kDeltaStride];            // [channel][token]
  float4 b[2][32], c[2][32];               // [warp][lane]
  float4 sums[2][32];  // likewise: C h over a warp's states, of tokens 2 t and 2 t + 1 of both blocks
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

// Of 8x8 bf16 matrices in shared memory, whose rows lanes point to: elements 2 t and 2 t + 1 of column g.
__device__ __forceinline__ void LoadColumns(std::uint32_t (&to)[2], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%0, %1}, [%2];"
               : "=r"(to[0]), "=r"(to[1])
               : "r"(SharedAddress(row))
               : "memory");
}
__device__ __forceinline__ void LoadColumns(std::uint32_t (&to)[1], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x1.trans.shared.b16 {%0}, [%1];"
               : "=r"(to[0])
               : "r"(SharedAddress(row))
               : "memory");
}
// Rows for columns.
__device__ __forceinline__ std::uint32_t Transposed(std::uint32_t columns) {
  std::uint32_t rows;
  asm("movmatrix.sync.aligned.m8n8.trans.b16 %0, %1;" : "=r"(rows) : "r"(columns));
  return rows;
}
__device__ __forceinline__ float LowBf16(std::uint32_t pair) { return __uint_as_float(pair << 16); }
__device__ __forceinline__ float HighBf16(std::uint32_t pair) { return __uint_as_float(pair & 0xffff0000u); }

__device__ __forceinline__ float Part(const float4& v, int i) {
  return i == 0 ? v.x : i == 1 ? v.y : i == 2 ? v.z : v.w;
}

// A number that the compiler does not derive anew wherever it is used.
__device__ __forceinline__ int Kept(int v) {
  asm volatile("mov.u32 %0, %0;" : "+r"(v));
  return v;
}

// Lane 4 g + t of one of a tile's two warps. Tokens go by quads.
struct Scan16Lane {
  static constexpr int kStates = Scan16::kStates;

  // What is kept of a channel.
  struct Constants {
    float decay_log2[kStates];
    float skip;
  };
  // Of a step: x by token blocks, and B.
  struct Inputs {
    std::uint32_t x[2];
    float2 delta[2];
    float4 b;
  };
  // What four tokens do to the states: token i multiplies state k by decay[i][k] and adds
  // input[i % 2][i / 2 * 2 + k].
  struct Terms {
    float decay[4][kStates];
    float input[2][4];
  };

  // Tokens 2 t and 2 t + 1 of the block that the warp finishes.
  struct Outputs {
    std::uint32_t x[1], z[1];
  };

  int warp, g, t;
  int rows, own_rows, delta, own_delta, bc, sums;  // where its places in a step are, in bytes

  __device__ __forceinline__ explicit Scan16Lane(int thread)
      : warp(thread / 32 % 2), g(thread % 32 / 4), t(thread % 4) {
    rows = Kept(thread % 16 * 16);
    own_rows = Kept((warp * 8 + thread % 8) * 16);
    delta = Kept(g * Scan16Step::kDeltaStride * 4);
    own_delta = Kept(delta + t * 8);
    bc = Kept(warp * 512 + thread % 32 * 16);
    sums = Kept(thread % 32 * 16 + warp * 8);
  }
  __device__ __forceinline__ int State(int k) const { return 8 * warp + 2 * t + k; }

  template <class T>
  static __device__ __forceinline__ T Load(const void* array, int lane_bytes, int more_bytes) {
    return *reinterpret_cast<const T*>(static_cast<const char*>(array) + lane_bytes + more_bytes);
  }

  __device__ __forceinline__ void Prepare(const Scan16Step& step, Inputs& out) const {
    LoadColumns(out.x, reinterpret_cast<const char*>(step.x) + rows);
#pragma unroll
    for (int block = 0; block < 2; ++block)
      out.delta[block] = Load<float2>(step.delta, own_delta, block * 32);
    out.b = Load<float4>(step.b, bc, 0);
  }

  // The products of a quad's tokens 0 and 2, and 1 and 3: k is the lane's token of the two, of each lane t.
  __device__ __forceinline__ void Expand(const Scan16Step& step, const Inputs& in, const Constants& constants,
                                         int quad, Terms& out) const {
    const int block = quad / 2, first = quad % 2 * 2;
    const float own[2] = {__fmul_rn(in.delta[block].x, LowBf16(in.x[block])),
                          __fmul_rn(in.delta[block].y, HighBf16(in.x[block]))};
#pragma unroll
    for (int j = 0; j < 2; ++j) {
      const float delta_x = RoundForTf32(own[j]);
      const float a[2] = {t == first ? delta_x : 0.0f, t == first + 1 ? delta_x : 0.0f};
      MmaTf32(out.input[j], a, Part(in.b, block * 2 + j));
    }
    const float4 token_delta = Load<float4>(step.delta, delta, quad * 16);
#pragma unroll
    for (int i = 0; i < 4; ++i) {
#pragma unroll
      for (int k = 0; k < kStates; ++k) {
        out.decay[i][k] = Exp2Approx(__fmul_rn(Part(token_delta, i), constants.decay_log2[k]));
      }
    }
  }

  // y: C h of the tokens 2 t and 2 t + 1 of each block.
  __device__ __forceinline__ void Recur(const float4& c, const Terms& terms, int quad, float (&h)[kStates],
                                        float (&y)[2][2]) const {
    const int block = quad / 2;
#pragma unroll
    for (int pair = 0; pair < 2; ++pair) {
      float states[4];  // as the A operand has them
#pragma unroll
      for (int i = 0; i < 2; ++i) {
#pragma unroll
        for (int k = 0; k < kStates; ++k) {
          h[k] = __fmaf_rn(terms.decay[2 * pair + i][k], h[k], terms.input[i][2 * pair + k]);
          states[k * 2 + i] = h[k];
        }
      }
      float products[4];
      MmaTf32(products, states, Part(c, block * 2), Part(c, block * 2 + 1));
      const int column = quad % 2 * 2 + pair;
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        y[block][i] = column == 0 || t == column ? products[3 * i] : y[block][i];
      }
    }
  }

  // Gives both warps what this one read out of a step, and keeps the block that it finishes.
  __device__ __forceinline__ void Read(Scan16Step& step, const float (&y)[2][2], Outputs& out) const {
    *reinterpret_cast<float4*>(reinterpret_cast<char*>(step.sums) + bc) = {y[0][0], y[0][1], y[1][0],
                                                                           y[1][1]};
    LoadColumns(out.x, reinterpret_cast<const char*>(step.x) + own_rows);
    LoadColumns(out.z, reinterpret_cast<const char*>(step.z) + own_rows);
  }

  // `step` is the one that `in` was read from. The results are of channels 2 t and 2 t + 1 of token g.
  __device__ __forceinline__ std::uint32_t Finish(const Scan16Step& step, const Outputs& in,
                                                  float skip) const {
    const float2 parts[2] = {Load<float2>(step.sums, sums, 0), Load<float2>(step.sums, sums, 512)};
    const float y[2] = {__fadd_rn(parts[0].x, parts[1].x), __fadd_rn(parts[0].y, parts[1].y)};
    const __nv_bfloat162 pair = __floats2bfloat162_rn(
        __fmul_rn(__fmaf_rn(skip, LowBf16(in.x[0]), y[0]), FastSilu(LowBf16(in.z[0]))),
        __fmul_rn(__fmaf_rn(skip, HighBf16(in.x[0]), y[1]), FastSilu(HighBf16(in.z[0]))));
    return Transposed(reinterpret_cast<const std::uint32_t&>(pair));
  }
};

// Copies the steps of a tile's turns into its ring, in their order and ahead of the scan: warp 0 x and z, a
// token's a lane, and warp 1 delta, four tokens of a channel a lane; each B and C of its states.
template <int kRing>
struct Scan16Loads {
  static constexpr int kBcBytes = Scan16::kBcFloats * sizeof(float);

  const SelectiveScanPrompt& args;
  const Scan16Plan& plan;
  const Scan16Turns& turns;
  char* ring;
  int warp, turn;  // index in turns.order
  int step = 0;    // of the ring, in bytes
  // Of the turn: a first step that has not all of its tokens, if first_end is not 0; the steps that have, now
  // or after that one; and the tokens of a last step.
  int first_begin = 0, first_end = 0, whole = 0, whole_later = 0, tail = 0;
  int to, to_bc;  // where its pieces lie in a step, in bytes
  const char* from;
  const char* bc;

  __device__ __forceinline__ Scan16Loads(const SelectiveScanPrompt& scan, const Scan16Plan& scan_plan,
                                         const Scan16Turns& scan_turns, Scan16Step* steps, int of_warp,
                                         int place)
      : args(scan),
        plan(scan_plan),
        turns(scan_turns),
        ring(reinterpret_cast<char*>(steps)),
        warp(of_warp),
        turn(place) {
    const int lane = threadIdx.x % 32;
    to = Kept(warp == 0 ? lane * 16
                        : static_cast<int>(offsetof(Scan16Step, delta)) +
                              (lane / 4 * Scan16Step::kDeltaStride + lane % 4 * 4) * 4);
    to_bc = Kept(static_cast<int>(offsetof(Scan16Step, b)) + warp * 512 + lane * 16);
    Begin();
  }
  // Channels past the last are scanned like the first ones, and not stored.
  __device__ __forceinline__ void Begin() {
    if (turn >= turns.count) return;
    const int lane = threadIdx.x % 32, order = turns.order[turn];
    const Scan16Tile tile = turns.tiles[order % Scan16Turns::kMaxTiles];
    const int done = order / Scan16Turns::kMaxTiles * plan.turn, token = tile.first + done;
    const int left = min(plan.turn, tile.length - done);
    first_begin = done == 0 ? tile.lead : 0;
    first_end = first_begin > 0 ? min(left, Scan16::kStep) : 0;
    const int rest = first_end > 0 ? left - first_end : left;
    (first_end > 0 ? whole_later : whole) = rest / Scan16::kStep;
    tail = rest % Scan16::kStep;
    const int channel = tile.channel < args.channels ? tile.channel : 0;
    if (warp == 0) {
      const bool z = lane >= 16;
      from = reinterpret_cast<const char*>(
          (z ? args.xz : args.x) +
          TileIndex(args.token_blocks, token + lane % 16, channel + (z ? args.channels : 0)));
    } else {
      from = reinterpret_cast<const char*>(
          args.delta + DeltaIndex(args.token_blocks, token + lane % 4 * 4, channel + lane / 4));
    }
    bc = reinterpret_cast<const char*>(args.bc) +
         Scan16::BcRow(token, tile.chunk) / Scan16::kStep * (2 * kBcBytes) + warp * 512 + lane * 16;
  }
  __device__ __forceinline__ void CopyBc() const {
    AsyncCopy16Shared(ring + step + to_bc, bc);
    AsyncCopy16Shared(ring + step + to_bc + kBcBytes, bc + kBcBytes);
  }
  __device__ __forceinline__ void CopyWhole() const {
    AsyncCopy16(ring + step + to, from);
    CopyBc();
  }
  // Zeros for tokens outside of [begin, end).
  __device__ __forceinline__ void CopyPart(int begin, int end) const {
    const int lane = threadIdx.x % 32;
    const auto exists = [&](int token) { return begin <= token && token < end; };
    if (warp == 0) {
      AsyncCopy16OrZeros(ring + step + to, from, exists(lane % 16));
    } else {
#pragma unroll 1
      for (int i = 0; i < 4; ++i) {
        AsyncCopy4OrZeros(ring + step + to + 4 * i, from + 4 * i, exists(lane % 4 * 4 + i));
      }
    }
    CopyBc();
  }
  __device__ __forceinline__ void CopyOther() {
    if (first_end == 0 && tail == 0) {
      turn += blockDim.x / (32 * Scan16::kWarps);
      Begin();
    }
    if (turn >= turns.count) return;
    if (first_end > 0) {
      CopyPart(first_begin, first_end);
      first_end = 0;
      whole = whole_later;
    } else if (whole > 0) {
      CopyWhole();
      --whole;
    } else {
      CopyPart(0, tail);
      tail = 0;
    }
  }
  __device__ __forceinline__ void Next() {
    if (whole > 0) {
      CopyWhole();
      --whole;
    } else {
      CopyOther();
    }
    AsyncCopyCommit();
    from += Scan16::kStepElements * (warp == 0 ? sizeof(__nv_bfloat16) : sizeof(float));
    bc += 2 * kBcBytes;
    step = step == (kRing - 1) * static_cast<int>(sizeof(Scan16Step)) ? 0 : step + sizeof(Scan16Step);
  }
};

// The two warps of a tile.
__device__ __forceinline__ void SyncTile() {
  asm volatile("bar.sync %0, 64;" ::"r"(threadIdx.x / 64 + 1) : "memory");
}

// Grid: blocks that share the tiles. kTiles is how many a block scans at a time, at most.
template <int kTiles, int kRing>
__global__ void __launch_bounds__(kTiles* Scan16::kWarps * 32, 1)
    SelectiveScanPrompt16Kernel(const SelectiveScanPrompt args, const Scan16Plan plan) {
  using Lane = Scan16Lane;
  extern __shared__ __align__(16) char tiles16[];
  Scan16Turns& turns = *reinterpret_cast<Scan16Turns*>(tiles16);
  const int place = threadIdx.x / 64, places = blockDim.x / 64;
  Scan16Step* const ring =
      reinterpret_cast<Scan16Step*>(tiles16 + RoundUp(sizeof(Scan16Turns), 16)) + Kept(place * kRing);
  const Lane lane(threadIdx.x);
  // What the chunks are is older than the kernel before, which had seen all before it end.
  turns.Fill(plan, args.offsets, args.slot_index, args.state_index);

  const auto constants_of = [&](int turn) {
    Lane::Constants constants = {};
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

  Lane::Constants next_constants = constants_of(place);
  Scan16Loads<kRing> loads(args, plan, turns, ring, lane.warp, place);
  WaitForPreviousKernel();
  AllowNextKernel();
  for (int i = 0; i < kRing - 2; ++i) loads.Next();
  int at = 0;  // step of the ring, in bytes
  const auto next_step = [&]() -> Scan16Step& {
    AsyncCopyWait<kRing - 3>();
    SyncTile();  // the step is there, and the other warp's sums; the room of the last but one is free
    loads.Next();
    Scan16Step& step = *reinterpret_cast<Scan16Step*>(reinterpret_cast<char*>(ring) + at);
    at = at == (kRing - 1) * static_cast<int>(sizeof(Scan16Step)) ? 0 : at + sizeof(Scan16Step);
    return step;
  };
  for (int turn = place; turn < turns.count; turn += places) {
    const int order = turns.order[turn];
    const int tile_index = order % Scan16Turns::kMaxTiles, tile_turn = order / Scan16Turns::kMaxTiles;
    const Scan16Tile tile = turns.tiles[tile_index];
    const int done = tile_turn * plan.turn, tokens = min(plan.turn, tile.length - done);
    const bool live = tile.channel < args.channels;
    const int d = tile.channel + lane.g;
    const Lane::Constants constants = next_constants;
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
    // The lane's token of the step that is finished, which at first is the one before the turn: none.
    const int begin = max(0, tile.lead - done), some = Kept(tokens - begin);
    int finished = lane.warp * 8 + lane.g - Scan16::kStep - begin;
    __nv_bfloat16* y =
        args.y +
        TileIndex(args.token_blocks, tile.first + done + lane.warp * 8 + lane.g, tile.channel + 2 * lane.t) -
        Scan16::kStepElements;
    const std::uint32_t mask = live ? ~0u : 0u;  // zeros past the last channel
    Lane::Outputs outputs = {};
    const auto finish = [&](const Scan16Step& step) {
      const std::uint32_t out = lane.Finish(step, outputs, constants.skip);
      if (static_cast<unsigned>(finished) < static_cast<unsigned>(some)) {
        *reinterpret_cast<std::uint32_t*>(y) = out & mask;
      }
      y += Scan16::kStepElements;
      finished += Scan16::kStep;
    };
    Lane::Inputs inputs;
    Lane::Terms terms[2];  // of even and odd quads
    // `next` is the step after, if there is one.
    const auto advance = [&]<bool kLast>(const Scan16Step& before, Scan16Step& step, const Scan16Step& next) {
      Lane::Inputs next_inputs = {};
      if constexpr (!kLast) lane.Prepare(next, next_inputs);
      const float4 c = Lane::Load<float4>(step.c, lane.bc, 0);
      float sums[2][2];
#pragma unroll
      for (int quad = 0; quad < 4; ++quad) {
        if (quad < 3) {
          lane.Expand(step, inputs, constants, quad + 1, terms[(quad + 1) % 2]);
        } else if constexpr (!kLast) {
          lane.Expand(next, next_inputs, constants, 0, terms[0]);
        }
        lane.Recur(c, terms[quad % 2], quad, h, sums);
        if (quad == 1) finish(before);
      }
      lane.Read(step, sums, outputs);
      inputs = next_inputs;
    };
    Scan16Step* step = &next_step();
    // The ring's last step, of which nothing is stored.
    Scan16Step* before = step == ring ? step + kRing - 1 : step - 1;
    lane.Prepare(*step, inputs);
    lane.Expand(*step, inputs, constants, 0, terms[0]);
    for (int left = tokens; left > Scan16::kStep; left -= Scan16::kStep) {
      Scan16Step& next = next_step();
      advance.template operator()<false>(*before, *step, next);
      before = step, step = &next;
    }
    SyncTile();
    advance.template operator()<true>(*before, *step, *step);
    SyncTile();
    finish(*step);
    if (live) {
#pragma unroll
      for (int k = 0; k < Lane::kStates; ++k) {  // tokens outside may have made +0 of -0: always +0
        state[static_cast<std::int64_t>(lane.State(k)) * args.channels] = __fadd_rn(h[k], 0.0f);
      }
    }
    turns.EndTurn(tile_index, lane.warp, tile_turn);
    if (live && done + tokens == tile.length && lane.warp == 0 && lane.t == 0) {
      ReplaceWindow(args, tile.slot, tile.first + tile.lead, tile.first + tile.length, d);
    }
  }
}

}  // namespace mambad::kernels

#endif  // MAMBAD_KERNELS_SELECTIVE_SCAN_SELECTIVE_SCAN_PROMPT16_CUH_
