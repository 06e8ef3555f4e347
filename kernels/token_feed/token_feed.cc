#include "kernels/token_feed/token_feed.h"

#include "kernels/device/gpu_call.h"
#include "kernels/token_feed/token_feed_cuda.h"
#include "kernels/token_feed/token_feed_row.h"

namespace mambad::kernels {

absl::Status FeedTokens(Stream& stream, const TokenFeedArgs& args) {
  if (args.rows < 0) return absl::InvalidArgumentError("token_feed: rows is negative");
  if (args.rows == 0) return absl::OkStatus();
  if (args.tokens == nullptr || args.slots == nullptr || args.stop_offsets == nullptr ||
      args.stops == nullptr || args.drawn == nullptr || args.row_tokens == nullptr ||
      args.row_slots == nullptr)
    return absl::InvalidArgumentError("token_feed: an array is null");
  if (stream.on_gpu()) return MAMBAD_ON_GPU(stream, "token_feed", FeedTokensCuda(stream.handle(), args));
  for (std::int64_t row = 0; row < args.rows; ++row) {
    const FedRow fed(args, row);
    fed.Complete(args, row, fed.drawn() ? args.drawn[fed.slot] : 0);
  }
  return absl::OkStatus();
}

}  // namespace mambad::kernels
