// Times sampling and scoring of rows of V logits.
//
//   sampling_bench [threads] [vocab]
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <vector>

#include "kernels/base/check.h"
#include "kernels/bench/best_of.h"
#include "kernels/sampling/sampling.h"

namespace mambad::kernels {
namespace {

struct Case {
  const char* name;
  SamplingParams params;
  float deviation;  // of the logits: 0.1 is nearly flat, 4 like a trained model
};

void Main(int threads, std::int64_t vocab) {
  constexpr std::int64_t kRows = 16;
  const auto device = Device::Create({.threads = threads}).value();
  const auto stream = Stream::Create(*device).value();
  const DeviceBuffer scratch = device->Allocate(SampleScratchBytes(*device, vocab), "sampling").value();
  std::printf("%s, %d threads, V %ld\n", device->Architecture().c_str(), device->pool().threads(),
              static_cast<long>(vocab));
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
    std::vector<float> logits(kRows * vocab);
    for (float& logit : logits) logit = normal(random);
    const std::vector<SamplingParams> params(kRows, c.params);
    std::vector<SamplingKey> keys(kRows);
    std::vector<SampledToken> results(kRows);
    const double seconds = BestOf(0.3, [&](int pass) {
      for (std::int64_t row = 0; row < kRows; ++row)
        keys[row] = {.seed = 1, .token_index = static_cast<std::uint64_t>(pass * kRows + row)};
      MAMBAD_CHECK(Sample(*stream, {.logits = logits.data(),
                                    .logits_stride = vocab,
                                    .vocab = vocab,
                                    .params = params,
                                    .keys = keys,
                                    .results = results,
                                    .scratch = {scratch.as<std::byte>(), scratch.bytes()}})
                       .ok());
    });
    std::printf("%-30s %8.1f us per row\n", c.name, seconds / kRows * 1e6);
  }
}

}  // namespace
}  // namespace mambad::kernels

int main(int argc, char** argv) {
  mambad::kernels::Main(argc > 1 ? std::atoi(argv[1]) : 0, argc > 2 ? std::atoll(argv[2]) : 50280);
  return 0;
}
