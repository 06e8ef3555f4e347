#include <cuda_runtime.h>

#include "kernels/math/state_rounding.h"
#include "kernels/narrow_state/narrow_state_cuda.h"

namespace mambad::kernels {
namespace {

constexpr int kThreads = 128;

// The channel of a thread in one layer of one row; its elements lie D apart.
struct Column {
  std::uint16_t* narrow;  // null: nothing to do
  float* wide;
  std::int32_t slot;
  std::uint32_t layer;
  std::uint32_t channel;

  __device__ explicit Column(const NarrowStateArgs& args)
      : narrow(nullptr),
        slot(args.narrow_slot[blockIdx.x]),
        layer(blockIdx.y),
        channel(blockIdx.z * kThreads + threadIdx.x) {
    if (slot == kNoSlot || channel >= args.channels) return;
    narrow = reinterpret_cast<std::uint16_t*>(reinterpret_cast<std::byte*>(args.narrow.Bf16At(slot)) +
                                              layer * args.narrow_layer_stride) +
             channel;
    wide = reinterpret_cast<float*>(reinterpret_cast<std::byte*>(args.wide.At(args.wide_slot[blockIdx.x])) +
                                    layer * args.wide_layer_stride) +
           channel;
  }
};

__global__ void Widen(NarrowStateArgs args) {
  const Column column(args);
  if (column.narrow == nullptr) return;
  for (std::int64_t n = 0; n < args.state_size; ++n)
    column.wide[n * args.channels] = FromBf16(column.narrow[n * args.channels]);
}

__global__ void Round(NarrowStateArgs args) {
  const Column column(args);
  if (column.narrow == nullptr) return;
  const RoundingKey key = args.narrow.KeyAt(column.slot);
  for (std::int64_t n = 0; n < args.state_size; ++n)
    column.narrow[n * args.channels] = RoundStateElement(
        key, column.layer, column.channel, static_cast<std::uint32_t>(n), column.wide[n * args.channels]);
}

__global__ void Advance(AdvanceKeysArgs args) {
  const std::int64_t row = std::int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (row >= args.rows || args.slot_index[row] == kNoSlot) return;
  const std::int64_t tokens = args.offsets != nullptr ? args.offsets[row + 1] - args.offsets[row] : 1;
  args.slots.KeyAt(args.slot_index[row]).position += static_cast<std::uint64_t>(tokens);
}

dim3 GridOf(const NarrowStateArgs& args) {
  return dim3(static_cast<unsigned>(args.rows), static_cast<unsigned>(args.layers),
              static_cast<unsigned>((args.channels + kThreads - 1) / kThreads));
}

}  // namespace

gpu::Code WidenStatesCuda(void* stream, const NarrowStateArgs& args) {
  Widen<<<GridOf(args), kThreads, 0, static_cast<cudaStream_t>(stream)>>>(args);
  return cudaGetLastError();
}

gpu::Code RoundStatesCuda(void* stream, const NarrowStateArgs& args) {
  Round<<<GridOf(args), kThreads, 0, static_cast<cudaStream_t>(stream)>>>(args);
  return cudaGetLastError();
}

gpu::Code AdvanceKeysCuda(void* stream, const AdvanceKeysArgs& args) {
  const auto blocks = static_cast<unsigned>((args.rows + kThreads - 1) / kThreads);
  Advance<<<blocks, kThreads, 0, static_cast<cudaStream_t>(stream)>>>(args);
  return cudaGetLastError();
}

}  // namespace mambad::kernels
