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
//   and prefill and step share their arithmetic: splitting a chunk anywhere gives the same bits. A step may
//   have a bf16 state: it is widened, stepped and read out in fp32, then rounded at random
//   (kernels/math/state_rounding.h) for the position behind the slot's RoundingKey, which it does not touch.
// Cost:     the step moves 2*B*D*N*4 bytes of state, or half; prefill is bound by B*T*D*N exponentials.
// Errors:   InvalidArgument naming the field.
// Threads:  channels are spread over the stream's pool; returns when done. Does not allocate.
#ifndef MAMBAD_KERNELS_SELECTIVE_SCAN_SELECTIVE_SCAN_H_
#define MAMBAD_KERNELS_SELECTIVE_SCAN_SELECTIVE_SCAN_H_

#include <cstdint>

#include "absl/status/status.h"
#include "kernels/device/stream.h"
#include "kernels/selective_scan/selective_scan_args.h"

namespace mambad::kernels {

// decay_log2[n, d] = -exp(a_log[d, n]) * log2(e), computed in double and rounded once. Host memory; a_log is
// the checkpoint's (D, N).
void PackDecay(const float* a_log, std::int64_t channels, std::int64_t state_size, float* decay_log2);

absl::Status SelectiveScanPrefill(Stream& stream, const SelectiveScanPrefillArgs& args);
absl::Status SelectiveScanStep(Stream& stream, const SelectiveScanStepArgs& args);

}  // namespace mambad::kernels

#endif  // MAMBAD_KERNELS_SELECTIVE_SCAN_SELECTIVE_SCAN_H_
