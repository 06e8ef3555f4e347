// rms_norm: root mean square normalisation of each row.
//
//   y[i] = x[i] / sqrt(mean_j(x[j]^2) + eps) * weight[i]
//
// Source: Zhang & Sennrich, "Root Mean Square Layer Normalization", arXiv:1910.07467, eq. (4), with the eps
// that
//   every implementation adds.
//
// Shapes:   see the fields; all fp32 in device memory.
// Aliasing: y == x with equal strides is allowed; any other overlap is not.
// Numerics: the sum of squares is the fixed tree of kernels/math/tree_sum.h, without fused multiply-adds, so
//   every CPU path gives the same bits. A row's result depends on that row alone.
// Errors:   InvalidArgument naming the field.
// Threads:  rows are spread over the stream's pool; returns when done. Does not allocate.
#ifndef MAMBAD_KERNELS_RMS_NORM_RMS_NORM_H_
#define MAMBAD_KERNELS_RMS_NORM_RMS_NORM_H_

#include "absl/status/status.h"
#include "kernels/device/stream.h"
#include "kernels/rms_norm/rms_norm_args.h"

namespace mambad::kernels {

absl::Status RmsNorm(Stream& stream, const RmsNormArgs& args);

}  // namespace mambad::kernels

#endif  // MAMBAD_KERNELS_RMS_NORM_RMS_NORM_H_
