// The prompt path of a Mamba layer on a GPU: proves it against a plain fp64 reference and against itself,
// then times it. Arguments: check | time | scans | both | profile | pass MODEL CHUNKS TOKENS... | tiles MODEL
// CHUNKS TOKENS...
#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <string>
#include <vector>

#include "kernels/bench/prompt_products.cuh"
#include "kernels/bench/prompt_reference.cuh"
#include "kernels/mamba_layer/mamba_layer_prompt.h"
#include "kernels/mamba_layer/mamba_layer_prompt_pass.cuh"

namespace {

using namespace mambad::kernels;

// ---- A pool of slots and one call.

struct Pool {
  std::int64_t slots, stride, window_at, state_at;  // floats
  std::vector<float> data;
  Pool(const MambaLayerShape& s, std::int64_t count, Random& random) : slots(count) {
    window_at = 5;
    state_at = window_at + (s.d_conv - 1) * s.d_inner + 3;
    stride = state_at + s.d_state * s.d_inner + 7;
    data.resize(slots * stride);
    for (float& v : data) v = std::nanf("");
    for (std::int64_t slot = 0; slot < slots; ++slot) {
      for (std::int64_t i = 0; i < (s.d_conv - 1) * s.d_inner; ++i) Window(slot)[i] = Bf16(random.Normal());
      for (std::int64_t i = 0; i < s.d_state * s.d_inner; ++i)
        State(slot)[i] = static_cast<float>(random.Normal());
    }
  }
  float* Window(std::int64_t slot) { return data.data() + slot * stride + window_at; }
  float* State(std::int64_t slot) { return data.data() + slot * stride + state_at; }
  SlotView View(float* device, std::int64_t at, DType dtype) const {
    return {.base = reinterpret_cast<std::byte*>(device),
            .slot_stride_bytes = stride * 4,
            .layer_offset_bytes = at * 4,
            .slots = static_cast<std::int32_t>(slots),
            .dtype = dtype};
  }

