#include "kernels/bench/roof.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <limits>
#include <numeric>
#include <vector>

#include "kernels/base/status_macros.h"
#include "kernels/bench/roof_cuda.h"
#include "kernels/device/gpu_call.h"

namespace mambad::kernels {
namespace {

constexpr int kPasses = 4;
// Timed apart, and the best of each summed: a neighbour that takes the CPU for a moment spoils one piece
// only. A piece comes round again after a whole GiB, so no cache still holds it.
constexpr std::size_t kPieceBytes = std::size_t{64} << 20;
constexpr std::int64_t kLineWords = 8;  // of 64 bits: one cache line
constexpr std::int64_t kStreamBytes = 48 << 10;

// Reads `bytes` from `begin` as kStreams neighbouring sequential streams at once, without software prefetch:
// the fastest of the patterns tried. Returns a digest, so that no read is dropped.
template <int kStreams>
[[gnu::always_inline]] inline std::uint64_t Read(const std::byte* begin, std::int64_t bytes) {
  std::uint64_t sums[kStreams][kLineWords] = {};
  constexpr std::int64_t kWords = kStreamBytes / sizeof(std::uint64_t);
  for (std::int64_t block = 0; block + kStreams * kStreamBytes <= bytes; block += kStreams * kStreamBytes) {
    const std::uint64_t* words = reinterpret_cast<const std::uint64_t*>(begin + block);
    for (std::int64_t at = 0; at < kWords; at += kLineWords) {
#pragma GCC unroll 8
      for (int s = 0; s < kStreams; ++s) {
#pragma GCC unroll 8
        for (int i = 0; i < kLineWords; ++i) sums[s][i] ^= words[s * kWords + at + i];
      }
    }
  }
  std::uint64_t digest = 0;
  for (const auto& sum : sums) {
    for (const std::uint64_t word : sum) digest ^= word;
  }
  return digest;
}

using Reader = std::uint64_t (*)(const std::byte*, std::int64_t);

std::uint64_t ReadTwo(const std::byte* begin, std::int64_t bytes) { return Read<2>(begin, bytes); }
std::uint64_t ReadFour(const std::byte* begin, std::int64_t bytes) { return Read<4>(begin, bytes); }

#if defined(__x86_64__)
// Wider loads reach a quarter more on the machines measured.
__attribute__((target("avx2"))) std::uint64_t ReadTwoAvx2(const std::byte* begin, std::int64_t bytes) {
  return Read<2>(begin, bytes);
}
__attribute__((target("avx2"))) std::uint64_t ReadFourAvx2(const std::byte* begin, std::int64_t bytes) {
  return Read<4>(begin, bytes);
}
#endif

std::vector<Reader> Readers(CpuPath path) {
#if defined(__x86_64__)
  if (path != CpuPath::kPortable) return {&ReadTwoAvx2, &ReadFourAvx2};
#endif
  return {&ReadTwo, &ReadFour};
}

double Seconds(ThreadPool& pool, Reader read, const std::byte* data) {
  std::atomic<std::uint64_t> digest = 0;
  const auto start = std::chrono::steady_clock::now();
  pool.Run([&](int worker, int workers) {
    const Range mine = Slice(kPieceBytes, 4096, worker, workers);
    digest ^= read(data + mine.begin, mine.size());
  });
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

absl::StatusOr<double> MeasureOnGpu(Device& device) {
  MAMBAD_ASSIGN_OR_RETURN(const DeviceBuffer buffer, device.Allocate(kRoofBytes, "read roof", Fill::kZero));
  MAMBAD_ASSIGN_OR_RETURN(const std::unique_ptr<Stream> stream, Stream::Create(device));
  float milliseconds = 0;
  MAMBAD_RETURN_IF_ERROR(MAMBAD_ON_GPU(*stream, "read roof",
                                       TimeReadCuda(stream->handle(), buffer.data(), buffer.bytes(),
                                                    stream->workspace().data(), &milliseconds)));
  return kRoofBytes / (milliseconds * 1e6);
}

}  // namespace

absl::StatusOr<double> MeasureReadRoof(Device& device) {
  if (device.is_gpu()) return MeasureOnGpu(device);
  MAMBAD_ASSIGN_OR_RETURN(const DeviceBuffer buffer, device.Allocate(kRoofBytes, "read roof", Fill::kZero));
  constexpr std::size_t kPieces = kRoofBytes / kPieceBytes;
  std::vector<double> best(kPieces, std::numeric_limits<double>::infinity());
  for (int pass = 0; pass < kPasses; ++pass) {
    for (const Reader read : Readers(device.cpu_path())) {
      for (std::size_t i = 0; i < kPieces; ++i) {
        best[i] = std::min(best[i], Seconds(device.pool(), read, buffer.as<std::byte>() + i * kPieceBytes));
      }
    }
  }
  return kRoofBytes / std::accumulate(best.begin(), best.end(), 0.0) * 1e-9;
}

}  // namespace mambad::kernels
