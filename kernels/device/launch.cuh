// Launching kernels, which may start while the one before them ends.
#ifndef MAMBAD_KERNELS_DEVICE_LAUNCH_CUH_
#define MAMBAD_KERNELS_DEVICE_LAUNCH_CUH_

#include <cuda_runtime.h>

#include <cstddef>
#include <iterator>
#include <utility>

#include "kernels/base/check.h"

namespace mambad::kernels {

struct LaunchShape {
  dim3 grid;
  int threads = 256;
  int shared_bytes = 0;  // dynamic
  int cluster = 1;       // blocks along x
  // Begins before the previous kernel of the stream has ended: calls WaitForPreviousKernel (hopper.cuh)
  // before it reads what that one wrote.
  bool overlaps = true;
  // Its blocks wait for each other: the launch fails unless all can run at once.
  bool at_once = false;
};

template <class... Parameters, class... Arguments>
cudaError_t LaunchKernel(cudaStream_t stream, void (*kernel)(Parameters...), const LaunchShape& shape,
                         const Arguments&... arguments) {
  if (shape.shared_bytes > 0) {
    const cudaError_t error =
        cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, shape.shared_bytes);
    if (error != cudaSuccess) return error;
  }
  cudaLaunchAttribute attributes[3] = {};
  unsigned count = 0;
  if (shape.overlaps) {
    attributes[count].id = cudaLaunchAttributeProgrammaticStreamSerialization;
    attributes[count++].val.programmaticStreamSerializationAllowed = 1;
  }
  if (shape.cluster > 1) {
    attributes[count].id = cudaLaunchAttributeClusterDimension;
    attributes[count++].val.clusterDim = {static_cast<unsigned>(shape.cluster), 1, 1};
  }
  if (shape.at_once) {
    attributes[count].id = cudaLaunchAttributeCooperative;
    attributes[count++].val.cooperative = 1;
  }
  cudaLaunchConfig_t config = {};
  config.gridDim = shape.grid;
  config.blockDim = dim3(shape.threads);
  config.dynamicSmemBytes = shape.shared_bytes;
  config.stream = stream;
  config.attrs = attributes;
  config.numAttrs = count;
  return cudaLaunchKernelEx(&config, kernel, arguments...);
}

// launch.operator()<kList[i]>() for the element that equals `value`: a kernel for each of a list of shapes,
// which then stands in one place. REQUIRES: there is one.
template <const auto& kList, class Value, class Launch>
auto WithListed(const Value& value, const Launch& launch) {
  decltype(launch.template operator()<kList[0]>()) result = {};
  const auto try_each = [&]<std::size_t... kIndex>(std::index_sequence<kIndex...>) {
    return ((value == kList[kIndex] && (result = launch.template operator()<kList[kIndex]>(), true)) || ...);
  };
  const bool listed = try_each(std::make_index_sequence<std::size(kList)>());
  MAMBAD_CHECK(listed);
  return result;
}

// Of the current device, 0 when it cannot be asked.
inline int DeviceAttribute(cudaDeviceAttr attribute) {
  int device = 0, value = 0;
  if (cudaGetDevice(&device) != cudaSuccess) return 0;
  return cudaDeviceGetAttribute(&value, attribute, device) == cudaSuccess ? value : 0;
}

}  // namespace mambad::kernels

#endif  // MAMBAD_KERNELS_DEVICE_LAUNCH_CUH_