  // As the kernels take it: bf16 in the first half of a window's place, kNothing in the second.
  static constexpr std::uint16_t kNothing = 0xffff;
  std::vector<float> Packed(const MambaLayerShape& s) const {
    const std::int64_t elements = (s.d_conv - 1) * s.d_inner;
    std::vector<float> packed = data;
    for (std::int64_t slot = 0; slot < slots; ++slot) {
      float* const at = packed.data() + slot * stride + window_at;
      std::vector<std::uint16_t> halves(2 * elements, kNothing);
      for (std::int64_t i = 0; i < elements; ++i) halves[i] = FloatToBf16(at[i]);
      std::memcpy(at, halves.data(), halves.size() * 2);
    }
    return packed;
  }
  void Unpack(const MambaLayerShape& s, std::vector<float> packed) {
    const std::int64_t elements = (s.d_conv - 1) * s.d_inner;
    data = std::move(packed);
    for (std::int64_t slot = 0; slot < slots; ++slot) {
      std::vector<std::uint16_t> halves(2 * elements);
      std::memcpy(halves.data(), Window(slot), halves.size() * 2);
      for (std::int64_t i = 0; i < elements; ++i) {
        Window(slot)[i] = Bf16ToFloat(halves[i]);
        if (halves[elements + i] != kNothing) std::printf("WRITE PAST A WINDOW\n"), std::exit(1);
      }
    }
  }
};

// Runs chunks of `rows` (token-major, packed in this order), updating pool and residual; `times` one after
// another, each preparing the next if `prepares`.
void RunLayer(const HostLayer& l, const MambaLayerWeights& weights, const float* norm,
              const std::vector<std::int64_t>& lengths, const std::vector<std::int32_t>& slot_index,
              std::vector<float>& residual, Pool& pool, int times = 1, bool prepares = false) {
  std::vector<std::int64_t> offsets = {0};
  for (const auto n : lengths) offsets.push_back(offsets.back() + n);
  MambaLayerPromptArgs args;
  args.shape = l.shape;
  args.weights = weights;
  args.norm_weight = norm;
  args.norm_eps = kNormEps;
  args.prompt = {offsets.back(), static_cast<std::int64_t>(lengths.size()), Upload(offsets),
                 Upload(slot_index)};
  float* device_pool = Upload(pool.Packed(l.shape));
  std::vector<float> guarded = residual;
  guarded.resize(residual.size() + 1000, 12345.0f);
  args.residual = Upload(guarded);
  args.window = pool.View(device_pool, pool.window_at, DType::kBf16);
  args.state = pool.View(device_pool, pool.state_at, DType::kF32);
  const std::size_t bytes = MambaLayerPromptWorkspace(l.shape, args.prompt.tokens, args.prompt.chunks);
  MUST(cudaMalloc(&args.workspace, bytes));
  MUST(cudaMemset(args.workspace, 0xff, bytes));
  MUST(PlacePromptTokens(args.prompt, args.workspace, nullptr));
  for (int i = 0; i < times; ++i) {
    args.prepared = prepares && i > 0;
    args.next_norm_weight = prepares && i + 1 < times ? norm : nullptr;
    MUST(MambaLayerPrompt(args, nullptr));
  }
  MUST(cudaDeviceSynchronize());
  guarded = Download(args.residual, guarded.size());
  for (std::size_t i = residual.size(); i < guarded.size(); ++i) {
    if (guarded[i] != 12345.0f) std::printf("WRITE PAST THE RESIDUAL\n"), std::exit(1);
  }
  std::copy_n(guarded.begin(), residual.size(), residual.begin());
  pool.Unpack(l.shape, Download(device_pool, pool.data.size()));
  for (void* p : {static_cast<void*>(const_cast<std::int64_t*>(args.prompt.offsets)),
                  static_cast<void*>(const_cast<std::int32_t*>(args.prompt.slot_index)),
                  static_cast<void*>(device_pool), static_cast<void*>(args.residual), args.workspace}) {
    MUST(cudaFree(p));
  }
}

struct CheckShape {
  MambaLayerShape shape;
  bool bias;
  std::vector<std::int64_t> lengths;
};

bool CheckAgainstReference(const CheckShape& c, std::uint64_t seed) {
  Random random{seed << 32};
  const auto& s = c.shape;
  const HostLayer l = MakeLayer(s, c.bias, random);
  const MambaLayerWeights weights = UploadLayer(l);
  const float* const norm = Upload(l.norm);
  const int chunks = static_cast<int>(c.lengths.size());
  Pool pool(s, chunks + 3, random);
  std::vector<std::int32_t> slots;
  for (int i = 0; i < chunks; ++i) slots.push_back((i * 5 + 2) % (chunks + 3));
  std::sort(slots.begin(), slots.end());
  slots.erase(std::unique(slots.begin(), slots.end()), slots.end());
  while (static_cast<int>(slots.size()) < chunks) slots.push_back(kNoSlot);
  std::reverse(slots.begin(), slots.end());
  if (chunks > 2) slots[1] = kNoSlot;

  std::int64_t tokens = 0;
  for (const auto n : c.lengths) tokens += n;
  std::vector<float> residual(tokens * s.d_model);
  for (float& v : residual) v = static_cast<float>(random.Normal());
  // Reference.
  std::vector<double> want(residual.begin(), residual.end());
  Pool want_pool = pool;
  std::int64_t at = 0;
  for (int i = 0; i < chunks; at += c.lengths[i++]) {
    if (slots[i] == kNoSlot) continue;
    std::vector<double> window(want_pool.Window(slots[i]),
                               want_pool.Window(slots[i]) + (s.d_conv - 1) * s.d_inner);
    std::vector<double> state(want_pool.State(slots[i]), want_pool.State(slots[i]) + s.d_state * s.d_inner);
    Reference(l, c.lengths[i], want.data() + at * s.d_model, window.data(), state.data());
    std::copy(window.begin(), window.end(), want_pool.Window(slots[i]));
    std::copy(state.begin(), state.end(), want_pool.State(slots[i]));
  }
  // Chunks without a slot hold NaN, which nobody else may see.
  at = 0;
  for (int i = 0; i < chunks; at += c.lengths[i++]) {
    if (slots[i] != kNoSlot) continue;
    for (std::int64_t k = 0; k < c.lengths[i] * s.d_model; ++k) residual[at * s.d_model + k] = std::nanf("");
  }
  const std::vector<float> before = residual;
  const Pool pool_before = pool;
  RunLayer(l, weights, norm, c.lengths, slots, residual, pool);

  bool ok = true;
  double worst_residual = 0, worst_state = 0, scale = 0, state_scale = 0;
  at = 0;
  for (int i = 0; i < chunks; at += c.lengths[i++]) {
    for (std::int64_t k = at * s.d_model; k < (at + c.lengths[i]) * s.d_model; ++k) {
      if (slots[i] == kNoSlot) {
        ok = ok && std::memcmp(&residual[k], &before[k], 4) == 0;
      } else {
        scale = std::max(scale, std::fabs(want[k] - before[k]));
        const double difference = std::fabs(residual[k] - want[k]);
        if (!(difference <= worst_residual)) worst_residual = difference;
      }
    }
  }
  std::size_t untouched = 0;
  for (std::size_t k = 0; k < pool.data.size(); ++k) {
    const std::int64_t slot = k / pool.stride;
    const bool used = std::find(slots.begin(), slots.end(), static_cast<std::int32_t>(slot)) != slots.end();
    if (!used || std::isnan(pool_before.data[k])) {
      untouched += std::memcmp(&pool.data[k], &pool_before.data[k], 4) != 0;
    } else {
      state_scale = std::max(state_scale, std::fabs(static_cast<double>(want_pool.data[k])));
      const double difference = std::fabs(static_cast<double>(pool.data[k]) - want_pool.data[k]);
      if (!(difference <= worst_state)) worst_state = difference;
    }
  }
  ok = ok && untouched == 0 && worst_residual <= 0.01 * scale && worst_state <= 0.01 * state_scale;
  std::printf(
      "%s M %4d D %4d N %3d K %d R %3d chunks %2d tokens %4ld: residual %.1e of %.1f, state %.1e of "
      "%.1f, strays %zu\n",
      ok ? "ok  " : "FAIL", s.d_model, s.d_inner, s.d_state, s.d_conv, s.dt_rank, chunks, tokens,
      worst_residual, scale, worst_state, state_scale, untouched);

  // Bits: every session alone, cut at random places, in another slot.
  at = 0;
  std::size_t different = 0, compared = 0;
  for (int i = 0; i < chunks; at += c.lengths[i++]) {
    if (slots[i] == kNoSlot) continue;
    Pool other = pool_before;
    const std::int32_t slot = (slots[i] + 1) % static_cast<std::int32_t>(pool.slots);
    std::copy_n(const_cast<Pool&>(pool_before).Window(slots[i]), (s.d_conv - 1) * s.d_inner,
                other.Window(slot));
    std::copy_n(const_cast<Pool&>(pool_before).State(slots[i]), s.d_state * s.d_inner, other.State(slot));
    for (std::int64_t done = 0; done < c.lengths[i];) {
      const std::int64_t n = std::min<std::int64_t>(1 + random.Below(70), c.lengths[i] - done);
      const auto first = before.begin() + (at + done) * s.d_model;
      std::vector<float> rows(first, first + n * s.d_model);
      RunLayer(l, weights, norm, {n}, {slot}, rows, other);
      compared += rows.size();
      for (std::size_t k = 0; k < rows.size(); ++k) {
        different += std::memcmp(&rows[k], &residual[(at + done) * s.d_model + k], 4) != 0;
      }
      done += n;
    }
    for (std::int64_t k = 0; k < (s.d_conv - 1) * s.d_inner; ++k) {
      different += std::memcmp(other.Window(slot) + k, pool.Window(slots[i]) + k, 4) != 0;
    }
    for (std::int64_t k = 0; k < s.d_state * s.d_inner; ++k) {
      different += std::memcmp(other.State(slot) + k, pool.State(slots[i]) + k, 4) != 0;
    }
    compared += s.d_state * s.d_inner;
  }
  std::printf("%s cut anywhere, alone, another slot: %zu of %zu bits differ\n",
              different == 0 ? "ok  " : "FAIL", different, compared);

  // Bits: a layer that the one before has prepared.
  std::vector<float> rows[2] = {before, before};
  Pool pools[2] = {pool_before, pool_before};
  for (int way = 0; way < 2; ++way)
    RunLayer(l, weights, norm, c.lengths, slots, rows[way], pools[way], 2, way == 1);
  const bool same =
      std::memcmp(rows[0].data(), rows[1].data(), rows[0].size() * sizeof(float)) == 0 &&
      std::memcmp(pools[0].data.data(), pools[1].data.data(), pools[0].data.size() * sizeof(float)) == 0;
  std::printf("%s prepared by the layer before\n", same ? "ok  " : "FAIL");
  return ok && different == 0 && same;
}

bool Check() {
  const std::vector<CheckShape> shapes = {
      {{64, 128, 16, 4, 8}, false, {70, 1, 33, 200, 2, 3, 64}},
      {{100, 200, 16, 4, 7}, true, {5, 40, 129, 3}},
      {{96, 192, 8, 3, 12, 1e-6f}, false, {31, 32, 33, 1, 2}},
      {{72, 101, 32, 4, 66}, false, {90, 17, 100}},
      {{64, 88, 5, 2, 3}, true, {20, 9, 50}},
      {{48, 64, 100, 4, 4}, false, {20, 9, 37}},
      {{96, 192, 16, 4, 80}, true, {1, 1, 2, 300, 2, 1, 17, 128}},
      {{48, 64, 200, 5, 4}, false, {12, 9, 40}},
      {{48, 64, 64, 1, 4}, false, {12, 9, 40}},
      {{768, 1536, 16, 4, 48}, false, {150, 20}},
      {{320, 640, 16, 4, 160}, false, {300}},
      // Convolution and x_proj in one kernel: chunks that begin with a tile, short ones too, and many in a
      // tile.
      {{64, 128, 16, 4, 8}, false, {128, 3, 125, 1, 127, 2, 126, 130, 1, 1, 1,
                                    1,   1, 1,   1, 1,   1, 1,   2,   1, 44}},
      {{72, 101, 32, 4, 66}, true, {300, 17, 195, 100, 28}},
      {{96, 192, 16, 4, 80}, true, {140, 2, 370, 128, 3, 60}},
      {{320, 640, 16, 4, 160}, false, {640, 7}},
      {{64, 192, 16, 4, 110}, true, {255, 1, 256, 1, 100}},
      // And more slabs of a segment than stages.
      {{64, 2560, 16, 4, 48}, false, {128, 1, 127, 3, 125, 1, 127, 130, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 2, 44}},
      {{64, 3136, 16, 4, 160}, true, {640, 1, 127, 2, 60}},
  };
  bool ok = true;
  for (std::size_t i = 0; i < shapes.size(); ++i) ok = CheckAgainstReference(shapes[i], 77 + i) && ok;
  return ok;
}

// ---- Timing.

// Median over replays of a graph of what `enqueue` launches, in seconds.
double TimeGraph(const std::function<void(cudaStream_t)>& enqueue, int replays = 15) {
  cudaStream_t stream;
  cudaGraph_t graph;
  cudaGraphExec_t exec;
  cudaEvent_t start, stop;
  MUST(cudaStreamCreate(&stream));
  MUST(cudaEventCreate(&start));
  MUST(cudaEventCreate(&stop));
  MUST(cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal));
  enqueue(stream);
  MUST(cudaStreamEndCapture(stream, &graph));
  MUST(cudaGraphInstantiate(&exec, graph, 0));
  std::vector<double> times;
  for (int i = 0; i < replays + 3; ++i) {
    MUST(cudaEventRecord(start, stream));
    MUST(cudaGraphLaunch(exec, stream));
    MUST(cudaEventRecord(stop, stream));
    MUST(cudaEventSynchronize(stop));
    float ms = 0;
    MUST(cudaEventElapsedTime(&ms, start, stop));
    if (i >= 3) times.push_back(ms * 1e-3);
  }
  MUST(cudaGetLastError());
  std::sort(times.begin(), times.end());
  MUST(cudaGraphExecDestroy(exec));
  MUST(cudaGraphDestroy(graph));
  MUST(cudaStreamDestroy(stream));
  return times[times.size() / 2];
}

