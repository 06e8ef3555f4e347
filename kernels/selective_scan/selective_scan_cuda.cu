#include <cuda_runtime.h>

#include "kernels/math/ssm.h"
#include "kernels/math/state_rounding.h"
#include "kernels/selective_scan/selective_scan_cuda.h"

namespace mambad::kernels {
namespace {

constexpr int kThreads = 64;

// One channel's state: in registers where N is known at compile time, else in its slot.
template <int kN>
struct ChannelState {
  float* slot;
  std::int64_t D;
  float h[kN];

  __device__ ChannelState(const SlotView& view, std::int32_t index, std::int64_t channel, std::int64_t D)
      : slot(view.At(index) + channel), D(D) {
#pragma unroll
    for (int n = 0; n < kN; ++n) h[n] = slot[n * D];
  }
  __device__ float Load(int n) const { return h[n]; }
  __device__ void Store(int n, float value) { h[n] = value; }
  __device__ void Finish() const {
#pragma unroll
    for (int n = 0; n < kN; ++n) slot[n * D] = h[n];
  }
};

template <>
struct ChannelState<0> {
  float* slot;
  std::int64_t D;

  __device__ ChannelState(const SlotView& view, std::int32_t index, std::int64_t channel, std::int64_t D)
      : slot(view.At(index) + channel), D(D) {}
  __device__ float Load(int n) const { return slot[n * D]; }
  __device__ void Store(int n, float value) { slot[n * D] = value; }
  __device__ void Finish() const {}
};

// Of a bf16 state, for one token: rounded at once.
struct NarrowChannelState {
  std::uint16_t* slot;
  std::int64_t D;
  RoundingKey key;
  std::uint32_t layer;
  std::uint32_t channel;

  __device__ NarrowChannelState(const SlotView& view, std::int32_t index, std::int64_t channel,
                                std::int64_t D)
      : slot(view.Bf16At(index) + channel),
        D(D),
        key(view.KeyAt(index)),
        layer(view.layer),
        channel(static_cast<std::uint32_t>(channel)) {
    ++key.position;
  }
  __device__ float Load(int n) const { return FromBf16(slot[n * D]); }
  __device__ void Store(int n, float value) {
    slot[n * D] = RoundStateElement(key, layer, channel, static_cast<std::uint32_t>(n), value);
  }
  __device__ void Finish() const {}
};

// Tokens [begin, end) of one channel, sequential in time.
template <int kN, class State>
__device__ void Scan(const SelectiveScanParams& params, const SelectiveScanInputs& in, float* y,
                     std::int64_t y_stride, std::int64_t begin, std::int64_t end, State state,
                     std::int64_t channel) {
  const std::int64_t D = params.channels;
  const int N = kN > 0 ? kN : static_cast<int>(params.state_size);
  const F32x1 bias = {params.delta_bias != nullptr ? params.delta_bias[channel] : 0.0f};
  const F32x1 skip = {params.skip[channel]};
  for (std::int64_t t = begin; t < end; ++t) {
    const F32x1 x = {in.x[t * in.x_stride + channel]};
    const F32x1 delta = Delta(F32x1{in.delta_raw[t * in.delta_stride + channel]}, bias);
    const F32x1 delta_x = delta * x;
    const F32x1 gate = Silu(F32x1{in.z[t * in.z_stride + channel]});
    const float* b = in.b + t * in.bc_stride;
    const float* c = in.c + t * in.bc_stride;
    F32x1 sum[kStateSumWays] = {};
#pragma unroll
    for (int n = 0; n < N; ++n) {
      const F32x1 decay = {params.decay_log2[n * D + channel]};
      const F32x1 h = StateStep(F32x1{state.Load(n)}, delta, delta_x, decay, F32x1{b[n]});
      state.Store(n, h.v);
      sum[n % kStateSumWays] = MulAdd(F32x1{c[n]}, h, sum[n % kStateSumWays]);
    }
    y[t * y_stride + channel] = (StateOutput(sum[0], sum[1], sum[2], sum[3], skip, x) * gate).v;
  }
  state.Finish();
}

template <int kN>
__global__ void ScanChunks(SelectiveScanPrefillArgs args) {
  const std::int64_t channel = std::int64_t{blockIdx.y} * kThreads + threadIdx.x;
  const std::int32_t slot = args.slot_index[blockIdx.x];
  if (channel >= args.params.channels || slot == kNoSlot) return;
  Scan<kN>(args.params, args.in, args.y, args.y_stride, args.offsets[blockIdx.x],
           args.offsets[blockIdx.x + 1], ChannelState<kN>(args.state, slot, channel, args.params.channels),
           channel);
}

template <int kN, class State>
__global__ void ScanRows(SelectiveScanStepArgs args) {
  const std::int64_t channel = std::int64_t{blockIdx.y} * kThreads + threadIdx.x;
  const std::int64_t row = blockIdx.x;
  const std::int32_t slot = args.slot_index[row];
  if (channel >= args.params.channels || slot == kNoSlot) return;
  Scan<kN>(args.params, args.in, args.y, args.y_stride, row, row + 1,
           State(args.state, slot, channel, args.params.channels), channel);
}

template <class Args>
gpu::Code Launch(void* stream, const Args& args, std::int64_t rows, void (*kernel)(Args)) {
  if (rows == 0) return cudaSuccess;
  const dim3 grid(static_cast<unsigned>(rows),
                  static_cast<unsigned>((args.params.channels + kThreads - 1) / kThreads));
  kernel<<<grid, kThreads, 0, static_cast<cudaStream_t>(stream)>>>(args);
  return cudaGetLastError();
}

}  // namespace

gpu::Code SelectiveScanPrefillCuda(void* stream, const SelectiveScanPrefillArgs& args) {
  return Launch(stream, args, args.chunks, args.params.state_size == 16 ? &ScanChunks<16> : &ScanChunks<0>);
}

gpu::Code SelectiveScanStepCuda(void* stream, const SelectiveScanStepArgs& args) {
  const bool narrow = args.state.dtype == DType::kBf16;
  if (args.params.state_size == 16) {
    return Launch(stream, args, args.rows,
                  narrow ? &ScanRows<16, NarrowChannelState> : &ScanRows<16, ChannelState<16>>);
  }
  return Launch(stream, args, args.rows,
                narrow ? &ScanRows<0, NarrowChannelState> : &ScanRows<0, ChannelState<0>>);
}

}  // namespace mambad::kernels
