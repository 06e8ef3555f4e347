// token_feed: the tokens and slots of a decode step's rows, when the host has not seen yet what the step
// before drew.
//
//   row_tokens[r], row_slots[r] = tokens[r], slots[r]                  where tokens[r] is a token id
//                                 drawn[slots[r]], slots[r]            where it is kDrawnToken
//                                 0, kNoSlot                           and that is one of the row's stops
//
// So a device retires a row at its end-of-sequence token itself, before the host learns of it.
//
// Memory:  what is read may be in host memory that the device reaches (HostBuffer); `drawn` and what is
//   written are the device's. All but `drawn` is complete before the call: a GPU reads it while the work
//   before still runs.
// Errors:  InvalidArgument for a negative size or a null array. Ids and slots are the caller's promise.
// Threads: the calling one; on a GPU it enqueues and returns. Does not allocate.
#ifndef MAMBAD_KERNELS_TOKEN_FEED_TOKEN_FEED_H_
#define MAMBAD_KERNELS_TOKEN_FEED_TOKEN_FEED_H_

#include "absl/status/status.h"
#include "kernels/device/stream.h"
#include "kernels/token_feed/token_feed_args.h"

namespace mambad::kernels {

absl::Status FeedTokens(Stream& stream, const TokenFeedArgs& args);

}  // namespace mambad::kernels

#endif  // MAMBAD_KERNELS_TOKEN_FEED_TOKEN_FEED_H_