struct TimedModel {
  const char* name;
  std::int32_t M, D, R, L;
};

struct Timed {
  std::vector<MambaLayerPromptArgs> layers;
  std::vector<void*> memory;

  Timed(const TimedModel& m, std::int64_t chunks, std::int64_t length)
      : Timed(m, std::vector<std::int64_t>(chunks, length)) {}
  Timed(const TimedModel& m, const std::vector<std::int64_t>& lengths) {
    const auto chunks = static_cast<std::int64_t>(lengths.size());
    MambaLayerPromptArgs args;
    args.shape = {m.M, m.D, 16, 4, m.R};
    args.norm_weight = RandomFloats(m.M, 1, 0.1f);
    memory.push_back(const_cast<float*>(args.norm_weight));
    std::vector<std::int64_t> offsets = {0};
    std::vector<std::int32_t> slots;
    for (std::int64_t i = 0; i < chunks; ++i) {
      offsets.push_back(offsets.back() + lengths[i]);
      slots.push_back(static_cast<std::int32_t>((i + 1) % chunks));
    }
    args.prompt = {offsets.back(), chunks, Upload(offsets), Upload(slots)};
    args.residual = RandomFloats(args.prompt.tokens * m.M, 0, 1);
    const std::int64_t window = 3 * m.D / 2, stride = window + 16 * m.D;  // bf16 by twos
    float* pool = RandomFloats(chunks * stride * m.L, 0, 0.1f);
    MUST(cudaMalloc(&args.workspace, MambaLayerPromptWorkspace(args.shape, args.prompt.tokens, chunks)));
    for (std::int64_t layer = 0; layer < m.L; ++layer) {
      MambaLayerWeights& w = args.weights;
      w.in_proj = RandomPackedWeight(2 * m.D, m.M, 1 / std::sqrt(m.M));
      w.conv_weight = RandomFloats(4 * m.D, 0, 0.5f);
      w.conv_bias = RandomFloats(m.D, 0, 0.1f);
      w.x_proj = RandomPackedWeight(m.R + 32, m.D, 1 / std::sqrt(m.D));
      w.dt_proj = RandomPackedWeight(m.D, m.R, 1 / std::sqrt(m.R));
      w.dt_bias = RandomFloats(m.D, -4, 1);
      w.decay_log2 = RandomFloats(16 * m.D, -12, 3);
      w.skip = RandomFloats(m.D, 1, 0.1f);
      w.out_proj = RandomPackedWeight(m.M, m.D, 0.02 / std::sqrt(m.D));
      for (const void* p : {static_cast<const void*>(w.in_proj.data), static_cast<const void*>(w.conv_weight),
                            static_cast<const void*>(w.conv_bias), static_cast<const void*>(w.x_proj.data),
                            static_cast<const void*>(w.dt_proj.data), static_cast<const void*>(w.dt_bias),
                            static_cast<const void*>(w.decay_log2), static_cast<const void*>(w.skip),
                            static_cast<const void*>(w.out_proj.data)}) {
        memory.push_back(const_cast<void*>(p));
      }
      args.state = {.base = reinterpret_cast<std::byte*>(pool),
                    .slot_stride_bytes = stride * m.L * 4,
                    .layer_offset_bytes = (layer * stride + window) * 4,
                    .slots = static_cast<std::int32_t>(chunks)};
      args.window = args.state;
      args.window.layer_offset_bytes -= window * 4;
      args.window.dtype = DType::kBf16;
      args.next_norm_weight = layer + 1 < m.L ? args.norm_weight : nullptr;
      args.prepared = layer > 0;
      layers.push_back(args);
    }
    for (const void* p :
         {static_cast<const void*>(args.prompt.offsets), static_cast<const void*>(args.prompt.slot_index),
          static_cast<const void*>(args.residual), static_cast<const void*>(pool),
          static_cast<const void*>(args.workspace)}) {
      memory.push_back(const_cast<void*>(p));
    }
    MUST(cudaDeviceSynchronize());
  }
  ~Timed() {
    for (void* p : memory) MUST(cudaFree(p));
  }
  using Part = cudaError_t (LayerPromptPass::*)() const;
  double Step(std::initializer_list<Part> parts) const {
    return TimeGraph([&](cudaStream_t stream) {
             for (const auto& args : layers) {
               for (const Part part : parts) MUST((LayerPromptPass(args, stream).*part)());
             }
           }) /
           layers.size();
  }
};

