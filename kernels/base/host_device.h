// MAMBAD_HOST_DEVICE: a function that CUDA kernels call too.
#ifndef MAMBAD_KERNELS_BASE_HOST_DEVICE_H_
#define MAMBAD_KERNELS_BASE_HOST_DEVICE_H_

#if defined(__CUDACC__)
#define MAMBAD_HOST_DEVICE __host__ __device__
#else
#define MAMBAD_HOST_DEVICE
#endif

#endif  // MAMBAD_KERNELS_BASE_HOST_DEVICE_H_
