// The measured read bandwidth of a device: the roof that decode is compared with.
#ifndef MAMBAD_KERNELS_BENCH_ROOF_H_
#define MAMBAD_KERNELS_BENCH_ROOF_H_

#include <cstddef>

#include "absl/status/statusor.h"
#include "kernels/device/device.h"

namespace mambad::kernels {

inline constexpr std::size_t kRoofBytes = std::size_t{1} << 30;

// GB/s (10^9 bytes) of reading kRoofBytes with all threads of the device: every piece of it at the best of a
// few passes over a few access patterns. Takes about a second; the memory is given back. ResourceExhausted
// when it does not fit.
absl::StatusOr<double> MeasureReadRoof(Device& device);

}  // namespace mambad::kernels

#endif  // MAMBAD_KERNELS_BENCH_ROOF_H_