void TimeModel(const TimedModel& m, std::int64_t chunks, std::int64_t length, double goal) {
  const Timed timed(m, chunks, length);
  const double tokens = static_cast<double>(chunks * length);
  const double all = TimeGraph([&](cudaStream_t stream) {
    MUST(PlacePromptTokens(timed.layers[0].prompt, timed.layers[0].workspace, stream));
    for (const auto& args : timed.layers) MUST(MambaLayerPrompt(args, stream));
  });
  std::printf("%s %ld x %ld: %.3f ms, %.0f tok/s (goal %.0f, %.2f), %.1f us a layer\n", m.name, chunks,
              length, all * 1e3, tokens / all, goal, tokens / all / goal, all * 1e6 / m.L);
  const struct {
    const char* name;
    cudaError_t (LayerPromptPass::*step)() const;
    double flop;
  } steps[] = {{"prepare", &LayerPromptPass::Prepare, 0},
               {"rows", &LayerPromptPass::ResidualRows, 0},
               {"in_proj", &LayerPromptPass::InProj, 4.0 * m.D * m.M},
               {"conv+x_proj", &LayerPromptPass::ConvXProj, 2.0 * m.D * (m.R + 32)},
               {"dt_bc", &LayerPromptPass::DtBc, 0},
               {"dt_proj", &LayerPromptPass::DtProj, 2.0 * m.D * m.R},
               {"scan", &LayerPromptPass::Scan, 0},
               {"out_proj", &LayerPromptPass::OutProj, 2.0 * m.D * m.M}};
  double sum = 0;
  for (const auto& step : steps) {
    const double s = timed.Step({step.step});
    const bool once = step.step == &LayerPromptPass::Prepare || step.step == &LayerPromptPass::ResidualRows;
    sum += once ? s / m.L : s;
    std::printf("  %-9s%7.2f us", step.name, s * 1e6);
    if (step.flop > 0) std::printf(" %4.0f TF", tokens * step.flop / s * 1e-12);
  }
  const double general = TimeGraph([&](cudaStream_t stream) {
    for (const auto& a : timed.layers) {
      const MambaLayerPromptScratch scratch(a.shape, a.prompt.tokens, chunks, a.workspace);
      const LinearPromptShape shape =
          MakeLinearPromptShape(Cores(a.weights.dt_proj), scratch.dt, a.prompt.tokens, 1);
      const StoreDelta epilogue{scratch.delta, a.weights.dt_bias, shape.token_blocks,
                                static_cast<unsigned>(a.prompt.tokens), static_cast<unsigned>(m.D)};
      MUST(LaunchKernel(stream, LinearPromptGeneral<StoreDelta>,
                        {dim3(shape.token_tiles, static_cast<unsigned>((m.D + 63) / 64), 1), 256}, shape,
                        epilogue));
    }
  });
  std::printf("  dt_proj by mma.sync %.2f us", general * 1e6 / m.L);
  std::printf("  dt_bc, dt_proj and scan %.2f us",
              timed.Step({&LayerPromptPass::DtBc, &LayerPromptPass::DtProj, &LayerPromptPass::Scan}) * 1e6);
  const double bound = m.D * 16.0 * tokens / (16.0 * 132 * 1.83e9);
  std::printf("  sum %.1f; exponential bound %.1f us\n", sum * 1e6, bound * 1e6);
}

