#include "kernels/random_fill/random_fill.h"

#include "kernels/device/gpu_call.h"
#include "kernels/random_fill/random_fill_cuda.h"

namespace mambad::kernels {

absl::Status RandomFill(Stream& stream, const RandomFillArgs& args) {
  if (args.elements < 0) return absl::InvalidArgumentError("random_fill: elements is negative");
  if (args.elements == 0) return absl::OkStatus();
  if (args.out == nullptr) return absl::InvalidArgumentError("random_fill: out is null");
  if (stream.on_gpu()) return MAMBAD_ON_GPU(stream, "random_fill", RandomFillCuda(stream.handle(), args));
  RandomFillOnHost(stream.pool(), args);
  return absl::OkStatus();
}

void RandomFillOnHost(ThreadPool& pool, const RandomFillArgs& args) {
  const std::int64_t blocks = (args.elements + kRandomFillBlock - 1) / kRandomFillBlock;
  pool.Run([&](int worker, int workers) {
    const Range mine = Slice(blocks, 1, worker, workers);
    for (std::int64_t block = mine.begin; block < mine.end; ++block) FillRandomBlock(args, block);
  });
}

}  // namespace mambad::kernels
