// narrow_state: a state that lies narrower in its slot (bf16) than it is computed with, between its two
// forms. A prompt begins with WidenStates, goes on in fp32 whatever its chunks, and ends with RoundStates; a
// decode step widens and rounds inside its own kernel.
//
// Numerics: rounding is that of kernels/math/state_rounding.h under the slot's RoundingKey as it stands, so
//   AdvanceKeys comes first. The same bits on every device.
// Slots:    rows of kNoSlot read and write nothing.
// Cost:     6 bytes an element.
// Errors:   InvalidArgument for sizes out of range or null pointers. Slots are the caller's promise.
// Threads:  spread over the stream's pool; on a GPU they enqueue and return. They do not allocate.
#ifndef MAMBAD_KERNELS_NARROW_STATE_NARROW_STATE_H_
#define MAMBAD_KERNELS_NARROW_STATE_NARROW_STATE_H_

#include "absl/status/status.h"
#include "kernels/device/stream.h"
#include "kernels/narrow_state/narrow_state_args.h"

namespace mambad::kernels {

absl::Status WidenStates(Stream& stream, const NarrowStateArgs& args);
absl::Status RoundStates(Stream& stream, const NarrowStateArgs& args);

// key.position += the tokens that each row consumed.
absl::Status AdvanceKeys(Stream& stream, const AdvanceKeysArgs& args);

}  // namespace mambad::kernels

#endif  // MAMBAD_KERNELS_NARROW_STATE_NARROW_STATE_H_