// One pass as a graph, launched kernel by kernel, and what those launches take of the host.
void TimePass(const TimedModel& m, std::int64_t chunks, std::int64_t length) {
  const Timed timed(m, chunks, length);
  const auto enqueue = [&](cudaStream_t stream) {
    MUST(PlacePromptTokens(timed.layers[0].prompt, timed.layers[0].workspace, stream));
    for (const auto& args : timed.layers) MUST(MambaLayerPrompt(args, stream));
  };
  const double graph = TimeGraph(enqueue);
  std::vector<double> launches, walls;
  for (int i = 0; i < 11; ++i) {
    const auto begin = std::chrono::steady_clock::now();
    enqueue(nullptr);
    const auto launched = std::chrono::steady_clock::now();
    MUST(cudaDeviceSynchronize());
    const std::chrono::duration<double> launch = launched - begin,
                                        wall = std::chrono::steady_clock::now() - begin;
    launches.push_back(launch.count());
    walls.push_back(wall.count());
  }
  std::ranges::sort(launches);
  std::ranges::sort(walls);
  std::printf("%s %ld x %ld: graph %.3f ms, eager %.3f ms, of which the host launches for %.3f ms\n", m.name,
              chunks, length, graph * 1e3, walls[5] * 1e3, launches[5] * 1e3);
}

