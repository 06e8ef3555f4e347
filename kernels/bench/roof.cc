#include "kernels/bench/roof.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstring>

#include "kernels/base/status_macros.h"

namespace mambad::kernels {
namespace {

constexpr int kPasses = 5;
constexpr std::int64_t kLine = 64;
constexpr std::int64_t kAheadBytes = 2048;

typedef std::uint64_t Line __attribute__((vector_size(kLine)));

// Reads [begin, end) as kStreams sequential streams at once; returns a digest so that no read is dropped.
template <int kStreams>
std::uint64_t Read(const std::byte* begin, std::int64_t bytes) {
  Line sums[kStreams] = {};
  const std::int64_t share = bytes / kStreams / kLine * kLine;
  for (std::int64_t at = 0; at < share; at += kLine) {
#pragma GCC unroll 8
    for (int s = 0; s < kStreams; ++s) {
      const std::byte* p = begin + s * share + at;
      __builtin_prefetch(p + kAheadBytes);
      Line line;
      std::memcpy(&line, p, kLine);
      sums[s] ^= line;
    }
  }
  std::uint64_t digest = 0;
  for (const Line& sum : sums) {
    for (int i = 0; i < 8; ++i) digest ^= sum[i];
  }
  return digest;
}

using Reader = std::uint64_t (*)(const std::byte*, std::int64_t);

double Seconds(ThreadPool& pool, Reader read, const std::byte* data) {
  std::atomic<std::uint64_t> digest = 0;
  const auto start = std::chrono::steady_clock::now();
  pool.Run([&](int worker, int workers) {
    const Range mine = Slice(kRoofBytes, 4096, worker, workers);
    digest ^= read(data + mine.begin, mine.size());
  });
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

}  // namespace

absl::StatusOr<double> MeasureReadRoof(Device& device) {
  MAMBAD_ASSIGN_OR_RETURN(const DeviceBuffer buffer, device.Allocate(kRoofBytes, "read roof", Fill::kZero));
  double best = Seconds(device.pool(), &Read<1>, buffer.as<std::byte>());
  for (int pass = 0; pass < kPasses; ++pass) {
    for (const Reader read : {&Read<1>, &Read<2>, &Read<4>, &Read<8>}) {
      best = std::min(best, Seconds(device.pool(), read, buffer.as<std::byte>()));
    }
  }
  return kRoofBytes / best * 1e-9;
}

}  // namespace mambad::kernels
