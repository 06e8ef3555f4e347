// Builds with MAMBAD_RANDOM_DELAYS: threads stop for a while wherever kernels, or the blocks of a cluster,
// wait for each other, so that an order which nothing enforces breaks (tests/delays_gpu.sh). In all others:
// nothing.
#ifndef MAMBAD_KERNELS_DEVICE_RANDOM_DELAY_CUH_
#define MAMBAD_KERNELS_DEVICE_RANDOM_DELAY_CUH_

#include <cstdint>

namespace mambad::kernels {

// Where a delay stands: two of a kernel do not take the same time.
enum class DelayAt : std::uint32_t {
  kBeforeWait = 1,
  kAfterWait,
  kBeforeAllow,
  kAfterAllow,
  kCluster,
  kBarrier,
  kCopy,
  kHandover
};

// One call in `kOneIn` spins, for up to about 8 us: mostly all warps of a block alike, else each for
// itself. Decided by block, place and clock.
template <DelayAt kPlace, int kOneIn>
__device__ __forceinline__ void DelayAtRandom() {
#if defined(MAMBAD_RANDOM_DELAYS) && defined(__CUDA_ARCH__)
  constexpr int kLongestLog2 = 14;  // clocks
  const auto mix = [](std::uint32_t v) {
    v = (v ^ v >> 16) * 0x7feb352du;
    v = (v ^ v >> 15) * 0x846ca68bu;
    return v ^ v >> 16;
  };
  const long long begin = clock64();
  const std::uint32_t block = blockIdx.x + 4099 * blockIdx.y + 65537 * blockIdx.z;
  // The clock's high part is that of all warps which come at about the same time.
  std::uint32_t chance =
      mix(mix(static_cast<std::uint32_t>(begin >> kLongestLog2) + static_cast<std::uint32_t>(kPlace) * 97) +
          block);
  if (chance % 4 == 0) chance = mix(static_cast<std::uint32_t>(begin) + chance + threadIdx.x / 32);
  if (chance / 4 % kOneIn != 0) return;
  const long long clocks = chance >> (32 - kLongestLog2);
  while (clock64() - begin < clocks) {
  }
#endif
}

}  // namespace mambad::kernels

#endif  // MAMBAD_KERNELS_DEVICE_RANDOM_DELAY_CUH_
