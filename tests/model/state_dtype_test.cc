// What a bf16 state costs: teacher-forced text through the decode path, where the state is rounded after each
// token; and how long a memory survives it.
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <random>
#include <vector>

#include "engine/model/safetensors.h"
#include "gtest/gtest.h"
#include "kernels/base/slots.h"
#include "tests/model/slot_pool.h"
#include "tests/model/test_models.h"

namespace mambad {
namespace {

// The whole text by several seeds: 5 x 20,000 tokens. Short: its beginning by two.
bool Long() { return std::getenv("MAMBAD_LONG_TESTS") != nullptr; }
size_t Tokens() { return Long() ? 20'000 : 2'000; }
int32_t Seeds() { return Long() ? 5 : 2; }

// A rounded element is off by at most 2^-8 of itself, at random, and the readout sums a few hundred of them:
// about 2^-8 / sqrt(100) of a layer's output, which is less than what bf16 weights cost (precision_test). The
// bounds are those of that test.
constexpr double kMeanLogprobDifference = 0.02;
constexpr double kBitsPerByteRatio = 0.005;

struct Text {
  std::vector<uint16_t> ids;
  double bytes_per_token = 0;
};

Text ReadText() {
  const auto file = SafetensorsFile::Open(TestDataPath("golden/tales-tokens.safetensors"));
  Text text;
  if (!file.ok()) {
    ADD_FAILURE() << file.status();
    return text;
  }
  const auto ids = (*file)->Bytes(*(*file)->Find("input_ids"));
  text.ids.resize(ids.size() / sizeof(uint16_t));
  std::memcpy(text.ids.data(), ids.data(), ids.size());
  int64_t bytes = 0;
  std::memcpy(&bytes, (*file)->Bytes(*(*file)->Find("text_bytes")).data(), sizeof(bytes));
  text.bytes_per_token = static_cast<double>(bytes) / static_cast<double>(text.ids.size());
  text.ids.resize(std::min(text.ids.size(), Tokens()));
  return text;
}

// By row, log p(token i + 1 | tokens up to i): every row decodes the same text, each with a seed of its own.
std::vector<std::vector<float>> DecodeLogprobs(const std::vector<uint16_t>& ids, StateDtype dtype,
                                               int32_t rows) {
  ForwardLimits limits;
  limits.decode_rows = static_cast<uint32_t>(rows);
  const auto model = LoadTestModel(TalesFolder(), Precision::kBf16, limits, /*threads=*/1, dtype);
  const StateLayout& layout = model->state_layout();
  SlotPool pool(layout, rows);
  Batch batch;
  for (int32_t row = 0; row < rows; ++row) {
    batch.decode_slots.push_back(row);
    batch.logits.push_back({LogitsSource::kDecodeRow, static_cast<uint32_t>(row)});
    if (!layout.narrow()) continue;
    const kernels::RoundingKey key = {.seed = static_cast<uint64_t>(row)};
    std::memcpy(pool.slot(row).data(), &key, sizeof(key));
  }
  std::vector<std::vector<float>> logprobs(static_cast<size_t>(rows));
  std::vector<LogitsResult> results;
  for (size_t i = 0; i + 1 < ids.size(); ++i) {
    batch.decode_tokens.assign(static_cast<size_t>(rows), ids[i]);
    for (LogitsTask& task : batch.logits) task.target = ids[i + 1];
    const absl::Status status = model->Forward(batch, pool.view(), &results);
    EXPECT_TRUE(status.ok()) << status;
    for (size_t row = 0; row < logprobs.size(); ++row) logprobs[row].push_back(results[row].target_logprob);
  }
  return logprobs;
}

double BitsPerByte(const std::vector<float>& logprobs, double bytes_per_token) {
  double nats = 0;
  for (const float logprob : logprobs) nats -= logprob;
  return nats / std::log(2.0) / (static_cast<double>(logprobs.size()) * bytes_per_token);
}

TEST(StateDtypeTest, ABf16StateIsCloseToF32OnTheTales) {
  const Text text = ReadText();
  ASSERT_EQ(text.ids.size(), Tokens());
  const std::vector<float> f32 = DecodeLogprobs(text.ids, StateDtype::kF32, 1)[0];
  const auto bf16 = DecodeLogprobs(text.ids, StateDtype::kBf16, Seeds());
  const double f32_bits = BitsPerByte(f32, text.bytes_per_token);
  double mean_bits = 0, difference = 0;
  for (const std::vector<float>& row : bf16) {
    ASSERT_EQ(row.size(), f32.size());
    const double bits = BitsPerByte(row, text.bytes_per_token);
    EXPECT_LE(std::fabs(bits / f32_bits - 1), kBitsPerByteRatio);
    mean_bits += bits / static_cast<double>(bf16.size());
    double moved = 0;
    for (size_t i = 0; i < row.size(); ++i) moved += std::fabs(row[i] - f32[i]);
    difference += moved / static_cast<double>(row.size() * bf16.size());
  }
  std::printf(
      "[ STATE    ] %zu tokens, %d seeds: bits per byte %.5f with a f32 state, %.5f (%+.3f%%) with bf16, "
      "mean |logprob difference| %.5f\n",
      f32.size(), Seeds(), f32_bits, mean_bits, 100 * (mean_bits / f32_bits - 1), difference);
  EXPECT_LT(f32_bits, 2.0);  // a model that knows the text
  EXPECT_NE(bf16[0], bf16[1]);
  EXPECT_GT(difference, 0.0);
  EXPECT_LE(difference, kMeanLogprobDifference);
}

// mamba-induction has learnt: what followed the marker once follows it again. The states of its first layer
// must carry that over everything between, a rounding a token.
TEST(StateDtypeTest, ABf16StateRemembersOverAMillionTokens) {
  constexpr uint32_t kMarker = 15;
  constexpr uint32_t kRows = 8;
  const size_t tokens = Long() ? size_t{1} << 20 : size_t{1} << 13;
  const auto model = LoadTestModel(TestDataPath("models/mamba-induction"), Precision::kF32,
                                   {.decode_rows = kRows}, /*threads=*/1, StateDtype::kBf16);
  SlotPool pool(model->state_layout(), kRows);
  std::mt19937 random(20);
  Batch batch;
  for (uint32_t row = 0; row < kRows; ++row) batch.decode_slots.push_back(static_cast<int32_t>(row));
  batch.decode_tokens.resize(kRows);
  std::vector<uint32_t> after_marker(kRows);
  std::vector<LogitsResult> results;
  for (size_t i = 0; i < tokens; ++i) {
    const bool last = i + 1 == tokens;
    for (uint32_t row = 0; row < kRows; ++row) {
      const size_t marker_at = 5 + 7 * row;
      const auto noise = static_cast<uint32_t>(random() % kMarker);
      batch.decode_tokens[row] = i == marker_at || last ? kMarker : noise;
      if (i == marker_at + 1) after_marker[row] = noise;
      if (last) {
        LogitsTask task = {LogitsSource::kDecodeRow, row};
        task.target = after_marker[row];
        batch.logits.push_back(task);
      }
    }
    ASSERT_TRUE(model->Forward(batch, pool.view(), &results).ok());
  }
  for (uint32_t row = 0; row < kRows; ++row) {
    EXPECT_TRUE(results[row].target_is_greedy) << "row " << row;
    EXPECT_GT(results[row].target_logprob, -0.1f) << "row " << row;
  }
}

}  // namespace
}  // namespace mambad
