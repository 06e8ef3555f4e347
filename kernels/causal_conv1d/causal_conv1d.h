// causal_conv1d: depthwise causal convolution over time, bias and SiLU.
//
//   y[t, d] = silu(bias[d] + sum_k weight[k, d] * x[t - (K-1) + k, d])
//
// where x before the chunk is the window carried in the chunk's slot; afterwards the window holds the last
// K-1 inputs, oldest first.
//
// Source: the short convolution of Gu & Dao, "Mamba", arXiv:2312.00752, section 3.4 and figure 3.
//
// Shapes:   see the fields; fp32 in device memory. The window's layout: kernels/base/slots.h. K = 1 has an
// empty
//   window.
// Slots:    distinct within a call, in [0, S) or kNoSlot; kNoSlot chunks and rows read and write nothing.
// Aliasing: y == x with equal strides is allowed; any other overlap is not.
// Numerics: taps in ascending order into one accumulator that starts at the bias. With round_input_to_bf16
// each
//   input is rounded once, before everything else, and the window holds the rounded values. The result of a
//   channel depends on its own inputs and window alone: splitting a chunk anywhere gives the same bits, and
//   so does the step (prefill and step share their arithmetic).
// Errors:   InvalidArgument naming the field.
// Threads:  channels are spread over the stream's pool; returns when done. Does not allocate.
#ifndef MAMBAD_KERNELS_CAUSAL_CONV1D_CAUSAL_CONV1D_H_
#define MAMBAD_KERNELS_CAUSAL_CONV1D_CAUSAL_CONV1D_H_

#include "absl/status/status.h"
#include "kernels/causal_conv1d/causal_conv1d_args.h"
#include "kernels/device/stream.h"

namespace mambad::kernels {

absl::Status CausalConv1dPrefill(Stream& stream, const CausalConv1dPrefillArgs& args);
absl::Status CausalConv1dStep(Stream& stream, const CausalConv1dStepArgs& args);

}  // namespace mambad::kernels

#endif  // MAMBAD_KERNELS_CAUSAL_CONV1D_CAUSAL_CONV1D_H_
