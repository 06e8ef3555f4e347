// Times sampling and scoring of rows of V logits.
//
//   sampling_bench [threads] [vocab] [rows] [cpu|cuda]
//
// On a GPU this is the time of the whole op, from the host's arguments to the host's results.
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <string_view>
#include <vector>

#include "kernels/base/check.h"
#include "kernels/bench/best_of.h"
#include "kernels/sampling/sampler.h"

namespace mambad::kernels {
namespace {

struct Case {
  const char* name;
  SamplingParams params;
  float deviation;  // of the logits: 0.1 is nearly flat, 4 like a trained model
};

void Main(int threads, std::int64_t vocab, std::int64_t rows, DeviceKind kind) {
  const auto device = Device::Create({.kind = kind, .threads = threads}).value();
  const auto stream = Stream::Create(*device).value();
  const std::int64_t stride = (vocab + 3) / 4 * 4;
  const auto sampler = Sampler::Create(*device, {.vocab = vocab, .stride = stride, .rows_max = rows}).value();
  const DeviceBuffer logits = device->Allocate(rows * stride * sizeof(float), "logits").value();
  std::printf("%s, %d threads, V %ld, %ld rows\n", device->Architecture().c_str(), device->pool().threads(),
              static_cast<long>(vocab), static_cast<long>(rows));
  const Case cases[] = {
      {"greedy", {.temperature = 0.0f}, 4.0f},
      {"greedy, logprob, top 20", {.temperature = 0.0f, .top_logprobs = 20, .logprob = true}, 4.0f},
      {"temperature", {}, 4.0f},
      {"top_k 40", {.top_k = 40}, 4.0f},
      {"top_p 0.9", {.top_p = 0.9f}, 4.0f},
      {"top_p 0.9, flat", {.top_p = 0.9f}, 0.1f},
      {"top_k 1000, top_p 0.9, flat", {.top_p = 0.9f, .top_k = 1000}, 0.1f},
      {"min_p 0.05", {.min_p = 0.05f}, 4.0f},
  };
  for (const Case& c : cases) {
    std::mt19937 random(1);
    std::normal_distribution<float> normal(0.0f, c.deviation);
    std::vector<float> host_logits(rows * stride);
    for (float& logit : host_logits) logit = normal(random);
    MAMBAD_CHECK(CopyToDevice(*stream, logits.data(), host_logits.data(), logits.bytes()).ok());
    const std::vector<SamplingParams> params(rows, c.params);
    std::vector<SamplingKey> keys(rows);
    std::vector<SampledToken> results(rows);
    const double seconds = BestOf(0.3, [&](int pass) {
      for (std::int64_t row = 0; row < rows; ++row)
        keys[row] = {.seed = 1, .token_index = static_cast<std::uint64_t>(pass * rows + row)};
      MAMBAD_CHECK(
          sampler
              ->Sample(*stream,
                       {.logits = logits.as<float>(), .params = params, .keys = keys, .results = results})
              .ok());
    });
    std::printf("%-30s %8.1f us, %8.2f us per row\n", c.name, seconds * 1e6, seconds / rows * 1e6);
  }
}

}  // namespace
}  // namespace mambad::kernels

int main(int argc, char** argv) {
  using mambad::kernels::DeviceKind;
  const bool gpu = argc > 4 && std::string_view(argv[4]) == "cuda";
  mambad::kernels::Main(argc > 1 ? std::atoi(argv[1]) : 0, argc > 2 ? std::atoll(argv[2]) : 50280,
                        argc > 3 ? std::atoll(argv[3]) : 16, gpu ? DeviceKind::kCuda : DeviceKind::kCpu);
  return 0;
}
