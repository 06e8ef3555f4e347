#include <cuda_runtime.h>

#include "kernels/math/ssm.h"
#include "kernels/selective_scan/selective_scan_cuda.h"

namespace mambad::kernels {
namespace {

constexpr int kThreads = 64;

// One channel's state: in registers where N is known at compile time, else in its slot.
template <int kN>
struct ChannelState {
  float h[kN];

  __device__ ChannelState(const float* slot, std::int64_t D, std::int64_t) {
#pragma unroll
    for (int n = 0; n < kN; ++n) h[n] = slot[n * D];
  }
  __device__ float& At(int n) { return h[n]; }
  __device__ void Store(float* slot, std::int64_t D) const {
#pragma unroll
    for (int n = 0; n < kN; ++n) slot[n * D] = h[n];
  }
};

template <>
struct ChannelState<0> {
  float* slot;
  std::int64_t D;

  __device__ ChannelState(float* slot, std::int64_t D, std::int64_t) : slot(slot), D(D) {}
  __device__ float& At(int n) { return slot[n * D]; }
  __device__ void Store(float*, std::int64_t) const {}
};

// Tokens [begin, end) of one channel, sequential in time.
template <int kN>
__device__ void Scan(const SelectiveScanParams& params, const SelectiveScanInputs& in, float* y,
                     std::int64_t y_stride, std::int64_t begin, std::int64_t end, float* slot,
                     std::int64_t channel) {
  const std::int64_t D = params.channels;
  const int N = kN > 0 ? kN : static_cast<int>(params.state_size);
  const F32x1 bias = {params.delta_bias != nullptr ? params.delta_bias[channel] : 0.0f};
  const F32x1 skip = {params.skip[channel]};
  ChannelState<kN> state(slot + channel, D, N);
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
      const F32x1 h = StateStep(F32x1{state.At(n)}, delta, delta_x, decay, F32x1{b[n]});
      state.At(n) = h.v;
      sum[n % kStateSumWays] = MulAdd(F32x1{c[n]}, h, sum[n % kStateSumWays]);
    }
    y[t * y_stride + channel] = (StateOutput(sum[0], sum[1], sum[2], sum[3], skip, x) * gate).v;
  }
  state.Store(slot + channel, D);
}

template <int kN>
__global__ void ScanChunks(SelectiveScanPrefillArgs args) {
  const std::int64_t channel = std::int64_t{blockIdx.y} * kThreads + threadIdx.x;
  const std::int32_t slot = args.slot_index[blockIdx.x];
  if (channel >= args.params.channels || slot == kNoSlot) return;
  Scan<kN>(args.params, args.in, args.y, args.y_stride, args.offsets[blockIdx.x],
           args.offsets[blockIdx.x + 1], args.state.At(slot), channel);
}

template <int kN>
__global__ void ScanRows(SelectiveScanStepArgs args) {
  const std::int64_t channel = std::int64_t{blockIdx.y} * kThreads + threadIdx.x;
  const std::int64_t row = blockIdx.x;
  const std::int32_t slot = args.slot_index[row];
  if (channel >= args.params.channels || slot == kNoSlot) return;
  Scan<kN>(args.params, args.in, args.y, args.y_stride, row, row + 1, args.state.At(slot), channel);
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
  return Launch(stream, args, args.rows, args.params.state_size == 16 ? &ScanRows<16> : &ScanRows<0>);
}

}  // namespace mambad::kernels
