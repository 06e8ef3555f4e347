// The fuzz target on mutations of good files, in every build: the mutations are those of a fixed seed.
#include <cstdint>
#include <cstdio>
#include <random>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "tests/model/safetensors_file.h"
#include "tests/model/test_models.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

namespace mambad {
namespace {

constexpr int kRoundsPerSeed = 2000;
constexpr size_t kSafetensorsData = 4096;

// Good files, each behind the byte that chooses its parser.
std::vector<std::string> Seeds() {
  const std::string weights = ReadBytes(TestDataPath("models/tiny-mamba/model.safetensors"));
  const std::string header =
      R"({"a":{"dtype":"F32","shape":[32,32],"data_offsets":[0,4096]},"__metadata__":{"format":"pt"}})";
  return {
      std::string(1, '\0') + SafetensorsBytes(header, std::string(kSafetensorsData, 'x')),
      std::string(1, '\0') + weights.substr(0, 4096),
      "\x01" + ReadBytes(TestDataPath("models/tiny-falcon-mamba/config.json")),
      std::string("\x01") + R"({"d_model": 64, "n_layer": 3, "vocab_size": 100, "ssm_cfg": {"d_state": 8}})",
      "\x02" + ReadBytes(TestDataPath("models/tiny-mamba/generation_config.json")),
  };
}

std::string Mutate(std::string bytes, std::mt19937& random) {
  static constexpr std::string_view kTokens[] = {"-1", "1e308", "18446744073709551615", "null", "[]", "{}",
                                                 "\"", "0"};
  for (uint32_t n = 1 + random() % 4; n > 0 && bytes.size() > 1; --n) {
    const size_t at = 1 + random() % (bytes.size() - 1);
    switch (random() % 4) {
      case 0:
        bytes[at] = static_cast<char>(random());
        break;
      case 1:
        bytes.erase(at, 1 + random() % 16);
        break;
      case 2:
        bytes.insert(at, kTokens[random() % std::size(kTokens)]);
        break;
      default:
        bytes.insert(at, bytes.substr(1 + random() % (bytes.size() - 1), random() % 32));
    }
  }
  return bytes;
}

TEST(CheckpointFuzzTest, MutatedFilesBreakNoPromise) {
  std::mt19937 random(11);
  for (const std::string& seed : Seeds()) {
    ASSERT_GT(seed.size(), 10u);
    for (int round = 0; round < kRoundsPerSeed; ++round) {
      const std::string bytes = Mutate(seed, random);
      LLVMFuzzerTestOneInput(reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size());
    }
  }
}

}  // namespace
}  // namespace mambad
