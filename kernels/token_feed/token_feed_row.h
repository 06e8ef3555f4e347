// One row of token_feed, for every device.
#ifndef MAMBAD_KERNELS_TOKEN_FEED_TOKEN_FEED_ROW_H_
#define MAMBAD_KERNELS_TOKEN_FEED_TOKEN_FEED_ROW_H_

#include "kernels/base/host_device.h"
#include "kernels/base/slots.h"
#include "kernels/token_feed/token_feed_args.h"

namespace mambad::kernels {

// What the host wrote of a row; of its stops the first, which most rows have alone.
struct FedRow {
  std::uint32_t token;
  std::int32_t slot;
  std::int32_t stops_begin = 0, stops_end = 0;
  std::uint32_t first_stop = kDrawnToken;  // none

  MAMBAD_HOST_DEVICE FedRow(const TokenFeedArgs& args, std::int64_t row)
      : token(args.tokens[row]), slot(args.slots[row]) {
    if (!drawn()) return;
    stops_begin = args.stop_offsets[row];
    stops_end = args.stop_offsets[row + 1];
    if (stops_begin < stops_end) first_stop = args.stops[stops_begin];
  }
  MAMBAD_HOST_DEVICE bool drawn() const { return token == kDrawnToken; }

  // `last`: what was drawn last for the slot, where drawn().
  MAMBAD_HOST_DEVICE void Complete(const TokenFeedArgs& args, std::int64_t row, std::int32_t last) const {
    FedRow fed = *this;
    if (drawn()) {
      fed.token = static_cast<std::uint32_t>(last);
      if (fed.token == first_stop) fed.slot = kNoSlot;
      for (std::int32_t i = stops_begin + 1; i < stops_end; ++i) {
        if (args.stops[i] == fed.token) fed.slot = kNoSlot;
      }
      if (fed.slot == kNoSlot) fed.token = 0;
    }
    args.row_tokens[row] = fed.token;
    args.row_slots[row] = fed.slot;
  }
};

}  // namespace mambad::kernels

#endif  // MAMBAD_KERNELS_TOKEN_FEED_TOKEN_FEED_ROW_H_
