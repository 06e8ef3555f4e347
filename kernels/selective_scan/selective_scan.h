// selective_scan: the selective state space recurrence (S6) with its skip and gate.
//
//   delta   = softplus(delta_raw + delta_bias)
//   h[n]   <- exp(delta * A[n]) * h[n] + (delta * x) * B[n]          for each channel d, state index n
//   y       = (sum_n C[n] * h[n] + skip * x) * silu(z)
//
// Source: Gu & Dao, "Mamba", arXiv:2312.00752, Algorithm 2 with eq. (2).
// Departs from it: B is discretised to first order (delta * B), not by eq. (4)'s exact hold, as in the
// authors'
//   code and hence in their checkpoints.
//
// Shapes:   see the fields; fp32 in device memory. The state's layout: kernels/base/slots.h.
// Slots:    distinct within a call, in [0, S) or kNoSlot; kNoSlot chunks and rows read and write nothing.
// Aliasing: y may equal x, z or delta_raw (with an equal stride); any other overlap is not allowed.
// Numerics: the decay is 2^(delta * decay_log2[n]) by kernels/math/exp.h. The sum over n is four interleaved
//   partial sums (n mod 4, ascending), combined pairwise. A channel's result depends on its own row alone,
//   and prefill and step share their arithmetic: splitting a chunk anywhere gives the same bits.
// Cost:     the step moves 2*B*D*N*4 bytes of state; prefill is bound by B*T*D*N exponentials.
// Errors:   InvalidArgument naming the field.
// Threads:  channels are spread over the stream's pool; returns when done. Does not allocate.
#ifndef MAMBAD_KERNELS_SELECTIVE_SCAN_SELECTIVE_SCAN_H_
#define MAMBAD_KERNELS_SELECTIVE_SCAN_SELECTIVE_SCAN_H_

#include <cstdint>

#include "absl/status/status.h"
#include "kernels/base/slots.h"
#include "kernels/device/device.h"

namespace mambad::kernels {

inline constexpr std::int64_t kMaxStateSize = 256;

struct SelectiveScanParams {
  const float* decay_log2 = nullptr;  // (N, D), from PackDecay
  const float* delta_bias = nullptr;  // (D), or null
  const float* skip = nullptr;        // (D): the model's D
  std::int64_t channels = 0;          // D >= 1
  std::int64_t state_size = 0;        // N in [1, kMaxStateSize]
};

// The inputs of every token or row. delta_raw is dt_proj's output before its bias; z the gate half of
// in_proj's output; b and c lie inside x_proj's output.
struct SelectiveScanInputs {
  const float* x = nullptr;          // (T, D), after convolution and SiLU
  std::int64_t x_stride = 0;         // floats, >= D
  const float* delta_raw = nullptr;  // (T, D)
  std::int64_t delta_stride = 0;     // floats, >= D
  const float* z = nullptr;          // (T, D)
  std::int64_t z_stride = 0;         // floats, >= D
  const float* b = nullptr;          // (T, N)
  const float* c = nullptr;          // (T, N)
  std::int64_t bc_stride = 0;        // floats between tokens of b, and of c; >= N
};

// Packed chunks: chunk i is the tokens [offsets[i], offsets[i + 1]).
struct SelectiveScanPrefillArgs {
  SelectiveScanParams params;
  SelectiveScanInputs in;
  float* y = nullptr;         // (T, D)
  std::int64_t y_stride = 0;  // floats, >= D
  std::int64_t chunks = 0;    // >= 0
  const std::int64_t* offsets =
      nullptr;  // (chunks + 1), ascending, offsets[0] >= 0; empty chunks are allowed
  const std::int32_t* slot_index = nullptr;  // (chunks)
  SlotView state;                            // (N, D) per slot
};

// One token a row.
struct SelectiveScanStepArgs {
  SelectiveScanParams params;
  SelectiveScanInputs in;                    // T = B
  float* y = nullptr;                        // (B, D)
  std::int64_t y_stride = 0;                 // floats, >= D
  std::int64_t rows = 0;                     // B >= 0
  const std::int32_t* slot_index = nullptr;  // (B)
  SlotView state;                            // (N, D) per slot
};

// decay_log2[n, d] = -exp(a_log[d, n]) * log2(e), computed in double and rounded once. Host memory; a_log is
// the checkpoint's (D, N).
void PackDecay(const float* a_log, std::int64_t channels, std::int64_t state_size, float* decay_log2);

absl::Status SelectiveScanPrefill(Stream& stream, const SelectiveScanPrefillArgs& args);
absl::Status SelectiveScanStep(Stream& stream, const SelectiveScanStepArgs& args);

}  // namespace mambad::kernels

#endif  // MAMBAD_KERNELS_SELECTIVE_SCAN_SELECTIVE_SCAN_H_
