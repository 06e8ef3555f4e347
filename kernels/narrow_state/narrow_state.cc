#include "kernels/narrow_state/narrow_state.h"

#include "absl/strings/str_cat.h"
#include "kernels/device/gpu_call.h"
#include "kernels/device/thread_pool.h"
#include "kernels/math/narrow_block.h"
#include "kernels/narrow_state/narrow_state_cuda.h"

namespace mambad::kernels {
namespace {

constexpr std::int64_t kStateSizeMax = 2 * kRoundingBlocks;

absl::Status Bad(const char* what) {
  return absl::InvalidArgumentError(absl::StrCat("narrow_state: ", what));
}

absl::Status Check(const NarrowStateArgs& args) {
  if (args.rows < 0 || args.layers < 1 || args.channels < 1) return Bad("a size is out of range");
  if (args.state_size < 1 || args.state_size > kStateSizeMax) return Bad("state_size is out of range");
  if (args.narrow.dtype != DType::kBf16 || args.wide.dtype != DType::kF32) return Bad("a dtype is wrong");
  if (args.rows > 0 && (args.narrow.base == nullptr || args.wide.base == nullptr ||
                        args.narrow_slot == nullptr || args.wide_slot == nullptr)) {
    return Bad("a pointer is null");
  }
  return absl::OkStatus();
}

// Calls block(narrow, wide, key, layer, channel) for every block of channels of every row and layer.
template <class Block>
void ForEachBlock(Stream& stream, const NarrowStateArgs& args, const Block& block) {
  const std::int64_t blocks = ChannelBlocks(args.channels);
  const std::int64_t items = args.rows * args.layers * blocks;
  stream.pool().Run([&](int worker, int workers) {
    const Range range = Slice(items, 1, worker, workers);
    for (std::int64_t item = range.begin; item < range.end; ++item) {
      const std::int64_t row = item / blocks / args.layers;
      const std::int64_t layer = item / blocks % args.layers;
      const std::int32_t slot = args.narrow_slot[row];
      if (slot == kNoSlot) continue;
      std::byte* const narrow =
          reinterpret_cast<std::byte*>(args.narrow.Bf16At(slot)) + layer * args.narrow_layer_stride;
      std::byte* const wide =
          reinterpret_cast<std::byte*>(args.wide.At(args.wide_slot[row])) + layer * args.wide_layer_stride;
      block(reinterpret_cast<std::uint16_t*>(narrow), reinterpret_cast<float*>(wide), args.narrow.KeyAt(slot),
            static_cast<std::uint32_t>(layer), item % blocks * kBlockChannels);
    }
  });
}

int WidthOf(const NarrowStateArgs& args, std::int64_t channel) {
  return static_cast<int>(std::min<std::int64_t>(kBlockChannels, args.channels - channel));
}

}  // namespace

absl::Status WidenStates(Stream& stream, const NarrowStateArgs& args) {
  if (absl::Status status = Check(args); !status.ok() || args.rows == 0) return status;
  if (stream.on_gpu()) return MAMBAD_ON_GPU(stream, "narrow_state", WidenStatesCuda(stream.handle(), args));
  ForEachBlock(
      stream, args,
      [&](const std::uint16_t* narrow, float* wide, const RoundingKey&, std::uint32_t, std::int64_t channel) {
        const int width = WidthOf(args, channel);
        for (std::int64_t n = 0; n < args.state_size; ++n) {
          const std::int64_t at = n * args.channels + channel;
          for (int i = 0; i < width; ++i) wide[at + i] = FromBf16(narrow[at + i]);
        }
      });
  return absl::OkStatus();
}

absl::Status RoundStates(Stream& stream, const NarrowStateArgs& args) {
  if (absl::Status status = Check(args); !status.ok() || args.rows == 0) return status;
  if (stream.on_gpu()) return MAMBAD_ON_GPU(stream, "narrow_state", RoundStatesCuda(stream.handle(), args));
  ForEachBlock(stream, args,
               [&](std::uint16_t* narrow, const float* wide, const RoundingKey& key, std::uint32_t layer,
                   std::int64_t channel) {
                 const int width = WidthOf(args, channel);
                 RoundingBits bits;
                 for (std::int64_t n = 0; n < args.state_size; ++n) {
                   if (n % kRoundingGroup == 0)
                     DrawRoundingBits(key, layer, static_cast<std::uint32_t>(channel),
                                      static_cast<std::uint32_t>(n / kRoundingGroup), bits);
                   const std::int64_t at = n * args.channels + channel;
                   RoundRow(wide + at, bits, static_cast<std::uint32_t>(n), width, narrow + at);
                 }
               });
  return absl::OkStatus();
}

absl::Status AdvanceKeys(Stream& stream, const AdvanceKeysArgs& args) {
  if (args.rows < 0) return Bad("rows is negative");
  if (args.rows == 0) return absl::OkStatus();
  if (args.slots.base == nullptr || args.slot_index == nullptr) return Bad("a pointer is null");
  if (stream.on_gpu()) return MAMBAD_ON_GPU(stream, "narrow_state", AdvanceKeysCuda(stream.handle(), args));
  for (std::int64_t row = 0; row < args.rows; ++row) {
    if (args.slot_index[row] == kNoSlot) continue;
    const std::int64_t tokens = args.offsets != nullptr ? args.offsets[row + 1] - args.offsets[row] : 1;
    args.slots.KeyAt(args.slot_index[row]).position += static_cast<std::uint64_t>(tokens);
  }
  return absl::OkStatus();
}

}  // namespace mambad::kernels
