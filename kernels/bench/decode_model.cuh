// A Mamba model of random weights on the device, and one decode step of it as a CUDA graph: for decode_bench.
#ifndef MAMBAD_KERNELS_BENCH_DECODE_MODEL_CUH_
#define MAMBAD_KERNELS_BENCH_DECODE_MODEL_CUH_

#include <cuda_runtime.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <vector>

#include "kernels/device/hopper.cuh"
#include "kernels/mamba_layer/mamba_stack_step.h"
#include "kernels/mamba_layer/step_ends.h"

namespace mambad::kernels {

#define CUDA_OK(call)                                                                                \
  do {                                                                                               \
    if (const cudaError_t error = (call); error != cudaSuccess) {                                    \
      std::fprintf(stderr, "%s:%d: %s: %s\n", __FILE__, __LINE__, #call, cudaGetErrorString(error)); \
      std::exit(1);                                                                                  \
    }                                                                                                \
  } while (0)
#define STEP_OK(call)                                                            \
  do {                                                                           \
    if (const char* error = (call)) {                                            \
      std::fprintf(stderr, "%s:%d: %s: %s\n", __FILE__, __LINE__, #call, error); \
      std::exit(1);                                                              \
    }                                                                            \
  } while (0)

struct ModelShape {
  const char* name;
  MambaLayerShape layer;
  int layers;
  int vocabulary;
  bool biases = false;
  float dt_bc_eps = -1.0f;
  double weight_gb = 0, gflop = 0, state_mb = 0;  // W, F, S of the issue's floor
};

__device__ inline float HashUniform(std::uint64_t seed, std::uint64_t i) {  // [-1, 1)
  std::uint64_t z = seed * 0x9e3779b97f4a7c15ull + i * 0xbf58476d1ce4e5b9ull;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
  z ^= z >> 31;
  return static_cast<float>(static_cast<std::int32_t>(z >> 32)) * 0x1p-31f;
}
static __global__ void FillBf16(std::uint16_t* to, std::int64_t count, std::uint64_t seed, float scale) {
  for (std::int64_t i = blockIdx.x * 256ll + threadIdx.x; i < count; i += gridDim.x * 256ll) {
    const std::uint32_t bits = __float_as_uint(HashUniform(seed, i) * scale);
    to[i] = static_cast<std::uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
  }
}
static __global__ void FillFloats(float* to, std::int64_t count, std::uint64_t seed, float low, float high) {
  for (std::int64_t i = blockIdx.x * 256ll + threadIdx.x; i < count; i += gridDim.x * 256ll)
    to[i] = low + (HashUniform(seed, i) * 0.5f + 0.5f) * (high - low);
}
// Makes the halves of every word equal, so that any of them is a bf16 of the same size.
static __global__ void RepeatHighHalves(float* to, std::int64_t count) {
  for (std::int64_t i = blockIdx.x * 256ll + threadIdx.x; i < count; i += gridDim.x * 256ll) {
    const std::uint32_t bits = __float_as_uint(to[i]);
    to[i] = __uint_as_float((bits & 0xffff0000u) | bits >> 16);
  }
}
// Logits to tokens: a pass per part of the vocabulary, then one per row.
inline constexpr int kArgmaxParts = 32;
static __global__ void ArgmaxParts(const float* logits, int vocabulary, float* best, int* where) {
  AllowNextKernel();
  WaitForPreviousKernel();
  const float* row = logits + blockIdx.y * static_cast<std::int64_t>(vocabulary);
  float value = -INFINITY;
  int index = 0x7fffffff;
  const auto take = [&](float v, int i) {
    if (v > value || (v == value && i < index)) value = v, index = i;
  };
  for (int i = blockIdx.x * 256 + threadIdx.x; i < vocabulary; i += kArgmaxParts * 256)
    take(__ldcg(row + i), i);
  for (int mask = 16; mask > 0; mask /= 2)
    take(__shfl_xor_sync(~0u, value, mask), __shfl_xor_sync(~0u, index, mask));
  __shared__ float values[8];
  __shared__ int indices[8];
  if (threadIdx.x % 32 == 0) values[threadIdx.x / 32] = value, indices[threadIdx.x / 32] = index;
  __syncthreads();
  if (threadIdx.x != 0) return;
  for (int w = 1; w < 8; ++w) take(values[w], indices[w]);
  best[blockIdx.y * kArgmaxParts + blockIdx.x] = value;
  where[blockIdx.y * kArgmaxParts + blockIdx.x] = index;
}
static __global__ void ArgmaxRows(const float* best, const int* where, int vocabulary, std::int32_t* tokens) {
  WaitForPreviousKernel();
  float value = __ldcg(best + blockIdx.x * kArgmaxParts + threadIdx.x);
  int index = __ldcg(where + blockIdx.x * kArgmaxParts + threadIdx.x);
  for (int mask = 16; mask > 0; mask /= 2) {
    const float v = __shfl_xor_sync(~0u, value, mask);
    const int i = __shfl_xor_sync(~0u, index, mask);
    if (v > value || (v == value && i < index)) value = v, index = i;
  }
  if (threadIdx.x == 0) tokens[blockIdx.x] = min(index, vocabulary - 1);
}

template <class T>
T* Allocate(std::int64_t count) {
  void* memory = nullptr;
  CUDA_OK(cudaMalloc(&memory, count * sizeof(T) + 256));
  return static_cast<T*>(memory);
}

struct RawWeight {
  std::vector<std::uint16_t> values;  // (rows, cols), kept when asked for
  int rows = 0, cols = 0;
};

struct Layer {
  MambaLayerWeights weights;
  float* norm = nullptr;
  RawWeight in, x, dt, out;  // host copies, for the reference
};

class DecodeModel {
 public:
  // `narrow`: with bf16 states.
  DecodeModel(const ModelShape& shape, int slots, bool keep_host, bool narrow = false)
      : shape_(shape), slots_(slots), keep_(keep_host), narrow_(narrow) {
    const auto& s = shape_.layer;
    CUDA_OK(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking));
    const std::int64_t largest =
        std::max<std::int64_t>({2ll * s.d_inner * s.d_model, std::int64_t{shape.vocabulary} * s.d_model,
                                1ll * s.dt_bc_width() * s.d_inner});
    staging_ = Allocate<std::uint16_t>(largest);
    layers_.resize(shape.layers);
    for (Layer& layer : layers_) MakeLayer(layer);
    Make(shape.vocabulary, s.d_model, 1.0f, embedding_, embedding_raw_);
    final_norm_ = Floats(s.d_model, 0.5f, 1.5f);
    CUDA_OK(cudaStreamSynchronize(stream_));
    CUDA_OK(cudaFree(staging_));
    // As the engine's: the layers, then the last hidden row.
    slot_floats_ = KeyFloats() + state_floats() + s.d_model;
    pool_ = Allocate<float>(slot_floats_ * slots);
    CUDA_OK(cudaMalloc(&buffer_memory_, BufferBytes()));
    CUDA_OK(cudaMemset(buffer_memory_, 0xff, BufferBytes()));  // NaN
    logits_ = Allocate<float>(std::int64_t{kMaxStepRows} * shape.vocabulary);
    tokens_ = Allocate<std::int32_t>(kMaxStepRows);
    slot_index_ = Allocate<std::int32_t>(kMaxStepRows);
    best_ = Allocate<float>(kMaxStepRows * kArgmaxParts);
    where_ = Allocate<int>(kMaxStepRows * kArgmaxParts);
  }

  std::size_t BufferBytes() const {
    const auto& s = shape_.layer;
    return StepBufferBytes(kMaxStepRows, {s.d_model, s.d_inner, s.dt_bc_width()});
  }
  SlotView Window(int layer) const {
    return {.base = reinterpret_cast<std::byte*>(pool_),
            .slot_stride_bytes = slot_floats_ * 4,
            .layer_offset_bytes = (KeyFloats() + LayerFloats() * layer) * 4,
            .slots = slots_,
            .dtype = DType::kBf16};
  }
  SlotView State(int layer) const {
    SlotView view = Window(layer);
    view.layer_offset_bytes += WindowFloats() * 4;
    view.layer = static_cast<std::uint16_t>(layer);
    view.dtype = narrow_ ? DType::kBf16 : DType::kF32;
    return view;
  }
  // What a slot with bf16 states begins with.
  std::int64_t KeyFloats() const { return narrow_ ? sizeof(RoundingKey) / sizeof(float) : 0; }
  // What a window and a layer take, bf16 counted by twos.
  std::int64_t WindowFloats() const {
    return std::int64_t{shape_.layer.d_conv - 1} * shape_.layer.d_inner / 2;
  }
  std::int64_t LayerFloats() const {
    return WindowFloats() + std::int64_t{shape_.layer.d_inner} * shape_.layer.d_state / (narrow_ ? 2 : 1);
  }

  // One step; the greedy token of each row is the next step's input when `sample`.
  void Enqueue(int rows, bool sample) {
    MambaLayerShape s = shape_.layer;
    s.dt_bc_eps = shape_.dt_bc_eps;
    const StepBuffers buffers = BindStepBuffers(static_cast<std::byte*>(buffer_memory_), kMaxStepRows,
                                                {s.d_model, s.d_inner, s.dt_bc_width()});
    STEP_OK(EmbedRows(stream_, {.embedding = embedding_,
                                .tokens = tokens_,
                                .rows = rows,
                                .norm_weight = layers_[0].norm,
                                .buffers = buffers}));
    std::vector<MambaLayerStepArgs> layers;
    for (int l = 0; l < shape_.layers; ++l) {
      layers.push_back({.shape = s,
                        .weights = layers_[l].weights,
                        .buffers = buffers,
                        .rows = rows,
                        .slot_index = slot_index_,
                        .window = Window(l),
                        .state = State(l),
                        .next_norm_weight = l + 1 < shape_.layers ? layers_[l + 1].norm : final_norm_});
    }
    if (std::getenv("LAYER_BY_LAYER") != nullptr) {
      for (const auto& layer : layers) STEP_OK(MambaLayerStep(stream_, layer));
    } else {
      STEP_OK(MambaStackStep(stream_, layers));
    }
    STEP_OK(HeadStep(stream_, {.head = embedding_,
                               .buffers = buffers,
                               .rows = rows,
                               .logits = logits_,
                               .stride = shape_.vocabulary}));
    if (!sample) return;
    cudaLaunchAttribute attribute = {};
    attribute.id = cudaLaunchAttributeProgrammaticStreamSerialization;
    attribute.val.programmaticStreamSerializationAllowed = 1;
    cudaLaunchConfig_t config = {};
    config.gridDim = dim3(kArgmaxParts, rows);
    config.blockDim = 256;
    config.stream = stream_;
    config.attrs = &attribute;
    config.numAttrs = 1;
    CUDA_OK(cudaLaunchKernelEx(&config, ArgmaxParts, static_cast<const float*>(logits_), shape_.vocabulary,
                               best_, where_));
    config.gridDim = rows;
    config.blockDim = kArgmaxParts;
    CUDA_OK(cudaLaunchKernelEx(&config, ArgmaxRows, static_cast<const float*>(best_),
                               static_cast<const int*>(where_), shape_.vocabulary, tokens_));
  }

  cudaGraphExec_t Capture(int rows) {
    cudaGraph_t graph;
    cudaGraphExec_t exec;
    CUDA_OK(cudaStreamBeginCapture(stream_, cudaStreamCaptureModeThreadLocal));
    Enqueue(rows, true);
    CUDA_OK(cudaStreamEndCapture(stream_, &graph));
    CUDA_OK(cudaGraphInstantiate(&exec, graph, 0));
    CUDA_OK(cudaGraphUpload(exec, stream_));
    CUDA_OK(cudaGraphDestroy(graph));
    return exec;
  }

  // What was copied to the pool may still be under way: a copy from pageable memory ends before its last
  // bytes have arrived, and this stream waits for no other.
  void SetRows(const std::vector<std::int32_t>& tokens, const std::vector<std::int32_t>& slots) {
    CUDA_OK(cudaMemcpyAsync(tokens_, tokens.data(), tokens.size() * 4, cudaMemcpyHostToDevice, stream_));
    CUDA_OK(cudaMemcpyAsync(slot_index_, slots.data(), slots.size() * 4, cudaMemcpyHostToDevice, stream_));
    CUDA_OK(cudaDeviceSynchronize());
  }
  void RandomPool() {
    FillFloats<<<1024, 256, 0, stream_>>>(pool_, slot_floats_ * slots_, 99, -0.5f, 0.5f);
    CUDA_OK(cudaGetLastError());
    RepeatHighHalves<<<1024, 256, 0, stream_>>>(pool_, slot_floats_ * slots_);
    CUDA_OK(cudaGetLastError());
    CUDA_OK(cudaStreamSynchronize(stream_));
  }
  template <class T>
  std::vector<T> Read(const T* from, std::int64_t count) const {
    std::vector<T> to(count);
    CUDA_OK(cudaStreamSynchronize(stream_));
    CUDA_OK(cudaMemcpy(to.data(), from, count * sizeof(T), cudaMemcpyDeviceToHost));
    return to;
  }

  const ModelShape& shape() const { return shape_; }
  cudaStream_t stream() const { return stream_; }
  const std::vector<Layer>& layers() const { return layers_; }
  const RawWeight& embedding() const { return embedding_raw_; }
  const float* final_norm() const { return final_norm_; }
  float* pool() const { return pool_; }
  std::int64_t slot_floats() const { return slot_floats_; }
  std::int64_t state_floats() const { return shape_.layers * LayerFloats(); }  // of a slot
  int slots() const { return slots_; }
  float* logits() const { return logits_; }

 private:
  void Make(int rows, int cols, float scale, PackedWeight& packed, RawWeight& raw) {
    const std::int64_t count = std::int64_t{rows} * cols;
    FillBf16<<<1024, 256, 0, stream_>>>(staging_, count, ++seed_, scale);
    CUDA_OK(cudaGetLastError());
    auto* data = Allocate<std::uint16_t>(PackedElements(rows, cols));
    STEP_OK(PackWeight(staging_, rows, cols, data, stream_));
    packed = {.data = data, .rows = rows, .cols = cols};
    if (keep_) raw = {Read(staging_, count), rows, cols};
  }
  float* Floats(std::int64_t count, float low, float high) {
    float* to = Allocate<float>(count);
    FillFloats<<<64, 256, 0, stream_>>>(to, count, ++seed_, low, high);
    CUDA_OK(cudaGetLastError());
    return to;
  }
  void MakeLayer(Layer& layer) {
    const auto& s = shape_.layer;
    MambaLayerWeights& w = layer.weights;
    const auto fan_in = [](int k) { return 1.7f / std::sqrt(static_cast<float>(k)); };
    Make(2 * s.d_inner, s.d_model, fan_in(s.d_model), w.in_proj, layer.in);
    Make(s.dt_bc_width(), s.d_inner, 2 * fan_in(s.d_inner), w.x_proj, layer.x);
    Make(s.d_inner, s.dt_rank, fan_in(s.dt_rank), w.dt_proj, layer.dt);
    Make(s.d_model, s.d_inner, fan_in(s.d_inner), w.out_proj, layer.out);
    if (shape_.biases) {
      w.in_bias = Floats(2 * s.d_inner, -0.2f, 0.2f);
      w.out_bias = Floats(s.d_model, -0.2f, 0.2f);
    }
    w.conv_weight = Floats(std::int64_t{s.d_conv} * s.d_inner, -0.7f, 0.7f);
    w.conv_bias = Floats(s.d_inner, -0.2f, 0.2f);
    w.dt_bias = Floats(s.d_inner, -4.0f, 0.0f);
    w.decay_log2 = Floats(std::int64_t{s.d_state} * s.d_inner, -8.0f, -0.5f);
    w.skip = Floats(s.d_inner, 0.5f, 1.5f);
    layer.norm = Floats(s.d_model, 0.5f, 1.5f);
  }

  const ModelShape shape_;
  const int slots_;
  const bool keep_;
  const bool narrow_;
  std::uint64_t seed_ = 0;
  cudaStream_t stream_ = nullptr;
  std::uint16_t* staging_ = nullptr;
  std::vector<Layer> layers_;
  PackedWeight embedding_;
  RawWeight embedding_raw_;
  float* final_norm_ = nullptr;
  std::int64_t slot_floats_ = 0;
  float* pool_ = nullptr;
  void* buffer_memory_ = nullptr;
  float* logits_ = nullptr;
  std::int32_t* tokens_ = nullptr;
  std::int32_t* slot_index_ = nullptr;
  float* best_ = nullptr;
  int* where_ = nullptr;
};

}  // namespace mambad::kernels

#endif  // MAMBAD_KERNELS_BENCH_DECODE_MODEL_CUH_
