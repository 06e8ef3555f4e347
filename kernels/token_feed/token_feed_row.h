// One row of token_feed, for every device.
#ifndef MAMBAD_KERNELS_TOKEN_FEED_TOKEN_FEED_ROW_H_
#define MAMBAD_KERNELS_TOKEN_FEED_TOKEN_FEED_ROW_H_

#include "kernels/base/host_device.h"
#include "kernels/base/slots.h"
#include "kernels/token_feed/token_feed_args.h"

namespace mambad::kernels {

MAMBAD_HOST_DEVICE inline void FeedRow(const TokenFeedArgs& args, std::int64_t row) {
  std::uint32_t token = args.tokens[row];
  std::int32_t slot = args.slots[row];
  if (token == kDrawnToken) {
    token = static_cast<std::uint32_t>(args.drawn[slot]);
    for (std::int32_t i = args.stop_offsets[row]; i < args.stop_offsets[row + 1]; ++i) {
      if (args.stops[i] == token) slot = kNoSlot;
    }
    if (slot == kNoSlot) token = 0;
  }
  args.row_tokens[row] = token;
  args.row_slots[row] = slot;
}

}  // namespace mambad::kernels

#endif  // MAMBAD_KERNELS_TOKEN_FEED_TOKEN_FEED_ROW_H_