// in_proj and out_proj by every tile; * is the one that the pass takes.
void TimeTiles(const TimedModel& m, std::int64_t chunks, std::int64_t length) {
  const Timed timed(m, chunks, length);
  MUST(PlacePromptTokens(timed.layers[0].prompt, timed.layers[0].workspace, nullptr));
  for (const auto& args : timed.layers) MUST(MambaLayerPrompt(args, nullptr));  // real activations
  const int clusters = PromptClusters();
  const auto time = [&](const char* name, const PackedWeight& w, bool adds, const auto& launch) {
    std::printf("%s %s, %ld tokens:", m.name, name, chunks * length);
    const auto chosen = ChoosePromptTile(
        Cores(w), static_cast<std::int32_t>(PaddedTokens(chunks * length) / kTokenTile), clusters, adds);
    for (const PromptTile tile : kPromptTiles) {
      if (adds && !tile.FitsAdding()) continue;
      const double s = TimeGraph([&](cudaStream_t stream) {
        for (const auto& args : timed.layers) MUST(launch(stream, tile, args));
      });
      std::printf(" %s%d x %d%s %.1f us;", tile == chosen ? "*" : "", tile.tiles * 128, tile.columns,
                  tile.shares_x() ? " sharing x" : "", s * 1e6 / timed.layers.size());
    }
    std::printf("\n");
  };
  const auto unsigned_of = [](std::int64_t v) { return static_cast<std::uint32_t>(v); };
  time("in_proj", timed.layers[0].weights.in_proj, StoreScaledBf16::kAdds,
       [&](cudaStream_t stream, PromptTile tile, const MambaLayerPromptArgs& a) {
         const MambaLayerPromptScratch scratch(a.shape, a.prompt.tokens, chunks, a.workspace);
         const CoreMatrices w = Cores(a.weights.in_proj);
         const LinearPromptShape shape = MakeLinearPromptShape(w, scratch.u, a.prompt.tokens, 1);
         return LaunchPromptTile(
             stream, tile, shape, w,
             StoreScaledBf16{scratch.xz,
                             nullptr,
                             shape.token_blocks,
                             unsigned_of(a.prompt.tokens),
                             unsigned_of(2 * m.D),
                             {scratch.square_sums, shape.token_blocks * 8, m.M, kNormEps}},
             clusters);
       });
  time("out_proj", timed.layers[0].weights.out_proj, AddToTokens::kAdds,
       [&](cudaStream_t stream, PromptTile tile, const MambaLayerPromptArgs& a) {
         const MambaLayerPromptScratch scratch(a.shape, a.prompt.tokens, chunks, a.workspace);
         const CoreMatrices w = Cores(a.weights.out_proj);
         const LinearPromptShape shape = MakeLinearPromptShape(w, scratch.y, a.prompt.tokens, 1);
         return LaunchPromptTile(stream, tile, shape, w,
                                 AddToTokens{scratch.residual,
                                             nullptr,
                                             scratch.places,
                                             shape.token_blocks,
                                             unsigned_of(a.prompt.tokens),
                                             unsigned_of(m.M),
                                             {a.norm_weight, scratch.u, scratch.square_sums}},
                                 clusters);
       });
}

