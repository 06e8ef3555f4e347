#include "kernels/embedding/embedding.h"

#include <cstdint>
#include <random>
#include <vector>

#include "gtest/gtest.h"
#include "tests/support/cpu_device.h"

namespace mambad::kernels {
namespace {

constexpr float kPoison = -12345.0f;

std::vector<float> RandomFloats(std::size_t count) {
  std::mt19937 random(7);
  std::normal_distribution<float> normal;
  std::vector<float> values(count);
  for (float& value : values) value = normal(random);
  return values;
}

class EmbeddingTest : public ::testing::TestWithParam<CpuPath> {
 protected:
  std::unique_ptr<Device> device_ = DeviceOn(GetParam(), 2);
  std::unique_ptr<Stream> stream_ = Stream::Create(*device_).value();
};

TEST_P(EmbeddingTest, ItsOwnTableAndTheTiedHeadGiveTheSameExactRows) {
  constexpr std::int64_t kRows = 37;
  for (const std::int64_t M : {1, 64, 769}) {
    const std::vector<float> table = RandomFloats(kRows * M);
    const LinearWeight weight = {.data = table.data(), .dtype = DType::kF32, .rows = kRows, .cols = M};
    for (WeightPrecision precision : {WeightPrecision::kF32, WeightPrecision::kBf16}) {
      const Embedding own = Embedding::Create(*device_, weight, precision).value();
      const PackedLinear head = PackLinear(*device_, weight, precision).value();
      const Embedding tied = Embedding::Tied(head);
      // 64 lookups also take the path that uses the pool.
      std::vector<std::uint32_t> ids;
      for (std::uint32_t i = 0; i < 64; ++i) ids.push_back((i * 29) % kRows);
      const std::int64_t ldo = M + 3;
      for (const Embedding* embedding : {&own, &tied}) {
        std::vector<float> out(ids.size() * ldo, kPoison);
        const EmbeddingArgs args = {.ids = ids.data(), .out = out.data(), .ldo = ldo, .rows = 64};
        ASSERT_TRUE(EmbeddingLookup(*stream_, *embedding, args).ok());
        for (std::size_t r = 0; r < ids.size(); ++r) {
          for (std::int64_t i = 0; i < M; ++i) {
            const float value = table[ids[r] * M + i];
            ASSERT_EQ(out[r * ldo + i], precision == WeightPrecision::kF32 ? value : RoundToBf16(value));
          }
          for (std::int64_t i = M; i < ldo; ++i) ASSERT_EQ(out[r * ldo + i], kPoison);
        }
      }
      EXPECT_EQ(tied.bytes(), 0u);
      EXPECT_EQ(own.row_bytes(), tied.row_bytes());
    }
  }
}

TEST_P(EmbeddingTest, RefusesAnIdOutsideTheTableAndWritesNothing) {
  const std::vector<float> table = RandomFloats(5 * 8);
  const LinearWeight weight = {.data = table.data(), .dtype = DType::kF32, .rows = 5, .cols = 8};
  const Embedding embedding = Embedding::Create(*device_, weight, WeightPrecision::kF32).value();
  for (std::uint32_t bad : {5u, 0xffffffffu}) {
    const std::uint32_t ids[] = {0, bad};
    std::vector<float> out(16, kPoison);
    const EmbeddingArgs args = {.ids = ids, .out = out.data(), .ldo = 8, .rows = 2};
    EXPECT_EQ(EmbeddingLookup(*stream_, embedding, args).code(), absl::StatusCode::kInvalidArgument);
    EXPECT_EQ(out, std::vector<float>(16, kPoison));
  }
}

INSTANTIATE_TEST_SUITE_P(Paths, EmbeddingTest, ::testing::ValuesIn(PathsToTest()),
                         [](const auto& info) { return std::string(Name(info.param)); });

}  // namespace
}  // namespace mambad::kernels
