// The arguments of rms_norm, apart from the op so that CUDA files need not read Abseil. Open rms_norm.h
// first.
#ifndef MAMBAD_KERNELS_RMS_NORM_RMS_NORM_ARGS_H_
#define MAMBAD_KERNELS_RMS_NORM_RMS_NORM_ARGS_H_

#include <cstdint>

namespace mambad::kernels {

struct RmsNormArgs {
  const float* x = nullptr;       // (rows, width)
  std::int64_t x_stride = 0;      // floats between rows, >= width
  const float* weight = nullptr;  // (width), or null for a weightless norm
  float* y = nullptr;             // (rows, width)
  std::int64_t y_stride = 0;      // floats between rows, >= width
  std::int64_t rows = 0;          // >= 0
  std::int64_t width = 0;         // >= 1
  float eps = 1e-5f;              // >= 0, finite
};

}  // namespace mambad::kernels

#endif  // MAMBAD_KERNELS_RMS_NORM_RMS_NORM_ARGS_H_