// The scan alone.
void TimeScans() {
  std::vector<std::int64_t> one_long(11, 60);
  one_long[0] = 1448;
  const TimedModel small = {"130m", 768, 1536, 48, 6}, large = {"2.8b", 2560, 5120, 160, 6};
  const struct {
    TimedModel model;
    const char* name;
    std::vector<std::int64_t> lengths;
  } shapes[] = {{small, "1 x 2048", {2048}},
                {small, "8 x 2048", std::vector<std::int64_t>(8, 2048)},
                {{"1.4b", 2048, 4096, 128, 6}, "1 x 2048", {2048}},
                {large, "1 x 2048", {2048}},
                {large, "4 x 512", std::vector<std::int64_t>(4, 512)},
                {large, "16 x 512", std::vector<std::int64_t>(16, 512)},
                {large, "1448 and 10 x 60", one_long}};
  for (const auto& s : shapes) {
    const Timed timed(s.model, s.lengths);
    for (const auto& args : timed.layers) {
      MUST(PlacePromptTokens(args.prompt, args.workspace, nullptr));
      MUST(MambaLayerPrompt(args, nullptr));
    }
    const double seconds = timed.Step({&LayerPromptPass::Scan});
    const double tokens = static_cast<double>(timed.layers[0].prompt.tokens);
    const double bound = s.model.D * 16.0 * tokens / (16.0 * 132 * 1.83e9);
    std::printf("  scan %s %s: %.2f us, %.0f%% of the bound\n", s.model.name, s.name, seconds * 1e6,
                100 * bound / seconds);
  }
}

}  // namespace

int main(int argc, char** argv) {
  const std::string mode = argc > 1 ? argv[1] : "both";
  cudaDeviceProp device;
  MUST(cudaGetDeviceProperties(&device, 0));
  std::printf("%s, %d multiprocessors\n", device.name, device.multiProcessorCount);
  if (mode == "scans") {
    TimeScans();
    return 0;
  }
  if ((mode == "pass" || mode == "tiles") && argc > 4) {
    const TimedModel models[] = {
        {"130m", 768, 1536, 48, 24}, {"1.4b", 2048, 4096, 128, 48}, {"2.8b", 2560, 5120, 160, 64}};
    for (const TimedModel& model : models) {
      if (std::string(argv[2]) != model.name) continue;
      for (int i = 4; i < argc; ++i) {
        if (mode == "tiles") {
          TimeTiles(model, std::atoi(argv[3]), std::atoi(argv[i]));
          continue;
        }
        TimePass(model, std::atoi(argv[3]), std::atoi(argv[i]));
        TimeModel(model, std::atoi(argv[3]), std::atoi(argv[i]), 1e6);
      }
    }
    return 0;
  }
  if (mode == "profile") {  // one layer, twice, for a profiler: profile [MODEL [CHUNKS [TOKENS]]]
    const bool small = argc > 2 && std::string(argv[2]) == "130m";
    const TimedModel model =
        small ? TimedModel{"130m", 768, 1536, 48, 2} : TimedModel{"2.8b", 2560, 5120, 160, 2};
    const Timed timed(model, argc > 3 ? std::atoi(argv[3]) : 1, argc > 4 ? std::atoi(argv[4]) : 2048);
    MUST(PlacePromptTokens(timed.layers[0].prompt, timed.layers[0].workspace, nullptr));
    for (const auto& args : timed.layers) MUST(MambaLayerPrompt(args, nullptr));
    MUST(cudaDeviceSynchronize());
    return 0;
  }
  if (mode != "time") {
    const bool same = CompareProducts();
    if (!Check() || !same) return 1;
  }
  if (mode == "check") return 0;
  TimeModel({"130m", 768, 1536, 48, 24}, 1, 2048, 1.2e6);
  TimeModel({"130m", 768, 1536, 48, 24}, 8, 2048, 1.7e6);
  TimeModel({"1.4b", 2048, 4096, 128, 48}, 1, 2048, 175e3);
  TimeModel({"2.8b", 2560, 5120, 160, 64}, 1, 2048, 88e3);
  TimeScans();
  return 0;
}
